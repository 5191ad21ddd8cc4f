from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.response_cache.metrics import ResponseCacheMetrics
from gateway.response_cache.recording import Recording
from gateway.response_cache.response_cache import ResponseCache
from gateway.response_cache.response_caches import ResponseCaches
from gateway.response_cache.stored_answer import StoredAnswer, stored_answer
from inference_mesh.config.model_traffic import CacheSpec
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.v1 import inference_pb2, payload_pb2

MIB = 1024 * 1024
STOP, LENGTH = payload_pb2.FINISH_REASON_STOP, payload_pb2.FINISH_REASON_LENGTH
GOES_ON = payload_pb2.FINISH_REASON_UNSPECIFIED
NO_LENGTH = payload_pb2.LENGTH_REASON_UNSPECIFIED
USAGE = payload_pb2.Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1)
TIMING = payload_pb2.Timing(queue_s=1, compute_s=2, first_token_s=1.5)


def embedding(size_bytes: int = 16, request_id: str = "first") -> bytes:
    output = payload_pb2.Output(embed=payload_pb2.Embeddings(dimensions=1, values=bytes(size_bytes)))
    return inference_pb2.InferResponse(
        model="minilm", version="1", request_id=request_id, output=output, usage=USAGE, timing=TIMING
    ).SerializeToString()


def text(finish: payload_pb2.FinishReason, length: payload_pb2.LengthReason) -> bytes:
    generated = payload_pb2.Generated(text="Hi", tokens=[1], finish_reason=finish, length_reason=length)
    return inference_pb2.InferResponse(
        output=payload_pb2.Output(generate=generated), usage=USAGE
    ).SerializeToString()


def stream(pieces: int, request_id: str = "first") -> list[bytes]:
    messages = []
    for number in range(pieces):
        is_last = number == pieces - 1
        generated = payload_pb2.Generated(
            text=f"{number} ", tokens=[number], finish_reason=STOP if is_last else GOES_ON
        )
        message = inference_pb2.InferStreamResponse(output=payload_pb2.Output(generate=generated))
        if number == 0:
            message.model, message.request_id = "chat", request_id
        if is_last:
            message.usage.CopyFrom(USAGE)
            message.timing.CopyFrom(TIMING)
        messages.append(message.SerializeToString())
    return messages


def new_cache(size_mb: float = 1.0, ttl_s: float = 60.0) -> tuple[ResponseCache, CollectorRegistry]:
    registry = CollectorRegistry()
    spec = CacheSpec(size_mb=size_mb, ttl_s=ttl_s)
    return ResponseCache("minilm", spec, ResponseCacheMetrics(registry)), registry


def key(number: int) -> bytes:
    return number.to_bytes(32, "little")


def found(cache: ResponseCache, number: int, now_s: float) -> StoredAnswer:
    answer = cache.find(key(number), now_s)
    assert answer is not None
    return answer


def test_a_hit_is_the_answer_with_the_callers_id_and_says_that_it_was_kept() -> None:
    cache, _ = new_cache()
    assert cache.find(key(1), 0) is None
    assert cache.keep(key(1), "Infer", [embedding()], 0)
    answer = found(cache, 1, 1)
    (message,) = answer.messages("second")
    given_again = inference_pb2.InferResponse.FromString(message)
    first = inference_pb2.InferResponse.FromString(embedding())
    assert given_again.request_id == "second"
    assert given_again.output == first.output
    assert (given_again.model, given_again.version) == ("minilm", "1")
    expected = payload_pb2.Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1, response_cached=True)
    assert given_again.usage == answer.usage == expected
    assert given_again.HasField("timing")
    assert given_again.timing == payload_pb2.Timing()
    assert b"first" not in message


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_stream_comes_again_in_the_same_pieces(pieces: int) -> None:
    cache, _ = new_cache()
    assert cache.keep(key(1), "InferStream", stream(pieces), 0)
    messages = found(cache, 1, 0).messages("second")
    answers = [inference_pb2.InferStreamResponse.FromString(message) for message in messages]
    assert [one.output.generate.text for one in answers] == [f"{number} " for number in range(pieces)]
    assert [one.request_id for one in answers] == ["second", *[""] * (pieces - 1)]
    assert [one.usage.response_cached for one in answers] == [*[False] * (pieces - 1), True]
    assert [one.HasField("timing") for one in answers] == [*[False] * (pieces - 1), True]


@pytest.mark.parametrize(
    ("finish", "length", "is_kept"),
    [
        (STOP, NO_LENGTH, True),
        (LENGTH, payload_pb2.LENGTH_REASON_MAX_TOKENS, True),
        (LENGTH, payload_pb2.LENGTH_REASON_CONTEXT, True),
        (LENGTH, payload_pb2.LENGTH_REASON_CLAMP, True),
        (LENGTH, payload_pb2.LENGTH_REASON_TOKEN_BUDGET, False),
        (LENGTH, NO_LENGTH, False),
        (GOES_ON, NO_LENGTH, False),
    ],
)
def test_an_answer_that_a_budget_ended_is_not_kept(
    finish: payload_pb2.FinishReason, length: payload_pb2.LengthReason, is_kept: bool
) -> None:
    assert (stored_answer("Infer", [text(finish, length)]) is not None) is is_kept


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [b"\xff"],
        [b"\xff", *stream(2)],
        stream(3)[:2],
        [*stream(3)[:2], inference_pb2.InferStreamResponse(usage=USAGE).SerializeToString()],
    ],
)
def test_an_answer_that_is_not_whole_is_not_kept(messages: list[bytes]) -> None:
    assert stored_answer("InferStream", messages) is None


