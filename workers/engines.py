"""Which engine a worker runs: chosen by its settings, imported only when chosen.

An image carries one runtime; the other one's packages need not be there. What is imported of both
here is pure.
"""

from __future__ import annotations

from inference_mesh.errors import ModelNotReadyError
from inference_mesh.json_payload import TASK_NAMES
from inference_mesh.settings import SettingsError
from inference_mesh.v1 import payload_pb2
from workers.engine import Engine
from workers.llama.gguf_check import read_gguf
from workers.llama.model_task import LlamaTask, task_of
from workers.llama.placement import Placement
from workers.llama.settings import ProbeTerms
from workers.observer import EngineObserver
from workers.settings import WorkerSettings

LLAMA_TASKS: dict[str, LlamaTask] = {"generate": "generate", "embed": "embed", "rerank": "rerank"}


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
    from workers.llama.text_engine import LlamaTextEngine
    from workers.llama.text_settings import LlamaTextSettings

    task = _llama_task(settings)
    if task != "generate":
        return LlamaTextEngine(
            LlamaTextSettings(
                path=settings.model,
                name=settings.name,
                version=settings.version,
                task=task,
                context_tokens=settings.context,
                pooling=settings.pooling,
                threads=settings.threads,
                max_queue=settings.max_queue,
                placement=_placement(settings),
                probe=ProbeTerms(settings.probe, settings.check_cache),
            ),
            observer,
        )
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
            kv_cache_bytes=settings.kv_cache_bytes,
            placement=_placement(settings),
            probe=ProbeTerms(settings.probe, settings.check_cache),
        ),
        observer,
    )


def _llama_task(settings: WorkerSettings) -> LlamaTask:
    """The task that is set, else the file's; a file that cannot be read says so when it is loaded."""
    if settings.task is not None:
        if settings.task not in LLAMA_TASKS:
            raise SettingsError(f"task is '{settings.task}': the llama runtime does {', '.join(LLAMA_TASKS)}")
        return LLAMA_TASKS[settings.task]
    try:
        return task_of(read_gguf(settings.model))
    except ModelNotReadyError:
        return "generate"


def _placement(settings: WorkerSettings) -> Placement:
    return Placement(
        gpu_layers=settings.gpu_layers,
        main_gpu=settings.main_gpu,
        split_mode=settings.split_mode,
        tensor_split=settings.gpu_shares,
        offloads_kv=settings.offload_kqv,
        flash_attention=settings.flash_attention,
        cache_type=settings.kv_cache_type,
        value_type=settings.kv_cache_value_type,
    )


def _onnx(settings: WorkerSettings, observer: EngineObserver) -> Engine:
    from workers.onnx.engine import OnnxEngine
    from workers.onnx.settings import GpuSettings, OnnxSettings

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
            gpu=GpuSettings(settings.gpu_device, settings.gpu_memory_bytes, settings.gpu_arena),
            removes_padding=settings.remove_padding,
            cache=settings.graph_cache,
        ),
        observer,
    )
