"""What the demonstration asks, how an answer is judged, and the two ways of asking."""

from __future__ import annotations

import abc
import dataclasses
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Self

import httpx
import numpy as np

from inference_mesh import strict_json
from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError
from inference_mesh.json_payload import output_to_json

TIMEOUT_S = 60.0
SPECIES = ("setosa", "versicolor", "virginica")

Document = dict[str, Any]


class WrongAnswerError(Exception):
    """The answer is not what it must be; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One question. judge: outputs as JSON, in pieces, to what is shown; raises WrongAnswerError."""

    model: str
    payload: Document
    judge: Callable[[list[Document]], str]
    is_streamed: bool = False


def judge_similarity(pieces: list[Document]) -> str:
    """Two sentences of one meaning must be nearer than one of another."""
    first, same, other = (np.asarray(vector) for vector in pieces[0]["embeddings"])
    near, far = float(first @ same), float(first @ other)
    if not near > far + 0.2:
        raise WrongAnswerError(f"similarity {near:.3f} to the same meaning, {far:.3f} to another")
    return f"similarity {near:.3f} to the same meaning, {far:.3f} to another ({len(first)} numbers)"


def judge_chat(pieces: list[Document]) -> str:
    """The tiny model must know the capital of France, however many pieces it comes in."""
    text = "".join(piece["text"] for piece in pieces).strip()
    if "paris" not in text.lower():
        raise WrongAnswerError(f'the capital of France is not in "{text}"')
    return f'"{text}" ({len(pieces)} messages)'


def judge_iris(pieces: list[Document]) -> str:
    """The three flowers are one of each species, in order."""
    outputs = {tensor["name"]: tensor for tensor in pieces[0]["outputs"]}
    named = [SPECIES[label] for label in outputs["label"]["data"]]
    if named != list(SPECIES):
        raise WrongAnswerError(f"named {', '.join(named)}")
    return ", ".join(named)


QUESTIONS = (
    Question(
        "iris",
        {
            "inputs": [
                {
                    "name": "features",
                    "datatype": "FP32",
                    "shape": [3, 4],
                    "data": [5.1, 3.5, 1.4, 0.2, 5.9, 2.8, 4.2, 1.3, 6.5, 3.0, 5.8, 2.2],
                }
            ]
        },
        judge_iris,
    ),
    Question(
        "minilm",
        {
            "texts": [
                "A man is eating a meal.",
                "Somebody has his dinner.",
                "The stock market fell sharply today.",
            ]
        },
        judge_similarity,
    ),
    Question(
        "tiny-chat",
        {
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "max_tokens": 48,
            "temperature": 0,
        },
        judge_chat,
        is_streamed=True,
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """How an answer was judged. seconds: from the question to the whole answer."""

    is_right: bool
    shown: str
    seconds: float


class Way(abc.ABC):
    """A way of asking."""

    name: ClassVar[str]

    @abc.abstractmethod
    async def ask(self, question: Question) -> list[Document]:
        """Outputs in the JSON form of `POST /api/infer`: one, or the pieces of a stream.

        Raises WrongAnswerError if there is no answer.
        """

    async def judged(self, question: Question) -> Verdict:
        """The question asked, and its answer judged."""
        begun = time.perf_counter()
        try:
            pieces = await self.ask(question)
            seconds = time.perf_counter() - begun
            return Verdict(True, question.judge(pieces), seconds)
        except WrongAnswerError as error:
            return Verdict(False, str(error), time.perf_counter() - begun)


class RestWay(Way):
    """Asks the REST bridge, as any HTTP client would."""

    name = "REST"

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def ask(self, question: Question) -> list[Document]:
        """The answer. Raises WrongAnswerError."""
        body: Document = {"model": question.model, "payload": question.payload}
        try:
            if question.is_streamed:
                return await self._stream({**body, "stream": True})
            answer = await self._client.post("/api/infer", json=body)
            if answer.status_code != 200:
                raise WrongAnswerError(f"HTTP {answer.status_code} {answer.text[:300]}")
            return [answer.json()["output"]]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise WrongAnswerError(f"{type(error).__name__}: {error}") from None

    async def _stream(self, body: Document) -> list[Document]:
        pieces: list[Document] = []
        async with self._client.stream("POST", "/api/infer", json=body) as answer:
            if answer.status_code != 200:
                raise WrongAnswerError(f"HTTP {answer.status_code} {(await answer.aread())[:300].decode()}")
            async for line in answer.aiter_lines():
                document = _event(line)
                if "error" in document:
                    raise WrongAnswerError(str(document["error"]))
                if "output" in document:
                    pieces.append(document["output"])
        return pieces


class GrpcWay(Way):
    """Asks the gateway through the Python client."""

    name = "gRPC"

    def __init__(self, mesh: MeshClient) -> None:
        self._mesh = mesh

    async def ask(self, question: Question) -> list[Document]:
        """The answer. Raises WrongAnswerError."""
        try:
            if question.is_streamed:
                pieces = self._mesh.stream(question.model, question.payload)
                return [_plain(output_to_json(piece.output)) async for piece in pieces]
            answer = await self._mesh.infer(question.model, question.payload)
            return [_plain(output_to_json(answer.output))]
        except MeshError as error:
            raise WrongAnswerError(f"{error.code.name} {error.message}") from None


def _event(line: str) -> Document:
    """The JSON of a `data:` line of server-sent events; empty for every other line."""
    if not line.startswith("data:") or line.removeprefix("data:").strip() == "[DONE]":
        return {}
    document = json.loads(line.removeprefix("data:"))
    return document if isinstance(document, dict) else {}


def _plain(document: object) -> Document:
    """The document without numpy arrays, as a REST client sees it."""
    plain = json.loads(strict_json.dumps(document))
    return plain if isinstance(plain, dict) else {}
