"""The graph that is loaded in place of a model's own: without padding and optimised, made once.

Owns which models are rewritten, the proof that the rewritten graph gives the same answers, and the
folder that keeps it: one file for each content of a model, release of ONNX Runtime and kind of
processor. Where nothing can be kept it is made at each start; where anything is wrong with it the
model's own file is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import secrets
from pathlib import Path

import onnx
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]

from inference_mesh import telemetry
from inference_mesh.cache import cache_dir
from inference_mesh.errors import ModelNotReadyError
from workers.check_cache import CheckCache
from workers.file_digest import file_digest
from workers.onnx import graph_probe, unpadding

log = telemetry.get_logger(__name__)

FOLDER = "onnx-graphs"
VERSION = "1"
"""Counts up when the rewriting changes."""
KEPT_AS_IT_IS = "as it is"
MAX_BYTES = 1 << 30
"""Larger models are loaded as they are: a rewritten one is a message of protobuf, at most 2 GiB."""
MAX_FILES = 16


@dataclasses.dataclass(frozen=True)
class PreparedGraph:
    """source: the file or the bytes to load. is_unpadded: rewritten, and optimised already."""

    source: Path | bytes
    is_unpadded: bool


class GraphStore:
    """Prepares graphs, and keeps them in a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: None = below the user's cache."""
        self._folder = folder or _users_folder()
        self._checks = CheckCache(self._folder / "checks")

    def prepared(self, graph: Path, provider: str) -> PreparedGraph:
        """The graph to load for a text model's file. Blocks, for seconds when it is made."""
        own = PreparedGraph(graph, is_unpadded=False)
        if provider != "cpu" or graph.stat().st_size > MAX_BYTES:
            return own
        key = f"graph-{_key(file_digest(graph, self._checks), provider)}"
        known = self._checks.get(key)
        if known == KEPT_AS_IT_IS:
            return own
        kept = self._folder / f"{key}.onnx"
        if known is not None and self._is_whole(kept, known):
            return PreparedGraph(kept, is_unpadded=True)
        return self._make(graph, key, kept) or own

    def discard(self, prepared: PreparedGraph) -> None:
        """Forget a graph that could not be loaded."""
        if isinstance(prepared.source, Path) and prepared.source.parent == self._folder:
            with contextlib.suppress(OSError):
                prepared.source.unlink()

    def _is_whole(self, kept: Path, digest: str) -> bool:
        try:
            is_whole = file_digest(kept, self._checks) == digest
        except ModelNotReadyError:
            return False
        if not is_whole:
            log.warning("a kept graph is damaged and is made again", file=kept.name)
            with contextlib.suppress(OSError):
                kept.unlink()
        return is_whole

    def _make(self, graph: Path, key: str, kept: Path) -> PreparedGraph | None:
        """The rewritten graph, kept if possible; None if the model stays as it is."""
        rewritten = _rewritten(graph)
        if rewritten is None:
            self._checks.put(key, KEPT_AS_IT_IS)
            return None
        try:
            self._keep(rewritten, key, kept)
        except OSError as error:
            log.info("a prepared graph is not kept", folder=str(self._folder), reason=error.strerror)
            return PreparedGraph(rewritten, is_unpadded=True)
        return PreparedGraph(kept, is_unpadded=True)

    def _keep(self, rewritten: bytes, key: str, kept: Path) -> None:
        """Write the file whole or not at all, whoever else writes it now; delete the oldest."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = kept.with_name(f".{secrets.token_hex(8)}")
        try:
            temporary.write_bytes(rewritten)
            os.replace(temporary, kept)
        finally:
            temporary.unlink(missing_ok=True)
        self._checks.put(key, hashlib.sha256(rewritten).hexdigest())
        files = sorted(self._folder.glob("*.onnx"), key=lambda file: file.stat().st_mtime)
        for file in files[:-MAX_FILES]:
            file.unlink(missing_ok=True)


def _rewritten(graph: Path) -> bytes | None:
    """The model without padding, proven on made-up texts; None if it has to stay as it is."""
    model = onnx.load(str(graph), load_external_data=False)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        return None
    try:
        observed = graph_probe.observe(model)
        packed = unpadding.without_padding(model, observed.shapes)
        if packed is None:
            return None
        rewritten = bytes(packed.SerializeToString())
        session = ort.InferenceSession(rewritten, _quiet_options(), enable_fallback=0)
        is_proven = graph_probe.agree(graph_probe.answers(session, list(observed.outputs)), observed)
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no other base class
        log.info("a graph is not rewritten", file=graph.name, reason=type(error).__name__)
        return None
    log.info("padding removed inside the graph", file=graph.name, is_proven=is_proven)
    return rewritten if is_proven else None


def _quiet_options() -> ort.SessionOptions:
    options = graph_probe.plain_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    return options


def _key(digest: str, provider: str) -> str:
    """What a prepared graph depends on."""
    parts = (digest, VERSION, ort.__version__, provider, platform.machine(), _processor_features())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _processor_features() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _users_folder() -> Path:
    try:
        return cache_dir() / FOLDER
    except RuntimeError:  # a user without a home: nothing can be made below a device
        return Path(os.devnull) / FOLDER
