"""llama-server and llama-bench of the llama.cpp that the wheel carries: built once, kept in the cache.

The sources are those of the pinned llama-cpp-python, whose wheel the worker uses. ggml and llama
get the wheel's flags; the programs around them are compiled with -O1, which halves the time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

from inference_mesh.cache import cache_dir
from scripts.llama_wheel import STEP, wheel_key
from scripts.progress import Progress
from tests.support.processes import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"
PROGRAMS = ("llama-server", "llama-bench")

FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)

OPTIMISATION = """\
set(CMAKE_C_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELEASE "-O1 -DNDEBUG")
function(optimise_engine)
    foreach(target llama ggml ggml-base ggml-cpu)
        target_compile_options(${target} PRIVATE -O3)
    endforeach()
endfunction()
cmake_language(DEFER CALL optimise_engine)
"""
"""Read by CMake at llama.cpp's `project()`; of two -O the compiler takes the later, a target's own."""


def programs() -> Path:
    """The folder of the programs, built if the cache lacks them (about 13 CPU-minutes)."""
    folder = cache_dir() / "llama-programs" / _key()
    if all((folder / "bin" / program).exists() for program in PROGRAMS):
        return folder / "bin"
    _remove_left_over(folder.parent)
    building = folder.with_name(f"{folder.name}.{os.getpid()}")
    building.mkdir(parents=True)
    try:
        with _heartbeat(Progress(building)) as progress:
            _compile(building, progress)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (building / "made" / "bin").rename(folder / "bin")
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder / "bin"


def _key() -> str:
    parts = [wheel_key(REQUIREMENTS), *FLAGS, OPTIMISATION]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _compile(building: Path, progress: Progress) -> None:
    tools = building / "venv" / "bin"
    pip = [str(tools / "python"), "-m", "pip", "--disable-pip-version-check"]
    progress.run("llama-server: environment", [sys.executable, "-m", "venv", str(tools.parent)])
    hashed = ["--require-hashes", "--requirement"]
    progress.run("llama-server: cmake and ninja", [*pip, "install", *hashed, str(REQUIREMENTS / "build.txt")])
    fetch = [*pip, "download", "--no-binary", ":all:", "--no-deps", "--no-build-isolation", *hashed]
    fetch += [str(REQUIREMENTS / "llama.txt"), "--dest", str(building)]
    progress.run("llama-server: sources", fetch)
    with tarfile.open(next(building.glob("*.tar.gz"))) as archive:
        archive.extractall(building, filter="data")
    sources = next(building.glob("*/vendor/llama.cpp"))
    (building / "optimisation.cmake").write_text(OPTIMISATION)
    configure = [
        str(tools / "cmake"),
        "-G",
        "Ninja",
        "-S",
        str(sources),
        "-B",
        str(building / "made"),
        *FLAGS,
    ]
    configure += [f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}"]
    configure += [f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={building / 'optimisation.cmake'}"]
    # The libraries lie beside the programs, wherever the folder is moved to.
    configure += ["-DCMAKE_BUILD_RPATH=$ORIGIN", "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON"]
    progress.run("llama-server: configuring", configure)
    make = ["nice", str(tools / "cmake"), "--build", str(building / "made"), "--target", *PROGRAMS]
    progress.run("llama-server: compiling", make, describe=_files_compiled)


def _files_compiled(output: bytes) -> str:
    found = STEP.findall(output)
    return f"{int(found[-1][0])} of {int(found[-1][1])} files" if found else ""


def _remove_left_over(folder: Path) -> None:
    """What builds left that were killed: their folders end in the id of a process that is no more."""
    for left_over in folder.glob("*.*"):
        if not Path("/proc", left_over.suffix[1:]).exists():
            shutil.rmtree(left_over, ignore_errors=True)


@contextlib.contextmanager
def _heartbeat(progress: Progress) -> Iterator[Progress]:
    """Says how far the work is, and ends its commands when the block is left."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(1.0):
            progress.beat()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        is_over.set()
        progress.end_all()
        thread.join()


if __name__ == "__main__":
    print(programs())
