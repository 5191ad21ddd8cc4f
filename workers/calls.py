"""The one way of a request through a worker, whatever protocol it came by.

Owns the checks that do not depend on the engine, and the span of each call. Protocols turn
their messages into `CallFacts` and a payload; what a call leaves behind, `call_record` notes.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import TypeAlias, cast

from inference_mesh import load_report, metadata, telemetry, tracing
from inference_mesh.errors import (
    InvalidInputError,
    MeshError,
    ModelNotFoundError,
    ModelNotReadyError,
    ShuttingDownError,
    UnavailableError,
)
from inference_mesh.metadata import Metadata
from inference_mesh.request_ids import request_id_from
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.call_record import CallRecord
from workers.call_terms import engine_request
from workers.engine import Chunk, Engine, Load
from workers.metrics import WorkerMetrics
from workers.task_check import check_kind

CANCELLED = "CANCELLED"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
EARLY_S, EARLY_SHARE = 0.02, 0.01
"""How much before its deadline a call may end because of it: gRPC rounds a timeout up by 1 %."""

PayloadReader: TypeAlias = Callable[[payload_pb2.Task], payload_pb2.Payload]
"""Reads a protocol's message for a model of that task; raises MeshError."""


@dataclasses.dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of a call before its payload is read.

    protocol: a metric's label. deadline: in the seconds of the event loop's clock.
    sent: the metadata or headers that came with it.
    """

    protocol: str
    model: str
    version: str = ""
    request_id: str = ""
    deadline: float | None = None
    sent: Metadata = ()


class Calls:
    """Runs calls on one engine."""

    def __init__(self, engine: Engine, metrics: WorkerMetrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._failure: MeshError | None = UnavailableError("the model is still loading", retry_after_s=1.0)

    @property
    def model(self) -> inference_pb2.Model:
        """The model, with its readiness."""
        model = self._engine.model
        model.ready = self._failure is None
        return model

    def model_for(self, facts: CallFacts) -> inference_pb2.Model:
        """The model as a call knows it: a worker that was told no version has that of the registry."""
        model = self.model
        resolved = metadata.value_of(facts.sent, metadata.VERSION)
        if model.version or not resolved:
            return model
        named = inference_pb2.Model()
        named.CopyFrom(model)
        named.version = resolved
        return named

    @property
    def failure(self) -> MeshError | None:
        """Why calls are refused; None = they are taken."""
        return self._failure

    def open(self) -> None:
        """Take calls from now on."""
        self._failure = None
        self._metrics.ready(True)

    def refuse(self, error: ModelNotReadyError | ShuttingDownError) -> None:
        """Refuse calls with this error from now on."""
        self._failure = error
        self._metrics.ready(False)

    def check_target(self, facts: CallFacts) -> None:
        """Raises ModelNotFoundError unless the call is for this model and version."""
        model = self._engine.model
        called = metadata.value_of(facts.sent, metadata.MODEL) or facts.model
        if not called:
            raise InvalidInputError("model: is missing; it names the model that is to answer")
        if called != model.name:
            raise ModelNotFoundError(f"model '{called[:64]}' is not served here; this is '{model.name}'")
        resolved = metadata.value_of(facts.sent, metadata.VERSION)
        if resolved and not model.version:
            return  # a worker that was told no version cannot contradict the registry
        wanted = resolved or facts.version
        if wanted and wanted != model.version:
            raise ModelNotFoundError(f"model '{model.name}' has no version '{wanted[:64]}' here")

    def check_ready(self) -> None:
        """Raises why calls are refused, if they are."""
        if self._failure is not None:
            # A copy: an exception that is raised again and again keeps every frame it passed.
            raise copy.copy(self._failure)

    def load_trailers(self) -> tuple[tuple[str, bytes], ...]:
        """The ORCA load report of this moment, under both of its names."""
        data = self.load_report()
        return (metadata.ORCA_LOAD_REPORT, data), (metadata.LOAD_REPORT, data)

    def load_report(self) -> bytes:
        """The ORCA load report of this moment."""
        load = self._engine.load_now()
        report = load_report.LoadReport(
            load.utilization, load.queued, load.running, load.kv_utilization, load.slots
        )
        return load_report.encode(report)

    def observe_load(self) -> Load:
        """How busy the engine is at this moment, told to the metrics as well."""
        load = self._engine.load_now()
        self._metrics.observe_load(load)
        return load

    async def run(self, facts: CallFacts, read: PayloadReader) -> AsyncGenerator[Chunk]:
        """The chunks of one call; close it to stop the work. Raises MeshError.

        read: asked only for a model that is meant and ready, so that its refusals count too.
        """
        with self._observed(facts) as record:
            self.check_target(facts)
            self.check_ready()
            model = self._engine.model
            payload = read(model.task)
            check_kind(payload, model)
            request = engine_request(payload, facts.deadline, facts.sent, record.stages())
            record.asked(request)
            # Closed with the block, so that its slot is free at once.
            chunks = cast("AsyncGenerator[Chunk]", self._engine.submit(request))
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    record.note(chunk)
                    yield chunk

    @contextlib.contextmanager
    def _observed(self, facts: CallFacts) -> Iterator[CallRecord]:
        """Metrics, span and log line around a call."""
        arrived, code = asyncio.get_running_loop().time(), "OK"
        self._metrics.request_started()
        record = CallRecord(self._metrics, facts.protocol, self._engine.model)
        token = telemetry.current_request_id.set(facts.request_id)
        try:
            with tracing.span(f"worker {facts.protocol}", metadata=facts.sent, kind="server"):
                try:
                    yield record
                except MeshError as error:
                    code = error.code.name
                    raise
                except (asyncio.CancelledError, GeneratorExit):
                    code = code_of_end(facts.deadline, arrived, asyncio.get_running_loop().time())
                    raise
                except BaseException:
                    code = "INTERNAL"
                    raise
                finally:
                    if code == DEADLINE_EXCEEDED:
                        self._metrics.request_expired()
                    record.end(code)
        finally:
            with contextlib.suppress(ValueError):
                telemetry.current_request_id.reset(token)


def code_of_end(deadline: float | None, arrived: float, ended: float) -> str:
    """Why a call was cut off: its deadline, else its caller; both arrive as a cancellation.

    All in the seconds of one clock.
    """
    if deadline is None or ended < deadline - EARLY_S - EARLY_SHARE * (deadline - arrived):
        return CANCELLED
    return DEADLINE_EXCEEDED


async def whole(chunks: AsyncIterator[Chunk]) -> Chunk:
    """All chunks of a call as one: the pieces of each text joined, else the last."""
    texts: dict[int, list[str]] = {}
    answers: dict[int, payload_pb2.Generated] = {}
    last: Chunk | None = None
    async for chunk in chunks:
        last = chunk
        if chunk.output.HasField("generate"):
            piece = chunk.output.generate
            texts.setdefault(piece.index, []).append(piece.text)
            if piece.index in answers:
                answers[piece.index].MergeFrom(piece)
            else:
                answers[piece.index] = piece
    if last is None or not last.has_output:
        raise UnavailableError("the engine ended without an answer")
    if not answers:
        return last
    for index, generated in answers.items():
        generated.text = "".join(texts[index])
    first, *others = (answers[index] for index in sorted(answers))
    first.others.extend(others)
    return dataclasses.replace(last, output=payload_pb2.Output(generate=first))


def facts_of(
    protocol: str,
    model: str,
    version: str,
    request_id: str,
    *,
    sent: Metadata = (),
    deadline: float | None = None,
) -> CallFacts:
    """The facts of a call; its id is the message's, the metadata's or a new one."""
    known = request_id or metadata.value_of(sent, metadata.REQUEST_ID)
    return CallFacts(protocol, model, version, request_id_from(known), deadline, sent)
