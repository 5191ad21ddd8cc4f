"""llama.cpp's context for whole texts, with types: token ids in, one vector for each text out.

Owns the batch and pooling. A context for generation is of another kind. One thread alone may use
it. Nothing may reach it that llama.cpp would abort on: see `TextShape`.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from inference_mesh.errors import InternalError, ModelNotReadyError
from workers.llama.model_task import POOLINGS, Pooling
from workers.llama.native import NativeModel, llama
from workers.llama.placement import Placement, place_context

FloatArray: TypeAlias = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class TextShape:
    """How large a context is.

    batch_tokens: of all texts of one batch together; more abort the process. texts: of one batch.
    """

    batch_tokens: int
    texts: int
    threads: int
    pooling: Pooling
    placement: Placement = dataclasses.field(default_factory=Placement)


class TextContext:
    """A context of a model that turns texts into vectors."""

    def __init__(self, model: NativeModel, shape: TextShape) -> None:
        """Allocate it. Raises ModelNotReadyError if the memory does not suffice."""
        self._llama = llama()
        self._shape = shape
        self._abort_callback: object = None
        self._handle = self._llama.llama_init_from_model(model.handle, self._params(shape))
        if not self._handle:
            raise ModelNotReadyError(
                f"llama.cpp cannot make a context for texts of {shape.batch_tokens} tokens; the log says why"
            )
        self._memory = self._llama.llama_get_memory(self._handle)
        self._compute = self._llama.llama_decode if self._memory else self._llama.llama_encode
        is_rank = shape.pooling == "rank"
        count = self._llama.llama_model_n_cls_out if is_rank else self._llama.llama_model_n_embd_out
        self.width = int(count(model.handle))
        self._arrays = _TextArrays(shape.batch_tokens)

    def _params(self, shape: TextShape) -> object:
        params = self._llama.llama_context_default_params()
        # llama.cpp plans with whole multiples of the sequences, and aborts if those do not fit.
        size = -(-shape.batch_tokens // shape.texts) * shape.texts
        params.n_ctx = params.n_batch = params.n_ubatch = size
        params.n_seq_max = shape.texts
        params.n_threads = params.n_threads_batch = shape.threads
        params.embeddings = True
        params.pooling_type = POOLINGS[shape.pooling]
        params.kv_unified = True
        params.swa_full = True
        params.no_perf = True
        place_context(params, shape.placement, self._llama)
        return params

    def abort_when(self, must_abort: Callable[[], bool]) -> None:
        """Ask `must_abort` within every batch, in its thread, and end it when true."""
        # The library keeps only the address of the callback: it must live as long as the context.
        self._abort_callback = self._llama.ggml_abort_callback(lambda _data: must_abort())
        self._llama.llama_set_abort_callback(self._handle, self._abort_callback, ctypes.c_void_p(0))

    def vectors(self, texts: Sequence[Sequence[int]]) -> FloatArray:
        """The vectors (texts, width) of token ids, as the model gives them; blocks without the GIL.

        Raises InternalError if they do not fit into the context's shape, or cannot be computed.
        """
        tokens = sum(map(len, texts))
        if not texts or len(texts) > self._shape.texts or tokens > self._shape.batch_tokens:
            raise InternalError(f"a batch of {len(texts)} texts and {tokens} tokens does not fit")
        status = int(self._compute(self._handle, self._arrays.fill(texts)))
        try:
            if status != 0:
                raise InternalError("the model could not compute these texts")
            return np.stack([self._vector(place) for place in range(len(texts))])
        finally:
            if self._memory:
                self._llama.llama_memory_clear(self._memory, False)

    def _vector(self, sequence: int) -> FloatArray:
        pointer = self._llama.llama_get_embeddings_seq(self._handle, sequence)
        if not pointer:
            raise InternalError("the model gave no vector")
        return np.ctypeslib.as_array(pointer, shape=(self.width,)).astype(np.float32)

    def close(self) -> None:
        """Free the context."""
        if self._handle:
            self._llama.llama_free(self._handle)
            self._handle = None


class _TextArrays:
    """A llama_batch whose arrays numpy owns; every token is an output, as pooling wants it."""

    def __init__(self, capacity: int) -> None:
        self._tokens, self._positions, self._sequences = np.zeros((3, capacity), dtype=np.int32)
        self._wants = np.ones(capacity, dtype=np.int8)
        self._one_each = np.ones(capacity, dtype=np.int32)
        self._pointers = self._sequences.ctypes.data + 4 * np.arange(capacity, dtype=np.uint64)
        integers = ctypes.POINTER(ctypes.c_int32)
        self._batch = llama().llama_batch()
        self._batch.token = self._tokens.ctypes.data_as(integers)
        self._batch.pos = self._positions.ctypes.data_as(integers)
        self._batch.n_seq_id = self._one_each.ctypes.data_as(integers)
        self._batch.seq_id = self._pointers.ctypes.data_as(ctypes.POINTER(integers))
        self._batch.logits = self._wants.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def fill(self, texts: Sequence[Sequence[int]]) -> object:
        """The batch of these texts, each a sequence of its own."""
        at = 0
        for sequence, tokens in enumerate(texts):
            end = at + len(tokens)
            self._tokens[at:end] = tokens
            self._positions[at:end] = np.arange(end - at)
            self._sequences[at:end] = sequence
            at = end
        self._batch.n_tokens = at
        return self._batch
