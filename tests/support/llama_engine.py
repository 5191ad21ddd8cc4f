"""A llama.cpp engine under test: started, asked and watched."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from inference_mesh.v1 import payload_pb2
from workers.engine import Chunk, EngineRequest
from workers.llama.engine import LlamaEngine
from workers.llama.placement import Placement
from workers.llama.settings import LlamaSettings

TINY_CHAT = Path(__file__).parents[2] / "models" / "files" / "tiny-chat.gguf"
PATIENCE_S = 20.0
END_TOKENS = (0, 2)
GREEDY = payload_pb2.Sampling(temperature=0)
EXACT = Placement(flash_attention="on", value_type="bf16")
"""Answers that are the same to the bit, whatever else runs beside them, of quantised weights."""
FULL = Placement(flash_attention="off", cache_type="f32")
"""Nothing is rounded below 32 bits. With weights of 32 bits the shape of a batch then moves a logit by
1e-5; flash attention makes that 1e-2 (measured: the steps of tiny-chat in chunks of 1 to 200)."""
ENDLESS = payload_pb2.Sampling(temperature=0, logit_bias=dict.fromkeys(END_TOKENS, -100.0))
"""Greedy, and the end of the answer is as good as forbidden."""

QUESTIONS = [
    f"Tell me a story about a {animal}."
    for animal in ("fox", "cat", "dog", "goat", "horse", "owl", "bear", "frog")
]
STEADY = [
    "Hello.", "Hi.", "Thank you.", "Thanks.", "Goodbye.", "Good evening.", "How are you?", "Who are you?",
]  # fmt: skip
"""The model is sure of these answers. Elsewhere the shape of a batch may tip two near-equal tokens."""

HISTORY = (("user", "Hello."), ("assistant", "Hello! How can I help you?")) * 6
"""About 120 tokens of conversation."""


class Counts:
    """An observer that counts."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.dropped = 0

    def batch_computed(self, rows: int) -> None:
        """Note a batch."""
        self.batches.append(rows)

    def requests_dropped(self, count: int) -> None:
        """Note what left the queue unbegun."""
        self.dropped += count


@dataclasses.dataclass(frozen=True)
class Answer:
    """A whole answer, joined."""

    text: str
    tokens: tuple[int, ...]
    chunks: tuple[Chunk, ...]

    @property
    def usage(self) -> payload_pb2.Usage:
        """The usage of the last chunk."""
        assert self.chunks[-1].usage is not None
        return self.chunks[-1].usage

    @property
    def finish_reason(self) -> payload_pb2.FinishReason:
        """Why it ended."""
        return self.chunks[-1].output.generate.finish_reason


@asynccontextmanager
async def running(
    path: Path = TINY_CHAT, observer: Counts | None = None, **settings: Any
) -> AsyncIterator[LlamaEngine]:
    """A loaded engine, closed at the end."""
    engine = LlamaEngine(LlamaSettings(path, "tiny", **settings), observer or Counts())
    await engine.load()
    try:
        yield engine
    finally:
        await engine.close()


def generate(text: str = "", *, messages: tuple[tuple[str, str], ...] = (), **fields: Any) -> EngineRequest:
    """A request: a prompt, or messages; greedy unless `sampling` says otherwise.

    What an EngineRequest has goes to the request, other fields to the payload.
    """
    outer = {key: fields.pop(key) for key in EngineRequest.__slots__ if key in fields}
    fields.setdefault("sampling", GREEDY)
    message = payload_pb2.Generate(**fields)
    if messages:
        chat = [payload_pb2.ChatMessage(role=role, content=content) for role, content in messages]
        message.chat.CopyFrom(payload_pb2.Chat(messages=chat))
    elif not message.WhichOneof("input"):
        message.prompt = text
    return EngineRequest(payload_pb2.Payload(generate=message), **outer)


def question(text: str, **fields: Any) -> EngineRequest:
    """A request of one user message."""
    return generate(messages=(("user", text),), **fields)


async def ask(engine: LlamaEngine, request: EngineRequest) -> Answer:
    """The whole answer of a request."""
    chunks = [chunk async for chunk in engine.submit(request)]
    assert all(chunk.usage is None for chunk in chunks[:-1])
    generated = [chunk.output.generate for chunk in chunks]
    tokens = tuple(token for piece in generated for token in piece.tokens)
    return Answer("".join(piece.text for piece in generated), tokens, tuple(chunks))


async def begun(engine: LlamaEngine, request: EngineRequest) -> AsyncGenerator[Chunk]:
    """The rest of an answer whose first text is there."""
    chunks = cast("AsyncGenerator[Chunk]", engine.submit(request))
    while not (await anext(chunks)).has_output:
        pass
    return chunks


async def ask_all(engine: LlamaEngine, *requests: EngineRequest) -> list[Answer]:
    """The answers of requests sent at once, in their order."""
    return await asyncio.gather(*(ask(engine, request) for request in requests))


async def until(condition: Callable[[], bool]) -> float:
    """Return once the condition holds: the seconds that it took."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)
    return loop.time() - started


def sampled(seed: int, **fields: Any) -> payload_pb2.Sampling:
    """Sampling with a seed and some heat."""
    return payload_pb2.Sampling(temperature=1.2, seed=seed, **fields)


def after_history(text: str, **fields: Any) -> EngineRequest:
    """A question at the end of a longer conversation, answered greedily."""
    return generate(messages=(*HISTORY, ("user", text)), max_tokens=40, **fields)
