"""The worker's servers and their life: gRPC and HTTP around one engine.

Owns the order of start and stop. A model that does not load leaves the process up: its
health says NOT_SERVING, /readyz says why, and calls are answered FAILED_PRECONDITION.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc
from grpc_reflection.v1alpha import reflection

from inference_mesh import telemetry
from inference_mesh.channels import address_text, server_options
from inference_mesh.errors import ModelNotReadyError, ShuttingDownError
from inference_mesh.health_board import HEALTH_SERVICE, HealthBoard
from inference_mesh.http_server import HttpServer, Readiness
from inference_mesh.lifecycle import write_port_file
from inference_mesh.process_metrics import ProcessMetrics
from inference_mesh.server_certificates import ServerCertificates
from inference_mesh.status_interceptor import StatusInterceptor
from workers import inference_servicer, open_inference_servicer
from workers.calls import Calls
from workers.check_cache import CheckCache
from workers.engine import Engine
from workers.file_digest import check_digest
from workers.gateway_check import GatewayCheck
from workers.http_api import http_app, infer_endpoint, refused_infer
from workers.inference_servicer import InferenceServicer
from workers.load_stream import LoadStream
from workers.metrics import WorkerMetrics
from workers.open_inference_servicer import OpenInferenceServicer
from workers.settings import WorkerSettings

log = telemetry.get_logger(__name__)


class WorkerService:
    """One model behind every protocol that a worker speaks. on_loaded: called once it can answer."""

    def __init__(
        self,
        settings: WorkerSettings,
        engine: Engine,
        metrics: WorkerMetrics,
        on_loaded: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_loaded = on_loaded
        self._settings = settings
        self._engine = engine
        self._calls = Calls(engine, metrics)
        self._process = ProcessMetrics(metrics.registry)
        if settings.inference_pool_metrics:
            metrics.join_inference_pool()
        self._health = HealthBoard(self._services_ready)
        self._load_stream = LoadStream(self._calls.load_report, settings.load_report_interval_s)
        self._is_draining = False
        checks = [GatewayCheck(settings.gateway_names)] if settings.gateway_names else []
        self._grpc = grpc.aio.server(
            interceptors=[StatusInterceptor(), *checks], options=server_options(settings.max_message_bytes)
        )
        infer = infer_endpoint(self._calls) if settings.tls_client_ca is None else refused_infer
        app = http_app(infer, self._calls, metrics, self.readiness, settings.max_message_bytes)
        self._http = HttpServer(app, settings.host, settings.http_port)
        self.grpc_port = 0

    @property
    def http_port(self) -> int:
        """Port of the HTTP server, once started."""
        return self._http.port

    async def start(self) -> None:
        """Listen, load the model, warm it up, and then report SERVING."""
        self._process.start()
        self._add_services()
        self._health.renew()
        self.grpc_port = self._add_port()
        await self._http.start()
        await self._grpc.start()
        self._write_port_file(ready=False)
        log.info("listening", grpc_port=self.grpc_port, http_port=self.http_port, model=self._settings.name)
        started = time.monotonic()
        try:
            await self._check_file()
            await self._engine.load()
        except ModelNotReadyError as error:
            log.error("model not loaded", model=self._settings.name, reason=error.message)  # noqa: TRY400
            self._calls.refuse(error)
            return
        self._calls.open()
        self._on_loaded()
        self._health.serve()
        self._write_port_file(ready=True)
        log.info("serving", model=self._settings.name, load_s=round(time.monotonic() - started, 3))

    async def drain(self) -> None:
        """Report NOT_SERVING at once and for good."""
        self._is_draining = True
        self._health.withdraw()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones finish within the grace, close the engine."""
        self._health.close()
        self._load_stream.close()
        # gRPC refuses new calls by itself; HTTP stays open for the pages of operations.
        self._calls.refuse(ShuttingDownError("this worker is shutting down"))
        ends_at = time.monotonic() + grace_s
        await self._grpc.stop(grace_s)
        await self._http.stop(max(0.0, ends_at - time.monotonic()))
        await self._engine.close()
        self._process.stop()

    def readiness(self) -> Readiness:
        """Whether the model takes calls, and why not."""
        detail = {"model": self._settings.name}
        if self._is_draining:
            return Readiness(False, {**detail, "reason": "shutting down"})
        failure = self._calls.failure
        return (
            Readiness(True, detail)
            if failure is None
            else Readiness(False, {**detail, "reason": failure.message})
        )

    async def _check_file(self) -> None:
        """Raises ModelNotReadyError if the model's file is not the one that the operator named."""
        expected = self._settings.sha256
        if expected is not None:
            cache = CheckCache(self._settings.check_cache)
            await asyncio.to_thread(check_digest, self._settings.model, expected, cache)

    def _add_port(self) -> int:
        """The gRPC port, with TLS where there is a certificate. Raises ConfigError for a wrong file."""
        settings = self._settings
        address = address_text(settings.host, settings.grpc_port)
        if settings.tls_cert is None or settings.tls_key is None:
            return self._grpc.add_insecure_port(address)
        certificates = ServerCertificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        return self._grpc.add_secure_port(address, certificates.credentials())

    def _write_port_file(self, *, ready: bool) -> None:
        write_port_file(self._settings.port_file, grpc=self.grpc_port, http=self.http_port, ready=ready)

    def _services_ready(self) -> dict[str, bool]:
        is_ready = self._calls.failure is None
        names = (self._settings.name, inference_servicer.SERVICE, open_inference_servicer.SERVICE)
        return dict.fromkeys(names, is_ready)

    def _add_services(self) -> None:
        self._grpc.add_generic_rpc_handlers(
            (
                InferenceServicer(self._calls).handlers(),
                OpenInferenceServicer(self._calls).handlers(),
                grpc.method_handlers_generic_handler(HEALTH_SERVICE, self._health.handlers()),
                self._load_stream.handlers(),
            )
        )
        native, oip = inference_servicer.SERVICE, open_inference_servicer.SERVICE
        names = (native, oip, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._grpc)
