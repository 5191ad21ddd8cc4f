"""An answer as it is kept, and as it is given again.

Owns what of a worker's messages is kept: neither the first caller's id nor its times. The
messages are not parsed on a hit: protobuf lets a field stand behind the others, so the new
caller's id is appended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from inference_mesh.v1 import inference_pb2, payload_pb2

ANSWER_OVERHEAD_BYTES = 1024
"""Upper bound of what Python takes for one kept answer beside its messages, key and index included."""
MESSAGE_OVERHEAD_BYTES = 64
"""Upper bound of what Python takes for one message beside its bytes."""

WHOLE_LENGTHS = frozenset(
    {
        payload_pb2.LENGTH_REASON_MAX_TOKENS,
        payload_pb2.LENGTH_REASON_CONTEXT,
        payload_pb2.LENGTH_REASON_CLAMP,
    }
)
"""Why an answer that is the same next time may have ended early. A budget is not among them."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A whole answer: its messages without a caller's id.

    serialized_usage: what the answer says of itself, marked as cached. size_bytes: of all of it
    in memory.
    """

    kept: tuple[bytes, ...]
    serialized_usage: bytes
    size_bytes: int

    @property
    def usage(self) -> payload_pb2.Usage:
        """What the first caller's request consumed, marked as cached."""
        return payload_pb2.Usage.FromString(self.serialized_usage)

    def messages(self, request_id: str) -> tuple[bytes, ...]:
        """The messages for a caller; the first has the caller's id."""
        head = inference_pb2.InferStreamResponse(request_id=request_id).SerializeToString()
        return (self.kept[0] + head, *self.kept[1:])


def stored_answer(method: str, messages: Sequence[bytes]) -> StoredAnswer | None:
    """An answer in the form that is kept; None for one that is not whole, or not the same next time.

    method: "Infer" or "InferStream". messages: all of them, as the worker sent them. Those
    between the first, which has the id, and the last, which has the usage, are not read.
    """
    message_class = inference_pb2.InferResponse if method == "Infer" else inference_pb2.InferStreamResponse
    if not messages:
        return None
    try:
        last = message_class.FromString(messages[-1])
        first = message_class.FromString(messages[0]) if len(messages) > 1 else last
    except DecodeError:
        return None
    if not last.HasField("usage") or not _is_repeatable(last.output):
        return None
    last.usage.response_cached = True
    last.timing.CopyFrom(payload_pb2.Timing())
    last.request_id = first.request_id = ""
    kept = list(messages)
    kept[0], kept[-1] = first.SerializeToString(), last.SerializeToString()
    return _answer(tuple(kept), last.usage.SerializeToString())


def _answer(kept: tuple[bytes, ...], usage: bytes) -> StoredAnswer:
    size_bytes = sum(map(len, kept)) + MESSAGE_OVERHEAD_BYTES * len(kept) + ANSWER_OVERHEAD_BYTES
    return StoredAnswer(kept, usage, size_bytes)


def _is_repeatable(output: payload_pb2.Output) -> bool:
    """Whether the last message of an answer says that it is whole."""
    if not output.HasField("generate"):
        return output.WhichOneof("kind") is not None
    return all(_is_whole(generated) for generated in (output.generate, *output.generate.others))


def _is_whole(generated: payload_pb2.Generated) -> bool:
    if generated.finish_reason == payload_pb2.FINISH_REASON_LENGTH:
        return generated.length_reason in WHOLE_LENGTHS
    return generated.finish_reason in (payload_pb2.FINISH_REASON_STOP, payload_pb2.FINISH_REASON_TOOL_CALLS)
