"""`make check` and CI fail without a kubectl that is new enough, and say what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.check_manifests import LEAST_KUBECTL
from tests.support.processes import REPOSITORY

LEAST = ".".join(map(str, LEAST_KUBECTL))


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    """The check where these programs are all there are, and no package (-S)."""
    command = [sys.executable, "-S", "-m", "scripts.check_manifests"]
    return subprocess.run(
        command, cwd=REPOSITORY, env={"PATH": str(path)}, capture_output=True, text=True, check=False
    )


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_kubectl_it_fails_and_says_which_is_needed(tmp_path: Path) -> None:
    ended = checked(tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("kubectl is missing")
    assert f"install {LEAST} or newer" in ended.stderr


def test_a_kubectl_that_is_too_old_is_refused(tmp_path: Path) -> None:
    program(tmp_path / "kubectl", """echo '{"clientVersion": {"gitVersion": "v1.9.2"}}'""")
    ended = checked(tmp_path)
    assert ended.returncode == 1
    assert "v1.9.2" in ended.stderr
    assert LEAST in ended.stderr


def test_an_overlay_that_cannot_be_rendered_is_named(tmp_path: Path) -> None:
    version = f"""echo '{{"clientVersion": {{"gitVersion": "v{LEAST}.0"}}}}'"""
    broken = 'case "$2" in */overlays/prod) echo "no such file" >&2; exit 1;; esac'
    program(tmp_path / "kubectl", f'case "$1" in version) {version};; kustomize) {broken};; esac')
    ended = checked(tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == "kustomize/overlays/prod: no such file\n"


def test_the_documents_name_the_same_version_and_continuous_integration_checks_it_first() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        assert f"kubectl ({LEAST} or newer" in (REPOSITORY / name).read_text(), name
    assert f"| kubectl | {LEAST}" in (REPOSITORY / "docs" / "operations.md").read_text()
    assert "\nmake check test\n" in (REPOSITORY / ".ci" / "run").read_text()
    assert "\ncheck: check-manifests setup " in (REPOSITORY / "Makefile").read_text()
