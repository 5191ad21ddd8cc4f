"""Generates the stubs of proto/ into the packages; `--check` says whether they are current."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
PROTO = ROOT / "proto"
PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def main() -> int:
    """Generate, or compare; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if a stub is not current"
    )
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = differences(Path(folder), ROOT)
    for name in stale:
        print(f"{name}: not current; run make generate", file=sys.stderr)
    return 1 if stale else 0


def generate(target: Path) -> None:
    """Write all stubs below a folder. Exits if protoc fails."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for source in sorted(PROTO.rglob("*.proto")):
        name = source.relative_to(PROTO).as_posix()
        outputs = [f"--python_out={target}", f"--pyi_out={target}"]
        if "\nservice " in source.read_text():
            outputs += [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"]
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        if protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *outputs, name]) != 0:
            sys.exit(f"protoc failed on {name}")


def differences(made: Path, kept: Path) -> list[str]:
    """Names of stubs that differ, are missing or are too many."""
    fresh = {path.relative_to(made).as_posix(): path.read_text() for path in stubs(made)}
    old = {path.relative_to(kept).as_posix(): path.read_text() for path in stubs(kept / "inference_mesh")}
    return sorted(name for name in fresh.keys() | old.keys() if fresh.get(name) != old.get(name))


def stubs(folder: Path) -> list[Path]:
    """Generated files below a folder."""
    return sorted(path for pattern in PATTERNS for path in folder.rglob(pattern))


if __name__ == "__main__":
    sys.exit(main())
