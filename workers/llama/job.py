"""One request on its way through the engine: what it asks for, and how far it is.

Owns the values only. The decode thread changes a job while it is queued or at work; the
event loop only sets `is_cancelled`.
"""

from __future__ import annotations

import dataclasses

from inference_mesh.errors import MeshError
from inference_mesh.v1 import payload_pb2
from workers.llama.gbnf.state import GrammarState
from workers.llama.logprobs import TokenLogprobs
from workers.llama.sampling import SamplingParams
from workers.llama.text_stream import TextStream
from workers.llama.tools.call_stream import ToolCallStream
from workers.llama.vocabulary import Vocabulary


@dataclasses.dataclass(eq=False, slots=True)
class Job:
    """tokens: prompt and answer so far; the first `computed` of them are in the KV cache.

    prompt_length: tokens of the prompt itself. max_tokens: length limit of the answer, with
    what the caller already had; length_reason: whose limit it is. deadline and the times in
    seconds of `time.monotonic()`. turn_s: its place in the queue, the lowest first. grammar: what
    the answer must match; None = free text. calls: reads function calls; None = there are no tools.
    logprobs: None = nobody asks for them. index: of the answers of one request; siblings: the same
    object in all of those, None = it is alone. vocabulary: None = the model's. steps: batches that
    it had a part in; step_rows: jobs in all of those together.
    """

    tokens: list[int]
    prompt_length: int
    max_tokens: int
    sampling: SamplingParams
    text: TextStream
    arrived_s: float
    turn_s: float = 0.0
    length_reason: payload_pb2.LengthReason = payload_pb2.LENGTH_REASON_MAX_TOKENS
    tenant: str = ""
    deadline: float | None = None
    grammar: GrammarState | None = None
    calls: ToolCallStream | None = None
    logprobs: TokenLogprobs | None = None
    index: int = 0
    siblings: object = None
    vocabulary: Vocabulary | None = None
    is_cancelled: bool = False
    sequence: int = -1
    computed: int = 0
    cached: int = 0
    started_s: float | None = None
    first_token_s: float | None = None
    ended_s: float | None = None
    steps: int = 0
    step_rows: int = 0

    @property
    def made(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - self.prompt_length

    @property
    def is_prefilling(self) -> bool:
        """True while more than the newest token is not computed."""
        return len(self.tokens) - self.computed > 1

    def is_gone(self, now: float) -> bool:
        """True if nobody waits for the answer any more."""
        return self.is_cancelled or (self.deadline is not None and now >= self.deadline)


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """What one step brought one job: final text, calls and tokens, or its end.

    logprobs: one for each token, where they are asked for. finish_reason is set in the last one of a
    job that ended well, error in that of one that did not.
    """

    job: Job
    text: str = ""
    tokens: tuple[int, ...] = ()
    finish_reason: payload_pb2.FinishReason = payload_pb2.FINISH_REASON_UNSPECIFIED
    error: MeshError | None = None
    calls: tuple[payload_pb2.ToolCall, ...] = ()
    logprobs: tuple[payload_pb2.TokenLogprob, ...] = ()

    @property
    def length_reason(self) -> payload_pb2.LengthReason:
        """Whose limit the answer ended at; unspecified if it goes on or ended otherwise."""
        is_cut = self.finish_reason == payload_pb2.FINISH_REASON_LENGTH
        return self.job.length_reason if is_cut else payload_pb2.LENGTH_REASON_UNSPECIFIED

    @property
    def is_last(self) -> bool:
        """True if nothing follows."""
        return self.error is not None or self.finish_reason != payload_pb2.FINISH_REASON_UNSPECIFIED
