"""Reads two answers and compares them by what they are.

Owns which measure fits which answer. The measures themselves are `policy.shadow.measures`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from gateway.policy.shadow.measures import (
    Comparison,
    Measure,
    compare_arrays,
    compare_embeddings,
    compare_json,
    compare_tokens,
)
from inference_mesh import strict_json
from inference_mesh.errors import InvalidInputError
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.tensors import to_array
from inference_mesh.v1 import inference_pb2, payload_pb2

METHODS = frozenset({"Infer", "InferStream", "ModelInfer"})
"""Whose answers can be compared."""

Arrays = dict[str, NDArray[Any]]


class IncomparableError(Exception):
    """Two answers are not of one kind, or one of them cannot be read."""


def compare_answers(method: str, primary: Sequence[bytes], shadow: Sequence[bytes]) -> Comparison:
    """How far two answers are apart.

    primary, shadow: the messages of each, as the worker sent them. Raises IncomparableError.
    """
    try:
        if method == "ModelInfer":
            return _compare_tensors(_oip_arrays(primary), _oip_arrays(shadow))
        return _compare_outputs(_outputs(method, primary), _outputs(method, shadow))
    except (DecodeError, InvalidInputError, RecursionError, ValueError) as error:
        raise IncomparableError("an answer cannot be read") from error


def _outputs(method: str, messages: Sequence[bytes]) -> list[payload_pb2.Output]:
    if method == "InferStream":
        return [inference_pb2.InferStreamResponse.FromString(message).output for message in messages]
    if method == "Infer":
        return [inference_pb2.InferResponse.FromString(message).output for message in messages]
    raise IncomparableError("answers of this method are not compared")


def _compare_outputs(primary: list[payload_pb2.Output], shadow: list[payload_pb2.Output]) -> Comparison:
    kind = _kind_of(primary)
    if kind != _kind_of(shadow):
        raise IncomparableError("the answers are of different kinds")
    if kind == "generate":
        return _compare_generated(primary, shadow)
    one, other = _whole(primary, kind), _whole(shadow, kind)
    if kind == "embed":
        return compare_embeddings(_vectors(one.embed), _vectors(other.embed))
    if kind == "json":
        return compare_json(strict_json.loads(one.json), strict_json.loads(other.json))
    if kind == "tensors":
        return _compare_tensors(_arrays(one.tensors.tensors), _arrays(other.tensors.tensors))
    if kind == "rerank":
        return _compare_tensors(_ranking_scores(one.rerank), _ranking_scores(other.rerank))
    return _compare_tensors(_label_scores(one.classify), _label_scores(other.classify))


def _kind_of(outputs: list[payload_pb2.Output]) -> str:
    kinds: set[str] = {kind for output in outputs if (kind := output.WhichOneof("kind")) is not None}
    if len(kinds) != 1:
        raise IncomparableError("an answer has no output, or several kinds of it")
    return kinds.pop()


def _whole(outputs: list[payload_pb2.Output], kind: str) -> payload_pb2.Output:
    """The one message of an answer that is not streamed in pieces."""
    found = [output for output in outputs if output.HasField(kind)]
    if len(found) != 1:
        raise IncomparableError("an answer comes in several pieces")
    return found[0]


def _compare_generated(primary: list[payload_pb2.Output], shadow: list[payload_pb2.Output]) -> Comparison:
    """By token; by character where a worker names no tokens."""
    one, other = _tokens(primary), _tokens(shadow)
    if one and other:
        return compare_tokens(one, other)
    return compare_tokens(_text(primary), _text(shadow))


def _tokens(outputs: list[payload_pb2.Output]) -> list[int]:
    return list(itertools.chain.from_iterable(output.generate.tokens for output in outputs))


def _text(outputs: list[payload_pb2.Output]) -> str:
    return "".join(output.generate.text for output in outputs)


def _compare_tensors(one: Arrays, other: Arrays) -> Comparison:
    if one.keys() != other.keys():
        return Comparison(Measure.TENSOR_MAX_ABS_DIFF, math.inf, agrees=False)
    return compare_arrays(list(one.values()), [other[name] for name in one])


def _vectors(embeddings: payload_pb2.Embeddings) -> NDArray[Any]:
    """float32 (texts, dimensions). Raises ValueError if the bytes are no whole vectors."""
    return np.frombuffer(embeddings.values, dtype="<f4").reshape(-1, max(1, embeddings.dimensions))


def _arrays(found: Sequence[payload_pb2.Tensor]) -> Arrays:
    return {tensor.name: to_array(tensor) for tensor in found}


def _ranking_scores(ranking: payload_pb2.Ranking) -> Arrays:
    return {str(document.index): np.array(document.score) for document in ranking.documents}


def _label_scores(classes: payload_pb2.Classifications) -> Arrays:
    return {
        f"{index}:{label.label}": np.array(label.score)
        for index, result in enumerate(classes.results)
        for label in result.labels
    }


def _oip_arrays(messages: Sequence[bytes]) -> Arrays:
    """The raw outputs of a ModelInferResponse, which is how our workers answer."""
    if len(messages) != 1:
        raise IncomparableError("an answer comes in several pieces")
    response = oip.ModelInferResponse.FromString(messages[0])
    if len(response.outputs) != len(response.raw_output_contents):
        raise IncomparableError("an answer has no raw contents")
    return _arrays(
        [
            payload_pb2.Tensor(name=one.name, datatype=one.datatype, shape=one.shape, data=data)
            for one, data in zip(response.outputs, response.raw_output_contents, strict=True)
        ]
    )
