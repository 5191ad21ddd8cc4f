"""The Python client needs the packages of a plain install alone, and none of a service's."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
BLOCKED = """
import importlib.metadata, sys
allowed = set(sys.argv[1].split(","))
blocked = {
    package
    for package, names in importlib.metadata.packages_distributions().items()
    if not {name.lower().replace("_", "-") for name in names} & allowed
}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is not there in a plain install")
sys.meta_path.insert(0, Blocker())
import inference_mesh.client
"""


def needed_by(lines: list[str]) -> set[str]:
    """The distributions of these requirements and all that they need."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += [Requirement(line) for line in requires(name) or ()]
    return found


def test_the_client_is_imported_with_the_packages_of_a_plain_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = needed_by(project["dependencies"]) | {"inference-mesh"}
    command = [sys.executable, "-c", BLOCKED, ",".join(sorted(allowed))]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
