"""The gateway as a process: builds the parts, starts and stops them in order."""

from __future__ import annotations

import random

import grpc
from grpc_reflection.v1alpha import reflection
from starlette.applications import Starlette

from gateway.background import Background
from gateway.front.data_path import NATIVE_SERVICE, OIP_SERVICE, DataPath
from gateway.front.desk import CallDesk
from gateway.front.listing_servicer import ListingServicer
from gateway.identity.keyring import Keyring
from gateway.metrics import GatewayMetrics
from gateway.policy.engine import PolicyEngine
from gateway.registry import Registry
from gateway.settings import GatewaySettings
from gateway.upstream.attempts import RetryBudgets
from gateway.upstream.fleet import Fleet
from gateway.upstream.http_services import HttpServices
from gateway.upstream.relay import Relay
from inference_mesh import telemetry
from inference_mesh.channels import address_text, server_options
from inference_mesh.health_board import HEALTH_SERVICE, HealthBoard
from inference_mesh.http_server import HttpServer, Readiness, operations_routes
from inference_mesh.lifecycle import write_port_file
from inference_mesh.status_interceptor import StatusInterceptor

log = telemetry.get_logger(__name__)

MESSAGE_HEADROOM_BYTES = 64 * 1024
"""What gRPC takes above the limit, so that the refusal of most larger messages is ours and typed."""


class Gateway:
    """One gateway; a `lifecycle.Service`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        limit = settings.max_message_bytes
        self.metrics = GatewayMetrics()
        self._background = Background()
        self._policy = PolicyEngine(requires_key=settings.requires_key, max_message_bytes=limit)
        self._health = HealthBoard(self._models_ready)
        self._fleet = Fleet(
            self._background, self.metrics, max_message_bytes=limit, on_change=self._health.renew
        )
        self._registry = Registry(settings.models, self._fleet, self._policy, self.metrics)
        self._keyring = Keyring(
            settings.keys, requires_key=settings.requires_key, policy=self._policy, metrics=self.metrics
        )
        self._is_serving = False
        self._grpc_server: grpc.aio.Server | None = None
        self._http_server: HttpServer | None = None
        self.grpc_port = settings.grpc_port
        self.http_port = settings.http_port

    async def start(self) -> None:
        """Read the files, probe the replicas, listen, then report SERVING."""
        await self._background.open()
        self._keyring.start(self._background)
        await self._registry.start(self._background)
        await self._listen()
        self._is_serving = True
        self._health.serve()
        write_port_file(self._settings.port_file, grpc=self.grpc_port, http=self.http_port)
        log.info("serving", grpc_port=self.grpc_port, http_port=self.http_port)

    async def drain(self) -> None:
        """Report NOT_SERVING; calls are still taken."""
        self._is_serving = False
        self._health.withdraw()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones finish within the grace, then close."""
        self._is_serving = False
        self._health.close()
        if self._grpc_server is not None:
            await self._grpc_server.stop(grace_s)
        if self._http_server is not None:
            await self._http_server.stop(grace_s)
        await self._background.close()
        await self._fleet.close()

    def readiness(self) -> Readiness:
        """Ready if calls can be let in and routed; the detail says what is wrong, also if ready."""
        detail = {
            "registry": self._registry.state,
            "keys": self._keyring.state,
            "serving": "yes" if self._is_serving else "no: starting or draining",
        }
        for model in self._fleet.models:
            pool = model.pool
            detail[f"model {model.entry.name}"] = f"{len(pool.ready)} of {len(pool.endpoints)} replicas ready"
        is_ready = self._is_serving and self._registry.is_loaded and self._keyring.lets_callers_in
        return Readiness(is_ready, detail)

    def _models_ready(self) -> dict[str, bool]:
        return {model.entry.name: bool(model.pool.ready) for model in self._fleet.models}

    async def _listen(self) -> None:
        settings = self._settings
        app = Starlette(routes=operations_routes(self.readiness, self.metrics.registry))
        self._http_server = HttpServer(app, settings.host, settings.http_port)
        await self._http_server.start()
        self.http_port = self._http_server.port
        self._grpc_server = grpc.aio.server(
            interceptors=(StatusInterceptor(),),
            options=server_options(settings.max_message_bytes + MESSAGE_HEADROOM_BYTES),
        )
        self._add_services(self._grpc_server)
        self.grpc_port = self._grpc_server.add_insecure_port(address_text(settings.host, settings.grpc_port))
        await self._grpc_server.start()

    def _add_services(self, server: grpc.aio.Server) -> None:
        desk = CallDesk(self._policy, self.metrics)
        rng = random.Random()
        budgets = RetryBudgets()
        http_services = HttpServices(
            self.metrics, budgets, rng, max_answer_bytes=self._settings.max_message_bytes
        )
        data_path = DataPath(desk, self._fleet, Relay(self.metrics, budgets, rng), http_services)
        listing = ListingServicer(desk, self._policy, self._fleet)
        native = {**data_path.native_handlers(), **listing.native_handlers()}
        oip = {**data_path.oip_handlers(), **listing.oip_handlers()}
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(NATIVE_SERVICE, native),
                grpc.method_handlers_generic_handler(OIP_SERVICE, oip),
                grpc.method_handlers_generic_handler(HEALTH_SERVICE, self._health.handlers()),
            )
        )
        reflected = (NATIVE_SERVICE, OIP_SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, server)
