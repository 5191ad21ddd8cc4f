"""Whatever else is batched with it, a text gets the vector that it gets alone; and nothing is left over."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_mesh.errors import DeadlineExceededError
from tests.support.onnx_engine import answer, embed_payload, running, until, vectors_of
from tests.support.processes import MINILM
from workers.onnx.engine import OnnxEngine

WORDS = (
    "the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wizards",
    "boil", "black", "quartz",
)  # fmt: skip
TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Call:
    """One request of a scene: texts by their numbers of words; when it comes, and when its caller leaves."""

    lengths: tuple[int, ...]
    delay_ms: int
    leaves_ms: int | None

    @property
    def texts(self) -> list[str]:
        """Texts of these lengths."""
        return [" ".join(WORDS[at % len(WORDS)] for at in range(length)) for length in self.lengths]


calls = st.builds(
    Call,
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4).map(tuple),
    delay_ms=st.integers(0, 30),
    leaves_ms=st.none() | st.integers(0, 20),
)
known: dict[str, np.ndarray] = {}


@settings(deadline=None, max_examples=settings().max_examples // 3)
@given(scene=st.lists(calls, min_size=2, max_size=12), sessions=st.integers(1, 2))
def test_vectors_are_those_of_each_text_alone_and_nothing_is_left(scene: list[Call], sessions: int) -> None:
    asyncio.run(check(scene, sessions))


async def check(scene: list[Call], sessions: int) -> None:
    """Run a scene, and compare."""
    async with running(MINILM, sessions=sessions) as engine:
        for text in {text for call in scene for text in call.texts} - known.keys():
            known[text] = vectors_of(await answer(engine, embed_payload(text)))[0]
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(visit(engine, call) for call in scene))
        await until(lambda: engine.load_now().running + engine.load_now().queued == 0)
        await until(lambda: engine.load_now().utilization == 0)
    for call, vectors in zip(scene, found, strict=True):
        if vectors is not None:
            expected = np.stack([known[text] for text in call.texts])
            assert np.abs(vectors - expected).max() < TOLERANCE


async def visit(engine: OnnxEngine, call: Call) -> np.ndarray | None:
    """The vectors that a caller got; None if it left before."""
    await asyncio.sleep(call.delay_ms / 1000)
    limit_s = None if call.leaves_ms is None else call.leaves_ms / 1000
    try:
        async with asyncio.timeout(limit_s):
            return vectors_of(await answer(engine, embed_payload(*call.texts)))
    except (TimeoutError, DeadlineExceededError):
        return None
