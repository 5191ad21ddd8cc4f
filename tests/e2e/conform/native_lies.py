"""For each check of the native suite, a lie that it must notice."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np

from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.e2e.conform.changes import clear, put
from tests.fakes.lying_grpc import Lie

INTERNAL = grpc.StatusCode.INTERNAL
NOT_SERVING = 2


def _another_text() -> Callable[[Any], None]:
    number = itertools.count()

    def change(message: Any) -> None:
        message.output.generate.text += str(next(number))

    return change


def _first_model_twice(message: Any) -> None:
    message.models.append(message.models[0])


def _high_logprobs(message: Any) -> None:
    for one in message.output.generate.logprobs:
        one.logprob = 0.5


def _no_second_answer(message: Any) -> None:
    del message.output.generate.others[:]


def _mixed_vectors(message: Any) -> None:
    embed = message.output.embed
    vectors = np.frombuffer(embed.values, "<f4").reshape(-1, embed.dimensions)
    embed.values = (vectors[::-1] + np.arange(len(vectors), dtype="<f4")[:, None]).tobytes()


def _first_vectors_turned(message: Any) -> None:
    embed = message.output.embed
    vectors = np.frombuffer(embed.values, "<f4").reshape(-1, embed.dimensions)
    embed.values = vectors[[1, 0, 2][: len(vectors)] if len(vectors) > 1 else [0]].tobytes()


def _another_output(message: Any) -> None:
    message.output.tensors.tensors[0].name = "other"


def _without_the_first(messages: list[Any]) -> list[Any]:
    return messages[1:]


def _reason_too_early(messages: list[Any]) -> list[Any]:
    early = inference_pb2.InferStreamResponse()
    early.output.generate.finish_reason = payload_pb2.FINISH_REASON_STOP
    return [early, *messages]


def _first_twice(messages: list[Any]) -> list[Any]:
    return [messages[0], *messages]


NATIVE_LIES: dict[str, Lie] = {
    "health-check-of-the-server": Lie("Check", answer=put("status", NOT_SERVING)),
    "health-check-of-an-unknown-service": Lie("Check", answers_errors=True),
    "health-watch-answers-at-once": Lie("Watch", answer=put("status", NOT_SERVING)),
    "health-watch-of-an-unknown-service": Lie("Watch", answer=put("status", NOT_SERVING)),
    "list-models-names-each-once": Lie("ListModels", answer=_first_model_twice),
    "get-model-says-what-the-list-says": Lie("GetModel", answer=put("model.name", "other")),
    "aliases-answer-as-their-model": Lie("GetModel", answer=put("model.name", "other")),
    "get-model-of-an-unknown-name": Lie("GetModel", error=INTERNAL),
    "generate-answers-with-text-and-usage": Lie("Infer", answer=clear("request_id")),
    "generate-keeps-max-tokens": Lie("Infer", answer=put("usage.completion_tokens", 2)),
    "generate-is-greedy-at-temperature-0": Lie("Infer", answer=_another_text()),
    "generate-ends-at-a-stop-text": Lie("Infer", answer=clear("output.generate.stop_text")),
    "generate-gives-n-answers": Lie("Infer", answer=_no_second_answer),
    "generate-tells-logprobs": Lie("Infer", answer=_high_logprobs),
    "generate-follows-a-json-schema": Lie("Infer", answer=put("output.generate.text", "yes")),
    "generate-takes-tokens": Lie("Infer", answer=put("usage.prompt_tokens", 9)),
    "stream-gives-the-whole-text-in-pieces": Lie("InferStream", stream=_without_the_first),
    "stream-ends-with-its-reason-and-usage": Lie("InferStream", stream=_reason_too_early),
    "stream-goes-on-from-delivered-tokens": Lie("InferStream", stream=_first_twice),
    "embed-gives-a-vector-for-each-text": Lie("Infer", answer=_mixed_vectors),
    "embed-keeps-the-order-of-texts": Lie("Infer", answer=_first_vectors_turned),
    "embed-counts-tokens": Lie("Infer", answer=put("usage.prompt_tokens", 3)),
    "tensors-come-back-as-described": Lie("Infer", answer=_another_output),
    "unknown-model-is-not-found": Lie("Infer", error=INTERNAL),
    "missing-payload-is-invalid": Lie("Infer", answers_errors=True),
    "payload-of-another-task-is-invalid": Lie("Infer", error=INTERNAL),
    "values-out-of-range-are-invalid": Lie("Infer", answers_errors=True),
    "malformed-message-is-invalid": Lie("Infer", error=grpc.StatusCode.UNKNOWN),
    "unknown-method-is-unimplemented": Lie("*", error=INTERNAL),
    "missing-key-is-unauthenticated": Lie("*", error=INTERNAL),
    "wrong-key-is-unauthenticated": Lie("*", error=INTERNAL),
    "refusals-say-their-reason": Lie("Infer", silent=True),
}

NATIVE_UNTOLD = {
    "stream-that-is-left-harms-nobody": "its status is made by the client, which leaves",
    "expired-deadline-ends-the-call": "its status is made by the client, whose deadline it is",
}
"""Checks without a lie, and why."""
