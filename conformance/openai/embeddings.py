"""Embeddings: their form, their encodings, and the order of many."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.checks import NotApplicableError, expect, expect_same, shown
from conformance.http_answers import Json, document_of, expect_refused, expect_status, member
from conformance.openai.server import EMBEDDINGS, OPENAI, OpenaiServer, error_of

Vector = NDArray[Any]
TEXTS = ("The cat sleeps on the sofa.", "Interest rates rose by a quarter.", "def main(): return 0")


@OPENAI.check
async def an_embedding_is_a_list_of_numbers(server: OpenaiServer) -> None:
    """An embedding has object, index and finite floats, in a list with model and usage."""
    document = await _embed(server, TEXTS[0])
    expect_same(member(document, "object", str), "list", "object")
    member(document, "model", str)
    data = member(document, "data", list)
    expect_same(len(data), 1, "number of embeddings")
    expect_same(member(data[0], "object", str), "embedding", "object of the embedding")
    expect_same(member(data[0], "index", int), 0, "index")
    vector = np.array(member(data[0], "embedding", list), dtype=float)
    expect(vector.size and np.isfinite(vector).all(), f"the embedding is {shown(vector)}")


@OPENAI.check
async def embeddings_count_their_tokens(server: OpenaiServer) -> None:
    """usage has prompt_tokens above 0, the same as total_tokens."""
    usage = member(await _embed(server, TEXTS[0]), "usage", dict)
    expect(member(usage, "prompt_tokens", int) > 0, "prompt_tokens is 0")
    expect_same(member(usage, "total_tokens", int), usage["prompt_tokens"], "total_tokens")


@OPENAI.check
async def base64_holds_the_same_numbers(server: OpenaiServer) -> None:
    """encoding_format base64, which OpenAI's client asks for by itself, is the same as float32."""
    plain = _vectors(await _embed(server, TEXTS[0]))[0]
    document = await _embed(server, TEXTS[0], encoding_format="base64")
    encoded = member(document, "data", list)[0]["embedding"]
    if isinstance(encoded, list):
        raise NotApplicableError("base64 is answered with a list, which OpenAI's client takes as well")
    vector = np.frombuffer(base64.b64decode(encoded, validate=True), dtype="<f4")
    expect_same(vector.shape, plain.shape, "shape")
    off = float(abs(vector - plain).max())
    expect(off <= 1e-6 * max(1.0, float(abs(plain).max())), f"a number is off by {off:g}")


@OPENAI.check
async def many_texts_keep_their_order(server: OpenaiServer) -> None:
    """A list of texts has an embedding for each in the same order, and each is that of its text alone."""
    document = await _embed(server, list(TEXTS))
    indices = [member(one, "index", int) for one in member(document, "data", list)]
    expect_same(indices, list(range(len(TEXTS))), "indices")
    alone = np.stack([_vectors(await _embed(server, text))[0] for text in TEXTS])
    likeness = _unit(_vectors(document)) @ _unit(alone).T
    expect_same(likeness.argmax(axis=1).tolist(), indices, "the texts that the embeddings are nearest to")
    least = float(likeness.diagonal().min())
    expect(least > 0.99, f"an embedding has the cosine {least:.4f} with that of its text alone")


@OPENAI.check
async def token_ids_are_embedded_or_refused(server: OpenaiServer) -> None:
    """Two inputs of token ids, which some clients send, have two embeddings, or are refused in a 4xx."""
    body = {"model": await server.embed_model(), "input": [[5, 6, 7], [8, 9]]}
    response = await server.post(EMBEDDINGS, body)
    if response.status_code != 200:
        expect_refused(response)
        raise NotApplicableError(f"the server refuses token ids: {shown(response.text)}")
    expect_same(len(member(document_of(response), "data", list)), 2, "number of embeddings")


@OPENAI.check
async def dimensions_are_kept_or_refused_by_name(server: OpenaiServer) -> None:
    """dimensions = 8 gives 8 numbers, or is refused in a 4xx that names it."""
    body = {"model": await server.embed_model(), "input": TEXTS[0], "dimensions": 8}
    document = await server.answered_unless_refused(EMBEDDINGS, body, "dimension")
    expect_same(_vectors(document).shape[1], 8, "number of dimensions")


@OPENAI.check
async def embeddings_without_an_input_are_refused(server: OpenaiServer) -> None:
    """No input, or one that is neither texts nor tokens, is 400."""
    model = await server.embed_model()
    error_of(await server.post(EMBEDDINGS, {"model": model}), 400)
    error_of(await server.post(EMBEDDINGS, {"model": model, "input": {"text": "Hi"}}), 400)


@OPENAI.check
async def a_model_that_does_not_embed_refuses_to(server: OpenaiServer) -> None:
    """An embedding of a model that only generates is a 4xx, not a fault of the server."""
    model = await server.generate_model()
    response = await server.post(EMBEDDINGS, {"model": model, "input": "Hi"})
    if response.status_code == 200:
        raise NotApplicableError(f"the model '{model}' embeds as well")
    expect_refused(response)


async def _embed(server: OpenaiServer, text: object, encoding_format: str = "float") -> Json:
    body = {"model": await server.embed_model(), "input": text, "encoding_format": encoding_format}
    response = await server.post(EMBEDDINGS, body)
    expect_status(response, 200)
    return document_of(response)


def _vectors(document: Json) -> Vector:
    return np.array([member(one, "embedding", list) for one in member(document, "data", list)], dtype=float)


def _unit(vectors: Vector) -> Vector:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
