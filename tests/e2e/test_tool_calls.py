"""A model calls a function, makes several answers and keeps to a grammar, by gRPC and by REST."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from inference_mesh.client import MeshClient
from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2
from tests.e2e.conftest import RunningMesh
from tests.support.canaries import MARK, marked

TOOL = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
RAIN: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the weather in Rome?"}],
    "tools": [{"type": "function", "function": TOOL}],
    "temperature": 0,
    "max_tokens": 60,
}
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 20}


def _post(mesh: RunningMesh, payload: dict[str, Any]) -> httpx.Response:
    body = {"model": "tiny-chat", "payload": payload}
    return httpx.post(f"{mesh.bridge.url}/api/infer", json=body, timeout=30)


def _events(mesh: RunningMesh, payload: dict[str, Any]) -> list[dict[str, Any]]:
    body = {"model": "tiny-chat", "payload": payload, "stream": True}
    with httpx.stream("POST", f"{mesh.bridge.url}/api/infer", json=body, timeout=30) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line)["output"] for line in lines[:-1]]


async def test_a_question_that_needs_a_function_is_answered_with_its_call_by_every_way_in(
    mesh: RunningMesh,
) -> None:
    whole = _post(mesh, RAIN).json()["output"]
    events = _events(mesh, RAIN)
    async with MeshClient(mesh.gateway.grpc_target) as client:
        by_grpc = (await client.infer("tiny-chat", RAIN)).output.generate
        pieces = [piece.output.generate async for piece in client.stream("tiny-chat", RAIN)]
    found = [
        whole["tool_calls"],
        [call for event in events for call in event.get("tool_calls", [])],
        [{"name": call.name, "arguments": call.arguments} for call in by_grpc.tool_calls],
        [{"name": call.name, "arguments": call.arguments} for piece in pieces for call in piece.tool_calls],
    ]
    assert [[(call["name"], json.loads(call["arguments"])) for call in calls] for calls in found] == [
        [("get_weather", {"city": "Rome"})]
    ] * 4
    assert whole["text"] == "".join(event["text"] for event in events) == ""
    assert whole["finish_reason"] == events[-1]["finish_reason"] == "tool_calls"
    assert pieces[-1].finish_reason == payload_pb2.FINISH_REASON_TOOL_CALLS


def test_what_the_function_gave_goes_back_to_the_model(mesh: RunningMesh) -> None:
    call = _post(mesh, RAIN).json()["output"]["tool_calls"][0]
    messages = [
        *RAIN["messages"],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": marked("sunny"), "tool_call_id": call["id"]},
    ]
    answer = _post(mesh, {**RAIN, "messages": messages})
    assert answer.status_code == 200, answer.text


def test_several_answers_come_in_one_and_each_piece_says_which_it_is_of(mesh: RunningMesh) -> None:
    payload = {**HELLO, "n": 3, "seed": 5, "temperature": 1.5}
    document = _post(mesh, payload).json()
    answers = [document["output"], *document["output"]["others"]]
    events = _events(mesh, payload)
    for index, answer in enumerate(answers):
        own = [event["text"] for event in events if event.get("index", 0) == index]
        assert "".join(own) == answer["text"]
    assert [answer.get("index", 0) for answer in answers] == [0, 1, 2]
    alone = _post(mesh, HELLO).json()["usage"]
    assert document["usage"]["prompt_tokens"] == alone["prompt_tokens"]
    assert document["usage"]["completion_tokens"] > 20


def test_a_grammar_is_kept_and_log_probabilities_are_told(mesh: RunningMesh) -> None:
    payload = {**HELLO, "grammar": 'root ::= [a-z]{3} " " [0-9]', "top_logprobs": 2}
    output = _post(mesh, payload).json()["output"]
    assert re.fullmatch("[a-z]{3} [0-9]", output["text"])
    assert "".join(one["text"] for one in output["logprobs"]) == output["text"]
    assert all(len(one["top"]) == 2 and one["logprob"] <= 0 for one in output["logprobs"])


async def test_a_wrong_grammar_is_refused_and_stands_in_no_log(mesh: RunningMesh) -> None:
    answer = _post(mesh, {**HELLO, "grammar": f'root ::= "{MARK}" ('})
    assert (answer.status_code, "grammar" in answer.json()["error"]["message"]) == (400, True)
    async with MeshClient(mesh.gateway.grpc_target) as client:
        with pytest.raises(InvalidInputError):
            await client.infer("tiny-chat", {**HELLO, "grammar": "root ::= root"})
    assert MARK not in mesh.workers["tiny-chat"].log_text()
