"""Has kubectl render every overlay and example of kustomize/. Without kubectl it fails: nothing else can.

`python -m scripts.check_manifests` needs no package, so that a machine without kubectl is told
before anything is installed. What the manifests must say is in tests/unit/kustomize.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

KUSTOMIZE = Path(__file__).resolve().parents[1] / "kustomize"
LEAST_KUBECTL = (1, 30)
"""As the oldest cluster that the manifests are for: kubectl is made for clusters within one minor version."""
LIMIT_S = 60
HINT = (
    f"install {'.'.join(map(str, LEAST_KUBECTL))} or newer from https://kubernetes.io/docs/tasks/tools/; "
    "it is the one tool that set-up cannot install, because no package registry that it uses has it"
)


class CheckError(Exception):
    """kubectl is not there, is too old, or cannot render something."""


def main() -> int:
    """Print what is wrong; 0 if nothing is."""
    try:
        check_kubectl()
        problems = [problem for name in overlays() if (problem := rendering_problem(name))]
    except CheckError as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def check_kubectl() -> None:
    """Raises CheckError if there is no kubectl that is new enough."""
    ended = _kubectl("version", "--client", "--output", "json")
    try:
        version = str(json.loads(ended.stdout)["clientVersion"]["gitVersion"])
    except (ValueError, KeyError):
        raise CheckError(f"kubectl does not tell its version: {ended.stderr.strip()}; {HINT}") from None
    numbers = re.match(r"v(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < LEAST_KUBECTL:
        raise CheckError(f"kubectl is {version}, which is too old for kustomize/: {HINT}")


def overlays() -> list[str]:
    """Every kustomization that is meant to be applied, as `overlays/prod` or `examples/canary`."""
    found = [
        *KUSTOMIZE.glob("overlays/*/kustomization.yaml"),
        *KUSTOMIZE.glob("examples/*/kustomization.yaml"),
    ]
    return sorted(path.parent.relative_to(KUSTOMIZE).as_posix() for path in found)


def rendering_problem(name: str) -> str:
    """What kubectl says of an overlay that it cannot render; empty if it can."""
    ended = _kubectl("kustomize", str(KUSTOMIZE / name))
    return "" if ended.returncode == 0 else f"kustomize/{name}: {ended.stderr.strip()}"


def _kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["kubectl", *arguments], capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
    except OSError:
        raise CheckError(
            f"kubectl is missing, and kustomize/ cannot be rendered without it: {HINT}"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
