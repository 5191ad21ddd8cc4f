"""What one call leaves behind: its metrics, the attributes and stages of its span, one line in the log.

Owns that record from the call's arrival to its end. The line has counts and times, never a
prompt, an answer or a credential.
"""

from __future__ import annotations

import time

from inference_mesh import telemetry, tracing
from inference_mesh.gen_ai_attributes import output_attributes, request_attributes, usage_attributes
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.engine import Chunk, EngineRequest, Stage
from workers.metrics import WorkerMetrics
from workers.token_pace import TokenPace

log = telemetry.get_logger(__name__)

MAX_STAGES = 64
"""Spans of one call's stages: a request of many thousand rows has a batch for every few of them."""


class CallRecord:
    """Owns what is noted of one call."""

    def __init__(self, metrics: WorkerMetrics, protocol: str, model: inference_pb2.Model) -> None:
        self._metrics = metrics
        self._protocol = protocol
        self._model = model
        self._started_s = time.monotonic()
        self._pace: TokenPace | None = None
        self._usage = payload_pb2.Usage()
        self._timing = payload_pb2.Timing()
        self._stages: list[Stage] | None = None

    def stages(self) -> list[Stage] | None:
        """Where an engine notes its stages; None if nobody wants them."""
        if tracing.current_span().is_recording():
            self._stages = []
        return self._stages

    def asked(self, request: EngineRequest) -> None:
        """The request is read, and goes to the engine now."""
        payload = request.payload
        if payload.HasField("generate"):
            delivered = len(payload.generate.delivered_tokens)
            answers = payload.generate.n or 1
            self._pace = TokenPace(self._metrics, self._started_s, delivered, answers)
        if self._stages is not None:
            tracing.current_span().set_attributes(request_attributes(self._model.name, payload))

    def note(self, chunk: Chunk) -> None:
        """A chunk of the answer left the engine."""
        if self._pace is not None:
            self._pace.note(chunk, time.monotonic())
        if chunk.usage is None:
            return
        self._metrics.used(chunk.usage)
        self._usage = chunk.usage
        if chunk.timing is not None:
            self._timing = chunk.timing
            self._metrics.queued_for(chunk.timing.queue_s)
        if self._stages is not None:
            tracing.current_span().set_attributes(
                {**output_attributes(chunk.output), **usage_attributes(chunk.usage)}
            )

    def end(self, code: str) -> None:
        """The call ended with this code."""
        seconds = time.monotonic() - self._started_s
        self._metrics.request_ended(self._protocol, code, seconds)
        self._end_span(code)
        log.info(
            "call",
            protocol=self._protocol,
            model=self._model.name,
            code=code,
            seconds=round(seconds, 6),
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens,
            cached_tokens=self._usage.cached_tokens,
            queue_s=round(self._timing.queue_s, 6),
            compute_s=round(self._timing.compute_s, 6),
        )

    def _end_span(self, code: str) -> None:
        current = tracing.current_span()
        if not current.is_recording():
            return
        current.set_attribute("rpc.response.status_code", code)
        current.set_attribute("gen_ai.response.model", self._model.name)
        if self._model.version:
            current.set_attribute("mesh.model.version", self._model.version)
        if self._timing.first_token_s:
            current.set_attribute("gen_ai.response.time_to_first_chunk", self._timing.first_token_s)
        stages = self._stages or []
        if len(stages) > MAX_STAGES:
            current.set_attribute("mesh.stages_left_out", len(stages) - MAX_STAGES)
        for stage in stages[:MAX_STAGES]:
            tracing.record_span(stage.name, stage.started_s, stage.ended_s, stage.facts)
