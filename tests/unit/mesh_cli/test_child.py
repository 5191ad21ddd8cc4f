"""What is told of a process that ended, and the environment that one gets."""

from __future__ import annotations

import pytest

from mesh_cli.child import child_environment, end_reason


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


def test_a_process_of_the_mesh_does_not_get_the_users_key() -> None:
    environment = child_environment({"MESH_API_KEY": "mesh_x_y", "PATH": "/bin", "OMP_WAIT_POLICY": "active"})
    assert "MESH_API_KEY" not in environment
    assert environment["PATH"] == "/bin"
    assert environment["OMP_WAIT_POLICY"] == "active"
    assert environment["GGML_NO_BACKTRACE"] == "1"
