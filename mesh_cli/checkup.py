"""The checks of `mesh doctor`. Each looks at one thing and says how to mend it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum

from mesh_cli.embedded import embedded_models
from mesh_cli.ports import is_free

DISTRIBUTION = "inference-mesh"
LEAST_PYTHON = (3, 11)
LEAST_MEMORY_GIB = 2.0
IMPORT_LIMIT_S = 60.0

# Packages whose lack each extra cures.
EXTRAS: dict[str, tuple[str, ...]] = {
    "": ("grpcio", "protobuf", "pydantic", "pydantic-settings", "orjson", "PyYAML", "numpy", "typer", "rich"),
    "gateway": ("grpcio-health-checking", "grpcio-reflection"),
    "rest-bridge": ("starlette", "uvicorn"),
    "worker-llama": ("llama_cpp_python",),
    "worker-onnx": ("onnxruntime", "onnx", "tokenizers"),
}
DEFAULT_PORTS = ((50051, "gateway gRPC", "--grpc-port"), (8080, "REST bridge", "--http-port"))


class Verdict(StrEnum):
    """What a check means for running a mesh."""

    OK = "ok"
    NOTE = "note"
    """Works without it, with a limit."""
    MISSING = "missing"
    """Does not work without it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. cure: how to mend it; empty if it is good."""

    name: str
    verdict: Verdict
    found: str
    cure: str = ""

    def document(self) -> dict[str, str]:
        """For scripts."""
        return {"name": self.name, "verdict": self.verdict.value, "found": self.found, "cure": self.cure}


def check_machine() -> list[Check]:
    """Everything, in the order in which it should be mended."""
    return [
        check_python(sys.version_info[:3]),
        *_check_packages(),
        check_llama_import(),
        *_check_models(),
        *_check_ports(),
        *_check_build_tools(),
        check_cores(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ),
        check_memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        _check_supervision(),
    ]


def check_python(version: tuple[int, ...]) -> Check:
    """The interpreter's version."""
    found = ".".join(map(str, version))
    if version[:2] >= LEAST_PYTHON:
        return Check("python", Verdict.OK, found)
    return Check("python", Verdict.MISSING, found, "install Python 3.11 or newer")


def check_llama_import() -> Check:
    """Whether llama.cpp's library loads: tried in a process of its own, because it may abort."""
    command = [sys.executable, "-c", "import llama_cpp; print(llama_cpp.__version__)"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return Check("llama.cpp", Verdict.NOTE, "does not load within a minute", _extra_cure("worker-llama"))
    if ended.returncode == 0:
        return Check("llama.cpp", Verdict.OK, f"loads, version {ended.stdout.strip()}")
    why = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    return Check("llama.cpp", Verdict.NOTE, f"does not load: {why}", _extra_cure("worker-llama"))


def check_cores(cores: int) -> Check:
    """How many cores may be used."""
    if cores > 1:
        return Check("cores", Verdict.OK, str(cores))
    return Check("cores", Verdict.NOTE, "1", "works, but models and gateway share one core")


def check_memory(size_gib: float) -> Check:
    """How much memory the machine has."""
    found = f"{size_gib:.1f} GiB"
    if size_gib >= LEAST_MEMORY_GIB:
        return Check("memory", Verdict.OK, found)
    return Check("memory", Verdict.NOTE, found, f"the embedded models need about {LEAST_MEMORY_GIB:g} GiB")


def _check_packages() -> Iterator[Check]:
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if not _is_installed(package)]
        name = f"packages [{extra}]" if extra else "packages"
        if not missing:
            yield Check(name, Verdict.OK, f"{len(packages)} of {len(packages)}")
            continue
        is_worker = extra.startswith("worker-")
        verdict = Verdict.NOTE if is_worker else Verdict.MISSING
        yield Check(name, verdict, f"without {', '.join(missing)}", _extra_cure(extra))


def _check_models() -> Iterator[Check]:
    for model in embedded_models().values():
        if model.is_present():
            yield Check(f"model {model.name}", Verdict.OK, str(model.path))
        else:
            yield Check(f"model {model.name}", Verdict.NOTE, "is not there", model.cure)


def _check_ports() -> Iterator[Check]:
    for port, what, flag in DEFAULT_PORTS:
        if is_free(port):
            yield Check(f"port {port}", Verdict.OK, f"free ({what})")
        else:
            yield Check(f"port {port}", Verdict.NOTE, f"taken ({what})", f"choose another: mesh up {flag} N")


def _check_build_tools() -> Iterator[Check]:
    """Only needed where llama_cpp_python has no wheel."""
    for name, tools in (("C compiler", ("gcc", "clang", "cc")), ("cmake", ("cmake",))):
        found = next((path for tool in tools if (path := shutil.which(tool))), None)
        cure = f"only to build llama.cpp from source: install {tools[0]}"
        yield Check(name, Verdict.OK, found) if found else Check(name, Verdict.NOTE, "is not there", cure)


def _check_supervision() -> Check:
    if platform.system() == "Linux":
        return Check("supervision", Verdict.OK, "the kernel ends every process with its supervisor")
    return Check(
        "supervision", Verdict.NOTE, platform.system(), "after a crash of `mesh up`, run `mesh down`"
    )


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _extra_cure(extra: str) -> str:
    return f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"
