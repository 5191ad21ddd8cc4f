"""The policy as machine code, where it was compiled from this very source.

Owns the question whether what `make compile` made fits, and puts it in front of the sources
on the packages' paths. The modules are the same either way; compiled they take about half the
time. An edited source, another Python or `MESH_COMPILED=0` leaves all of them interpreted.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "compiled"
MANIFEST = "manifest.json"
SWITCH = "MESH_COMPILED"


def use(folder: Path = FOLDER) -> bool:
    """Import the compiled modules from now on; whether they fit. Call it before the modules are imported."""
    if os.environ.get(SWITCH, "1") == "0" or not fits(folder):
        return False
    packages = {source.parent.relative_to(folder) for source in folder.rglob("*.so")} - {Path()}
    for package in sorted(packages):
        found = importlib.import_module(".".join(package.parts))
        found.__path__.insert(0, str(folder / package))
    sys.path.append(str(folder))  # the library that all of them share
    return True


def is_used() -> bool:
    """Whether the policy runs compiled."""
    engine = sys.modules.get("gateway.policy.engine")
    return engine is not None and str(engine.__file__).endswith(".so")


def fits(folder: Path = FOLDER) -> bool:
    """Whether a folder has what was compiled from the sources of this checkout, for this Python."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        sources = {name: digest for name, digest in manifest.items() if name.endswith(".py")}
        return manifest["python"] == sys.version and all(
            digest_of(name) == digest for name, digest in sources.items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def digest_of(name: str) -> str:
    """SHA-256 of a source, named by its path in the project. Raises OSError."""
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
