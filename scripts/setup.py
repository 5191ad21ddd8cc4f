"""Sets up this checkout: the virtual environment, llama.cpp's wheel, the embedded models.

`make setup` runs it with the system's Python; it uses the standard library only. What is slow
to make (the wheel, the converted model) is kept in `$MESH_CACHE_DIR` or
`~/.cache/inference-mesh`. Only steps whose input changed run again: with nothing to do it
takes a fraction of a second.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from scripts.llama_wheel import build_wheel, cached_wheel, wheel_key
from scripts.progress import Progress, SetupError

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
CACHE = Path(os.environ.get("MESH_CACHE_DIR") or Path.home() / ".cache" / "inference-mesh").resolve()
MINILM = CACHE / "models" / "minilm" / "model.onnx"
STAMPS = VENV / "setup.json"

LEAST_PYTHON = (3, 11)
LOOK_S = 1.0
COMPILERS = ("gcc", "g++")
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


class Wheel(threading.Thread):
    """The wheel of llama.cpp, made beside all other steps if the cache has none."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(name="llama wheel", daemon=True)
        self.folder = CACHE / "wheels" / wheel_key(REQUIREMENTS)
        self.error: Exception | None = None
        self._progress = progress

    def run(self) -> None:
        """Build it; what went wrong is in `error`, and ends the other steps too."""
        try:
            if cached_wheel(self.folder) is None:
                build_wheel(REQUIREMENTS, self.folder, self._progress)
                self._progress.say(f"llama.cpp: built, kept in {self.folder}")
        except (SetupError, OSError) as error:
            self.error = error
            self._progress.end_all()


def main() -> int:
    """Set everything up; 0, or 1 with what failed on standard error."""
    wanted = wanted_stamps()
    if is_current(wanted):
        return 0
    missing = missing_tools()
    if missing:
        print(f"setup: {missing}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    progress = Progress(ROOT)
    threading.Thread(target=_heartbeat, args=(progress,), daemon=True).start()
    try:
        _set_up(progress, wanted)
    except (SetupError, OSError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    progress.say("everything is in place")
    return 0


def wanted_stamps() -> dict[str, str]:
    """For each step the hash of what it is made from."""
    return {
        "packages": _hash(REQUIREMENTS / "dev.txt"),
        "project": _hash(ROOT / "pyproject.toml") + str(ROOT),
        "llama": wheel_key(REQUIREMENTS),
        "minilm": _hash(*sorted((ROOT / "models" / "minilm").glob("*.*"))),
    }


def is_current(wanted: dict[str, str]) -> bool:
    """True if there is nothing to do."""
    return PYTHON.exists() and MINILM.is_file() and _stamps() == wanted


def missing_tools() -> str:
    """A sentence on what this machine lacks; empty if nothing."""
    if sys.version_info < LEAST_PYTHON:
        have = ".".join(str(part) for part in sys.version_info[:2])
        return f"Python 3.11 or newer is needed, this is {have}; name one: make PYTHON=python3.11 setup"
    missing = []
    if not PYTHON.exists() and importlib.util.find_spec("ensurepip") is None:
        missing.append("Python's ensurepip, to make .venv (Debian keeps it in python3-venv)")
    if cached_wheel(CACHE / "wheels" / wheel_key(REQUIREMENTS)) is None:
        missing += [f"{tool}, to compile llama.cpp" for tool in COMPILERS if shutil.which(tool) is None]
    return f"this machine lacks {'; '.join(missing)}; run scripts/apt_packages.sh" if missing else ""


def _set_up(progress: Progress, wanted: dict[str, str]) -> None:
    wheel = Wheel(progress)
    if _stamps().get("llama") == wanted["llama"]:
        _install(progress, wanted)
        return
    wheel.start()
    try:
        _install(progress, wanted)
        wheel.join()
        if wheel.error:
            raise wheel.error
        _pip(progress, "llama.cpp", "--no-deps", "--force-reinstall", str(cached_wheel(wheel.folder)))
        _stamp("llama", wanted)
    except SetupError as error:
        raise wheel.error or error from None
    finally:
        progress.end_all()
        wheel.join()


def _install(progress: Progress, wanted: dict[str, str]) -> None:
    """All but llama.cpp."""
    if not PYTHON.exists():
        progress.run("environment .venv", [sys.executable, "-m", "venv", str(VENV)])
    done = _stamps()
    if done.get("packages") != wanted["packages"]:
        _pip(progress, "packages", "--require-hashes", "--requirement", str(REQUIREMENTS / "dev.txt"))
    _stamp("packages", wanted)
    if done.get("project") != wanted["project"]:
        _pip(progress, "this project", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    _stamp("project", wanted)
    if done.get("minilm") != wanted["minilm"] or not MINILM.is_file():
        progress.run("model minilm: fetching and converting", [str(PYTHON), "-m", "models.minilm"])
    _stamp("minilm", wanted)


def _pip(progress: Progress, name: str, *arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", *arguments]
    progress.run(f"installing {name}", command)


def _heartbeat(progress: Progress) -> None:
    pause = threading.Event()
    while not pause.wait(LOOK_S):
        progress.beat()


def _stamps() -> dict[str, str]:
    try:
        stamps: dict[str, str] = json.loads(STAMPS.read_text())
    except (OSError, ValueError):
        return {}
    return stamps


def _stamp(step: str, wanted: dict[str, str]) -> None:
    STAMPS.write_text(json.dumps({**_stamps(), step: wanted[step]}))


def _hash(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
