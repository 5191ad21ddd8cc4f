"""Traces: spans by OTLP where an endpoint is given, and the W3C context that travels between hops.

Owns which calls are sampled, what the next hop is told of a trace, and the exemplars of
metrics. A caller's decision holds; a call that comes without one is drawn by lot. A call that is
not sampled makes no span here, and its context goes on as it came. Never holds a prompt, a
completion or a credential; callers pass names, numbers and codes.
"""

from __future__ import annotations

import contextlib
import contextvars
import random
import re
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanKind, Status, StatusCode

from inference_mesh.metadata import TRACE_PARENT, TRACE_STATE, Metadata, value_of

SPAN_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
MAX_STATE_CHARACTERS = 512
"""Of a tracestate; a longer one is dropped, as W3C Trace Context 3.3.1.5 allows."""
SAMPLED = 1

_TRACE_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16

AttributeValue: TypeAlias = str | bool | int | float | list[str]
Attributes: TypeAlias = Mapping[str, AttributeValue]


class TraceContext(NamedTuple):
    """Where a call stands in its trace: ids in hexadecimal, flags and state as W3C writes them.

    span: the one that is recorded in this process; INVALID_SPAN = none is.
    """

    trace_id: str
    span_id: str
    flags: str
    state: str = ""
    span: Span = INVALID_SPAN

    @property
    def is_sampled(self) -> bool:
        """Whether the spans of the trace are kept."""
        return bool(int(self.flags, 16) & SAMPLED)


class Sampling(NamedTuple):
    """Where spans go, and which share of the calls that come without a decision has them, 0 to 1."""

    provider: TracerProvider
    tracer: trace.Tracer
    ratio: float


_sampling: contextvars.ContextVar[Sampling | None] = contextvars.ContextVar("sampling", default=None)
_current: contextvars.ContextVar[TraceContext | None] = contextvars.ContextVar("trace", default=None)


def configure_tracing(service: str, otlp_endpoint: str | None, sample_ratio: float) -> None:
    """Export spans by OTLP from now on; without an endpoint there are none."""
    if otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        insecure = not otlp_endpoint.startswith("https://")
        exporter = OTLPSpanExporter(endpoint=otlp_endpoint, insecure=insecure)
        export_spans(service, BatchSpanProcessor(exporter), sample_ratio)


def export_spans(service: str, processor: SpanProcessor, sample_ratio: float) -> None:
    """Hand every span of a sampled call to a processor, in this context and those that copy it."""
    # Not at the exit as well: `shutdown_tracing` has a limit, and that has none.
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    _sampling.set(Sampling(provider, provider.get_tracer("inference_mesh"), sample_ratio))


def shutdown_tracing(limit_s: float) -> bool:
    """Send what is left; blocks up to the limit. False if that was not enough."""
    sampling = _sampling.get()
    if sampling is None:
        return True
    # A daemon: a collector that does not answer holds up no process that wants to end.
    flushing = threading.Thread(target=sampling.provider.shutdown, name="flush-traces", daemon=True)
    flushing.start()
    flushing.join(limit_s)
    return not flushing.is_alive()


def span(
    name: str, *, metadata: Metadata | None = None, kind: str = "internal", **attributes: AttributeValue
) -> SpanBlock:
    """A span around a block, child of the caller's where `metadata` carries a traceparent.

    kind: "server", "client" or "internal". An exception marks the span as failed by its
    class alone: messages may hold what a user sent.
    """
    parent = _current.get() if metadata is None else _context_of(metadata)
    return SpanBlock(name, parent, kind, attributes)


