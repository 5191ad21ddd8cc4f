"""Checks a generate payload and turns it into jobs, one for each answer that it asks for.

Owns the limits of the fields and what a resumed stream starts from. Tokenising and reading a
schema take time that grows with the request, so large ones belong in a thread.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from inference_mesh.errors import (
    InputTooLongError,
    InvalidInputError,
    PayloadMismatchError,
    UnsupportedError,
)
from inference_mesh.v1 import payload_pb2
from workers.engine import EngineRequest
from workers.llama.gbnf.grammar import Grammar
from workers.llama.gbnf.parser import caller_grammar, parsed_grammar
from workers.llama.gbnf.state import GrammarState
from workers.llama.job import Job
from workers.llama.json_grammar import json_grammar
from workers.llama.length_limit import LengthLimit, length_limit
from workers.llama.logprobs import TokenLogprobs
from workers.llama.prompt import PromptReader
from workers.llama.sampling import SamplingParams, sampling_params, with_seed_of
from workers.llama.text_stream import TextStream, complete_length
from workers.llama.tools.call_stream import ToolCallStream
from workers.llama.tools.style import ToolStyle, style_of
from workers.llama.tools.tool_set import ToolSet, tool_set
from workers.llama.vocabulary import Vocabulary
from workers.priority import turn_s

MAX_STOP_TEXTS = 16
MAX_STOP_BYTES = 256
MAX_ANSWERS = 16
MAX_TOP_LOGPROBS = 20

INLINE_BYTES = 4096
"""Requests up to this size are read on the event loop: a thread would cost more."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """What all answers to a request have in common."""

    request: EngineRequest
    deadline: float | None
    arrived_s: float
    sampling: SamplingParams
    tools: ToolSet | None
    grammar: Grammar | None
    siblings: object


class RequestReader:
    """Reads requests for one model."""

    def __init__(
        self, prompts: PromptReader, vocabulary: Vocabulary, *, context_tokens: int, default_max_tokens: int
    ) -> None:
        self._prompts = prompts
        self._vocabulary = vocabulary
        self._context_tokens = context_tokens
        self._default_max_tokens = default_max_tokens
        self._style = style_of(prompts.template)
        self._tool_vocabulary = vocabulary.telling(self._style.marks) if self._style else vocabulary

    def jobs(self, request: EngineRequest, deadline: float | None, arrived_s: float) -> list[Job]:
        """The jobs of a request, one for each answer; both times in seconds of `time.monotonic()`.

        Raises InvalidInputError naming the field, InputTooLongError, TokenBudgetError,
        UnsupportedError.
        """
        if request.payload.WhichOneof("kind") != "generate":
            raise PayloadMismatchError("this model generates text: the payload must be 'generate'")
        generate = request.payload.generate
        count = answer_count(request.payload)
        _check_stop(generate.stop)
        _check_together(generate)
        tools = tool_set(generate)
        asked = _Asked(
            request,
            deadline,
            arrived_s,
            sampling_params(generate.sampling, len(self._vocabulary.pieces)),
            tools,
            self._grammar(generate, tools),
            siblings=object() if count > 1 else None,
        )
        prompt = self._prompts.tokens(generate, tools)
        delivered = self._prompts.checked_ids(generate.delivered_tokens, "delivered_tokens")
        self._check_delivered(len(prompt), len(delivered))
        limit = length_limit(
            len(prompt),
            asked=generate.max_tokens or self._default_max_tokens,
            clamp=request.max_tokens_limit,
            token_budget=request.token_budget,
            context_tokens=self._context_tokens,
            answers=count,
        )
        return [self._job(asked, prompt, delivered, limit, index) for index in range(count)]

    def _job(
        self, asked: _Asked, prompt: list[int], delivered: list[int], limit: LengthLimit, index: int
    ) -> Job:
        """One answer's job, with what reads its tokens taken past those that were delivered before."""
        generate, vocabulary = asked.request.payload.generate, self._vocabulary
        job = Job(
            tokens=prompt + delivered,
            prompt_length=len(prompt),
            max_tokens=limit.tokens,
            length_reason=limit.reason,
            sampling=with_seed_of(asked.sampling, index) if index else asked.sampling,
            text=TextStream(generate.stop),
            arrived_s=asked.arrived_s,
            turn_s=turn_s(asked.request.priority, asked.arrived_s),
            tenant=asked.request.tenant,
            deadline=asked.deadline,
            index=index,
            siblings=asked.siblings,
        )
        if asked.tools is not None:
            vocabulary = job.vocabulary = self._tool_vocabulary
            job.calls = ToolCallStream(self._known_style(), asked.tools.names)
        if generate.HasField("top_logprobs"):
            job.logprobs = TokenLogprobs(generate.top_logprobs, self._vocabulary.pieces)
        if asked.grammar is not None:
            job.grammar = GrammarState(asked.grammar)
        if delivered:
            _pass_over(job, [vocabulary.pieces[token] for token in delivered])
        return job

    def _grammar(self, generate: payload_pb2.Generate, tools: ToolSet | None) -> Grammar | None:
        """What the answer must match. Raises InvalidInputError, UnsupportedError."""
        if tools is not None:
            style = self._known_style()
            return parsed_grammar(tools.grammar(style), "tools") if tools.required else None
        if generate.json_schema:
            return parsed_grammar(json_grammar(generate.json_schema), "json_schema")
        return caller_grammar(generate.grammar, "grammar") if generate.grammar else None

    def _known_style(self) -> ToolStyle:
        if self._style is None:
            raise UnsupportedError(
                "this model's chat template knows no tools, or none in a form that is understood here"
            )
        return self._style

    def _check_delivered(self, prompt: int, delivered: int) -> None:
        """As many as fill the context are well: the answer was whole but for its end."""
        if prompt + delivered > self._context_tokens:
            raise InputTooLongError(
                f"prompt and delivered_tokens are {prompt + delivered} tokens; "
                f"the model takes {self._context_tokens}"
            )


