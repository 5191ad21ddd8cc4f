"""ONNX Runtime sessions: made with the settings that serve well, run, and stopped.

Owns all that touches onnxruntime, and what its exceptions mean. Does not own threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from inference_mesh import telemetry
from inference_mesh.errors import InternalError, InvalidInputError, MeshError, ModelNotReadyError
from workers.onnx.settings import Arena, OnnxSettings, Provider
from workers.onnx.signature import DATATYPE_OF_ONNX, Signature, TensorInfo

Array: TypeAlias = NDArray[Any]
Feeds: TypeAlias = Mapping[str, Array]

PROVIDERS: Mapping[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
ARENAS: Mapping[Arena, str] = {"power-of-two": "kNextPowerOfTwo", "as-requested": "kSameAsRequested"}
SEVERITY_FATAL = 4


class StopSwitch:
    """Ends a run before its time, from another thread."""

    def __init__(self) -> None:
        self.options = ort.RunOptions()

    def stop(self) -> None:
        """The run ends at its next operator, or at once if it has not begun."""
        self.options.terminate = True


class Session:
    """A loaded graph; `run` may be called from any thread."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def run(self, outputs: Sequence[str], feeds: Feeds, switch: StopSwitch | None = None) -> list[Array]:
        """The outputs, in the order asked for. Raises InvalidInputError or InternalError."""
        try:
            results = self._session.run(list(outputs), dict(feeds), switch.options if switch else None)
        except Exception as error:  # onnxruntime's exceptions share no other base class
            raise _run_error(error) from error
        return [np.asarray(result) for result in results]

    def signature(self) -> Signature:
        """What the graph takes and gives. Raises ModelNotReadyError for an input of no datatype."""
        inputs = {node.name: _tensor_info(node) for node in self._session.get_inputs()}
        outputs = {
            node.name: _tensor_info(node)
            for node in self._session.get_outputs()
            if node.type in DATATYPE_OF_ONNX
        }
        if not outputs:
            raise ModelNotReadyError("the model has no output that is a tensor of a known datatype")
        return Signature(inputs, outputs)


def open_session(graph: Path, settings: OnnxSettings, source: Path | bytes | None = None) -> Session:
    """A session of the graph; ready to run. Raises ModelNotReadyError.

    source: what is loaded in its place, a file or its content; None = the graph's own file.
    """
    provider = PROVIDERS[settings.provider]
    if provider not in ort.get_available_providers():
        raise ModelNotReadyError(
            f"provider '{settings.provider}' is not in this installation of ONNX Runtime; "
            "use 'cpu', or install onnxruntime-gpu"
        )
    if source is None:
        source = graph
    try:
        # Its own fallback would load a refused model a second time, and print that it does.
        session = ort.InferenceSession(
            source if isinstance(source, bytes) else str(source),
            _options(settings),
            providers=[provider],
            provider_options=[provider_options(settings)],
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime's exceptions share no other base class
        telemetry.get_logger(__name__).error("model refused by onnxruntime", reason=str(error)[:500])
        raise ModelNotReadyError(
            f"ONNX Runtime {ort.__version__} cannot load '{graph.name}': "
            "it is damaged, or has operators that this version does not know"
        ) from error
    # A provider whose libraries are missing is replaced by the CPU without an error.
    if provider not in session.get_providers():
        raise ModelNotReadyError(
            f"provider '{settings.provider}' did not start: its libraries or device are missing"
        )
    return Session(session)


def provider_options(settings: OnnxSettings) -> dict[str, str]:
    """What ONNX Runtime's provider is told beside its name."""
    if settings.provider == "cpu":
        return {}
    gpu = settings.gpu
    options = {"device_id": str(gpu.device), "arena_extend_strategy": ARENAS[gpu.arena]}
    return {**options, "gpu_mem_limit": str(gpu.memory_bytes)} if gpu.memory_bytes else options


def _options(settings: OnnxSettings) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads_per_session
    options.inter_op_num_threads = 1
    # Spinning threads take the time of the other session's threads.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # It would keep a plan of its memory for each shape, and texts have as many as there are lengths.
    options.enable_mem_pattern = False
    # Its log lines can hold values of a request.
    options.log_severity_level = SEVERITY_FATAL
    return options


def _tensor_info(node: ort.NodeArg) -> TensorInfo:
    datatype = DATATYPE_OF_ONNX.get(node.type)
    if datatype is None:
        raise ModelNotReadyError(f"input '{node.name}' is of type {node.type}, which has no datatype")
    return TensorInfo(
        name=node.name,
        datatype=datatype,
        shape=tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape),
    )


def _run_error(error: Exception) -> MeshError:
    """What a failed run means to the caller.

    An operator that refuses values or shapes says so as INVALID_ARGUMENT, FAIL or
    RUNTIME_EXCEPTION, as its author chose; only memory and the rest is a fault of ours.
    """
    text = str(error)
    if type(error).__name__ == "InvalidArgument":
        return InvalidInputError("the model does not take these values or shapes")
    if "while running" in text and "llocat" not in text and "terminate flag" not in text:
        return InvalidInputError(
            "the model cannot compute these values or shapes; check that they fit each other"
        )
    telemetry.get_logger(__name__).error("model run failed", reason=type(error).__name__)
    return InternalError("the model failed on this request")
