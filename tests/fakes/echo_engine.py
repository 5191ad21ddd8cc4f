"""An engine that answers with the words of its prompt, one chunk each, as slowly as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from inference_mesh.errors import InvalidInputError, ModelNotReadyError, OverloadedError
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.engine import Chunk, EngineRequest, Load


class EchoEngine:
    """Prompts with a meaning: "explode" raises a KeyError, "overload" is refused, "forever" never ends."""

    def __init__(self, *, is_loadable: bool = True, version: str = "3") -> None:
        self._is_loadable = is_loadable
        self._version = version
        self.requests: list[EngineRequest] = []
        self.released = asyncio.Event()
        self.may_continue = asyncio.Event()
        self.running = 0

    @property
    def model(self) -> inference_pb2.Model:
        """A text model of 64 tokens."""
        return inference_pb2.Model(
            name="echo", version=self._version, task=payload_pb2.TASK_GENERATE, runtime="echo", max_tokens=64
        )

    async def load(self) -> None:
        """Load, or fail as it was told."""
        if not self._is_loadable:
            raise ModelNotReadyError("the file is truncated")

    async def submit(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """One chunk a word."""
        self.requests.append(request)
        self.running += 1
        try:
            async for chunk in self._answer(request):
                yield chunk
        finally:
            self.running -= 1
            self.released.set()

    def load_now(self) -> Load:
        """A fixed load, but for what runs."""
        return Load(utilization=0.5, queued=2, running=self.running, kv_utilization=0.25)

    async def close(self) -> None:
        """Nothing to free."""

    async def _answer(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        prompt = request.payload.generate.prompt
        if not prompt:
            raise InvalidInputError("prompt is empty")
        if prompt == "explode":
            raise KeyError("secret detail")
        if prompt == "overload":
            raise OverloadedError("the queue is full", retry_after_s=0.5)
        words = prompt.split()
        for word in words:
            yield _chunk(f"{word} ", len(words))
            if prompt.startswith("forever"):
                await self.may_continue.wait()
        yield _chunk("", len(words), is_last=True)


def _chunk(text: str, words: int, *, is_last: bool = False) -> Chunk:
    generated = payload_pb2.Generated(text=text, tokens=[len(text)] if text else [])
    if not is_last:
        return Chunk(payload_pb2.Output(generate=generated), prompt_tokens=words)
    generated.finish_reason = payload_pb2.FINISH_REASON_STOP
    usage = payload_pb2.Usage(prompt_tokens=words, completion_tokens=words)
    timing = payload_pb2.Timing(queue_s=0.25, compute_s=0.5)
    return Chunk(payload_pb2.Output(generate=generated), words, usage, timing)
