"""A streamed chat as OpenAI's chunks. Keeps which answers have begun, and does nothing else."""

from __future__ import annotations

from inference_mesh import strict_json
from inference_mesh.errors import MeshError
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge import sse
from rest_bridge.openai.errors import error_document
from rest_bridge.openai.objects import Json, chat_logprobs, finish_reason, tool_call, usage_of


class ChatEvents:
    """The events of one chat: a role first, then what comes, then why it ended."""

    def __init__(self, head: Json, *, most_calls: int | None, tells_usage: bool) -> None:
        """head: id, created and model of every chunk. tells_usage: by a last chunk without choices."""
        self._head: Json = {**head, "object": "chat.completion.chunk"}
        self._most_calls = most_calls
        self._tells_usage = tells_usage
        self._calls: dict[int, int] = {}
        """How many calls each answer has made; an answer is in it once it has begun."""
        self._usages: list[payload_pb2.Usage] = []

    def events_of(self, piece: inference_pb2.InferStreamResponse) -> bytes:
        """The chunks of a piece."""
        if piece.model:
            self._head |= {"model": piece.model, "system_fingerprint": piece.version or None}
        if piece.HasField("usage"):
            self._usages.append(piece.usage)
        if not piece.output.HasField("generate"):
            return b""
        generated = piece.output.generate
        events = b"" if generated.index in self._calls else self._begin(generated.index)
        delta = self._delta(generated)
        if delta or generated.logprobs:
            events += self._chunk(generated.index, delta, logprobs=chat_logprobs(generated.logprobs))
        reason = finish_reason(generated)
        if reason is not None:
            events += self._chunk(generated.index, {}, reason=reason)
        return events

    def end(self) -> bytes:
        """The usage, if it is wanted, and that nothing is missing."""
        if not self._tells_usage:
            return sse.DONE
        usage: Json = {**self._head, "choices": [], "usage": usage_of(self._usages)}
        return sse.event(usage) + sse.DONE

    def failure(self, error: MeshError, _delivered_tokens: int | None) -> bytes:
        """An event whose JSON has "error": what OpenAI's clients raise."""
        return sse.event(error_document(error))

    def _begin(self, index: int) -> bytes:
        self._calls[index] = 0
        return self._chunk(index, {"role": "assistant", "content": ""})

    def _delta(self, generated: payload_pb2.Generated) -> Json:
        delta: Json = {"content": generated.text} if generated.text else {}
        made = self._calls[generated.index]
        room = None if self._most_calls is None else max(0, self._most_calls - made)
        calls = generated.tool_calls[:room]
        if calls:
            delta["tool_calls"] = [
                {"index": made + position, **tool_call(call)} for position, call in enumerate(calls)
            ]
            self._calls[generated.index] += len(calls)
        return delta

    def _chunk(
        self, index: int, delta: Json, *, reason: str | None = None, logprobs: Json | None = None
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk: Json = {**self._head, "choices": [choice]}
        if self._tells_usage:
            chunk["usage"] = None
        return b"data: " + strict_json.dumps(chunk) + b"\n\n"
