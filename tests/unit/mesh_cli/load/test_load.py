"""A load makes the calls it is told to make, and its figures are what became of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from inference_mesh.v1 import inference_pb2, payload_pb2
from mesh_cli.errors import UsageError
from mesh_cli.load.dialects.native import request_of
from mesh_cli.load.dialects.rest import InferForm, OpenaiForm, OpenInferenceForm
from mesh_cli.load.figures import figures_of, spread_of
from mesh_cli.load.generator import CallError, Generator, LoadShape
from mesh_cli.load.outcome import Answered, Outcome
from mesh_cli.load.questions import Texts, payloads
from mesh_cli.load.report import document_of

CHAT = inference_pb2.Model(name="m", task=payload_pb2.TASK_GENERATE)


class Server:
    """A server in memory that counts who is there; it answers when `gate` is open."""

    def __init__(self) -> None:
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self, note_first: Callable[[], None]) -> Answered:
        """One call; every third fails."""
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            note_first()
            if self.calls % 3 == 0:
                raise CallError("UNAVAILABLE")
            return Answered(prompt_tokens=2, completion_tokens=3)
        finally:
            self.in_flight -= 1


async def test_so_many_calls_are_made_and_so_many_at_a_time() -> None:
    server = Server()
    generator = Generator(LoadShape(4, None, 30, None), server.ask)
    await generator.run()
    assert (server.calls, len(generator.outcomes), server.most_in_flight) == (30, 30, 4)
    assert sum(outcome.error == "UNAVAILABLE" for outcome in generator.outcomes) > 0


async def test_at_a_rate_calls_come_whether_or_not_earlier_ones_were_answered() -> None:
    server = Server()
    server.gate.clear()
    generator = Generator(LoadShape(1, 10_000.0, 25, None), server.ask)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(generator.run())
        while server.in_flight < 25:
            await asyncio.sleep(0.001)
        server.gate.set()
    assert server.most_in_flight == 25
    assert all(outcome.due_s <= outcome.started_s <= outcome.ended_s for outcome in generator.outcomes)


async def test_a_load_of_a_duration_ends_by_itself() -> None:
    generator = Generator(LoadShape(2, None, None, 0.05), Server().ask)
    async with asyncio.timeout(10):
        await generator.run()
    assert generator.outcomes


def outcome(latency_s: float, tokens: int = 3, first_s: float | None = None, error: str = "") -> Outcome:
    """A call that was due at 10 s."""
    answered = Answered() if error else Answered(2, tokens)
    return Outcome(10.0, 10.5, 10.0 + latency_s, None if first_s is None else 10.0 + first_s, answered, error)


def test_latency_counts_from_when_a_call_was_due() -> None:
    one = outcome(2.0, tokens=5, first_s=1.0)
    assert (one.latency_s, one.first_token_s, one.per_token_s) == (2.0, 1.0, 0.25)


def test_figures_are_of_the_calls_that_were_answered() -> None:
    found = figures_of(
        [outcome(1.0, first_s=0.5), outcome(2.0, first_s=0.5), outcome(4.0, error="UNAVAILABLE")]
    )
    assert (found.calls, found.answered, found.errors) == (3, 2, {"UNAVAILABLE": 1})
    assert (found.seconds, found.calls_per_s, found.completion_tokens_per_s) == (4.0, 0.5, 1.5)
    assert found.latency is not None
    assert found.latency.longest == 2.0
    document: Any = document_of(found)
    assert document["latency_s"]["p50"] == 1.0


def test_a_percentile_is_a_value_that_was_seen() -> None:
    spread = spread_of(float(value) for value in range(1, 101))
    assert spread is not None
    assert dict(spread.percentiles) == {50: 50.0, 90: 90.0, 99: 99.0}
    assert spread_of([None]) is None
    assert figures_of([]).latency is None


def texts_of(count: int, texts: Texts) -> list[str]:
    """The first texts that are sent to a chat."""
    made = itertools.islice(payloads(CHAT, texts, 4, None), count)
    return [one["messages"][0]["content"] for one in made]


def test_texts_differ_from_their_first_word_on_unless_the_same_is_wanted() -> None:
    made = texts_of(20, Texts(8, is_same=False))
    assert len(set(made)) == 20
    assert {len(text.split()) for text in made} == {8}
    assert len(set(texts_of(5, Texts(8, is_same=True)))) == 1


def test_a_model_of_tensors_gets_zeros_of_its_inputs_shape() -> None:
    model = inference_pb2.Model(name="m", task=payload_pb2.TASK_TENSORS)
    model.inputs.add(name="x", datatype="FP32", shape=[-1, 3])
    payload = next(payloads(model, Texts(1, is_same=False), 1, None))
    assert payload == {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]}]}


def test_a_model_for_which_nothing_can_be_made_needs_a_payload() -> None:
    model = inference_pb2.Model(name="m", task=payload_pb2.TASK_JSON)
    with pytest.raises(UsageError):
        payloads(model, Texts(1, is_same=False), 1, None)
    assert next(payloads(model, Texts(1, is_same=False), 1, {"a": 1})) == {"a": 1}


def test_each_dialect_has_its_own_request() -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
    path, body = OpenaiForm().request("m", chat, is_stream=True)
    assert (path, body["stream_options"]) == ("/v1/chat/completions", {"include_usage": True})
    assert OpenaiForm().request("m", {"text": "a"}, is_stream=False)[0] == "/v1/embeddings"
    assert InferForm().request("m", chat, is_stream=False)[1]["payload"] == chat
    path, body = OpenInferenceForm().request("m", chat, is_stream=False)
    assert (path, body["inputs"][0]["data"]) == ("/v2/models/m/infer", ["Hi"])
    request = request_of("m", chat)
    assert request.parameters["max_tokens"].int64_param == 4
    with pytest.raises(UsageError):
        request_of("m", {"query": "q", "documents": []})
