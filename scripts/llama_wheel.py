"""The wheel of llama-cpp-python for this machine's CPU: built once, kept outside the repository.

The package index has only its sources. A build takes about 370 CPU-seconds and fits the CPU
that it was made on, so the cache is keyed by version, flags and CPU.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.progress import Progress

NO_COMMON = "set(LLAMA_BUILD_COMMON OFF)\n"
"""llama-cpp-python forces llama.cpp's common library on; a variable set in a project include wins."""

CMAKE_FLAGS = ("-DLLAVA_BUILD=OFF",)
"""Without the library for images, which nothing here calls."""

CUDA_FLAGS = ("-DGGML_CUDA=ON", "-DGGML_CUDA_NO_VMM=ON")
"""For NVIDIA GPUs. Without CUDA's virtual memory the libraries need nothing of the driver when they link."""

EXCLUDED = "lib/**"
"""CMake's package files and a second copy of the libraries, which would land beside all other packages."""

STEP = re.compile(rb"\[(\d+)/(\d+)\]")
"""What ninja prints before each file."""


def wheel_key(requirements: Path, flags: Sequence[str] = ()) -> str:
    """Changes when a wheel that was built earlier, or elsewhere, cannot be used here and now.

    flags: CMake's, beside those of every build.
    """
    parts = [(requirements / "llama.txt").read_text(), *CMAKE_FLAGS, *flags, NO_COMMON, EXCLUDED]
    parts += [platform.machine(), *platform.libc_ver(), *_cpu()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def cached_wheel(folder: Path) -> Path | None:
    """The wheel in a folder of the cache, if it was built."""
    return next(folder.glob("llama_cpp_python-*.whl"), None)


def build_wheel(requirements: Path, folder: Path, progress: Progress, flags: Sequence[str] = ()) -> None:
    """Compile the wheel and put it into `folder` at once. Raises SetupError."""
    _remove_left_over(folder.parent)
    building = folder.with_name(f"{folder.name}.{os.getpid()}")
    building.mkdir(parents=True)
    try:
        _compile(requirements, building, progress, flags)
        shutil.rmtree(folder, ignore_errors=True)
        (building / "wheel").rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _compile(requirements: Path, building: Path, progress: Progress, flags: Sequence[str]) -> None:
    """In an environment of its own, so that nothing else waits for it."""
    environment = building / "venv"
    include = building / "no_common.cmake"
    include.write_text(NO_COMMON)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    progress.run("llama.cpp: environment", [sys.executable, "-m", "venv", str(environment)])
    tools = [*pip, "install", "--require-hashes", "--requirement", str(requirements / "build.txt")]
    progress.run("llama.cpp: cmake and ninja", tools)
    # No cache: pip's own is not keyed by flags, and would hand out a wheel that was built with others.
    command = [
        *pip,
        "wheel",
        "--verbose",
        "--no-cache-dir",
        "--no-deps",
        "--no-build-isolation",
        "--require-hashes",
    ]
    command += ["--requirement", str(requirements / "llama.txt"), "--wheel-dir", str(building / "wheel")]
    variables = {
        "CMAKE_ARGS": " ".join((*CMAKE_FLAGS, *flags, f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={include}")),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(_cores()),
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "SKBUILD_WHEEL_EXCLUDE": EXCLUDED,
    }
    progress.run("llama.cpp: compiling", command, variables, describe=_files_compiled)


def _remove_left_over(wheels: Path) -> None:
    """What builds left that were killed: their folders end in the id of a process that is no more."""
    for folder in wheels.glob("*.*"):
        if not Path("/proc", folder.suffix[1:]).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _files_compiled(output: bytes) -> str:
    found = STEP.findall(output)
    return f"{int(found[-1][0])} of {int(found[-1][1])} files" if found else "fetching the sources"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> list[str]:
    """Model and instruction sets: the compiler uses all that this CPU has."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    return sorted(
        {line for line in lines if line.startswith(("model name", "flags", "Features"))} or {*lines[:1]}
    )
