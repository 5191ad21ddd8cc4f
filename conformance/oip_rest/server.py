"""A connected server of the Open Inference Protocol v2 over REST: its client, and the models for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx

from conformance.checks import NotApplicableError, Suite
from conformance.doors import open_http
from conformance.http_answers import Json, document_of, expect_status, is_json, member
from conformance.oip_rest.tensors import HEADER, JSON_DATATYPES
from conformance.subject import Subject

INDEX = "/v2/repository/index"
UNKNOWN_MODEL = "conformance-no-such-model"
BINARY_EXTENSION = "binary_tensor_data"
TEXT = "BYTES"
GENERATE: Json = {"text_input": "Once upon a time", "parameters": {"max_tokens": 8, "temperature": 0}}
MOST_TRIED = 32
"""How many of the listed models are asked what they take, where none is named."""


class OipRestServer:
    """Owns the client, and which models were found."""

    def __init__(self, http: httpx.AsyncClient, subject: Subject) -> None:
        self.http = http
        self.has_key = bool(subject.api_key)
        self._names = subject.models
        self._described: list[Json] | None = None
        self._text_model: str | None = None

    async def get(self, path: str) -> Json:
        """The JSON of a 200. Raises BreachError on any other status."""
        response = await self.http.get(path)
        expect_status(response, 200)
        return document_of(response)

    async def described(self, name: str) -> Json:
        """A model's metadata."""
        return await self.get(path_of(name))

    async def tensor_model(self) -> Json:
        """Metadata of a model that takes and gives numbers that JSON can write. Raises NotApplicableError."""
        model = await self.numeric_model()
        for tensor in [*model["inputs"], *model["outputs"]]:
            if tensor["datatype"] not in JSON_DATATYPES:
                raise NotApplicableError(
                    f"tensor '{tensor['name']}' of '{model['name']}' is {tensor['datatype']}, "
                    "which these checks cannot write as JSON"
                )
        return model

    async def numeric_model(self) -> Json:
        """The model that was named, else the first listed one of numbers alone. Raises NotApplicableError."""
        if self._names.tensors:
            return await self.described(self._names.tensors)
        for model in await self._listed("--tensors"):
            inputs = member(model, "inputs", list)
            if inputs and all(one["datatype"] != TEXT for one in inputs):
                return model
        raise NotApplicableError("no model that takes numbers is listed; name one by --tensors")

    async def text_model(self) -> str:
        """The name of a model that the generate extension serves. Raises NotApplicableError."""
        if self._text_model is None:
            self._text_model = await self._found_text_model()
        if not self._text_model:
            raise NotApplicableError("no model answers a generate call; name one by --generate")
        return self._text_model

    async def infer(self, model: str, document: Json, tail: bytes | None = None) -> httpx.Response:
        """The answer to an inference, whatever its status. tail: tensors as bytes after the JSON."""
        path = path_of(model, "infer")
        if tail is None:
            return await self.http.post(path, json=document)
        request = self.http.build_request("POST", path, json=document)
        head = request.read()
        return await self.post_bytes(path, head + tail, {HEADER: str(len(head))})

    async def post_bytes(self, path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """The answer to a body of any bytes."""
        kind = "application/octet-stream" if HEADER in headers else "application/json"
        return await self.http.post(path, content=body, headers={"content-type": kind, **headers})

    async def inferred(self, model: str, document: Json) -> Json:
        """The JSON of an inference that is answered."""
        response = await self.infer(model, document)
        expect_status(response, 200)
        return document_of(response)

    async def needs_binary(self) -> None:
        """Raises NotApplicableError unless the server announces tensors as bytes."""
        if BINARY_EXTENSION not in (await self.get("/v2")).get("extensions", []):
            raise NotApplicableError(f"the server does not announce the extension {BINARY_EXTENSION}")

    async def _found_text_model(self) -> str:
        named = self._names.generate
        if named:
            response = await self.http.post(path_of(named, "generate"), json=GENERATE)
            if response.status_code in (404, 405, 501):
                raise NotApplicableError("the server has no generate, which is an extension")
            return named
        for model in await self._listed("--generate"):
            if any(one["datatype"] == TEXT for one in member(model, "inputs", list)):
                name: str = model["name"]
                if (await self.http.post(path_of(name, "generate"), json=GENERATE)).status_code == 200:
                    return name
        return ""

    async def _listed(self, option: str) -> list[Json]:
        """The ready models of the repository's index, described; asked once."""
        if self._described is None:
            response = await self.http.post(INDEX, json={"ready": True})
            if response.status_code in (400, 404, 405, 501):
                raise NotApplicableError(f"the server lists no models; name one by {option}")
            expect_status(response, 200)
            names = dict.fromkeys(member(one, "name", str) for one in response.json())
            answers = [await self.http.get(path_of(name)) for name in list(names)[:MOST_TRIED]]
            # An index may have models that are not loaded, of which there is no metadata.
            self._described = [document_of(one) for one in answers if one.status_code == 200]
        return self._described


def path_of(model: str, action: str = "", version: str = "") -> str:
    """/v2/models/{model}, with the version and the action that are given."""
    parts = ["/v2/models", quote(model, safe="")]
    parts += ["versions", quote(version, safe="")] if version else []
    return "/".join([*parts, action] if action else parts)


@asynccontextmanager
async def _connect(subject: Subject) -> AsyncIterator[OipRestServer]:
    async with open_http(subject) as http:
        # A server that breaks may close its connection after the answer; the next check has its own.
        http.headers["connection"] = "close"
        yield OipRestServer(http, subject)


async def _is_spoken(server: OipRestServer) -> bool:
    response = await server.http.get("/v2")
    return response.status_code != 404 and is_json(response)


OIP_REST: Suite[OipRestServer] = Suite(
    "oip-rest", "Open Inference Protocol v2 over REST", _connect, _is_spoken
)
