"""`@grpc/grpc-js`, the gRPC client that Node's programs have, in an environment of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from grpc import StatusCode

from inference_mesh.cache import cache_dir
from tests.e2e.conftest import RunningMesh
from tests.support.processes import REPOSITORY

FOLDER = Path(__file__).parent / "node"
LIMIT_S = 120


def installed() -> Path:
    """The program beside its packages, made once and kept in the cache."""
    sources = [FOLDER / name for name in ("package.json", "package-lock.json")]
    key = hashlib.sha256(b"\n".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = cache_dir() / "peers" / f"node-{key}"
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for source in sources:
            shutil.copy(source, folder)
        npm = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(npm, cwd=folder, check=True, timeout=LIMIT_S)
        done.touch()
    shutil.copy(FOLDER / "grpc_js.mjs", folder)
    return folder / "grpc_js.mjs"


@pytest.mark.timeout(300)
def test_grpc_js_asks_streams_cancels_and_gets_typed_errors(mesh: RunningMesh) -> None:
    command = ["node", str(installed()), str(REPOSITORY / "proto"), mesh.gateway.grpc_target]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["text"]
    assert found["streamed"] == found["text"]
    assert found["tokens"] > 0
    assert found["cancelled"] == "cancelled"
    assert found["unknown"] == StatusCode.NOT_FOUND.value[0]
