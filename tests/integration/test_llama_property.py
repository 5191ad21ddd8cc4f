"""Whatever else runs beside it, a request gets the answer that it gets alone; and nothing is left over.

With a KV cache whose values are bf16, for which a batch's shape changes no bit of a logit: an answer
may leave its way only behind two tokens that are as good as equal.
"""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.llama_engine import EXACT, Answer, ask, generate, running, until
from tests.support.logits import first_difference
from workers.engine import EngineRequest
from workers.llama.engine import LlamaEngine

BYTES_PER_CELL = 5 * 2 * 2 * 32 * 2
"""Layers, KV heads, keys and values, width, bytes of the embedded model."""

CONTEXT = 160
AS_GOOD_AS_EQUAL = 1e-3
OPENINGS = (
    "Once upon a time there was a",
    "Once upon a time there was a small rabbit. The rabbit",
    "The capital of France is",
    "Who are you?",
    "One day the fox found a warm hat. The fox was happy and went home. " * 3,
)
STOPS = ((), (".",), (" the",), ("a", "zz"), ("rabbit", "fox"))


@dataclasses.dataclass(frozen=True)
class Call:
    """One request of a scene.

    delay_ms: when it comes. leaves_after: pieces after which its caller leaves; None = it stays.
    """

    opening: int
    max_tokens: int
    stop: int
    tenant: int
    delay_ms: int
    leaves_after: int | None

    def request(self) -> EngineRequest:
        """What is asked."""
        return generate(
            OPENINGS[self.opening],
            max_tokens=self.max_tokens,
            stop=list(STOPS[self.stop]),
            tenant=str(self.tenant),
            top_logprobs=2,
        )

    @property
    def key(self) -> tuple[int, int, int]:
        """Calls with one key have one answer."""
        return self.opening, self.max_tokens, self.stop


calls = st.builds(
    Call,
    opening=st.integers(0, len(OPENINGS) - 1),
    max_tokens=st.integers(1, 40),
    stop=st.integers(0, len(STOPS) - 1),
    tenant=st.integers(0, 1),
    delay_ms=st.integers(0, 40),
    leaves_after=st.none() | st.integers(0, 6),
)


@pytest.fixture(scope="module")
def alone() -> dict[tuple[int, int, int], Answer]:
    """What each call gets alone, as far as it was asked."""
    return {}


@settings(deadline=None, max_examples=settings().max_examples // 3)
@given(
    scene=st.lists(calls, min_size=2, max_size=10),
    slots=st.integers(1, 4),
    cells=st.sampled_from([CONTEXT, 2 * CONTEXT, 4 * CONTEXT]),
)
def test_answers_are_those_of_each_call_alone_and_nothing_is_left(
    alone: dict[tuple[int, int, int], Answer], scene: list[Call], slots: int, cells: int
) -> None:
    asyncio.run(check(alone, scene, slots, cells))


async def check(alone: dict[tuple[int, int, int], Answer], scene: list[Call], slots: int, cells: int) -> None:
    """Run a scene, and compare."""
    for call in scene:
        if call.key not in alone:
            async with running(slots=1, context_tokens=CONTEXT, placement=EXACT) as engine:
                alone[call.key] = await ask(engine, call.request())
    # Cells of 256 are the least that llama.cpp makes.
    size = max(cells, 256) * BYTES_PER_CELL
    async with running(slots=slots, context_tokens=CONTEXT, kv_cache_bytes=size, placement=EXACT) as engine:
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(visit(engine, call) for call in scene))
        await until(lambda: engine.load_now().running + engine.load_now().queued == 0)
        assert engine.load_now().kv_utilization == 0
    for call, tokens in zip(scene, answers, strict=True):
        compare(call, tokens, alone[call.key])


async def visit(engine: LlamaEngine, call: Call) -> list[int]:
    """The tokens that a caller got."""
    await asyncio.sleep(call.delay_ms / 1000)
    tokens: list[int] = []
    pieces = 0
    async for chunk in engine.submit(call.request()):
        tokens += chunk.output.generate.tokens
        pieces += chunk.has_output
        if call.leaves_after is not None and pieces > call.leaves_after:
            break
    return tokens


def compare(call: Call, tokens: list[int], expected: Answer) -> None:
    """Fail if tokens differ elsewhere than behind two that are as good as equal."""
    wanted = list(expected.tokens)
    if call.leaves_after is not None:
        wanted = wanted[: len(tokens)]
    at = first_difference(tokens, wanted)
    if at is None:
        return
    told = [token for chunk in expected.chunks for token in chunk.output.generate.logprobs]
    best, second = told[at].top[0].logprob, told[at].top[1].logprob
    assert best - second < AS_GOOD_AS_EQUAL, (call, at, tokens, wanted)
