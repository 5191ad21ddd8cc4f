"""The bridge as a service: what start, drain and stop mean for it."""

from __future__ import annotations

import asyncio

from inference_mesh import telemetry
from inference_mesh.http_server import HttpServer, Readiness
from inference_mesh.lifecycle import write_port_file
from inference_mesh.process_metrics import ProcessMetrics
from rest_bridge.app import bridge_app
from rest_bridge.metrics import BridgeMetrics
from rest_bridge.settings import BridgeSettings
from rest_bridge.upstream import Upstream

log = telemetry.get_logger(__name__)

LAST_WORDS_S = 0.5
"""Before the grace ends, running requests get so long to say that the bridge shuts down."""


class BridgeService:
    """One bridge; a lifecycle.Service."""

    def __init__(self, settings: BridgeSettings) -> None:
        self._settings = settings
        self._is_draining = False
        self._cut_off = asyncio.Event()
        self.metrics = BridgeMetrics()
        self._process = ProcessMetrics(self.metrics.registry)
        self._upstream = Upstream(settings.gateway, settings.max_message_bytes, settings.gateway_tls)
        app = bridge_app(settings, self._upstream, self.metrics, self.readiness, self._cut_off)
        self.http = HttpServer(app, settings.host, settings.http_port, settings.http_limits)

    @property
    def port(self) -> int:
        """The HTTP port, once started."""
        return self.http.port

    async def start(self) -> None:
        """Listen; the gateway need not be there yet, /readyz says whether it is."""
        self._process.start()
        await self.http.start()
        write_port_file(self._settings.port_file, http=self.port)
        log.info("serving", host=self._settings.host, port=self.port, gateway=self._settings.gateway)

    async def drain(self) -> None:
        """Answer /readyz with 503 from now on."""
        self._is_draining = True

    async def stop(self, grace_s: float) -> None:
        """Listen no more; requests that the grace does not suffice for end with an error."""
        loop = asyncio.get_running_loop()
        last_words = loop.call_later(max(0.0, grace_s - LAST_WORDS_S), self._cut_off.set)
        try:
            await self.http.stop(grace_s)
        finally:
            last_words.cancel()
        await self._upstream.close()
        self._process.stop()

    async def readiness(self) -> Readiness:
        """Ready while the gateway serves and nobody has asked to stop."""
        if self._is_draining:
            return Readiness(is_ready=False, detail={"bridge": "DRAINING"})
        gateway = await self._upstream.health()
        return Readiness(is_ready=gateway == "SERVING", detail={"gateway": gateway})
