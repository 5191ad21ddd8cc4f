"""For each check of the Open Inference Protocol's gRPC suite, a lie that it must notice."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import grpc

from tests.e2e.conform.changes import clear
from tests.fakes.lying_grpc import Lie

INTERNAL = grpc.StatusCode.INTERNAL


def _last_output_lost(message: Any) -> None:
    del message.outputs[-1]
    del message.raw_output_contents[-1]


def _one_output_more(message: Any) -> None:
    message.outputs.append(message.outputs[0])
    message.raw_output_contents.append(message.raw_output_contents[0])


def _half_the_bytes(message: Any) -> None:
    half = len(message.raw_output_contents[0]) // 2
    message.raw_output_contents[0] = message.raw_output_contents[0][:half]


def _other_numbers() -> Callable[[Any], None]:
    """Each answer has another value at its end, in whichever form it comes."""
    number = itertools.count(1)

    def change(message: Any) -> None:
        for tensor in message.outputs:
            if tensor.contents.fp32_contents:
                tensor.contents.fp32_contents[0] += next(number)
        if message.raw_output_contents:
            raw = bytearray(message.raw_output_contents[-1])
            raw[-1] = 0x40 + next(number)  # as FP32 2 and more, as an integer a huge one
            message.raw_output_contents[-1] = bytes(raw)

    return change


def _in_another_order(messages: list[Any]) -> list[Any]:
    return messages[::-1]


def _only_the_first(messages: list[Any]) -> list[Any]:
    return messages[:1]


def _no_config(message: Any) -> None:
    del message.config.input[:]


def _no_ready_state(message: Any) -> None:
    for one in message.models:
        one.state = "UNAVAILABLE"


def _still_counts(message: Any) -> None:
    for one in message.model_stats:
        one.inference_count = 7


def _unknown_datatype(message: Any) -> None:
    message.inputs[0].datatype = "FLOAT"


def _final_everywhere(messages: list[Any]) -> list[Any]:
    for one in messages:
        del one.infer_response.parameters["triton_final_response"]
    return messages


OIP_GRPC_LIES: dict[str, Lie] = {
    "server-is-live": Lie("ServerLive", answer=clear("live")),
    "server-is-ready": Lie("ServerReady", answer=clear("ready")),
    "model-is-ready": Lie("ModelReady", answer=clear("ready")),
    "unknown-model-is-not-ready": Lie("ModelReady", error=INTERNAL),
    "server-has-name-and-version": Lie("ServerMetadata", answer=clear("version")),
    "model-describes-its-tensors": Lie("ModelMetadata", answer=_unknown_datatype),
    "unknown-model-has-no-metadata": Lie("ModelMetadata", answers_errors=True),
    "answer-names-model-and-request": Lie("ModelInfer", answer=clear("id")),
    "outputs-are-those-of-the-metadata": Lie("ModelInfer", answer=_last_output_lost),
    "requested-outputs-alone-come": Lie("ModelInfer", answer=_one_output_more),
    "equal-requests-have-equal-answers": Lie("ModelInfer", answer=_other_numbers()),
    "unknown-parameters-are-no-harm": Lie("ModelInfer", refuses=grpc.StatusCode.INVALID_ARGUMENT),
    "raw-contents-are-taken": Lie("ModelInfer", answer=_half_the_bytes),
    "typed-contents-give-the-same": Lie("ModelInfer", answer=_other_numbers()),
    "texts-are-taken-as-bytes": Lie("ModelInfer", answer=_half_the_bytes),
    "infer-of-an-unknown-model": Lie("ModelInfer", error=INTERNAL),
    "infer-without-inputs": Lie("ModelInfer", error=INTERNAL),
    "infer-with-an-unknown-input": Lie("ModelInfer", answers_errors=True),
    "infer-with-another-datatype": Lie("ModelInfer", answers_errors=True),
    "infer-with-too-little-data": Lie("ModelInfer", error=INTERNAL),
    "infer-with-a-negative-size": Lie("ModelInfer", error=INTERNAL),
    "infer-with-a-huge-shape": Lie("ModelInfer", error=INTERNAL),
    "infer-with-raw-and-typed-contents": Lie("ModelInfer", answers_errors=True),
    "infer-with-an-unknown-output": Lie("ModelInfer", answers_errors=True),
    "infer-with-broken-texts": Lie("ModelInfer", error=INTERNAL),
    "malformed-message": Lie("ModelInfer", answers_errors=True),
    "missing-key": Lie("*", error=INTERNAL),
    "wrong-key": Lie("*", error=INTERNAL),
    "stream-answers-in-order": Lie("ModelStreamInfer", stream=_in_another_order),
    "stream-goes-on-after-an-error": Lie("ModelStreamInfer", stream=_only_the_first),
    "stream-ends-with-a-status-by-wish": Lie("ModelStreamInfer", error=INTERNAL),
    "stream-ends-with-an-empty-final-response": Lie("ModelStreamInfer", stream=_final_everywhere),
    "announced-extensions-are-there": Lie("ModelStatistics", refuses=grpc.StatusCode.UNIMPLEMENTED),
    "configuration-has-the-tensors": Lie("ModelConfig", answer=_no_config),
    "configuration-of-an-unknown-model": Lie("ModelConfig", answers_errors=True),
    "statistics-count-calls": Lie("ModelStatistics", answer=_still_counts),
    "index-lists-the-model": Lie("RepositoryIndex", answer=_no_ready_state),
}
