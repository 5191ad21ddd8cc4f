"""The host's servers and their life: gRPC and HTTP before the models' workers.

Speaks what a worker speaks, so a registry names it for each of its models and need not know what
it is.
"""

from __future__ import annotations

import asyncio

import grpc
from grpc_reflection.v1alpha import reflection
from starlette.applications import Starlette

from inference_mesh import telemetry
from inference_mesh.background import Background
from inference_mesh.channels import address_text, server_options
from inference_mesh.health_board import HEALTH_SERVICE, HealthBoard
from inference_mesh.http_server import HttpServer, Readiness, operations_routes
from inference_mesh.lifecycle import write_port_file
from inference_mesh.process_metrics import ProcessMetrics
from inference_mesh.server_certificates import ServerCertificates
from inference_mesh.status_interceptor import StatusInterceptor
from workers import inference_servicer as native
from workers import open_inference_servicer as oip
from workers.host.host_file import HostFile
from workers.host.keeper import Keeper
from workers.host.listing import Listing, can_be_asked
from workers.host.metrics import HostMetrics
from workers.host.relay import Relay
from workers.host.repository import Repository
from workers.host.settings import HostSettings

log = telemetry.get_logger(__name__)

RENEW_S = 0.5
"""How often health looks at the models again."""


class HostService:
    """Several models behind the protocols of a worker."""

    def __init__(self, settings: HostSettings, models: HostFile) -> None:
        self._settings = settings
        metrics = HostMetrics()
        self._keeper = Keeper(models.models, settings, metrics)
        self._process = ProcessMetrics(metrics.registry)
        self._health = HealthBoard(self._models_ready)
        self._background = Background()
        self._is_draining = False
        self._grpc = grpc.aio.server(
            interceptors=[StatusInterceptor()], options=server_options(settings.max_message_bytes)
        )
        app = Starlette(routes=operations_routes(self.readiness, metrics.registry))
        self._http = HttpServer(app, settings.host, settings.http_port)
        self.grpc_port = 0

    @property
    def keeper(self) -> Keeper:
        """The models."""
        return self._keeper

    @property
    def http_port(self) -> int:
        """Port of the HTTP server, once started."""
        return self._http.port

    async def start(self) -> None:
        """Listen; models are loaded when they are asked for, pinned ones now."""
        self._process.start()
        self._add_services()
        self.grpc_port = self._add_port()
        await self._http.start()
        await self._grpc.start()
        await self._keeper.start()
        await self._background.open()
        self._background.spawn("renew health", self._renew_health)
        self._health.serve()
        write_port_file(self._settings.port_file, grpc=self.grpc_port, http=self.http_port, ready=True)
        log.info("serving", grpc_port=self.grpc_port, models=len(self._keeper.hosted))

    async def drain(self) -> None:
        """Report NOT_SERVING at once and for good."""
        self._is_draining = True
        self._health.withdraw()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones finish within the grace, stop the workers."""
        self._health.close()
        await self._grpc.stop(grace_s)
        await self._background.close()
        await self._keeper.close()
        await self._http.stop(0.0)
        self._process.stop()

    def readiness(self) -> Readiness:
        """Whether calls are taken, and where each model is."""
        phases = {name: hosted.phase.value for name, hosted in self._keeper.hosted.items()}
        reasons = {
            f"{name}.reason": hosted.failure.message
            for name, hosted in self._keeper.hosted.items()
            if hosted.failure is not None
        }
        return Readiness(not self._is_draining, {**phases, **reasons})

    async def _renew_health(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            if not self._is_draining:
                self._health.renew()

    def _models_ready(self) -> dict[str, bool]:
        ready = {name: can_be_asked(hosted) for name, hosted in self._keeper.hosted.items()}
        return {**ready, native.SERVICE: True, oip.SERVICE: True}

    def _add_port(self) -> int:
        """The gRPC port, with TLS where there is a certificate. Raises ConfigError for a wrong file."""
        settings = self._settings
        address = address_text(settings.host, settings.grpc_port)
        if settings.tls_cert is None or settings.tls_key is None:
            return self._grpc.add_insecure_port(address)
        certificates = ServerCertificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        return self._grpc.add_secure_port(address, certificates.credentials())

    def _add_services(self) -> None:
        relay, listing = Relay(self._keeper), Listing(self._keeper)
        repository = Repository(self._keeper)
        methods = {
            native.SERVICE: {**relay.native_methods(), **listing.native_methods()},
            oip.SERVICE: {**relay.oip_methods(), **listing.oip_methods(), **repository.methods()},
            HEALTH_SERVICE: self._health.handlers(),
        }
        self._grpc.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, found) for service, found in methods.items()]
        )
        reflection.enable_server_reflection((*methods, reflection.SERVICE_NAME), self._grpc)
