"""Logs and traces: events with fields on standard error, spans by OTLP when configured.

Owns the form of a log line and the context that travels between hops. Never logs a prompt,
a completion or a credential; callers pass fields, not texts of users.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.context import attach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference_mesh.metadata import TRACE_PARENT, TRACE_STATE, Metadata, value_of

current_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

SPAN_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class EventLogger:
    """A logger of events: a short constant name, and fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """Log a detail for developers."""
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: object) -> None:
        """Log a change of state, or one finished call."""
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        """Log what works on, but needs a look."""
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        """Log what failed."""
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, **fields: object) -> None:
        """Log a fault of ours with its traceback."""
        self._logger.exception(event, extra={"fields": fields})


def get_logger(name: str) -> EventLogger:
    """The event logger of a module."""
    return EventLogger(name)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, event, request_id, trace_id, fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        line: dict[str, object] = {
            "time": _iso_time(record.created),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
            **_context_fields(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """The same for a person's eyes."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        fields = {**_context_fields(), **getattr(record, "fields", {})}
        details = " ".join(f"{key}={value}" for key, value in fields.items())
        head = f"{_iso_time(record.created)} {record.levelname:<7} {self._service}"
        line = f"{head}: {record.getMessage()} {details}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging(service: str, level: str = "info", log_format: str = "json") -> None:
    """Send the logs of this process to standard error, in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if log_format == "json" else TextFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for noisy in ("httpx", "httpcore", "grpc", "asyncio"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))


def configure_tracing(service: str, otlp_endpoint: str | None) -> None:
    """Record spans; export them by OTLP where an endpoint is given."""
    # Not at the exit as well: `shutdown_tracing` has a limit, and that has none.
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    if otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        insecure = not otlp_endpoint.startswith("https://")
        provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint, insecure=insecure))
        )
    trace.set_tracer_provider(provider)


def shutdown_tracing(limit_s: float) -> bool:
    """Send what is left; blocks up to the limit. False if that was not enough."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return True
    # A daemon: a collector that does not answer holds up no process that wants to end.
    flushing = threading.Thread(target=provider.shutdown, name="flush-traces", daemon=True)
    flushing.start()
    flushing.join(limit_s)
    return not flushing.is_alive()


@contextlib.contextmanager
def span(
    name: str, *, metadata: Metadata | None = None, kind: str = "internal", **attributes: Any
) -> Iterator[Span]:
    """A span around a block, child of the caller's where `metadata` carries a traceparent.

    kind: "server", "client" or "internal". An exception marks the span as failed by its
    class alone: messages may hold what a user sent.
    """
    context = _context_of(metadata) if metadata is not None else None
    tracer = trace.get_tracer("inference_mesh")
    current = tracer.start_span(name, context=context, kind=SPAN_KINDS[kind], attributes=attributes)
    token = attach(trace.set_span_in_context(current))
    try:
        yield current
    except BaseException as error:
        current.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        # A stream that its caller left may be closed in another context, where nothing is to be
        # restored; OpenTelemetry's own detach logs a traceback then.
        with contextlib.suppress(ValueError):
            token.var.reset(token)
        current.end()


def trace_metadata() -> list[tuple[str, str]]:
    """traceparent and tracestate of the current span, for the next hop."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return list(carrier.items())


def current_trace_id() -> str:
    """The trace id as 32 hex digits; empty outside a span."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def _context_of(metadata: Metadata) -> Any:
    carrier = {name: value_of(metadata, name) for name in (TRACE_PARENT, TRACE_STATE)}
    return TraceContextTextMapPropagator().extract({key: value for key, value in carrier.items() if value})


def _context_fields() -> dict[str, str]:
    fields = {"request_id": current_request_id.get(), "trace_id": current_trace_id()}
    return {key: value for key, value in fields.items() if value}


def _iso_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
