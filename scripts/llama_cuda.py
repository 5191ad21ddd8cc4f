"""Puts llama.cpp with CUDA into .venv: `make llama-cuda`.

Builds the wheel once for this machine's GPU and keeps it where `make setup` keeps the one for the
CPU. `make setup` leaves it installed until llama.cpp's version changes. Standard library only.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence

from scripts.llama_wheel import CUDA_FLAGS, build_wheel, cached_wheel, wheel_key
from scripts.progress import Progress, SetupError
from scripts.setup import CACHE, PYTHON, REQUIREMENTS, ROOT

ARCHITECTURES = re.compile(r"native|all|all-major|\d{2,3}a?(;\d{2,3}a?)*")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build and install; 0, or 1 with what failed on standard error."""
    options = _parser().parse_args(arguments)
    if missing := missing_tool():
        print(f"llama-cuda: {missing}", file=sys.stderr)
        return 1
    flags = cuda_flags(options.architectures)
    folder = CACHE / "wheels" / wheel_key(REQUIREMENTS, flags)
    progress = Progress(ROOT)
    try:
        if cached_wheel(folder) is None:
            build_wheel(REQUIREMENTS, folder, progress, flags)
        install = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
        command = [*install, "--force-reinstall", str(cached_wheel(folder))]
        progress.run("installing llama.cpp with CUDA", command)
    except (SetupError, OSError) as error:
        print(f"llama-cuda: {error}", file=sys.stderr)
        return 1
    finally:
        progress.end_all()
    return 0


def cuda_flags(architectures: str) -> tuple[str, ...]:
    """CMake's flags of the build. architectures: as CMAKE_CUDA_ARCHITECTURES takes them."""
    return (*CUDA_FLAGS, f"-DCMAKE_CUDA_ARCHITECTURES={architectures}")


def missing_tool() -> str:
    """A sentence on what this machine lacks; empty if nothing."""
    if shutil.which("nvcc") is None:
        return "CUDA's compiler nvcc is not on PATH; install the CUDA toolkit, or build the GPU image instead"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.llama_cuda", description=__doc__)
    parser.add_argument(
        "--architectures",
        type=_architectures,
        default="native",
        help="GPUs to build for, e.g. 90 or 86;90; native = those of this machine [%(default)s]",
    )
    return parser


def _architectures(word: str) -> str:
    if ARCHITECTURES.fullmatch(word) is None:
        raise argparse.ArgumentTypeError(f"{word!r} is not native, all or numbers such as 86;90")
    return word


if __name__ == "__main__":
    sys.exit(main())
