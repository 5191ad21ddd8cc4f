"""Compiles the pure policy with mypyc, whose input is what `make check` proves anyway: typed Python.

`python -m scripts.compile_policy` writes extension modules and a manifest of the sources that
they were made from to build/compiled; `gateway.compiled` uses them where the sources are still
the same. Takes about half a minute and needs gcc and Python's headers; does nothing if all is
there. Source: mypyc.readthedocs.io.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Distribution
from setuptools.errors import BaseError

from gateway.compiled import FOLDER, MANIFEST, ROOT, digest_of

OPTIMISATION = "3"
OTHERS = (
    "gateway/call.py",
    "gateway/canary/live_canary.py",
    "gateway/forwarded_metadata.py",
    "gateway/front/settlement.py",
    "gateway/identity/caller_cache.py",
    "gateway/identity/identities.py",
    "gateway/limits/grant.py",
    "gateway/usage/metrics.py",
    "gateway/usage/record.py",
    "gateway/usage/usage_log.py",
    "inference_mesh/limit_standing.py",
    "inference_mesh/metadata.py",
)
"""Pure modules beside the policy that every call passes through."""


def main() -> int:
    """Compile if need be; 0, or 1 with what is missing on standard error."""
    wanted = manifest()
    if _current() == wanted:
        return 0
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        print("compile: Python.h is missing (Debian keeps it in python3-dev)", file=sys.stderr)
        return 1
    building = FOLDER.with_name(f"{FOLDER.name}.{os.getpid()}")
    try:
        _compile(building)
        (building / "lib" / MANIFEST).write_text(json.dumps(wanted, indent=1))
        shutil.rmtree(FOLDER, ignore_errors=True)
        (building / "lib").rename(FOLDER)
    except BaseError as error:
        print(f"compile: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return 0


def manifest() -> dict[str, str]:
    """What is compiled and by what: the digest of each source, and the versions of the tools."""
    digests = {name: digest_of(name) for name in _sources()}
    return {"python": sys.version, "mypy": version("mypy"), **digests}


def _sources() -> Iterator[str]:
    for path in sorted((ROOT / "gateway" / "policy").rglob("*.py")):
        if path.name != "__init__.py":
            yield path.relative_to(ROOT).as_posix()
    yield from OTHERS


def _current() -> object:
    try:
        return json.loads((FOLDER / MANIFEST).read_text())
    except (OSError, ValueError):
        return None


def _compile(building: Path) -> None:
    os.chdir(ROOT)
    modules = mypycify(
        ["--strict", "--follow-imports=silent", *_sources()],
        opt_level=OPTIMISATION,
        target_dir=str(building / "c"),
    )
    distribution = Distribution({"name": "policy", "packages": [], "ext_modules": modules})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(building / "lib"), str(building / "o")
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    sys.exit(main())
