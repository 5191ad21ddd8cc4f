"""Vectors of texts, and tensors in and out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conformance.checks import expect, expect_same
from conformance.native.server import NATIVE, NativeServer
from inference_mesh.tensors import DATATYPES, from_array, to_array
from inference_mesh.v1 import inference_pb2, payload_pb2

TEXTS = ("The cat sat on the mat.", "A mesh of models.", "The cat sat on the mat.")
CLOSE = 1e-3


@NATIVE.check
async def embed_gives_a_vector_for_each_text(server: NativeServer) -> None:
    """Three texts give three vectors of the model's dimensions; equal texts have equal vectors."""
    vectors = await _vectors(server, *TEXTS)
    expect_same(vectors.shape[0], len(TEXTS), "number of vectors")
    expect(bool(np.isfinite(vectors).all()), "a vector has values that are no numbers")
    expect(np.abs(vectors[0] - vectors[2]).max() <= CLOSE, "equal texts have different vectors")
    expect(np.abs(vectors[0] - vectors[1]).max() > CLOSE, "different texts have the same vector")


@NATIVE.check
async def embed_keeps_the_order_of_texts(server: NativeServer) -> None:
    """A text has the same vector alone and beside others."""
    beside, alone = await _vectors(server, *TEXTS), await _vectors(server, TEXTS[1])
    distance = float(np.abs(beside[1] - alone[0]).max())
    expect(distance <= CLOSE, f"the vectors differ by {distance:.2g}")


@NATIVE.check
async def embed_counts_tokens(server: NativeServer) -> None:
    """usage.prompt_tokens counts the tokens of all texts."""
    one, three = await _embed(server, TEXTS[0]), await _embed(server, *TEXTS)
    expect(0 < one.usage.prompt_tokens < three.usage.prompt_tokens, "more texts did not count more tokens")


@NATIVE.check
async def tensors_come_back_as_described(server: NativeServer) -> None:
    """Tensors of the model's own description give outputs of the names and datatypes that it describes."""
    model = await server.model(payload_pb2.TASK_TENSORS)
    tensors = [from_array(spec.name, _sample(spec)) for spec in model.inputs]
    payload = payload_pb2.Payload(tensors=payload_pb2.Tensors(tensors=tensors))
    answer = await server.infer(inference_pb2.InferRequest(model=model.name, payload=payload))
    outputs = answer.output.tensors.tensors
    found = sorted((one.name, one.datatype) for one in outputs)
    expect_same(found, sorted((one.name, one.datatype) for one in model.outputs), "names and datatypes")
    for one in outputs:
        to_array(one)  # raises where bytes and shape do not fit


async def _embed(server: NativeServer, *texts: str) -> inference_pb2.InferResponse:
    model = await server.model(payload_pb2.TASK_EMBED)
    payload = payload_pb2.Payload(embed=payload_pb2.Embed(texts=texts))
    return await server.infer(inference_pb2.InferRequest(model=model.name, payload=payload))


async def _vectors(server: NativeServer, *texts: str) -> NDArray[np.float32]:
    answer = (await _embed(server, *texts)).output.embed
    return np.frombuffer(answer.values, dtype="<f4").reshape(-1, answer.dimensions)


def _sample(spec: payload_pb2.TensorSpec) -> NDArray[np.generic]:
    """Zeros of a shape whose free sizes are 1; empty texts for BYTES."""
    shape = [1 if size < 0 else size for size in spec.shape]
    if spec.datatype == "BYTES":
        return np.full(shape, b"", dtype=object)
    return np.zeros(shape, dtype=DATATYPES[spec.datatype])
