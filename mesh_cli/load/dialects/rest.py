"""A load by REST: the platform's own contract, OpenAI's API and the Open Inference Protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpx

from mesh_cli.load.dialects.native import tensors_of, text_of
from mesh_cli.load.generator import CallError
from mesh_cli.load.outcome import Answered
from mesh_cli.load.questions import Payload

DATA = "data: "
DONE = "[DONE]"


class Form(Protocol):
    """How one dialect writes a request and tells its usage."""

    def request(self, model: str, payload: Payload, *, is_stream: bool) -> tuple[str, dict[str, Any]]:
        """Path and body of a call."""

    def usage(self, document: dict[str, Any]) -> Answered | None:
        """The usage that an answer, or one event of it, tells; None = it tells none."""


class InferForm:
    """POST /api/infer."""

    def request(self, model: str, payload: Payload, *, is_stream: bool) -> tuple[str, dict[str, Any]]:
        """Path and body of a call."""
        return "/api/infer", {"model": model, "payload": payload, "stream": is_stream}

    def usage(self, document: dict[str, Any]) -> Answered | None:
        """What "usage" says."""
        return _usage(document.get("usage"))


class OpenaiForm:
    """POST /v1/chat/completions, /v1/completions or /v1/embeddings, by the payload."""

    def request(self, model: str, payload: Payload, *, is_stream: bool) -> tuple[str, dict[str, Any]]:
        """Path and body of a call."""
        if "messages" in payload or "prompt" in payload:
            path = "/v1/chat/completions" if "messages" in payload else "/v1/completions"
            body = {"model": model, **payload}
            if is_stream:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
            return path, body
        return "/v1/embeddings", {"model": model, "input": text_of(payload), "encoding_format": "base64"}

    def usage(self, document: dict[str, Any]) -> Answered | None:
        """What "usage" says."""
        return _usage(document.get("usage"))


class OpenInferenceForm:
    """POST /v2/models/{model}/infer, with tensors in JSON."""

    def request(self, model: str, payload: Payload, *, is_stream: bool) -> tuple[str, dict[str, Any]]:
        """Path and body of a call."""
        names = ("max_tokens", "temperature")
        parameters = {name: payload[name] for name in names if name in payload}
        return f"/v2/models/{model}/infer", {"inputs": tensors_of(payload), "parameters": parameters}

    def usage(self, document: dict[str, Any]) -> Answered | None:
        """The protocol has no usage."""
        return Answered() if "outputs" in document else None


class RestLoad:
    """Calls of a bridge, or of any server that speaks the dialect."""

    def __init__(
        self, http: httpx.AsyncClient, model: str, payloads: Iterator[Payload], form: Form, *, is_stream: bool
    ) -> None:
        """http: its base URL is the server's, its headers have the credential."""
        self._http = http
        self._model = model
        self._payloads = payloads
        self._form = form
        self._is_stream = is_stream

    async def ask(self, note_first: Callable[[], None]) -> Answered:
        """One call."""
        path, body = self._form.request(self._model, next(self._payloads), is_stream=self._is_stream)
        try:
            if self._is_stream:
                return await self._events(path, body, note_first)
            answer = await self._http.post(path, json=body)
        except httpx.TimeoutException:
            raise CallError("DEADLINE_EXCEEDED") from None
        except httpx.TransportError as error:
            raise CallError(type(error).__name__) from None
        if answer.status_code != httpx.codes.OK:
            raise CallError(f"HTTP {answer.status_code}")
        return self._form.usage(answer.json()) or Answered()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _events(self, path: str, body: dict[str, Any], note_first: Callable[[], None]) -> Answered:
        answered, is_whole = Answered(), False
        async with self._http.stream("POST", path, json=body) as answer:
            if answer.status_code != httpx.codes.OK:
                raise CallError(f"HTTP {answer.status_code}")
            async for line in answer.aiter_lines():
                if not line.startswith(DATA):
                    continue
                data = line.removeprefix(DATA)
                if data == DONE:
                    is_whole = True
                    continue
                note_first()
                document = json.loads(data)
                if "error" in document:
                    raise CallError("broken stream")
                answered = self._form.usage(document) or answered
        if not is_whole:
            raise CallError("broken stream")
        return answered


def _usage(usage: Any) -> Answered | None:
    if not isinstance(usage, dict):
        return None
    return Answered(int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