class SpanBlock:
    """One span for the length of a block; of a call that is not sampled only its place in the trace."""

    __slots__ = ("_attributes", "_kind", "_name", "_parent", "_span", "_token")

    def __init__(self, name: str, parent: TraceContext | None, kind: str, attributes: Attributes) -> None:
        self._name = name
        self._parent = parent
        self._kind = kind
        self._attributes = attributes
        self._span: Span = INVALID_SPAN
        self._token: contextvars.Token[TraceContext | None] | None = None

    def __enter__(self) -> Span:
        """The span; one that records nothing if the call is not sampled."""
        sampling, parent = _sampling.get(), self._parent
        if sampling is None or not _is_sampled(parent, sampling.ratio):
            place = parent or _unsampled_root()
        else:
            place = _started(sampling.tracer, self._name, parent, self._kind, self._attributes)
        if place is not _current.get():
            self._token = _current.set(place)
        self._span = place.span if place is not parent else INVALID_SPAN
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span."""
        if self._token is not None:
            # A stream that its caller left may be closed in another context, where nothing is to
            # be restored.
            with contextlib.suppress(ValueError):
                _current.reset(self._token)
        if self._span is not INVALID_SPAN:
            if kind is not None:
                self._span.set_status(Status(StatusCode.ERROR, kind.__name__))
                self._span.set_attribute("error.type", kind.__name__)
            self._span.end()


def record_span(name: str, started_s: float, ended_s: float, attributes: Attributes) -> None:
    """A span that is over already, child of the current one; times in seconds of `time.monotonic()`."""
    sampling, parent = _sampling.get(), _current.get()
    if sampling is None or parent is None or not parent.span.is_recording():
        return
    offset_ns = time.time_ns() - time.monotonic_ns()
    child = sampling.tracer.start_span(
        name,
        context=trace.set_span_in_context(parent.span, Context()),
        start_time=offset_ns + int(started_s * 1e9),
        attributes=attributes,
    )
    child.end(offset_ns + int(ended_s * 1e9))


def current_span() -> Span:
    """The span that is recorded now; one that records nothing if there is none."""
    place = _current.get()
    return INVALID_SPAN if place is None else place.span


def trace_metadata() -> list[tuple[str, str]]:
    """traceparent and tracestate of the current place in the trace, for the next hop."""
    place = _current.get()
    if place is None:
        return []
    parent = (TRACE_PARENT, f"00-{place.trace_id}-{place.span_id}-{place.flags}")
    return [parent, (TRACE_STATE, place.state)] if place.state else [parent]


def current_trace_id() -> str:
    """The trace id as 32 hex digits; empty outside a span."""
    place = _current.get()
    return "" if place is None else place.trace_id


def exemplar() -> dict[str, str] | None:
    """What a histogram notes beside a value: the trace of a call that is recorded; None otherwise."""
    place = _current.get()
    if place is None or not place.span.is_recording():
        return None
    return {"trace_id": place.trace_id}


def _is_sampled(parent: TraceContext | None, ratio: float) -> bool:
    return random.random() < ratio if parent is None else parent.is_sampled  # no secret


def _unsampled_root() -> TraceContext:
    """A place for log lines to agree on, at which nothing is recorded."""
    return TraceContext(f"{random.getrandbits(128) or 1:032x}", f"{random.getrandbits(64) or 1:016x}", "00")


def _started(
    tracer: trace.Tracer, name: str, parent: TraceContext | None, kind: str, attributes: Attributes
) -> TraceContext:
    """The place of a new span. parent: None = the span begins a trace."""
    outer = Context() if parent is None else trace.set_span_in_context(_span_of(parent), Context())
    current = tracer.start_span(name, context=outer, kind=SPAN_KINDS[kind], attributes=attributes)
    own = current.get_span_context()
    state = parent.state if parent is not None else ""
    return TraceContext(
        f"{own.trace_id:032x}", f"{own.span_id:016x}", f"{own.trace_flags:02x}", state, current
    )


def _span_of(parent: TraceContext) -> Span:
    """A context as the SDK wants it: the span itself, or what stands for that of another process."""
    if parent.span is not INVALID_SPAN:
        return parent.span
    return NonRecordingSpan(
        trace.SpanContext(
            int(parent.trace_id, 16),
            int(parent.span_id, 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(int(parent.flags, 16)),
            trace_state=trace.TraceState.from_header([parent.state]),
        )
    )


def _context_of(metadata: Metadata) -> TraceContext | None:
    """Where the caller stands; None without a traceparent that is well formed.

    Source: W3C Trace Context, 3.2 and 3.3. Of a later version its first four fields are read.
    """
    text = value_of(metadata, TRACE_PARENT)
    found = _TRACE_PARENT.fullmatch(text) if text else None
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, flags, _state_of(value_of(metadata, TRACE_STATE) or ""))


def _state_of(text: str) -> str:
    """A tracestate that may go on, else none; what it means is known to others alone."""
    is_fit = len(text) <= MAX_STATE_CHARACTERS and text.isascii() and text.isprintable()
    return text.strip() if is_fit else ""
