from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from gateway.policy.shadow.measures import Measure
from gateway.shadow.comparison import IncomparableError, compare_answers
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.tensors import from_array
from inference_mesh.v1 import inference_pb2, payload_pb2


def infer(output: payload_pb2.Output, request_id: str = "") -> list[bytes]:
    return [inference_pb2.InferResponse(output=output, request_id=request_id).SerializeToString()]


def pieces(*outputs: payload_pb2.Output) -> list[bytes]:
    return [inference_pb2.InferStreamResponse(output=output).SerializeToString() for output in outputs]


def generated(text: str = "", tokens: Sequence[int] = ()) -> payload_pb2.Output:
    return payload_pb2.Output(generate=payload_pb2.Generated(text=text, tokens=tokens))


def tensor(values: list[float], name: str = "y") -> payload_pb2.Output:
    array = np.array(values, np.float32)
    return payload_pb2.Output(tensors=payload_pb2.Tensors(tensors=[from_array(name, array)]))


def embedding(values: list[float]) -> payload_pb2.Output:
    data = np.array(values, "<f4").tobytes()
    return payload_pb2.Output(embed=payload_pb2.Embeddings(dimensions=2, values=data))


def ranking(**scores: float) -> payload_pb2.Output:
    documents = [
        payload_pb2.RankedDocument(index=int(name[1:]), score=score) for name, score in scores.items()
    ]
    return payload_pb2.Output(rerank=payload_pb2.Ranking(documents=documents))


def labels(**scores: float) -> payload_pb2.Output:
    found = [payload_pb2.LabelScore(label=label, score=score) for label, score in scores.items()]
    return payload_pb2.Output(
        classify=payload_pb2.Classifications(results=[payload_pb2.LabelScores(labels=found)])
    )


def open_inference(values: list[float]) -> list[bytes]:
    answer = oip.ModelInferResponse(raw_output_contents=[np.array(values, "<f4").tobytes()])
    answer.outputs.add(name="y", datatype="FP32", shape=[len(values)])
    return [answer.SerializeToString()]


def test_each_kind_of_answer_has_its_measure() -> None:
    json = payload_pb2.Output(json=b'{"a": 1}')
    same = {
        Measure.TENSOR_MAX_ABS_DIFF: tensor([1.0, 2.0]),
        Measure.EMBEDDING_COSINE: embedding([1, 0, 0, 1]),
        Measure.TOKEN_AGREEMENT: generated("Hello", [1, 2]),
        Measure.JSON_EQUAL: json,
    }
    for measure, output in same.items():
        found = compare_answers("Infer", infer(output, request_id="a"), infer(output, request_id="b"))
        assert (found.measure, found.agrees) == (measure, True)


def test_streams_are_compared_by_their_tokens_however_they_are_cut() -> None:
    one = pieces(generated("ab", [1, 2]), generated("c", [3]), generated())
    other = pieces(generated("a", [1]), generated("b", [2]), generated("x", [9]))
    assert compare_answers("InferStream", one, one[:2]).agrees
    assert compare_answers("InferStream", one, other).value == pytest.approx(2 / 3)


def test_text_without_tokens_is_compared_by_its_characters() -> None:
    assert compare_answers("Infer", infer(generated("abcd")), infer(generated("abxx", [1]))).value == 0.5


def test_scores_are_compared_by_document_and_by_label() -> None:
    found = compare_answers("Infer", infer(ranking(d0=0.9, d1=0.5)), infer(ranking(d1=0.9, d0=0.5)))
    assert found.value == pytest.approx(0.4)
    found = compare_answers("Infer", infer(labels(good=0.9)), infer(labels(bad=0.9)))
    assert (found.value, found.agrees) == (math.inf, False)
    assert compare_answers("Infer", infer(labels(a=0.5, b=0.4)), infer(labels(b=0.4, a=0.5))).agrees


def test_open_inference_answers_are_compared_as_tensors() -> None:
    found = compare_answers("ModelInfer", open_inference([1, 2]), open_inference([1, 4]))
    assert (found.measure, found.value) == (Measure.TENSOR_MAX_ABS_DIFF, 2.0)


def test_outputs_of_other_names_agree_in_nothing() -> None:
    assert compare_answers("Infer", infer(tensor([1.0])), infer(tensor([1.0], "z"))).value == math.inf


@pytest.mark.parametrize(
    ("method", "one", "other"),
    [
        ("Infer", infer(generated("a")), infer(embedding([1, 0]))),
        ("Infer", infer(generated("a")), [b"\xff"]),
        ("Infer", infer(generated("a")), []),
        ("Infer", infer(payload_pb2.Output()), infer(payload_pb2.Output())),
        ("Infer", infer(embedding([1])), infer(embedding([1]))),
        ("Infer", infer(payload_pb2.Output(json=b"{")), infer(payload_pb2.Output(json=b"{}"))),
        ("Infer", infer(payload_pb2.Output(json=b"[" * 5000)), infer(payload_pb2.Output(json=b"{}"))),
        ("InferStream", pieces(embedding([1, 0])), pieces(embedding([1, 0]), embedding([1, 0]))),
        ("ModelInfer", [oip.ModelInferResponse().SerializeToString()] * 2, open_inference([1])),
        ("ModelMetadata", [b""], [b""]),
    ],
)
def test_answers_that_cannot_be_laid_over_each_other_are_not_compared(
    method: str, one: list[bytes], other: list[bytes]
) -> None:
    with pytest.raises(IncomparableError):
        compare_answers(method, one, other)
    with pytest.raises(IncomparableError):
        compare_answers(method, other, one)


def test_an_answer_of_no_tensors_equals_another() -> None:
    empty = [oip.ModelInferResponse().SerializeToString()]
    assert compare_answers("ModelInfer", empty, empty).agrees
