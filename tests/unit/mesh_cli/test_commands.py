"""The small commands and the exit codes of all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mesh_cli.errors import UsageError
from mesh_cli.ports import free_port
from mesh_cli.target import host_and_port
from tests.support.meshes import ROOT, mesh


@pytest.fixture
def nowhere() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_doctor_as_json_says_what_was_found_and_how_to_mend_it() -> None:
    ended = mesh("doctor", "--json")
    document = json.loads(ended.stdout)
    assert ended.returncode == (0 if document["ok"] else 1)
    checks = {check["name"]: check for check in document["checks"]}
    assert {
        "python",
        "packages",
        "packages [gateway]",
        "llama.cpp",
        "model minilm",
        "port 50051",
        "cmake",
    } <= set(checks)
    assert all(check["cure"] for check in checks.values() if check["verdict"] != "ok")


def test_without_a_mesh_the_exit_code_is_3(tmp_path: Path, nowhere: str) -> None:
    for command in (
        ("status",),
        ("status", "--json"),
        ("top", "--once"),
        ("down",),
        ("infer", "m", "text", "--target", nowhere),
        ("chat", "m", "--target", nowhere),
        ("models", "list", "--target", nowhere),
    ):
        ended = mesh(*command, cwd=tmp_path)
        assert (ended.returncode, command) == (3, command)
        assert "mesh up" in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("nonsense",),
        ("up", "--grpc-port", "0"),
        ("up", "--config", "gone.yaml"),
        ("up", "--keys", "gone.yaml"),
        ("infer",),
        ("infer", "m", "text", "--json", "{}"),
        ("infer", "m", "--json", "@gone.json"),
        ("infer", "m", "text", "--target", "nonsense"),
        ("infer", "m", "text", "--api-key", "a\n"),
        ("models", "list", "--api-key", "é"),
        ("models", "verify", "gone.gguf"),
        ("models", "verify", "a", "--config", "gone.yaml"),
        ("keys", "create", "--scope", "all"),
        ("top", "--metrics", "ftp://nowhere/metrics"),
        ("top", "--interval", "0"),
        ("top", "--sort", "nonsense"),
    ],
)
def test_wrong_use_has_exit_code_2_and_no_traceback(tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = mesh(*command, cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("option", [(), ("--json", "@-")])
def test_a_pipe_that_is_not_utf8_is_wrong_use(tmp_path: Path, nowhere: str, option: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "mesh_cli", "infer", "m", "--target", nowhere, *option],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=b"caf\xe9",
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 2
    assert b"UTF-8" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize("flag", ["--grpc-port", "--http-port"])
def test_a_taken_port_is_named_with_the_flag_that_changes_it(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        other = {"--grpc-port": "--http-port", "--http-port": "--grpc-port"}[flag]
        ended = mesh("up", "--no-live", flag, port, other, str(free_port()), cwd=tmp_path)
    assert ended.returncode == 1
    assert f" {port} is taken" in ended.stderr
    assert flag in ended.stderr


@pytest.mark.parametrize("text", ["keys: 5\n", "keys: []\n", "", "keys: [\n"])
@pytest.mark.parametrize("way", ["--no-live", "--detach"])
def test_a_keys_file_that_lets_nobody_in_stops_the_start(tmp_path: Path, text: str, way: str) -> None:
    (tmp_path / "keys.yaml").write_text(text)
    ports = ("--grpc-port", str(free_port()), "--http-port", str(free_port()))
    ended = mesh("up", way, "--keys", "keys.yaml", *ports, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("keys.yaml: ")


@pytest.mark.parametrize("way", ["--no-live", "--detach"])
def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path, way: str) -> None:
    (tmp_path / "taken").write_text("a file")
    ports = ("--grpc-port", str(free_port()), "--http-port", str(free_port()))
    ended = mesh("up", way, "--state-dir", "taken/.mesh", *ports, cwd=tmp_path)
    assert ended.returncode == 1
    assert "--state-dir" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_key_is_shown_once_and_only_its_hash_is_stored(tmp_path: Path) -> None:
    plain = [mesh("keys", "create", "--tenant", tenant, cwd=tmp_path).stdout.strip() for tenant in ("a", "b")]
    stored = (tmp_path / "keys.yaml").read_text()
    assert re.fullmatch(r"mesh_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", plain[0])
    hashes = [key["sha256"] for key in yaml.safe_load(stored)["keys"]]
    assert hashes == [hashlib.sha256(key.encode()).hexdigest() for key in plain]
    assert not any(key.rpartition("_")[2] in stored for key in plain)
    assert (tmp_path / "keys.yaml").stat().st_mode & 0o077 == 0
    listed = json.loads(mesh("keys", "list", "--json", cwd=tmp_path).stdout)
    assert [key["tenant"] for key in listed] == ["a", "b"]
    assert "sha256" not in listed[0]


@pytest.mark.parametrize("target", ["", "host", "host:", ":1", "host:70000", "host:x", "http://host:1"])
def test_a_target_must_be_host_and_port(target: str) -> None:
    with pytest.raises(UsageError):
        host_and_port(target)


def test_a_target_may_be_an_ipv6_address() -> None:
    assert host_and_port("[::1]:50051") == ("::1", 50051)
