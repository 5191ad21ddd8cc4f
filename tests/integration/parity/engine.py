"""The engine behind the matrix: the same three words for every prompt, in whatever form it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.engine import Chunk, EngineRequest, Load

WORDS = ("one ", "two ", "three ")
PROMPT_TOKENS = 3
WAIT = "wait"
"""A prompt that is answered once `released`, or never."""

WAIT_AMID = "wait amid"
"""The same, behind the first word."""
BAD = "bad"
"""A prompt that the worker refuses."""


class ThreeWords:
    """Owns what runs and what it was asked."""

    def __init__(self, name: str, version: str = "") -> None:
        self._name = name
        self._version = version
        self.running = 0
        self.released = asyncio.Event()

    @property
    def model(self) -> inference_pb2.Model:
        """A text model."""
        return inference_pb2.Model(
            name=self._name,
            version=self._version,
            task=payload_pb2.TASK_GENERATE,
            runtime="three-words",
            max_tokens=4096,
        )

    async def load(self) -> None:
        """Nothing to load."""

    async def submit(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """One chunk a word, and one with the end."""
        generate = request.payload.generate
        said = (generate.prompt, *(message.content for message in generate.chat.messages))
        if BAD in said or generate.sampling.temperature > 2:
            raise InvalidInputError("that cannot be computed")
        self.running += 1
        try:
            if WAIT in said:
                await self.released.wait()
            for number, word in enumerate(WORDS):
                if number and WAIT_AMID in said:
                    await self.released.wait()
                piece = payload_pb2.Generated(text=word, tokens=[number])
                yield Chunk(payload_pb2.Output(generate=piece), PROMPT_TOKENS)
            end = payload_pb2.Generated(finish_reason=payload_pb2.FINISH_REASON_STOP)
            usage = payload_pb2.Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=len(WORDS))
            yield Chunk(payload_pb2.Output(generate=end), PROMPT_TOKENS, usage, payload_pb2.Timing())
        finally:
            self.running -= 1

    def load_now(self) -> Load:
        """What runs."""
        return Load(utilization=0.0, queued=0, running=self.running, kv_utilization=0.0)

    async def close(self) -> None:
        """Nothing to free."""
