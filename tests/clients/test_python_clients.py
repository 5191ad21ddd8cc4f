"""The clients that users have already work unchanged; each in an environment that is not ours."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.bench.peers.environment import peer_python
from tests.e2e.conftest import RunningMesh

PROGRAMS = Path(__file__).parent / "programs"
LIMIT_S = 120
SETOSA = 0


def results_of(program: str, mesh: RunningMesh, *further: str) -> dict[str, Any]:
    """What a client's program printed. further: its arguments behind the two addresses."""
    command = [
        str(peer_python("clients")),
        str(PROGRAMS / program),
        mesh.bridge.url,
        mesh.gateway.grpc_target,
        *further,
    ]
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OPENAI_API_KEY")
    }
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=inherited
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(600)
def test_openais_client(mesh: RunningMesh) -> None:
    found = results_of("openai_client.py", mesh)
    assert found["models"] == ["iris", "minilm", "tiny-chat"]
    assert found["text"]
    assert {found["streamed"], found["async"], found["response"], found["response_streamed"]} == {
        found["text"]
    }
    assert found["request_id"]
    assert found["usage"][0] == found["usage"][1]
    assert found["parsed"], "a structured output"
    assert (found["called"], found["call"][0]) == ("tool_calls", "get_weather")
    assert list(found["call"][1]) == ["city"]
    assert (found["answers"], found["top_logprobs"]) == ([0, 1, 2], 2)
    assert found["vectors"] == [384, 384]
    assert found["same_vector"] < 1e-5
    assert found["completion"] == 3
    assert found["errors"] == {
        "unknown model": ["NotFoundError", "model", True],
        "no messages": ["BadRequestError", "messages", True],
        "too hot": ["BadRequestError", "temperature", True],
    }


def test_anthropics_client(mesh: RunningMesh) -> None:
    found = results_of("anthropic_client.py", mesh)
    assert found["text"] == found["streamed"]
    assert found["stop_reason"] == "end_turn"
    assert found["usage"][0] == found["usage"][1]
    assert (found["called"], found["call"][0], list(found["call"][1])) == (
        "tool_use",
        "get_weather",
        ["city"],
    )
    assert found["error"] == ["NotFoundError", True]


def test_tritons_clients(mesh: RunningMesh) -> None:
    found = results_of("triton_client.py", mesh)
    assert found["http"]["live"] == found["grpc"]["live"] == [True, True, True]
    assert found["http"]["json"] == found["http"]["binary"] == found["grpc"]["label"] == [SETOSA]
    assert found["http"]["metadata"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}]
    assert found["http"]["vectors"] == [2, 384]
    assert found["grpc"]["metadata"] == "features"
    assert found["grpc"]["stream"]
    assert found["grpc"]["text"] == found["http"]["text"] == found["grpc"]["stream"]
    assert found["grpc"]["vectors"] == [[2, 384], "float32"]
    assert "NOT_FOUND" in found["grpc"]["unknown"]


def test_kserves_clients(mesh: RunningMesh) -> None:
    found = results_of("kserve_client.py", mesh)
    assert found == {"rest": [SETOSA], "grpc": [SETOSA], "ready": True, "live": True}


def test_langchain(mesh: RunningMesh) -> None:
    found = results_of("langchain_client.py", mesh)
    assert found["text"] == found["streamed"]
    assert found["usage"] > 0
    assert [call[0] for call in found["calls"]] == ["get_weather"]
    assert found["vectors"] == [384, 384]


def test_curl(mesh: RunningMesh) -> None:
    body = {"model": "tiny-chat", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 20}
    command = ["curl", "-sSf", f"{mesh.bridge.url}/v1/chat/completions", "--json", json.dumps(body)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert json.loads(ended.stdout)["choices"][0]["message"]["content"]
