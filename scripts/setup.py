"""Sets up this checkout: the virtual environment, llama.cpp's wheel, the embedded models.

`make setup` runs it with the system's Python; it uses the standard library only. What is slow
to make (the wheel, the converted model) is kept in `$MESH_CACHE_DIR` or
`~/.cache/inference-mesh`. A second run finds everything in place and does nothing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
CACHE = Path(os.environ.get("MESH_CACHE_DIR") or Path.home() / ".cache" / "inference-mesh")
STAMP = VENV / "setup-stamp"

HEARTBEAT_S = 10.0
NO_COMMON = "set(LLAMA_BUILD_COMMON OFF)\n"
"""llama-cpp-python forces the common library on; a project include with a normal variable beats it."""
BUILD_FLAGS = ("-DLLAVA_BUILD=OFF",)

STARTED = time.monotonic()


class SetupError(Exception):
    """A step failed; the message says what to do."""


def main() -> int:
    """Set everything up; 0, or 1 with a sentence on standard error."""
    if sys.version_info < (3, 11):
        print(f"setup: Python 3.11 or newer is needed, this is {platform.python_version()}", file=sys.stderr)
        return 1
    try:
        if _is_current():
            return 0
        _run_quietly(["bash", str(ROOT / "scripts" / "apt_packages.sh")], "compilers")
        _make_environment()
        wheel: list[Path] = []
        _in_parallel(lambda: wheel.append(_llama_wheel()), _install_packages, _embedded_models)
        _install_wheel(wheel[0])
        STAMP.write_text(_key())
        _say("everything is in place")
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def _key() -> str:
    """Changes when anything that setup installs changes."""
    digest = hashlib.sha256(platform.python_version().encode())
    for path in (*sorted(REQUIREMENTS.glob("*.txt")), ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def _is_current() -> bool:
    has_models = (CACHE / "models" / "minilm" / "model.onnx").exists()
    return STAMP.exists() and STAMP.read_text() == _key() and has_models


def _make_environment() -> None:
    if not PYTHON.exists():
        _say("making .venv")
        _run_quietly([sys.executable, "-m", "venv", str(VENV)], "python -m venv")


def _install_packages() -> None:
    """Every package but llama-cpp-python, pinned by hash, and this project itself."""
    _say("installing packages")
    _pip("install", "--require-hashes", "-r", str(REQUIREMENTS / "dev.txt"))
    _pip("install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    _say("packages installed")


def _embedded_models() -> None:
    """Convert MiniLM; the other embedded models are committed."""
    _say("making the embedded model minilm (fetches 80 MB once)")
    _run_quietly([str(PYTHON), "-m", "models.minilm"], "python -m models.minilm")
    _say("minilm is ready")


def _llama_wheel() -> Path:
    """The wheel of llama-cpp-python for this CPU, built unless the cache has it."""
    folder = CACHE / "wheels" / _wheel_key()
    found = sorted(folder.glob("llama_cpp_python-*.whl"))
    if found:
        return found[0]
    _say("building llama.cpp for this CPU (about 3 to 6 CPU-minutes, once)")
    building = CACHE / "wheels" / f"building-{os.getpid()}"
    building.mkdir(parents=True, exist_ok=True)
    try:
        _build_wheel(building)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        (building / "wheel").rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    _say("llama.cpp is built")
    return sorted(folder.glob("*.whl"))[0]


def _build_wheel(building: Path) -> None:
    """Build in an environment of its own, so that it runs beside the other installation."""
    environment = building / "venv"
    include = building / "no_common.cmake"
    include.write_text(NO_COMMON)
    _run_quietly([sys.executable, "-m", "venv", str(environment)], "python -m venv")
    python = str(environment / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q"]
    _run_quietly([*pip, "install", "--require-hashes", "-r", str(REQUIREMENTS / "build.txt")], "build tools")
    flags = (*BUILD_FLAGS, f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={include}")
    variables = {
        "CMAKE_ARGS": " ".join(flags),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    command = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--require-hashes"]
    command += ["-r", str(REQUIREMENTS / "llama.txt"), "-w", str(building / "wheel")]
    _run_quietly(command, "llama.cpp", variables)


def _wheel_key() -> str:
    """Version, flags and CPU: a wheel built for this CPU may not run on another."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    parts = [
        (REQUIREMENTS / "llama.txt").read_text(),
        *BUILD_FLAGS,
        NO_COMMON,
        platform.machine(),
        platform.libc_ver()[1],
        *cpu,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


def _install_wheel(wheel: Path) -> None:
    _say("installing llama.cpp")
    _pip("install", "--no-deps", "--force-reinstall", str(wheel))
    # The wheel carries a second copy of its libraries that nothing loads.
    for junk in VENV.glob("lib/python*/site-packages/lib"):
        shutil.rmtree(junk, ignore_errors=True)


def _pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    _run_quietly(command, f"pip {arguments[0]}")


def _in_parallel(beside: Callable[[], None], *steps: Callable[[], None]) -> None:
    """Run one step beside the others, which run in order. Raises the first SetupError."""
    errors: list[SetupError] = []

    def guarded() -> None:
        try:
            beside()
        except SetupError as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        for step in steps:
            step()
    finally:
        while thread.is_alive():
            thread.join(HEARTBEAT_S)
            if thread.is_alive():
                _say("still building llama.cpp")
    if errors:
        raise errors[0]


def _run_quietly(command: Sequence[str], name: str, variables: dict[str, str] | None = None) -> None:
    """Run a command; its output is shown only if it fails."""
    environment = {**os.environ, **(variables or {})}
    environment.pop("PYTHONPATH", None)
    try:
        result = subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise SetupError(f"{name}: {error}") from None
    if result.returncode != 0:
        output = (result.stdout + result.stderr)[-6000:]
        raise SetupError(f"{name} failed with exit code {result.returncode}:\n{output}")


def _say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
