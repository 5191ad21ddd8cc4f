"""Checks a generate payload and turns it into a job.

Owns the limits of the fields and what a resumed stream starts from. Tokenising and reading a
schema take time that grows with the request, so large ones belong in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from inference_mesh.errors import InputTooLongError, InvalidInputError, PayloadMismatchError
from inference_mesh.v1 import payload_pb2
from workers.engine import EngineRequest
from workers.llama.job import Job
from workers.llama.json_grammar import json_grammar
from workers.llama.length_limit import length_limit
from workers.llama.prompt import PromptReader
from workers.llama.sampling import sampling_params
from workers.llama.text_stream import TextStream
from workers.priority import turn_s

MAX_STOP_TEXTS = 16
MAX_STOP_BYTES = 256


class RequestReader:
    """Reads requests for one model."""

    def __init__(
        self, prompts: PromptReader, pieces: Sequence[bytes], *, context_tokens: int, default_max_tokens: int
    ) -> None:
        self._prompts = prompts
        self._pieces = pieces
        self._context_tokens = context_tokens
        self._default_max_tokens = default_max_tokens

    def job(self, request: EngineRequest, deadline: float | None, arrived_s: float) -> Job:
        """The job of a request; both times in seconds of `time.monotonic()`.

        Raises InvalidInputError naming the field, InputTooLongError, TokenBudgetError,
        UnsupportedError.
        """
        if request.payload.WhichOneof("kind") != "generate":
            raise PayloadMismatchError("this model generates text: the payload must be 'generate'")
        generate = request.payload.generate
        _check_stop(generate.stop)
        sampling = sampling_params(generate.sampling, len(self._pieces))
        grammar = json_grammar(generate.json_schema) if generate.json_schema else ""
        prompt = self._prompts.tokens(generate)
        delivered = self._prompts.checked_ids(generate.delivered_tokens, "delivered_tokens")
        self._check_delivered(len(prompt), len(delivered))
        limit = length_limit(
            len(prompt),
            asked=generate.max_tokens or self._default_max_tokens,
            clamp=request.max_tokens_limit,
            token_budget=request.token_budget,
            context_tokens=self._context_tokens,
        )
        return Job(
            tokens=prompt + delivered,
            prompt_length=len(prompt),
            max_tokens=limit.tokens,
            length_reason=limit.reason,
            sampling=sampling,
            text=self._resumed_text(generate, delivered),
            arrived_s=arrived_s,
            turn_s=turn_s(request.priority, arrived_s),
            tenant=request.tenant,
            deadline=deadline,
            grammar=grammar,
        )

    def _check_delivered(self, prompt: int, delivered: int) -> None:
        """As many as fill the context are well: the answer was whole but for its end."""
        if prompt + delivered > self._context_tokens:
            raise InputTooLongError(
                f"prompt and delivered_tokens are {prompt + delivered} tokens; "
                f"the model takes {self._context_tokens}"
            )

    def _resumed_text(self, generate: payload_pb2.Generate, delivered: Sequence[int]) -> TextStream:
        """The text of an answer, past what was delivered before."""
        text = TextStream(generate.stop)
        text.pass_over([self._pieces[token] for token in delivered])
        return text


def monotonic_deadline(deadline: float | None, loop_time: float) -> float | None:
    """A deadline of the event loop's clock in seconds of `time.monotonic()`."""
    return None if deadline is None else time.monotonic() + deadline - loop_time


def _check_stop(stop: Sequence[str]) -> None:
    if len(stop) > MAX_STOP_TEXTS:
        raise InvalidInputError(f"stop has {len(stop)} texts; allowed: at most {MAX_STOP_TEXTS}")
    for index, text in enumerate(stop):
        if not 1 <= len(text.encode()) <= MAX_STOP_BYTES:
            raise InvalidInputError(
                f"stop[{index}] has {len(text.encode())} bytes; allowed: 1 to {MAX_STOP_BYTES}"
            )
