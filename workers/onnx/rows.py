"""What stands between a task and the scheduler: a request as rows, and how rows are run.

Owns the two values and the protocols; each task has a module of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from inference_mesh.v1 import payload_pb2
from workers.onnx.batching import Row
from workers.onnx.sessions import Array, Feeds

RunGraph: TypeAlias = Callable[[Sequence[str], Feeds], list[Array]]
"""Output names and inputs in, outputs out."""


class RowKind(Protocol):
    """How rows of one group become one run of the graph. Called on a session's thread."""

    def compute(self, rows: Sequence[Any], run: RunGraph) -> list[Any]:
        """The result of each row, in order. Raises what `run` raises."""


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """A request that is ready to be computed. rows: at least one; prompt_tokens: of all."""

    kind: RowKind
    rows: Sequence[Row]
    prompt_tokens: int = 0


class Task(Protocol):
    """One thing that a model can do: which payload it takes, and how it answers."""

    def is_large(self, payload: payload_pb2.Payload) -> bool:
        """True if encoding may take milliseconds, so that it must leave the event loop."""

    def encode(self, payload: payload_pb2.Payload) -> Work:
        """The rows of a request. Raises InvalidInputError."""

    def decode(self, payload: payload_pb2.Payload, results: Sequence[Any]) -> payload_pb2.Output:
        """The answer, from the results of the request's rows in the order of their index."""
