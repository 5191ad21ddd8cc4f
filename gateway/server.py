"""The gateway as a process: starts and stops the parts in order, and owns the two ports."""

from __future__ import annotations

import asyncio
import math

import grpc
from grpc_reflection.v1alpha import reflection
from starlette.applications import Starlette

from gateway.front.admin_servicer import ADMIN_SERVICE
from gateway.front.explain_servicer import POLICY_SERVICE
from gateway.identity.certificate_ends import ends_at_s
from gateway.methods import NATIVE_SERVICE, OIP_SERVICE
from gateway.metrics import GatewayMetrics
from gateway.parts import Parts
from gateway.settings import GatewaySettings
from inference_mesh import telemetry
from inference_mesh.channels import address_text, server_options
from inference_mesh.health_board import HEALTH_SERVICE
from inference_mesh.http_server import HttpServer, Readiness, operations_routes
from inference_mesh.lifecycle import write_port_file
from inference_mesh.process_metrics import ProcessMetrics
from inference_mesh.server_certificates import ServerCertificates
from inference_mesh.status_interceptor import StatusInterceptor
from inference_mesh.v1 import admin_pb2, policy_pb2

log = telemetry.get_logger(__name__)

MESSAGE_HEADROOM_BYTES = 64 * 1024
"""What gRPC takes above the limit, so that the refusal of most larger messages is ours and typed."""
LEDGER_LIMIT_S = 2.5
"""How long a start waits for the shared limits; after that their rules' own policies apply."""
QUIET_S = 0.25
"""Callers have left a gateway that reports NOT_SERVING once no call came for so long."""
LEAVE_SHARE, LONGEST_LEAVE_S = 0.25, 5.0
"""Of the grace, how long a stop waits for callers to leave."""
REFLECTED = (admin_pb2, policy_pb2)
"""Modules whose import makes their services known to reflection."""


class Gateway:
    """One gateway; a `lifecycle.Service`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._parts = Parts(settings)
        self._process = ProcessMetrics(self._parts.metrics.registry)
        self._is_serving = False
        self._withdrawn_at_s = math.inf
        self._grpc_server: grpc.aio.Server | None = None
        self._http_server: HttpServer | None = None
        self.grpc_port = settings.grpc_port
        self.http_port = settings.http_port

    @property
    def metrics(self) -> GatewayMetrics:
        """Its metrics."""
        return self._parts.metrics

    async def start(self) -> None:
        """Read the files, probe the replicas, listen, then report SERVING."""
        parts = self._parts
        self._load_worker_tls()
        self._process.start()
        await parts.background.open()
        if parts.worker_connections.tls is not None:
            parts.background.spawn("watch the TLS to workers", self._renew_worker_tls)
        if parts.usage_log is not None:
            parts.usage_log.open()
        parts.background.spawn("limits", parts.limiter.run)
        parts.background.spawn("canaries", parts.canaries.run)
        parts.identities.start(parts.background)
        await parts.registry.start(parts.background)
        await parts.limiter.wait_until_known(LEDGER_LIMIT_S)
        await self._listen()
        self._is_serving = True
        parts.health.serve()
        write_port_file(self._settings.port_file, grpc=self.grpc_port, http=self.http_port)
        log.info("serving", grpc_port=self.grpc_port, http_port=self.http_port)

    async def drain(self) -> None:
        """Report NOT_SERVING; calls are still taken."""
        self._is_serving = False
        self._parts.health.withdraw()
        self._withdrawn_at_s = asyncio.get_running_loop().time()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones finish within the grace, then close."""
        self._is_serving = False
        grace_s -= await self._until_callers_left(min(LONGEST_LEAVE_S, LEAVE_SHARE * grace_s))
        self._parts.health.close()
        if self._grpc_server is not None:
            await self._grpc_server.stop(grace_s)
        if self._http_server is not None:
            await self._http_server.stop(grace_s)
        await self._parts.background.close()
        await self._parts.fleet.close()
        if self._parts.usage_log is not None:
            await self._parts.usage_log.close()
        self._process.stop()

    def readiness(self) -> Readiness:
        """Ready if calls can be let in and routed; the detail says what is wrong, also if ready."""
        parts = self._parts
        detail = {"registry": parts.registry.state, **parts.identities.detail}
        detail["serving"] = "yes" if self._is_serving else "no: starting or draining"
        if self._settings.redis_url is not None:
            detail["limits"] = "degraded: Redis does not answer" if parts.limiter.is_degraded else "shared"
        for target in parts.fleet.targets:
            name, pool = f"model {target.entry.name}", target.pool
            name = f"{name} version {target.version}" if target.entry.versions else name
            trouble = f"; {pool.trouble}" if pool.trouble else ""
            detail[name] = f"{len(pool.ready)} of {len(pool.endpoints)} replicas ready{trouble}"
        is_ready = self._is_serving and parts.registry.is_loaded and parts.identities.lets_callers_in
        return Readiness(is_ready, detail)

    async def _until_callers_left(self, limit_s: float) -> float:
        """Wait while calls still come that came after NOT_SERVING was told; the seconds that it took.

        A call that is on its way when gRPC begins its stop is ended with CANCELLED and reaches no
        handler (measured with grpcio 1.85.1), so the stop begins when nobody calls any more.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        while (now_s := loop.time()) - started_s < limit_s:
            last_s = self._parts.data_path.last_call_s
            if last_s < self._withdrawn_at_s or now_s - last_s >= QUIET_S:
                break
            await asyncio.sleep(QUIET_S / 5)
        return now_s - started_s

    def _load_worker_tls(self) -> None:
        connections = self._parts.worker_connections
        connections.load()
        self.metrics.watch_certificates(
            lambda: ends_at_s(connections.pem, "worker_tls_cert", "worker_tls_ca")
        )

    async def _renew_worker_tls(self) -> None:
        await self._parts.worker_connections.watch(self._parts.fleet.reopen)

    async def _listen(self) -> None:
        settings = self._settings
        app = Starlette(routes=operations_routes(self.readiness, self.metrics.registry))
        self._http_server = HttpServer(app, settings.host, settings.http_port)
        await self._http_server.start()
        self.http_port = self._http_server.port
        self._grpc_server = grpc.aio.server(
            interceptors=(StatusInterceptor(),),
            options=server_options(
                settings.max_message_bytes + MESSAGE_HEADROOM_BYTES, settings.max_connection_age_s
            ),
        )
        self._add_services(self._grpc_server)
        self.grpc_port = self._add_port(self._grpc_server)
        await self._grpc_server.start()

    def _add_port(self, server: grpc.aio.Server) -> int:
        """The port of the server, with TLS where there is a certificate."""
        settings = self._settings
        address = address_text(settings.host, settings.grpc_port)
        if settings.tls_cert is None or settings.tls_key is None:
            return server.add_insecure_port(address)
        certificates = ServerCertificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self.metrics.watch_certificates(lambda: ends_at_s(certificates.next(), "tls_cert", "tls_client_ca"))
        return server.add_secure_port(address, certificates.credentials())

    def _add_services(self, server: grpc.aio.Server) -> None:
        parts = self._parts
        services = {
            NATIVE_SERVICE: {**parts.data_path.native_handlers(), **parts.listing.handlers()},
            OIP_SERVICE: {
                **parts.data_path.oip_handlers(),
                **parts.open_inference.handlers(),
                **parts.repository.handlers(),
            },
            POLICY_SERVICE: parts.explain.handlers(),
            ADMIN_SERVICE: parts.admin.handlers(),
            HEALTH_SERVICE: parts.health.handlers(),
        }
        server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, handlers) for name, handlers in services.items())
        )
        reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server)
