"""Requests generated from the bridge's own OpenAPI document: no 5xx, and no answer outside the document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningMesh

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# A generated time limit of next to nothing is answered 504, and rightly.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "504"]
"""
EXAMPLES = 40
LIMIT_S = 110


@pytest.mark.fuzz
def test_generated_requests_get_documented_answers(mesh: RunningMesh, tmp_path: Path) -> None:
    """By schemathesis. What is accepted is not checked: a payload's form depends on its model."""
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    program = Path(sys.executable).with_name("schemathesis")
    options = ("--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--request-timeout", "30")
    fixed = ("--seed", "1", "--no-color", "--phases", "examples,coverage,fuzzing")
    ended = subprocess.run(
        [program, "run", f"{mesh.bridge.url}/openapi.json", *options, *fixed],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
