"""A streamed message: Anthropic's events, each with its name. Keeps which block is open."""

from __future__ import annotations

from inference_mesh import strict_json
from inference_mesh.errors import MeshError
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.anthropic.errors import error_document
from rest_bridge.anthropic.objects import Json, stop_of, usage_of


class MessageEvents:
    """The events of one message."""

    def __init__(self, head: Json, most_calls: int | None) -> None:
        """head: what the message repeats of its request. most_calls: None = all."""
        self._head = head
        self._most_calls = most_calls
        self._has_begun = False
        self._is_text_open = False
        self._blocks = 0
        """How many blocks have been closed; the open one has this index."""
        self._calls = 0
        self._last = payload_pb2.Generated()
        self._usage = payload_pb2.Usage()

    def events_of(self, piece: inference_pb2.InferStreamResponse) -> bytes:
        """The events of a piece."""
        if piece.model:
            self._head |= {"model": piece.model}
        events = b"" if self._has_begun else self._begin()
        if piece.HasField("usage"):
            self._usage = piece.usage
        generated = piece.output.generate
        if generated.text:
            events += self._add_text(generated.text)
        for call in generated.tool_calls:
            events += self._add_call(call)
        if generated.finish_reason:
            self._last = generated
            events += self._close_text()
        return events

    def end(self) -> bytes:
        """Why it ended, what it used, and that nothing is missing."""
        ended = self._event("message_delta", delta=stop_of(self._last), usage=usage_of(self._usage))
        return ended + self._event("message_stop")

    def failure(self, error: MeshError, _delivered_tokens: int | None) -> bytes:
        """The event named "error"."""
        return b"event: error\ndata: " + strict_json.dumps(error_document(error)) + b"\n\n"

    def _begin(self) -> bytes:
        self._has_begun = True
        message: Json = {
            **self._head,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_of(payload_pb2.Usage()),
        }
        return self._event("message_start", message=message)

    def _add_text(self, text: str) -> bytes:
        events = b""
        if not self._is_text_open:
            self._is_text_open = True
            events = self._block("content_block_start", content_block={"type": "text", "text": ""})
        return events + self._block("content_block_delta", delta={"type": "text_delta", "text": text})

    def _add_call(self, call: payload_pb2.ToolCall) -> bytes:
        if self._most_calls is not None and self._calls >= self._most_calls:
            return b""
        self._calls += 1
        events = self._close_text()
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        events += self._block("content_block_start", content_block=block)
        delta = {"type": "input_json_delta", "partial_json": call.arguments}
        events += self._block("content_block_delta", delta=delta)
        return events + self._close_block()

    def _close_text(self) -> bytes:
        if not self._is_text_open:
            return b""
        self._is_text_open = False
        return self._close_block()

    def _close_block(self) -> bytes:
        event = self._block("content_block_stop")
        self._blocks += 1
        return event

    def _block(self, name: str, **fields: object) -> bytes:
        return self._event(name, index=self._blocks, **fields)

    def _event(self, name: str, **fields: object) -> bytes:
        data = strict_json.dumps({"type": name, **fields})
        return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