@pytest.mark.parametrize(
    ("length", "is_kept"),
    [(payload_pb2.LENGTH_REASON_CLAMP, True), (payload_pb2.LENGTH_REASON_TOKEN_BUDGET, False)],
)
def test_of_several_answers_each_must_be_whole(length: payload_pb2.LengthReason, is_kept: bool) -> None:
    message = inference_pb2.InferResponse.FromString(text(payload_pb2.FINISH_REASON_TOOL_CALLS, NO_LENGTH))
    message.output.generate.others.append(
        payload_pb2.Generated(index=1, finish_reason=LENGTH, length_reason=length)
    )
    assert (stored_answer("Infer", [message.SerializeToString()]) is not None) == is_kept


def test_an_answer_is_not_given_after_its_time() -> None:
    cache, registry = new_cache(ttl_s=60)
    cache.keep(key(1), "Infer", [embedding()], 0)
    assert cache.find(key(1), 59.9) is not None
    assert cache.find(key(1), 60) is None
    assert (len(cache), cache.size_bytes) == (0, 0)
    labels = {"model": "minilm", "reason": "expired"}
    assert registry.get_sample_value("mesh_gateway_response_cache_evictions_total", labels) == 1


def test_being_used_does_not_make_an_answer_live_longer_and_being_made_anew_does() -> None:
    cache, _ = new_cache(ttl_s=60)
    cache.keep(key(1), "Infer", [embedding()], 0)
    cache.keep(key(1), "Infer", [embedding()], 30)
    assert cache.find(key(1), 89) is not None
    assert cache.find(key(1), 90) is None


def test_the_least_recently_used_answer_goes_first() -> None:
    cache, registry = new_cache(size_mb=0.125)
    size_bytes = 12_000
    number = 0
    while len(cache) == number:
        cache.keep(key(number), "Infer", [embedding(size_bytes)], 0)
        found(cache, 0, 0)
        number += 1
    assert cache.find(key(1), 0) is None
    assert cache.find(key(0), 0) is not None
    labels = {"model": "minilm", "reason": "evicted"}
    assert registry.get_sample_value("mesh_gateway_response_cache_evictions_total", labels) == 1


def test_an_answer_that_would_drive_out_too_many_others_is_not_kept() -> None:
    cache, _ = new_cache(size_mb=1)
    assert not cache.keep(key(1), "Infer", [embedding(MIB // 8)], 0)
    assert cache.keep(key(1), "Infer", [embedding(MIB // 9)], 0)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20_000), st.floats(0, 30)), max_size=60),
)
def test_the_memory_is_never_more_than_allowed(steps: list[tuple[int, int, float]]) -> None:
    cache, registry = new_cache(size_mb=0.0625, ttl_s=100)
    now_s = 0.0
    for number, size_bytes, pause_s in steps:
        now_s += pause_s
        if cache.find(key(number), now_s) is None:
            cache.keep(key(number), "Infer", [embedding(size_bytes)], now_s)
        assert 0 <= cache.size_bytes <= 65_536
        shown = registry.get_sample_value("mesh_gateway_response_cache_bytes", {"model": "minilm"})
        assert (shown or 0) == cache.size_bytes
    assert cache.size_bytes >= 1024 * len(cache)


@pytest.mark.parametrize("pieces", [0, 1, 200])
def test_pythons_own_share_of_the_memory_is_counted(pieces: int) -> None:
    cache, _ = new_cache(size_mb=64)
    answers = [[embedding(10)] if not pieces else stream(pieces) for _ in range(500)]
    method = "InferStream" if pieces else "Infer"
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number, answer in enumerate(answers):
        cache.keep(key(number), method, [bytes(bytearray(message)) for message in answer], 0)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(cache) == 500
    assert 0.2 * cache.size_bytes < taken < cache.size_bytes


def test_a_recording_has_every_message_or_none() -> None:
    recording = Recording(1000)
    for _ in range(4):
        recording.note(b"x" * 100)
    assert recording.whole() == (b"x" * 100,) * 4
    for _ in range(4):
        recording.note(b"x" * 100)
    assert recording.whole() is None
    recording.note(b"")
    assert recording.whole() is None


def entry(name: str = "minilm", **changes: object) -> ModelEntry:
    return ModelEntry.model_validate(
        {"name": name, "endpoints": ["127.0.0.1:1"], "cache": {"size_mb": 1}, **changes}
    )


def test_a_model_has_a_cache_if_the_registry_says_so() -> None:
    caches = ResponseCaches(ResponseCacheMetrics(CollectorRegistry()))
    caches.replace([entry(), entry("plain", cache=None)])
    assert caches.of("minilm") is not None
    assert caches.of("plain") is None


def test_a_reload_keeps_the_answers_of_an_unchanged_entry_alone() -> None:
    registry = CollectorRegistry()
    caches = ResponseCaches(ResponseCacheMetrics(registry))
    caches.replace([entry()])
    first = caches.of("minilm")
    assert first is not None
    first.keep(key(1), "Infer", [embedding()], 0)
    caches.replace([entry(), entry("other")])
    assert caches.of("minilm") is first
    caches.replace([entry(endpoints=["127.0.0.1:2"])])
    second = caches.of("minilm")
    assert second is not None
    assert second.find(key(1), 0) is None


def test_an_answer_of_an_earlier_registry_is_not_kept_in_a_later_one() -> None:
    registry = CollectorRegistry()
    caches = ResponseCaches(ResponseCacheMetrics(registry))
    caches.replace([entry()])
    earlier = caches.of("minilm")
    assert earlier is not None
    caches.replace([entry(endpoints=["127.0.0.1:2"])])
    assert not earlier.keep(key(1), "Infer", [embedding()], 0)
    assert earlier.find(key(1), 0) is None
    caches.replace([])
    assert caches.of("minilm") is None
    assert all(not metric.samples for metric in registry.collect())
