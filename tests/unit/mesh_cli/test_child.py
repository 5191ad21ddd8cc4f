"""What is told of a process that ended, and the environment that one gets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mesh_cli.child import Child, child_environment, end_reason


@pytest.mark.parametrize(
    ("code", "written", "reason"),
    [
        (-9, "anything", "killed by SIGKILL"),
        (1, "", "ended with exit code 1"),
        (2, "first\ngateway: grpc_port is 0\n", "gateway: grpc_port is 0"),
        (1, '{"event": "not loaded", "level": "error", "reason": "no file"}\n', "not loaded: no file"),
        (
            1,
            '{"event": "crashed", "exception": "Traceback\\n  a\\nOSError: no space"}',
            "crashed: OSError: no space",
        ),
        (1, "Traceback (most recent call last):\n  x\nValueError: bad", "ValueError: bad"),
    ],
)
def test_the_reason_of_an_end_is_one_line(code: int, written: str, reason: str) -> None:
    assert end_reason(code, written) == reason


async def test_what_a_process_wrote_before_its_start_was_seen_is_its_reason(tmp_path: Path) -> None:
    port_file, log = tmp_path / "ports.json", tmp_path / "a.log"
    arguments = ("--exit-code", "2", "--port-file", str(port_file))
    asyncio.get_running_loop().call_soon(time.sleep, 1)  # a machine that is too busy to look at once
    child = await Child.start("tests.fakes.fake_service", arguments, port_file=port_file, log=log)
    assert child.end_reason(await child.wait()) == "model not loaded: the file is damaged"


def test_a_process_of_the_mesh_does_not_get_the_users_key() -> None:
    environment = child_environment(
        {
            "MESH_API_KEY": "mesh_x_y",
            "MESH_REDIS_URL": "redis://:x@h",
            "PATH": "/bin",
            "OMP_WAIT_POLICY": "active",
        }
    )
    assert not {"MESH_API_KEY", "MESH_REDIS_URL"} & set(environment)
    assert environment["PATH"] == "/bin"
    assert environment["OMP_WAIT_POLICY"] == "active"
    assert environment["GGML_NO_BACKTRACE"] == "1"
