"""Tries a GGUF file in a process that may die of it, before this one loads it.

Owns starting that process, what its end means, and the memory of verdicts. Damage that the header
does not show makes llama.cpp abort, and that would end the worker, which could not say why. Blocks;
runs in a thread.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from inference_mesh import telemetry
from inference_mesh.errors import ModelNotReadyError
from workers.check_cache import CheckCache
from workers.file_digest import file_digest
from workers.llama.gguf_check import GgufSummary
from workers.llama.model_task import LlamaTask
from workers.llama.settings import ProbeTerms

log = telemetry.get_logger(__name__)

PROBE_VERSION = 1
"""Counted up when the probe looks at more."""

SOUND = "sound"
ADDRESS_BYTES, ADDRESS_PER_BYTE = 4 << 30, 3
"""Of the process: Python and llama.cpp; and the file mapped, copied for the CPU's kernels, and spare."""

LEAST_S, BYTES_PER_S = 60.0, 50 << 20
"""The process may take so long, plus what a slow disk needs for the file."""

FAULTS_OF_THE_FILE = {signal.SIGABRT, signal.SIGSEGV, signal.SIGFPE}
"""Other signals tell of the machine: too little memory, a CPU that the build is not for."""

_CAUSE = re.compile(r"GGML_ASSERT\(.*|GGML_ABORT.*|what\(\): *(.*)|fatal error.*", re.IGNORECASE)
_MAX_REASON = 300


def try_file(path: Path, task: LlamaTask, summary: GgufSummary, terms: ProbeTerms) -> bool:
    """True if a process loaded the file and computed with it; False if the probe is off.

    Raises ModelNotReadyError with the reason if that process refused it or died of it.
    """
    if not terms.is_on:
        return False
    cache = CheckCache(terms.cache_folder)
    key = f"verdict-{file_digest(path, cache)}-{task}-{_llama_version()}-{PROBE_VERSION}"
    known = cache.get(key)
    if known is None:
        known = _probed(path, task, summary.size_bytes)
        cache.put(key, known)
    if known != SOUND:
        raise ModelNotReadyError(f"{path.name}: {known}")
    return True


def _probed(path: Path, task: LlamaTask, size_bytes: int) -> str:
    """The verdict: SOUND, or a lasting fault of the file. Raises ModelNotReadyError for any other."""
    started = time.monotonic()
    limit_s = LEAST_S + size_bytes / BYTES_PER_S
    address_bytes = ADDRESS_BYTES + ADDRESS_PER_BYTE * size_bytes
    # A folder of the user's that is named `workers` must not come before ours.
    safe = ["-P"] if sys.flags.safe_path else []
    module = [sys.executable, *safe, "-m", "workers.llama.probe_child"]
    log.info("probing", file=path.name, bytes=size_bytes, limit_s=round(limit_s))
    try:
        ended = subprocess.run(
            [*module, str(path), task, str(address_bytes), str(os.getpid())],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelNotReadyError(f"{path.name}: the probe did not end within {limit_s:.0f} s") from None
    except OSError as error:
        raise ModelNotReadyError(f"{path.name}: the probe cannot start: {error.strerror}") from error
    log.info("probed", file=path.name, code=ended.returncode, seconds=round(time.monotonic() - started, 2))
    return _verdict(path.name, ended.returncode, ended.stdout, ended.stderr)


def _verdict(name: str, code: int, output: bytes, errors: bytes) -> str:
    if code < 0:
        reason = f"llama.cpp aborted while loading: {_cause(errors) or signal.Signals(-code).name}"
        if signal.Signals(-code) in FAULTS_OF_THE_FILE:
            return reason
        raise ModelNotReadyError(f"{name}: {reason}")
    try:
        reason = json.loads(output.splitlines()[-1])["reason"]
    except (ValueError, IndexError, KeyError, TypeError):
        said = errors[-_MAX_REASON:].decode(errors="replace")
        log.error("the probe failed", file=name, code=code, said=said)  # noqa: TRY400
        raise ModelNotReadyError(f"{name}: the probe failed with code {code}; the log says why") from None
    if reason:
        raise ModelNotReadyError(f"{name}: llama.cpp cannot load it: {_short(reason)}")
    return SOUND


def _cause(errors: bytes) -> str:
    """What the library said of its end, without the paths of the machine that it was built on."""
    found = _CAUSE.findall(text := errors.decode(errors="replace"))
    match = _CAUSE.search(text)
    return _short(found[0] or match.group()) if match else ""


def _short(reason: str) -> str:
    return re.sub(r"\S*/(?=\S)", "", " ".join(reason.split()))[:_MAX_REASON]


def _environment() -> dict[str, str]:
    """This process's, without its settings and credentials, and without a GPU."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    own = {"CUDA_VISIBLE_DEVICES": "", "GGML_NO_BACKTRACE": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**inherited, **own}


def _llama_version() -> str:
    return importlib.metadata.version("llama-cpp-python")
