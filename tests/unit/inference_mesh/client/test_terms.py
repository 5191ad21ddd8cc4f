"""What both forms of the client share: texts to payloads, answers to vectors, and the models' tasks."""

from __future__ import annotations

import numpy as np
import pytest

from inference_mesh.client import vectors_of
from inference_mesh.client.retries import NO_RETRIES
from inference_mesh.client.terms import Terms, embed_payload
from inference_mesh.errors import InternalError, InvalidInputError, UnsupportedError
from inference_mesh.v1 import inference_pb2, payload_pb2


def answer(values: bytes, dimensions: int) -> inference_pb2.InferResponse:
    embeddings = payload_pb2.Embeddings(values=values, dimensions=dimensions)
    return inference_pb2.InferResponse(model="one", output=payload_pb2.Output(embed=embeddings))


def test_vectors_are_little_endian_rows_that_the_caller_may_change() -> None:
    vectors = vectors_of(answer(np.arange(6, dtype="<f4").tobytes(), 3))
    assert vectors.dtype == np.float32
    vectors += 1
    assert vectors.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_an_answer_without_vectors_or_with_damaged_ones_is_an_error() -> None:
    with pytest.raises(UnsupportedError):
        vectors_of(inference_pb2.InferResponse(output=payload_pb2.Output(json=b"[]")))
    for size_bytes in (1, 8, 13):
        with pytest.raises(InternalError):
            vectors_of(answer(bytes(size_bytes), 3))


def test_a_lone_text_is_one_text() -> None:
    assert list(embed_payload("abc", 0, "", truncate=False).embed.texts) == ["abc"]


def test_what_an_embedding_is_told_arrives() -> None:
    sent = embed_payload(("a", "b"), 8, "query", truncate=True).embed
    assert (list(sent.texts), sent.dimensions, sent.prompt_name, sent.truncate) == (
        ["a", "b"],
        8,
        "query",
        True,
    )


@pytest.mark.parametrize("dimensions", [-1, 1 << 32])
def test_dimensions_that_no_field_holds_are_refused(dimensions: int) -> None:
    with pytest.raises(InvalidInputError):
        embed_payload(["a"], dimensions, "", truncate=False)


def test_a_task_is_known_once_somebody_has_told_it() -> None:
    terms = Terms(None, 1.0, NO_RETRIES)
    untold = inference_pb2.Model(name="chat")
    told = inference_pb2.Model(name="chat", task=payload_pb2.TASK_GENERATE)
    assert (terms.learn("alias", untold), terms.task("alias")) == (None, None)
    assert terms.learn("alias", told) == payload_pb2.TASK_GENERATE
    assert (terms.task("alias"), terms.task("chat")) == (payload_pb2.TASK_GENERATE, None)
