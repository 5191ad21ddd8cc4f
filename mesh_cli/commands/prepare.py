"""`mesh prepare`: gets the embedded models that are not there yet."""

from __future__ import annotations

import os
import subprocess
import sys

from mesh_cli.child import child_environment
from mesh_cli.embedded import EmbeddedModel, embedded_models
from mesh_cli.errors import FailedError


def prepare() -> None:
    """Make or fetch the embedded models that are not there yet."""
    failed = [model.name for model in embedded_models().values() if not _prepare(model)]
    if failed:
        raise FailedError(f"not prepared: {', '.join(failed)}")


def _prepare(model: EmbeddedModel) -> bool:
    if model.is_present():
        print(f"{model.name}: is there ({model.path})", flush=True)
        return True
    if model.maker is None:
        print(f"{model.name}: is missing; {model.cure}", file=sys.stderr, flush=True)
        return False
    print(f"{model.name}: is made by `python -m {model.maker}` …", flush=True)
    command = [sys.executable, "-P", "-m", model.maker]
    ended = subprocess.run(command, check=False, env=child_environment(os.environ))
    if ended.returncode == 0 and model.is_present():
        return True
    print(f"{model.name}: could not be made (exit code {ended.returncode})", file=sys.stderr, flush=True)
    return False
