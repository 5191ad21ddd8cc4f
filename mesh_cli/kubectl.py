"""Secrets of a Kubernetes cluster, by the user's own kubectl and with the user's own rights.

Owns the calls and what their failures mean. Contents travel by standard input, never as an
argument, which every process of the machine could read. kubectl does not validate them: it would
fetch the schema of the whole API for it.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from mesh_cli.errors import FailedError

REQUEST_TIMEOUT_S = 20
COMMAND_TIMEOUT_S = 60

Manifest = dict[str, Any]


class Cluster:
    """The cluster of kubectl's context. Every method raises FailedError if kubectl does."""

    def __init__(self, context: str | None = None) -> None:
        """context: of kubectl's configuration; None = the current one."""
        self._context = () if context is None else ("--context", context)

    def secret(self, namespace: str, name: str) -> Manifest | None:
        """The Secret as it is; None if there is none."""
        output = self._run(
            "get", "secret", name, "--namespace", namespace, "--ignore-not-found", "--output", "json"
        )
        if not output.strip():
            return None
        try:
            found: Manifest = json.loads(output)
        except ValueError:
            raise FailedError(f"kubectl told of Secret {namespace}/{name} what is not JSON") from None
        return found

    def create(self, manifest: Manifest) -> None:
        """Make an object. It fails if there is one of this name by now."""
        self._run("create", "--validate=false", "--filename", "-", stdin=json.dumps(manifest))

    def replace(self, manifest: Manifest) -> None:
        """Put an object in place of the one that was read; it fails if that was changed meanwhile."""
        self._run("replace", "--validate=false", "--filename", "-", stdin=json.dumps(manifest))

    def _run(self, *arguments: str, stdin: str = "") -> str:
        command = ["kubectl", *self._context, f"--request-timeout={REQUEST_TIMEOUT_S}s", *arguments]
        try:
            ended = subprocess.run(
                command, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
            )
        except OSError as error:
            raise FailedError(
                f"kubectl cannot be run: {error.strerror}; --print makes the manifest without it"
            ) from None
        except subprocess.TimeoutExpired:
            raise FailedError(f"kubectl {arguments[0]} gave no answer in {COMMAND_TIMEOUT_S} s") from None
        if ended.returncode != 0:
            raise FailedError(f"kubectl {arguments[0]}: {_reason(ended.stderr)}")
        return ended.stdout


def _reason(stderr: str) -> str:
    """What went wrong in one line, and what to do where that is known."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    reason = lines[-1] if lines else "it failed without a word"
    if "(Conflict)" in reason or "(AlreadyExists)" in reason:
        return f"{reason}; somebody else changed it at the same time, nothing was changed: run it again"
    if "namespaces " in reason and "not found" in reason:
        return f"{reason}; apply kustomize/base/namespaces first"
    return reason
