"""What an engine is: the one protocol behind which llama.cpp and ONNX Runtime stand.

Owns the protocol and the values that cross it. An engine knows nothing of gRPC: it takes
payload messages, gives output messages, and raises MeshError.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.priority import Priority


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a request's way through an engine; both times in seconds of `time.monotonic()`.

    facts: numbers of it by name, such as the rows of a batch.
    """

    name: str
    started_s: float
    ended_s: float
    facts: Mapping[str, int | float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request as an engine sees it.

    payload: what to do; its kind was checked against the model's task already.
    deadline: in the seconds of the running event loop's `time()`; None = no limit. A request
    that is still queued then is dropped with DeadlineExceededError, never computed.
    max_tokens_limit: the clamp of the gateway; 0 = none. token_budget: most tokens of prompt and
    answer together; None = no limit. tenant: opaque salt; prefixes are never shared between
    different tenants. priority: orders what waits, and nothing else. stages: where the engine notes
    the stages of the request once it ends, in whatever way; None = nobody asks.
    """

    payload: payload_pb2.Payload
    deadline: float | None = None
    max_tokens_limit: int = 0
    token_budget: int | None = None
    tenant: str = ""
    priority: Priority = Priority.NORMAL
    stages: list[Stage] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a result: text for generate, the whole output for every other task.

    usage and timing are set in the last chunk and only there. prompt_tokens is exact from
    the first chunk on (0 for tensors). The first chunk of generate comes before anything is
    computed, and its output is empty.
    """

    output: payload_pb2.Output
    prompt_tokens: int = 0
    usage: payload_pb2.Usage | None = None
    timing: payload_pb2.Timing | None = None

    @property
    def has_output(self) -> bool:
        """False if it tells the prompt's length and nothing else."""
        return self.output.WhichOneof("kind") is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine is now.

    utilization: share of the slots or threads at work, 0 to 1. queued: requests that wait.
    running: requests at work. kv_utilization: share of the KV cells in use, 0 without one.
    slots: requests that the engine works on at once; 0 = unknown. kv_tokens: tokens that the KV
    cache holds, 0 without one.
    """

    utilization: float
    queued: int
    running: int
    kv_utilization: float = 0.0
    slots: int = 0
    kv_tokens: int = 0


class Engine(Protocol):
    """A model in memory, able to run many requests at a time."""

    @property
    def model(self) -> inference_pb2.Model:
        """What the model is; complete after `load`. name and version come from the caller."""

    async def load(self) -> None:
        """Load the model and run it once. Raises ModelNotReadyError with the reason."""

    def submit(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """The chunks of one request, the last with usage and timing.

        Closing the iterator (`aclose`) or cancelling its consumer stops the work and frees
        its slot. Raises InvalidInputError, OverloadedError, DeadlineExceededError, and
        TokenBudgetError if the budget does not hold the input and, for generate, one token.
        """

    def load_now(self) -> Load:
        """How busy the engine is at this moment; cheap, called for every answer."""

    async def close(self) -> None:
        """Fail what is running with ShuttingDownError, stop the threads, free the model."""
