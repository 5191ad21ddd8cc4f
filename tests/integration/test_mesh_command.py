"""The `mesh` command against a real mesh of the models that ship: iris, tiny-chat, and a broken one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_cli.embedded import embedded_models
from mesh_cli.ports import free_port
from mesh_cli.process_identity import is_same_process
from mesh_cli.state import StateFolder, Status
from tests.support.meshes import mesh

IRIS_PAYLOAD = {
    "inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]
}
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateFolder]:
    """A mesh with two replicas of iris, tiny-chat, and a model whose file is cut off."""
    folder = tmp_path_factory.mktemp("mesh")
    whole = embedded_models()["tiny-chat"].path.read_bytes()
    (folder / "broken.gguf").write_bytes(whole[: len(whole) // 2])
    (folder / "mesh.yaml").write_text(
        "- {name: iris, path: 'embedded:iris', replicas: 2, aliases: [flowers]}\n"
        "- {name: tiny-chat, path: 'embedded:tiny-chat', slots: 2, context: 256}\n"
        "- {name: broken, path: broken.gguf}\n"
    )
    grpc_port = free_port()
    ports = ("--grpc-port", str(grpc_port), "--http-port", str(free_port((grpc_port,))))
    state_dir = StateFolder(folder / "state")
    up = mesh("up", "--detach", "--state-dir", str(state_dir.path), *ports, cwd=folder)
    assert up.returncode == 0, up.stdout + up.stderr
    state = state_dir.read()
    assert state is not None
    yield state_dir
    down = mesh("down", "--state-dir", str(state_dir.path))
    assert down.returncode == 0, down.stderr
    assert [one.name for one in state.services if is_same_process(one.pid, one.start_mark)] == []


def _mesh(running: StateFolder, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return mesh(*arguments, "--state-dir", str(running.path), stdin=stdin)


def test_a_broken_model_is_shown_as_failed_with_its_reason_and_the_rest_serves(running: StateFolder) -> None:
    status = _mesh(running, "status", "--json")
    services = {one["name"]: one for one in json.loads(status.stdout)["services"]}
    assert services["broken-0"]["status"] == "failed"
    assert "broken.gguf" in services["broken-0"]["reason"]
    assert {name for name, one in services.items() if one["status"] == "ready"} == {
        "iris-0",
        "iris-1",
        "tiny-chat-0",
        "gateway",
        "bridge",
    }


def test_a_text_is_generated_by_a_generating_model(running: StateFolder) -> None:
    ended = _mesh(running, "infer", "tiny-chat", "Hello", "--max-tokens", "5", "--output", "json")
    document = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert document["model"] == "tiny-chat"
    assert document["usage"]["completion_tokens"] <= 5
    assert document["output"]["text"]


def test_a_stream_says_the_same_as_a_whole_answer(running: StateFolder) -> None:
    question = ("infer", "tiny-chat", "-", "--temperature", "0", "--max-tokens", "20")
    whole = _mesh(running, *question, stdin="Hello\n")
    streamed = _mesh(running, *question, "--stream", stdin="Hello\n")
    assert (whole.returncode, streamed.returncode) == (0, 0)
    assert whole.stdout == streamed.stdout != "\n"


def test_tensors_go_in_and_out_as_json_by_alias(running: StateFolder, tmp_path: Path) -> None:
    (tmp_path / "flower.json").write_text(json.dumps(IRIS_PAYLOAD))
    ended = _mesh(running, "infer", "flowers", "--json", f"@{tmp_path}/flower.json", "-o", "json")
    outputs = {one["name"]: one["data"] for one in json.loads(ended.stdout)["output"]["outputs"]}
    assert outputs["label"] == [0]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("nope", "x"), 1, "error: NOT_FOUND"),
        (("iris", "x"), 2, "--json"),
        (("iris", "--json", "{}"), 1, "error: INVALID_ARGUMENT"),
        (("broken", "x"), 1, "mesh status"),
        (("tiny-chat", "word " * 2000), 1, "error: INVALID_ARGUMENT"),
    ],
)
def test_an_inference_error_is_one_line_and_an_exit_code(
    running: StateFolder, arguments: tuple[str, ...], code: int, told: str
) -> None:
    ended = _mesh(running, "infer", *arguments)
    assert ended.returncode == code
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_models_are_listed_for_scripts_and_for_people(running: StateFolder) -> None:
    listed = {one["name"]: one for one in json.loads(_mesh(running, "models", "list", "--json").stdout)}
    assert {name: one["ready"] for name, one in listed.items()} == {
        "broken": False,
        "iris": True,
        "tiny-chat": True,
    }
    assert "flowers" in _mesh(running, "models", "list").stdout


def test_top_finds_the_processes_and_tells_which_model_is_missing(running: StateFolder) -> None:
    document = json.loads(_mesh(running, "top", "--once", "--json", "--interval", "0.2").stdout)
    rows = {row["model"]: (row["ready"], row["replicas"]) for row in document["rows"]}
    assert rows == {"broken": (0, 1), "iris": (2, 2), "tiny-chat": (1, 1)}
    assert {one["kind"] for one in document["processes"]} == {"gateway", "worker"}
    by_replica = _mesh(running, "top", "--once", "--by", "replica", "--interval", "0.2").stdout.splitlines()
    assert [line.split()[1] for line in by_replica[1:5]] == ["broken-0", "iris-0", "iris-1", "tiny-chat-0"]
    assert by_replica[5].startswith("broken-0: failed: ")


def test_a_conversation_can_be_piped_in(running: StateFolder) -> None:
    arguments = ("chat", "tiny-chat", "--temperature", "0", "--max-tokens", "8")
    ended = _mesh(running, *arguments, stdin="Hello\n\nWho are you?\n/exit\nnever asked\n")
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) >= 2


def test_a_chat_with_a_model_that_does_not_generate_is_a_usage_error(running: StateFolder) -> None:
    assert _mesh(running, "chat", "iris", stdin="x\n").returncode == 2


def test_verify_loads_a_model_apart_and_asks_it_once(running: StateFolder) -> None:
    good = mesh("models", "verify", "iris", "--json", "--config", str(running.path.parent / "mesh.yaml"))
    document = json.loads(good.stdout)
    assert (document["ok"], document["model"]["task"]) == (True, "tensors")
    bad = mesh("models", "verify", str(running.path.parent / "broken.gguf"), "--json")
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["ok"] is False
    assert "broken" in bad.stderr
    assert "Traceback" not in bad.stderr


def test_a_killed_worker_is_back_and_answers(running: StateFolder) -> None:
    state = running.read()
    assert state is not None
    killed = next(one for one in state.services if one.name == "tiny-chat-0")
    os.kill(killed.pid, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT_S
    while True:
        state = running.read()
        assert state is not None
        now = next(one for one in state.services if one.name == "tiny-chat-0")
        if now.status is Status.READY and now.restarts == 1:
            break
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    assert now.grpc_port == killed.grpc_port
    while _mesh(running, "infer", "tiny-chat", "Hello", "--max-tokens", "2").returncode != 0:
        assert time.monotonic() < deadline
