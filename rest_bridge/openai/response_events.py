"""A streamed response: OpenAI's events, each with its name and a number in order.

Owns what has been said so far: the items that are open and their text.
"""

from __future__ import annotations

from inference_mesh import strict_json
from inference_mesh.errors import MeshError
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.openai.errors import code_of
from rest_bridge.openai.objects import Json, chat_logprobs
from rest_bridge.openai.response_object import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    INCOMPLETE,
    call_item,
    ended,
    message_item,
    text_part,
)


class ResponseEvents:
    """The events of one response."""

    def __init__(self, head: Json, request_id: str, most_calls: int | None) -> None:
        """head: what every form of the response repeats. most_calls: None = all."""
        self._head = head
        self._request_id = request_id
        self._most_calls = most_calls
        self._number = 0
        self._has_begun = False
        self._is_text_open = False
        self._text: list[str] = []
        self._logprobs: list[payload_pb2.TokenLogprob] = []
        self._items: list[Json] = []
        self._made_calls = 0
        self._last = payload_pb2.Generated()
        self._usage = payload_pb2.Usage()

    def events_of(self, piece: inference_pb2.InferStreamResponse) -> bytes:
        """The events of a piece."""
        events = b""
        if piece.model:
            self._head |= {"model": piece.model}
        if not self._has_begun:
            self._has_begun = True
            begun: Json = {**self._head, "status": IN_PROGRESS, "output": [], "usage": None}
            events += self._event("response.created", response=begun)
            events += self._event("response.in_progress", response=begun)
        if piece.HasField("usage"):
            self._usage = piece.usage
        generated = piece.output.generate
        if generated.text or generated.logprobs:
            events += self._add_text(generated)
        for call in generated.tool_calls:
            events += self._add_call(call)
        if generated.finish_reason:
            self._last = generated
            events += self._close_text() if self._is_text_open or not self._items else b""
        return events

    def end(self) -> bytes:
        """The whole response."""
        whole = ended(self._head, self._last, self._items, self._usage)
        return self._event(f"response.{whole['status']}", response=whole)

    def failure(self, error: MeshError, _delivered_tokens: int | None) -> bytes:
        """The response as it failed."""
        cause = {"code": code_of(error) or "server_error", "message": error.message}
        failed = {**self._head, "status": FAILED, "error": cause, "output": self._items, "usage": None}
        return self._event("response.failed", response=failed)

    def _add_text(self, generated: payload_pb2.Generated) -> bytes:
        events = b"" if self._is_text_open else self._open_text()
        self._text.append(generated.text)
        self._logprobs.extend(generated.logprobs)
        told = chat_logprobs(generated.logprobs)
        return events + self._event(
            "response.output_text.delta",
            **self._text_place(),
            delta=generated.text,
            logprobs=told["content"] if told else [],
        )

    def _open_text(self) -> bytes:
        self._is_text_open = True
        item = message_item(self._request_id, [], IN_PROGRESS)
        added = self._event("response.output_item.added", output_index=len(self._items), item=item)
        return added + self._event("response.content_part.added", **self._text_place(), part=text_part(""))

    def _close_text(self) -> bytes:
        events = b"" if self._is_text_open else self._open_text()
        text, place = "".join(self._text), self._text_place()
        part = text_part(text, self._logprobs)
        events += self._event("response.output_text.done", **place, text=text, logprobs=part["logprobs"])
        events += self._event("response.content_part.done", **place, part=part)
        is_cut = self._last.finish_reason == payload_pb2.FINISH_REASON_LENGTH
        item = message_item(self._request_id, [part], INCOMPLETE if is_cut else COMPLETED)
        self._is_text_open = False
        return events + self._done(item)

    def _add_call(self, call: payload_pb2.ToolCall) -> bytes:
        if self._most_calls is not None and self._made_calls >= self._most_calls:
            return b""
        self._made_calls += 1
        events = self._close_text() if self._is_text_open else b""
        index, place = len(self._items), {"item_id": f"fc_{call.id}", "output_index": len(self._items)}
        opened = call_item(call, IN_PROGRESS, arguments="")
        events += self._event("response.output_item.added", output_index=index, item=opened)
        events += self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
        events += self._event("response.function_call_arguments.done", **place, arguments=call.arguments)
        return events + self._done(call_item(call, COMPLETED))

    def _done(self, item: Json) -> bytes:
        self._items.append(item)
        return self._event("response.output_item.done", output_index=len(self._items) - 1, item=item)

    def _text_place(self) -> Json:
        return {"item_id": f"msg_{self._request_id}", "output_index": len(self._items), "content_index": 0}

    def _event(self, name: str, **fields: object) -> bytes:
        document = {"type": name, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: " + name.encode() + b"\ndata: " + strict_json.dumps(document) + b"\n\n"
