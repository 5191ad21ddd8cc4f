"""An open GGUF model of vectors or scores: file, context and task together.

Owns the order of opening and closing. All of it happens in the one thread that owns the context.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

from inference_mesh.errors import ModelNotReadyError
from workers.cgroup import memory_limit_bytes
from workers.llama.environment import thread_count
from workers.llama.gguf_check import read_gguf
from workers.llama.native import LoadTerms, NativeModel, has_gpu
from workers.llama.placement import uses_gpu_memory
from workers.llama.probe import try_file
from workers.llama.text_context import FloatArray, TextContext, TextShape
from workers.llama.text_queue import Outcome, Run, compute_shares
from workers.llama.text_reader import TextReader
from workers.llama.text_settings import (
    PACK_TEXTS,
    LlamaTextSettings,
    chosen_pooling,
    longest_text,
    pack_tokens,
)
from workers.llama.text_tasks import EmbedTask, RerankTask, TextTask
from workers.text_tasks.prompts import read_prompts


class TextModel:
    """A model in memory, with its context; used and closed in the thread that opened it."""

    def __init__(self, model: NativeModel, context: TextContext, threads: int) -> None:
        self._model = model
        self._context = context
        self._run: Run | None = None
        self._is_closing = False
        self.threads = threads
        self.width = context.width
        context.abort_when(self._must_abort)

    def outcomes(self, run: Run) -> list[Outcome]:
        """The vectors of each share of a batch."""
        self._run = run
        return compute_shares(run, self._context.vectors)

    def stop(self) -> None:
        """Have what is computed now end; from any thread."""
        self._is_closing = True

    def close(self) -> None:
        """Free everything."""
        self._context.close()
        self._model.close()

    def _must_abort(self) -> bool:
        return self._is_closing or (self._run is not None and self._run.is_abandoned)


@dataclasses.dataclass(frozen=True, slots=True)
class OpenedTexts:
    """What `open_texts` gives. max_tokens: of one text; pack_tokens: of a batch of short ones."""

    model: TextModel
    task: TextTask
    max_tokens: int
    pack_tokens: int


def open_texts(settings: LlamaTextSettings) -> OpenedTexts:
    """The model of the settings, run once; blocks. Raises ModelNotReadyError with the reason."""
    summary = read_gguf(settings.path)
    prompts = read_prompts(settings.path.parent)
    pooling = chosen_pooling(settings, summary)
    is_on_gpu = uses_gpu_memory(settings.placement, has_gpu=has_gpu())
    memory = None if is_on_gpu else memory_limit_bytes()
    max_tokens = longest_text(settings, summary, memory)
    is_trusted = try_file(settings.path, settings.task, summary, settings.probe)
    with contextlib.ExitStack() as opened:
        native = NativeModel(settings.path, LoadTerms(settings.placement, checks_weights=not is_trusted))
        opened.callback(native.close)
        threads = thread_count(native.parameter_count, settings.threads)
        shape = TextShape(max_tokens, PACK_TEXTS, threads, pooling, settings.placement)
        context = TextContext(native, shape)
        opened.callback(context.close)
        reader = TextReader(native, min(max_tokens, native.trained_context))
        task: TextTask
        if settings.task == "rerank":
            _check_scores(context)
            task = RerankTask(reader)
        else:
            task = EmbedTask(reader, prompts, context.width)
        _warm_up(context, reader)
        opened.pop_all()
    pack = pack_tokens(settings, reader.max_tokens, is_on_gpu=is_on_gpu)
    return OpenedTexts(TextModel(native, context, threads), task, reader.max_tokens, pack)


def _check_scores(context: TextContext) -> None:
    if context.width != 1:
        raise ModelNotReadyError(f"the model gives {context.width} numbers for each text; rerank needs 1")


def _warm_up(context: TextContext, reader: TextReader) -> None:
    """Compute one text, so that the first request finds everything allocated."""
    text: Sequence[int] = reader.text("a", "warm-up", is_cut=True)
    vectors: FloatArray = context.vectors([text])
    if not bool((abs(vectors) < float("inf")).all()):
        raise ModelNotReadyError("the model computes numbers that are not finite")
