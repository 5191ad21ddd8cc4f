"""Which engine a worker runs: chosen by its settings, imported only when chosen.

An image carries one runtime; the other one's packages need not be there.
"""

from __future__ import annotations

from inference_mesh.json_payload import TASK_NAMES
from inference_mesh.settings import SettingsError
from inference_mesh.v1 import payload_pb2
from workers.engine import Engine
from workers.observer import EngineObserver
from workers.settings import WorkerSettings

GENERATE_ONLY = (None, "generate")


def make_engine(settings: WorkerSettings, observer: EngineObserver) -> Engine:
    """The engine of a worker, not loaded yet. Raises SettingsError if its packages are missing."""
    try:
        return _llama(settings, observer) if settings.runtime == "llama" else _onnx(settings, observer)
    except ImportError as error:
        raise SettingsError(
            f"runtime {settings.runtime}: {error.name} is not installed; "
            f"install inference-mesh[worker-{settings.runtime}]"
        ) from None


def _llama(settings: WorkerSettings, observer: EngineObserver) -> Engine:
    from workers.llama.engine import LlamaEngine
    from workers.llama.settings import LlamaSettings

    if settings.task not in GENERATE_ONLY:
        raise SettingsError(f"task is '{settings.task}': the llama runtime does generate")
    return LlamaEngine(
        LlamaSettings(
            path=settings.model,
            name=settings.name,
            version=settings.version,
            slots=settings.slots,
            context_tokens=settings.context,
            threads=settings.threads,
            max_queue=settings.max_queue,
            default_max_tokens=settings.max_tokens,
        ),
        observer,
    )


def _onnx(settings: WorkerSettings, observer: EngineObserver) -> Engine:
    from workers.onnx.engine import OnnxEngine
    from workers.onnx.settings import OnnxSettings

    if settings.task == "generate":
        raise SettingsError("task is 'generate': the onnx runtime does embed, rerank, classify and tensors")
    return OnnxEngine(
        OnnxSettings(
            path=settings.model,
            name=settings.name,
            version=settings.version,
            task=TASK_NAMES[settings.task] if settings.task else payload_pb2.TASK_UNSPECIFIED,
            sessions=settings.sessions,
            threads_per_session=settings.threads or 1,
            max_batch_tokens=settings.max_batch_tokens,
            max_batch_rows=settings.max_batch_rows,
            max_queue=settings.max_queue,
            provider=settings.provider,
        ),
        observer,
    )
