"""From the words of a command line to a payload."""

from __future__ import annotations

import pytest

from inference_mesh.v1 import payload_pb2
from mesh_cli.errors import UsageError
from mesh_cli.payloads import Sampling, continued_payload, json_payload, text_payload

GENERATE, EMBED = payload_pb2.TASK_GENERATE, payload_pb2.TASK_EMBED


def test_a_text_for_a_generating_model_is_one_users_message() -> None:
    payload = text_payload(GENERATE, "hello", Sampling(max_tokens=3, temperature=0.0), system="be kind")
    messages = payload.generate.chat.messages
    assert [(one.role, one.content) for one in messages] == [("system", "be kind"), ("user", "hello")]
    assert payload.generate.max_tokens == 3
    assert payload.generate.sampling.HasField("temperature")


def test_a_text_that_is_continued_is_a_prompt() -> None:
    payload = continued_payload(GENERATE, "Once", Sampling(stop=("a", "b")))
    assert payload.generate.prompt == "Once"
    assert list(payload.generate.stop) == ["a", "b"]


@pytest.mark.parametrize(("task", "kind"), [(EMBED, "embed"), (payload_pb2.TASK_CLASSIFY, "classify")])
def test_a_text_for_other_models_is_what_they_work_on(task: payload_pb2.Task, kind: str) -> None:
    assert text_payload(task, "hello", Sampling()).WhichOneof("kind") == kind


@pytest.mark.parametrize("task", [payload_pb2.TASK_TENSORS, payload_pb2.TASK_RERANK, payload_pb2.TASK_JSON])
def test_a_text_for_a_model_that_takes_none_is_refused_with_what_to_do(task: payload_pb2.Task) -> None:
    with pytest.raises(UsageError, match="--json"):
        text_payload(task, "hello", Sampling())


def test_options_of_generation_for_another_task_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="--max-tokens, --system"):
        text_payload(EMBED, "hello", Sampling(max_tokens=1), system="x")
    with pytest.raises(UsageError, match="--raw"):
        continued_payload(EMBED, "hello", Sampling())
    with pytest.raises(UsageError, match="--seed"):
        json_payload(EMBED, '{"text": "a"}', Sampling(seed=1))


def test_a_system_message_that_would_be_lost_is_refused() -> None:
    with pytest.raises(UsageError, match="--system"):
        continued_payload(GENERATE, "hello", Sampling(), system="be kind")
    with pytest.raises(UsageError, match="--system"):
        json_payload(GENERATE, '{"prompt": "hello"}', Sampling(), system="be kind")


def test_options_are_added_to_a_json_payload() -> None:
    payload = json_payload(GENERATE, '{"prompt": "a", "max_tokens": 9}', Sampling(max_tokens=2))
    assert (payload.generate.prompt, payload.generate.max_tokens) == ("a", 2)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_what_is_not_json_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        json_payload(GENERATE, text, Sampling())