def answer_count(payload: payload_pb2.Payload) -> int:
    """How many answers a request asks for. Raises InvalidInputError if they are too many."""
    count = payload.generate.n
    if count > MAX_ANSWERS:
        raise InvalidInputError(f"n is {count}; allowed: 0 to {MAX_ANSWERS}")
    return count or 1


def is_quick_to_read(payload: payload_pb2.Payload) -> bool:
    """Whether reading a request takes less time than a thread would."""
    generate = payload.generate
    is_plain = not (generate.json_schema or generate.grammar or generate.tools)
    return is_plain and payload.ByteSize() <= INLINE_BYTES


def monotonic_deadline(deadline: float | None, loop_time: float) -> float | None:
    """A deadline of the event loop's clock in seconds of `time.monotonic()`."""
    return None if deadline is None else time.monotonic() + deadline - loop_time


def _pass_over(job: Job, pieces: Sequence[bytes]) -> None:
    """Take the bytes of the first tokens as sent. Raises InvalidInputError if the grammar forbids one."""
    job.text.pass_over(pieces)
    if job.calls is not None:
        data = b"".join(pieces)
        job.calls.pass_over(data[: complete_length(data)].decode("utf-8", errors="replace"))
    if job.grammar is not None:
        for piece in pieces:
            if not job.grammar.allows(piece):
                raise InvalidInputError(f"delivered_tokens do not match {job.grammar.field}")
            job.grammar.accept(piece)


def _check_together(generate: payload_pb2.Generate) -> None:
    """Raises InvalidInputError for fields that exclude each other, or are out of range."""
    if generate.n > 1 and generate.delivered_tokens:
        raise InvalidInputError("n and delivered_tokens cannot be used together: which answer would go on?")
    if generate.top_logprobs > MAX_TOP_LOGPROBS:
        raise InvalidInputError(f"top_logprobs is {generate.top_logprobs}; allowed: 0 to {MAX_TOP_LOGPROBS}")
    shows_tools = generate.tools and generate.tool_choice.mode != payload_pb2.TOOL_CHOICE_MODE_NONE
    given = [
        name
        for name, is_given in (
            ("json_schema", generate.json_schema),
            ("grammar", generate.grammar),
            ("tools", shows_tools),
        )
        if is_given
    ]
    if len(given) > 1:
        raise InvalidInputError(f"{given[0]} and {given[1]} cannot be used together")


def _check_stop(stop: Sequence[str]) -> None:
    if len(stop) > MAX_STOP_TEXTS:
        raise InvalidInputError(f"stop has {len(stop)} texts; allowed: at most {MAX_STOP_TEXTS}")
    for index, text in enumerate(stop):
        if not 1 <= len(text.encode()) <= MAX_STOP_BYTES:
            raise InvalidInputError(
                f"stop[{index}] has {len(text.encode())} bytes; allowed: 1 to {MAX_STOP_BYTES}"
            )
