"""A connected server of OpenAI's REST API: its client, and the models to examine it with."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from conformance.checks import BreachError, NotApplicableError, Suite, expect, shown
from conformance.doors import open_http
from conformance.event_stream import EventStream, event_stream_of
from conformance.http_answers import Json, document_of, expect_status, is_json, member
from conformance.subject import Subject

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"
UNKNOWN_MODEL = "conformance-no-such-model"
MOST_TRIED = 8
"""How many of the listed models are tried, where none is named."""


class OpenaiServer:
    """Owns the client, and which models were found."""

    def __init__(self, http: httpx.AsyncClient, subject: Subject) -> None:
        self.http = http
        self.has_key = bool(subject.api_key)
        self._names = subject.models
        self._listed: list[str] | None = None
        self._found: dict[str, str] = {}

    async def listed(self) -> list[str]:
        """The ids that /v1/models lists, asked once."""
        if self._listed is None:
            response = await self.http.get(MODELS)
            expect_status(response, 200)
            self._listed = [member(one, "id", str) for one in member(document_of(response), "data", list)]
        return self._listed

    async def generate_model(self) -> str:
        """The model that was named, else the first listed one that chats. Raises NotApplicableError."""
        if self._names.generate:
            return self._names.generate
        ask: Json = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        model = await self._first_that_answers(CHAT, ask)
        if model:
            return model
        raise NotApplicableError(
            f"none of the first {MOST_TRIED} listed models chats; name one by --generate"
        )

    async def embed_model(self) -> str:
        """The model that was named, else the first listed one that embeds. Raises NotApplicableError."""
        if self._names.embed:
            return self._names.embed
        model = await self._first_that_answers(EMBEDDINGS, {"input": "Hi"})
        if model:
            return model
        raise NotApplicableError(f"none of the first {MOST_TRIED} listed models embeds; name one by --embed")

    async def chat_body(self, **fields: object) -> Json:
        """A greedy request of 24 tokens at most; `fields` replaces what it sets."""
        messages = [{"role": "user", "content": "Who are you?"}]
        body = {"model": await self.generate_model(), "messages": messages}
        return {**body, "max_tokens": 24, "temperature": 0, **fields}

    async def chat(self, **fields: object) -> Json:
        """The answer to `chat_body`. Raises BreachError if it is refused."""
        return await self.answered(CHAT, await self.chat_body(**fields))

    async def chat_text(self, **fields: object) -> str:
        """The text of the first choice of a chat."""
        return text_of(await self.chat(**fields))

    async def post(self, path: str, body: object) -> httpx.Response:
        """The answer to JSON, whatever its status."""
        return await self.http.post(path, json=body)

    async def post_bytes(self, path: str, body: bytes) -> httpx.Response:
        """The answer to a body that says that it is JSON."""
        return await self.http.post(path, content=body, headers={"content-type": "application/json"})

    async def answered(self, path: str, body: object) -> Json:
        """The JSON of a 200. Raises BreachError on any other status."""
        response = await self.post(path, body)
        expect_status(response, 200)
        return document_of(response)

    async def answered_unless_refused(self, path: str, body: object, field: str) -> Json:
        """The same; raises NotApplicableError if the server refuses the field, and names it."""
        response = await self.post(path, body)
        skip_if_refused(response, field)
        expect_status(response, 200)
        return document_of(response)

    async def stream(self, path: str, body: Json) -> EventStream:
        """All events of a streamed answer."""
        return event_stream_of(await self.post(path, {**body, "stream": True}))

    async def _first_that_answers(self, path: str, body: Json) -> str:
        """The id of a listed model; empty if none answers. Tried once."""
        if path not in self._found:
            tried = (await self.listed())[:MOST_TRIED]
            self._found[path] = ""
            for model in tried:
                if (await self.post(path, {"model": model, **body})).status_code == 200:
                    self._found[path] = model
                    break
        return self._found[path]


def skip_if_refused(response: httpx.Response, field: str) -> None:
    """Raises NotApplicableError if a field is refused by a 4xx or a 501 that names it, or several of it."""
    status = response.status_code
    is_named = re.search(rf"\b{re.escape(field)}s?\b", response.text) is not None
    if is_named and (400 <= status < 500 or status == 501):
        raise NotApplicableError(f"the server refuses '{field}': {shown(response.text)}")


def choices_of(document: Json) -> list[Json]:
    """The choices of an answer. Raises BreachError if there are none."""
    choices: list[Json] = member(document, "choices", list)
    expect(choices, "'choices' is empty")
    return choices


def text_of(document: Json) -> str:
    """The text of the first choice of a chat's answer."""
    return member(member(choices_of(document)[0], "message", dict), "content", str)


def error_of(response: httpx.Response, *statuses: int) -> Json:
    """The error of a refusal. Raises BreachError if it has another status, or is not of the form."""
    expect_status(response, *statuses)
    kind = response.headers.get("content-type", "")
    expect(is_json(response), f"content-type is {kind!r}; application/json was expected")
    error = document_of(response).get("error")
    if not isinstance(error, dict):
        raise BreachError(f"the body has no object 'error': {shown(response.text)}")
    expect(member(error, "message", str), "'message' is empty")
    return error


@asynccontextmanager
async def _connect(subject: Subject) -> AsyncIterator[OpenaiServer]:
    async with open_http(subject) as http:
        # A server that breaks may close its connection after the answer; the next check has its own.
        http.headers["connection"] = "close"
        yield OpenaiServer(http, subject)


async def _is_spoken(server: OpenaiServer) -> bool:
    response = await server.http.get(MODELS)
    return response.status_code != 404 and is_json(response)


OPENAI: Suite[OpenaiServer] = Suite("openai", "OpenAI's REST API", _connect, _is_spoken)
