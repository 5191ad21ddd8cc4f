"""The compiled policy decides as the interpreted one does: it passes the gateway's own tests."""

from __future__ import annotations

import os
import subprocess
import sys

from gateway import compiled

TESTS = ("tests/unit/gateway", "tests/unit/inference_mesh/test_limit_standing.py")
LIMIT_S = 110
RUN = """
import sys
from gateway import compiled
assert compiled.use(), "run `make compile`: the policy is not compiled, or was edited since"
import gateway.policy.engine
assert compiled.is_used()
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_the_compiled_policy_passes_the_policys_own_tests() -> None:
    environment = {key: value for key, value in os.environ.items() if key != compiled.SWITCH}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *TESTS],
        cwd=compiled.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
