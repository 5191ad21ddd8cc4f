"""GGUF models of vectors and scores behind real worker processes, asked by gRPC and HTTP."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from inference_mesh.channels import open_channel
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.support.bert_files import CLS, SEP, WIDTH, WORDS, TinyBert
from tests.support.llama_texts import embed, rerank, vectors_of
from tests.support.processes import MeshProcess, process_group

BERT = TinyBert()
RANKER = TinyBert(1, score_head=True)
TEXTS = [" ".join(WORDS[start : start + 5]) for start in range(10)]
AS_THE_REFERENCE = 1e-3


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, MeshProcess]]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "bert.gguf").write_bytes(BERT.file())
    (folder / "ranker.gguf").write_bytes(RANKER.file())
    with process_group(folder) as group:
        found = {
            name: group.worker(folder / f"{name}.gguf", name=name, runtime="llama")
            for name in ("bert", "ranker")
        }
        for worker in found.values():
            worker.wait_until_ready()
        yield found


async def infer(worker: MeshProcess, payload: payload_pb2.Payload, model: str) -> inference_pb2.InferResponse:
    """The answer of a unary call."""
    async with open_channel(worker.grpc_target) as channel:
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        answer: inference_pb2.InferResponse = await stub.Infer(
            inference_pb2.InferRequest(model=model, payload=payload), timeout=20
        )
        return answer


async def test_the_task_follows_from_the_file_and_vectors_come_over_grpc(
    workers: dict[str, MeshProcess],
) -> None:
    answers = await asyncio.gather(*(infer(workers["bert"], embed([text]), "bert") for text in TEXTS))
    for text, answer in zip(TEXTS, answers, strict=True):
        expected = BERT.embedding([CLS, *BERT.ids(text), SEP])
        np.testing.assert_allclose(vectors_of(answer.output)[0], expected, atol=AS_THE_REFERENCE)
        assert answer.usage.prompt_tokens == len(text.split()) + 2


async def test_a_ranking_comes_over_grpc(workers: dict[str, MeshProcess]) -> None:
    answer = await infer(workers["ranker"], rerank("word1", TEXTS, top_n=3), "ranker")
    scores = [RANKER.score([CLS, *RANKER.ids("word1"), SEP, *RANKER.ids(text)]) for text in TEXTS]
    best = sorted(range(len(TEXTS)), key=lambda index: -scores[index])[:3]
    assert [one.index for one in answer.output.rerank.documents] == best


async def test_the_model_describes_itself(workers: dict[str, MeshProcess]) -> None:
    async with open_channel(workers["bert"].grpc_target) as channel:
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        answer = await stub.GetModel(inference_pb2.GetModelRequest(model="bert"))
    assert answer.model.task == payload_pb2.TASK_EMBED
    assert (answer.model.dimensions, answer.model.runtime) == (WIDTH, "llama.cpp")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (embed([""]), grpc.StatusCode.INVALID_ARGUMENT),
        (embed(["word1 " * 100]), grpc.StatusCode.INVALID_ARGUMENT),
        (embed(["word1"], dimensions=1000), grpc.StatusCode.INVALID_ARGUMENT),
        (rerank("word1", ["word2"]), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_is_wrong_gets_its_status(
    workers: dict[str, MeshProcess], payload: payload_pb2.Payload, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await infer(workers["bert"], payload, "bert")
    assert refused.value.code() == code


def test_vectors_come_over_http(workers: dict[str, MeshProcess]) -> None:
    body = json.dumps({"texts": [TEXTS[0]]}).encode()
    request = urllib.request.Request(
        f"{workers['bert'].url}/infer", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        found = json.load(answer)
    assert len(found["embeddings"][0]) == WIDTH
