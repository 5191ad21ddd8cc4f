"""What is recorded of a call, what the next hop is told, and what neither may cost or hold."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from inference_mesh import tracing
from inference_mesh.gen_ai_attributes import output_attributes, request_attributes, usage_attributes
from inference_mesh.v1 import payload_pb2
from tests.support.canaries import MARK

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


class Recorder:
    """Spans that were recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()

    def record(self, ratio: float) -> None:
        """Record spans from now on."""
        tracing.export_spans("test", SimpleSpanProcessor(self._exporter), ratio)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that ended."""
        return tuple(self._exporter.get_finished_spans())


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Records nothing before it is told to, and nothing after the test."""
    yield Recorder()
    for variable in contextvars.copy_context():
        if variable.name == "sampling":
            variable.set(None)


def told(*metadata: tuple[str, str]) -> dict[str, str]:
    """What the next hop is told of a call that came with this metadata."""
    with tracing.span("call", metadata=metadata, kind="server"):
        return dict(tracing.trace_metadata())


def test_a_call_that_is_not_sampled_goes_on_as_it_came(recorder: Recorder) -> None:
    recorder.record(ratio=1.0)
    came = (("traceparent", NOT_SAMPLED), ("tracestate", "a=1,b=2"))
    assert told(*came) == dict(came)
    assert recorder.spans == ()


def test_a_process_without_an_endpoint_records_nothing_and_keeps_the_callers_decision() -> None:
    with tracing.span("call", metadata=(("traceparent", SAMPLED),), kind="server") as span:
        assert not span.is_recording()
        assert tracing.trace_metadata() == [("traceparent", SAMPLED)]
        assert tracing.current_trace_id() == TRACE
        assert tracing.exemplar() is None


def test_a_sampled_call_is_the_parent_of_the_next_hop(recorder: Recorder) -> None:
    recorder.record(ratio=0.0)
    answer = told(("traceparent", SAMPLED), ("tracestate", "a=1"))
    (span,) = recorder.spans
    assert span.context is not None
    assert span.parent is not None
    assert answer == {"traceparent": f"00-{TRACE}-{span.context.span_id:016x}-01", "tracestate": "a=1"}
    assert f"{span.parent.span_id:016x}" == PARENT


@pytest.mark.parametrize(("ratio", "spans"), [(0.0, 0), (1.0, 2)])
def test_a_call_without_a_decision_is_drawn_once_for_all_of_its_spans(
    recorder: Recorder, ratio: float, spans: int
) -> None:
    recorder.record(ratio)
    with tracing.span("outer", metadata=(), kind="server"):
        outer = tracing.current_trace_id()
        with tracing.span("inner"):
            assert tracing.current_trace_id() == outer
            assert tracing.exemplar() == ({"trace_id": outer} if spans else None)
    assert len(recorder.spans) == spans
    assert tracing.current_trace_id() == ""


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01\n",
    ],
)
def test_a_malformed_traceparent_begins_a_new_trace_and_its_tracestate_ends(wrong: str) -> None:
    answer = told(("traceparent", wrong), ("tracestate", "a=1"))
    assert TRACE not in answer["traceparent"]
    assert "tracestate" not in answer


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert told(("traceparent", f"01-{TRACE}-{PARENT}-00-more")) == {"traceparent": NOT_SAMPLED}


@pytest.mark.parametrize("state", ["a=" + "x" * 600, "a=é", "a=\x01"])
def test_a_tracestate_that_metadata_cannot_carry_or_that_is_too_long_ends_here(state: str) -> None:
    assert told(("traceparent", SAMPLED), ("tracestate", state)) == {"traceparent": SAMPLED}


def test_an_exception_is_told_by_its_class_alone(recorder: Recorder) -> None:
    recorder.record(ratio=1.0)
    with pytest.raises(ValueError, match=MARK), tracing.span("call"):
        raise ValueError(MARK)
    (span,) = recorder.spans
    assert span.attributes == {"error.type": "ValueError"}
    assert span.status.description == "ValueError"
    assert MARK not in span.to_json()


def test_a_span_that_is_over_has_the_times_that_it_is_given(recorder: Recorder) -> None:
    recorder.record(ratio=1.0)
    with tracing.span("call"):
        now_s = time.monotonic()
        tracing.record_span("batch", now_s - 2.0, now_s - 0.5, {"rows": 3})
    batch, call = recorder.spans
    assert batch.start_time is not None
    assert batch.end_time is not None
    assert call.start_time is not None
    assert (batch.end_time - batch.start_time) / 1e9 == pytest.approx(1.5, abs=1e-3)
    assert (call.start_time - batch.start_time) / 1e9 == pytest.approx(2.0, abs=0.1)


def test_what_is_told_of_a_request_has_no_text_of_it() -> None:
    sampling = payload_pb2.Sampling(temperature=0.5, top_k=3, seed=7)
    generate = payload_pb2.Generate(
        prompt=MARK, max_tokens=9, stop=[MARK], json_schema=f'{{"title": "{MARK}"}}', sampling=sampling
    )
    described = request_attributes("chat", payload_pb2.Payload(generate=generate))
    assert MARK not in str(described)
    assert described == {
        "gen_ai.provider.name": "inference_mesh",
        "gen_ai.operation.name": "text_completion",
        "gen_ai.request.model": "chat",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_k": 3.0,
        "gen_ai.request.seed": 7,
        "gen_ai.output.type": "json",
    }


@pytest.mark.parametrize(
    ("payload", "operation"),
    [
        (payload_pb2.Payload(embed=payload_pb2.Embed(texts=["a"])), "embeddings"),
        (payload_pb2.Payload(rerank=payload_pb2.Rerank(query="a")), "rerank"),
        (payload_pb2.Payload(json=b"{}"), "infer"),
        (payload_pb2.Payload(generate=payload_pb2.Generate(chat=payload_pb2.Chat())), "chat"),
        (payload_pb2.Payload(), None),
        (None, None),
    ],
)
def test_every_task_has_a_name_of_its_operation(
    payload: payload_pb2.Payload | None, operation: str | None
) -> None:
    assert request_attributes("m", payload).get("gen_ai.operation.name") == operation


def test_what_is_told_of_an_answer_are_counts_and_its_end() -> None:
    usage = payload_pb2.Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=2)
    assert usage_attributes(usage) == {
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 2,
    }
    ended = payload_pb2.Generated(text=MARK, finish_reason=payload_pb2.FINISH_REASON_STOP)
    assert output_attributes(payload_pb2.Output(generate=ended)) == {
        "gen_ai.response.finish_reasons": ["stop"]
    }
    assert output_attributes(payload_pb2.Output(json=b"{}")) == {}


def test_of_several_answers_each_end_is_told() -> None:
    described = request_attributes(
        "m", payload_pb2.Payload(generate=payload_pb2.Generate(prompt="a", n=2, tools=[{"name": MARK}]))
    )
    assert described["gen_ai.request.choice.count"] == 2
    assert MARK not in str(described)
    ended = payload_pb2.Generated(finish_reason=payload_pb2.FINISH_REASON_TOOL_CALLS)
    ended.others.append(payload_pb2.Generated(finish_reason=payload_pb2.FINISH_REASON_STOP))
    assert output_attributes(payload_pb2.Output(generate=ended)) == {
        "gen_ai.response.finish_reasons": ["tool_calls", "stop"]
    }
