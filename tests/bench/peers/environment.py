"""A Python for each server of others that is measured beside ours: made once, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from inference_mesh.cache import cache_dir
from tests.support.processes import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements" / "peers"


def peer_python(name: str, wheels: Sequence[Path] = ()) -> Path:
    """The interpreter of an environment with `requirements/peers/NAME.txt`, and wheels beside it."""
    requirements = REQUIREMENTS / f"{name}.txt"
    parts = [requirements.read_text(), sys.version, *(str(wheel) for wheel in wheels)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    folder = cache_dir() / "peers" / f"{name}-{key}"
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.exists():
        print(f"making the environment of {name}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        _run([*pip, "--require-hashes", "--requirement", str(requirements)])
        if wheels:
            _run([*pip, "--no-deps", *(str(wheel) for wheel in wheels)])
        done.touch()
    return python


def _run(command: Sequence[str]) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, env=inherited)
