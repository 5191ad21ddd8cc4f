"""OpenAI's, Anthropic's and the Open Inference Protocol's REST on the running mesh, by plain HTTP.

What the dialects' own clients make of it stands in tests/clients.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.e2e.conftest import RunningMesh

WHO = [{"role": "user", "content": "Who are you?"}]
CHAT: dict[str, Any] = {"model": "tiny-chat", "messages": WHO, "temperature": 0, "max_tokens": 40}
FLOWER: dict[str, Any] = {
    "name": "features",
    "datatype": "FP32",
    "shape": [1, 4],
    "data": [5.1, 3.5, 1.4, 0.2],
}


@pytest.fixture(scope="module")
def http(mesh: RunningMesh) -> Iterator[httpx.Client]:
    """A client of the bridge."""
    with httpx.Client(base_url=mesh.bridge.url, timeout=30, trust_env=False) as client:
        yield client


def post(http: httpx.Client, path: str, document: Any) -> Any:
    """The JSON of a good answer."""
    answer = http.post(path, json=document)
    assert answer.status_code == 200, answer.text
    return answer.json()


def data_of(text: str) -> list[str]:
    """The data of each event."""
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def test_every_dialect_says_the_same_words(http: httpx.Client) -> None:
    chat = post(http, "/v1/chat/completions", CHAT)
    said = chat["choices"][0]["message"]["content"]
    assert said
    response = post(http, "/v1/responses", {"model": "tiny-chat", "input": "Who are you?", "temperature": 0})
    assert response["output"][0]["content"][0]["text"] == said
    message = post(http, "/v1/messages", {**CHAT, "temperature": 0.0})
    assert message["content"] == [{"type": "text", "text": said}]
    own = post(http, "/api/infer", {"model": "tiny-chat", "payload": {"messages": WHO, "temperature": 0}})
    assert own["output"]["text"] == said
    assert chat["usage"]["prompt_tokens"] == own["usage"]["prompt_tokens"]


def test_streams_of_every_dialect_join_to_the_whole_text(http: httpx.Client) -> None:
    said = post(http, "/v1/chat/completions", CHAT)["choices"][0]["message"]["content"]
    chunks = data_of(http.post("/v1/chat/completions", json={**CHAT, "stream": True}).text)
    assert chunks[-1] == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]]
    assert "".join(deltas) == said
    events = [
        json.loads(data) for data in data_of(http.post("/v1/messages", json={**CHAT, "stream": True}).text)
    ]
    texts = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(texts) == said
    body = {"model": "tiny-chat", "input": "Who are you?", "temperature": 0, "stream": True}
    events = [json.loads(data) for data in data_of(http.post("/v1/responses", json=body).text)]
    texts = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(texts) == said
    assert events[-1]["type"] == "response.completed"


def test_embeddings_are_the_same_numbers_in_every_form(http: httpx.Client) -> None:
    body = {"model": "minilm", "input": ["a cat", "a dog"]}
    numbers = post(http, "/v1/embeddings", body)["data"]
    coded = post(http, "/v1/embeddings", {**body, "encoding_format": "base64"})["data"]
    vectors = np.array([one["embedding"] for one in numbers], dtype="<f4")
    packed = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in coded]
    assert np.array_equal(vectors, np.stack(packed))
    inputs = [{"name": "text_input", "datatype": "BYTES", "shape": [2], "data": ["a cat", "a dog"]}]
    output = post(http, "/v2/models/minilm/infer", {"inputs": inputs})["outputs"][0]
    assert np.allclose(np.array(output["data"]).reshape(output["shape"]), vectors, atol=1e-5)


def test_tensors_in_json_and_in_bytes_give_the_same_flower(http: httpx.Client) -> None:
    plain = post(http, "/v2/models/iris/infer", {"id": "q", "inputs": [FLOWER]})
    assert (plain["model_name"], plain["id"]) == ("iris", "q")
    raw = np.array(FLOWER["data"], "<f4").tobytes()
    sized: dict[str, Any] = {key: FLOWER[key] for key in ("name", "datatype", "shape")}
    sized["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": [sized], "parameters": {"binary_data_output": True}}).encode()
    length = {"inference-header-content-length": str(len(head))}
    answer = http.post("/v2/models/iris/infer", content=head + raw, headers=length)
    told = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.content[:told])["outputs"]
    at = told
    for output, expected in zip(outputs, plain["outputs"], strict=True):
        size = output["parameters"]["binary_data_size"]
        dtype = {"INT64": "<i8", "FP32": "<f4"}[output["datatype"]]
        assert np.frombuffer(answer.content[at : at + size], dtype).tolist() == expected["data"]
        at += size
    assert at == len(answer.content)
    bare = http.post("/v2/models/iris/infer", content=raw, headers={"inference-header-content-length": "0"})
    assert bare.content.endswith(answer.content[told:])


def test_health_and_metadata_of_models_and_server(http: httpx.Client) -> None:
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2").json()["name"] == "inference-mesh"
    assert http.get("/v2/models/iris/ready").json() == {"name": "iris", "ready": True}
    metadata = http.get("/v2/models/iris").json()
    assert [spec["name"] for spec in metadata["inputs"]] == ["features"]
    listed = http.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["iris", "minilm", "tiny-chat"]


def test_generate_answers_text_whole_and_in_pieces(http: httpx.Client) -> None:
    body = {"text_input": "Once upon", "max_tokens": 8, "temperature": 0}
    whole = post(http, "/v2/models/tiny-chat/generate", body)["text_output"]
    pieces = data_of(http.post("/v2/models/tiny-chat/generate_stream", json=body).text)
    assert "".join(json.loads(piece)["text_output"] for piece in pieces) == whole


@pytest.mark.parametrize(
    ("path", "body", "keys"),
    [
        ("/v1/chat/completions", {**CHAT, "model": "nobody"}, {"message", "type", "param", "code"}),
        ("/v1/messages", {**CHAT, "model": "nobody"}, {"type", "message"}),
        ("/v1/nowhere", {}, {"message", "type", "param", "code"}),
    ],
)
def test_an_error_has_the_form_of_its_dialect(
    http: httpx.Client, path: str, body: dict[str, Any], keys: set[str]
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == keys
    assert answer.headers["x-request-id"]


def test_an_error_of_the_open_inference_protocol_is_a_text(http: httpx.Client) -> None:
    answer = http.post("/v2/models/nobody/infer", json={"inputs": [FLOWER]})
    assert answer.status_code == 404
    assert "nobody" in answer.json()["error"]
