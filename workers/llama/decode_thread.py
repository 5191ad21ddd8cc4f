"""The life of the decode thread: it opens the model, runs the loop, and frees everything.

Owns the order of opening and freeing. All native work happens in this one thread, because
OpenMP keeps a pool of threads for each thread that ever computed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import threading
from collections.abc import Callable

from inference_mesh import telemetry
from inference_mesh.errors import MeshError, ModelNotReadyError
from workers.cgroup import memory_limit_bytes
from workers.llama.answer import Answerer
from workers.llama.decode_loop import DecodeLoop, StepReport
from workers.llama.environment import thread_count
from workers.llama.gguf_check import read_gguf
from workers.llama.model_task import is_encoder
from workers.llama.native import LoadTerms, NativeModel, has_gpu
from workers.llama.native_context import BatchRow, ContextShape, DecodeStatus, NativeContext
from workers.llama.placement import uses_gpu_memory
from workers.llama.prefix_cache import PrefixCache
from workers.llama.probe import try_file
from workers.llama.prompt import PromptReader
from workers.llama.request import RequestReader
from workers.llama.scheduler import Scheduler
from workers.llama.settings import MAX_SEQUENCES, CacheSize, LlamaSettings, cache_size
from workers.llama.vocabulary import read_vocabulary

log = telemetry.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """What an open model offers. context_tokens: of one request; cells: of all."""

    requests: RequestReader
    loop: DecodeLoop
    context_tokens: int
    cells: int
    threads: int


class DecodeThread:
    """One model in one thread."""

    def __init__(self, settings: LlamaSettings, report: Callable[[StepReport], None]) -> None:
        """report: called in this thread after each step."""
        self._settings = settings
        self._report = report
        self._opened: Opened | None = None
        self._opening: concurrent.futures.Future[Opened] = concurrent.futures.Future()
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()

    @property
    def opened(self) -> Opened:
        """The open model; only after `start`."""
        if self._opened is None:
            raise ModelNotReadyError("the model is not loaded")
        return self._opened

    async def start(self) -> None:
        """Open the model. Raises ModelNotReadyError with the reason."""
        self._opening.set_running_or_notify_cancel()
        self._ended.set_running_or_notify_cancel()
        # A daemon: a process that must end at once does not wait for a batch.
        threading.Thread(target=self._run, name="llama-decode", daemon=True).start()
        try:
            self._opened = await asyncio.wrap_future(self._opening)
        except asyncio.CancelledError:
            self._opening.add_done_callback(_stop_at_once)
            raise

    async def close(self) -> None:
        """End the loop and free the model."""
        if self._opened is not None:
            self._opened.loop.stop()
            await asyncio.wrap_future(self._ended)

    def _run(self) -> None:
        try:
            self._open_and_run()
        except Exception as error:
            log.exception("decode thread failed", model=self._settings.name)
            if not self._opening.done():
                self._opening.set_exception(_as_not_ready(error))
        finally:
            self._ended.set_result(None)

    def _open_and_run(self) -> None:
        settings = self._settings
        size, terms = _checked(settings)
        with contextlib.closing(NativeModel(settings.path, terms)) as model:
            context_tokens = min(size.context_tokens, model.trained_context)
            shape = _shape(settings, size.cells, model)
            with contextlib.closing(NativeContext(model, shape)) as context:
                requests, loop = _assemble(settings, context_tokens, model, context, self._report)
                _warm_up(context)
                self._opening.set_result(Opened(requests, loop, context_tokens, size.cells, shape.threads))
                loop.run()


def _checked(settings: LlamaSettings) -> tuple[CacheSize, LoadTerms]:
    """What the file and the machine allow, after the file was tried. Raises ModelNotReadyError."""
    summary = read_gguf(settings.path)
    if is_encoder(summary):
        raise ModelNotReadyError(f"{settings.path.name} is an encoder: it can embed, and not generate text")
    is_free = uses_gpu_memory(settings.placement, has_gpu=has_gpu())
    size = cache_size(settings, summary, None if is_free else memory_limit_bytes())
    is_sound = try_file(settings.path, "generate", summary, settings.probe)
    return size, LoadTerms(settings.placement, checks_weights=not is_sound)


def _shape(settings: LlamaSettings, cells: int, model: NativeModel) -> ContextShape:
    """A context with as many sequences again for idle prefixes as there are slots."""
    return ContextShape(
        cells=cells,
        sequences=min(2 * settings.slots, MAX_SEQUENCES),
        batch_tokens=max(settings.batch_tokens, settings.slots + settings.prefill_chunk),
        threads=thread_count(model.parameter_count, settings.threads),
        placement=settings.placement,
    )


def _assemble(
    settings: LlamaSettings,
    context_tokens: int,
    model: NativeModel,
    context: NativeContext,
    report: Callable[[StepReport], None],
) -> tuple[RequestReader, DecodeLoop]:
    if not model.can_generate:
        raise ModelNotReadyError(f"{settings.path.name} is no decoder-only model: it cannot generate text")
    vocabulary = read_vocabulary(model)
    requests = RequestReader(
        PromptReader(model, vocabulary, context_tokens),
        vocabulary,
        context_tokens=context_tokens,
        default_max_tokens=settings.default_max_tokens,
    )
    cache = PrefixCache(
        min(2 * settings.slots, MAX_SEQUENCES),
        settings.prefix_tokens or context_tokens,
        can_share=model.can_cut_state,
    )
    scheduler = Scheduler(
        cache,
        slots=settings.slots,
        batch_tokens=context.batch_tokens,
        prefill_chunk=settings.prefill_chunk,
    )
    return requests, DecodeLoop(context, scheduler, Answerer(vocabulary), report)


def _warm_up(context: NativeContext) -> None:
    """Compute one token, so that the first request finds everything allocated."""
    if (
        context.decode([BatchRow(sequence=0, start=0, tokens=[0], wants_logits=True)])
        is not DecodeStatus.DONE
    ):
        raise ModelNotReadyError("the model loads, but cannot compute a token")
    context.clear()


def _as_not_ready(error: Exception) -> MeshError:
    return error if isinstance(error, MeshError) else ModelNotReadyError("the model cannot be loaded")


def _stop_at_once(opening: concurrent.futures.Future[Opened]) -> None:
    if opening.exception() is None:
        opening.result().loop.stop()
