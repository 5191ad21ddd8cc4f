"""The model of random weights and the peers' programs, made once and kept in the cache."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Literal

from inference_mesh.cache import cache_dir
from scripts.llama_wheel import cached_wheel, wheel_key
from tests.bench.engines.llama_build import REQUIREMENTS
from tests.bench.peers.environment import peer_python
from tests.support.processes import REPOSITORY

ENVIRONMENT = "llama-cpp-server"
WRITER = REPOSITORY / "tests" / "bench" / "engines" / "llama_model.py"


def peer_environment() -> Path:
    """The Python of llama_cpp.server, with the very wheel that the worker uses."""
    wheel = cached_wheel(cache_dir() / "wheels" / wheel_key(REQUIREMENTS))
    if wheel is None:
        raise AssertionError("the wheel of llama.cpp is not built; run make setup")
    return peer_python(ENVIRONMENT, [wheel])


def random_model(kind: Literal["Q8_0", "Q4_0"] = "Q8_0") -> Path:
    """A llama of 127 million random weights."""
    source = WRITER.read_bytes() + (REQUIREMENTS / "peers" / f"{ENVIRONMENT}.txt").read_bytes()
    key = hashlib.sha256(source).hexdigest()[:16]
    path = cache_dir() / "bench-models" / f"llama-127m-{kind.lower()}-{key}.gguf"
    if not path.exists():
        command = [str(peer_environment()), "-m", "tests.bench.engines.llama_model", str(path), kind]
        subprocess.run(command, cwd=REPOSITORY, check=True)
    return path
