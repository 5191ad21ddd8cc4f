"""llama.cpp's context, with types: batches in, logits out, and the cells of the KV cache.

Owns the arrays of the batch: numpy fills them a hundred times faster than ctypes does. One
thread alone may use a context; two would abort the process.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import time
from collections.abc import Sequence

import numpy as np

from inference_mesh.errors import ModelNotReadyError
from workers.llama.abort_flag import AbortFlag
from workers.llama.native import NativeModel, llama
from workers.llama.placement import Placement, place_context
from workers.llama.prefix_cache import CellOperation, CopyCells, TrimCells
from workers.llama.sampling import FloatArray
from workers.llama.thread_choice import ThreadChoice


class DecodeStatus(enum.Enum):
    """How a decode ended."""

    DONE = "done"
    CACHE_FULL = "cache full"
    ABORTED = "aborted"
    FAILED = "failed"


_BY_CODE = {0: DecodeStatus.DONE, 1: DecodeStatus.CACHE_FULL, 2: DecodeStatus.ABORTED}


@dataclasses.dataclass(frozen=True, slots=True)
class ContextShape:
    """How large a context is. cells: of the KV cache, shared by all sequences. threads: most of a step."""

    cells: int
    sequences: int
    batch_tokens: int
    threads: int
    placement: Placement = dataclasses.field(default_factory=Placement)


@dataclasses.dataclass(frozen=True, slots=True)
class BatchRow:
    """Successive tokens of one sequence; the logits of the last one where wanted."""

    sequence: int
    start: int
    tokens: Sequence[int]
    wants_logits: bool


class NativeContext:
    """A context of a model with its KV cache."""

    def __init__(self, model: NativeModel, shape: ContextShape) -> None:
        """Allocate it. Raises ModelNotReadyError if the memory does not suffice."""
        self._llama = llama()
        self._handle = self._llama.llama_init_from_model(model.handle, self._params(shape))
        if not self._handle:
            raise ModelNotReadyError(
                f"llama.cpp cannot make a context of {shape.cells} tokens; the log says why"
            )
        self.abort = AbortFlag()
        self.abort.install(self._llama, self._handle)
        self._memory = self._llama.llama_get_memory(self._handle)
        self._logits_type = ctypes.c_float * model.vocabulary_size
        self._logits_views: dict[int, FloatArray] = {}
        self._batch = _BatchArrays(shape.batch_tokens)
        # Fewer than asked for if there are fewer cells; more tokens in one step abort the process.
        self.batch_tokens = min(shape.batch_tokens, int(self._llama.llama_n_batch(self._handle)))
        self._threads = shape.threads
        self._choice = ThreadChoice(shape.threads)

    def _params(self, shape: ContextShape) -> object:
        params = self._llama.llama_context_default_params()
        params.n_ctx = shape.cells
        params.n_batch = params.n_ubatch = shape.batch_tokens
        params.n_seq_max = shape.sequences
        # One row of logits a sequence; fewer than sequences abort the process.
        params.n_outputs_max = shape.sequences
        params.n_threads = params.n_threads_batch = shape.threads
        # Unified cells let sequences share a prefix; split ones abort on a partial copy.
        params.kv_unified = True
        params.swa_full = True
        params.no_perf = True
        place_context(params, shape.placement, self._llama)
        return params

    def close(self) -> None:
        """Free the context."""
        if self._handle:
            self._llama.llama_free(self._handle)
            self._handle = None

    def decode(self, rows: Sequence[BatchRow]) -> DecodeStatus:
        """Compute rows in one batch; blocks without holding the GIL.

        At CACHE_FULL nothing changed. At ABORTED some cells may have been written.
        """
        batch = self._batch.fill(rows)
        tokens = self._batch.tokens
        self._use_threads(self._choice.threads(tokens))
        started = time.monotonic()
        status = _BY_CODE.get(self._llama.llama_decode(self._handle, batch), DecodeStatus.FAILED)
        if status is DecodeStatus.DONE:
            self._choice.observe(tokens, self._threads, time.monotonic() - started)
        return status

    def _use_threads(self, count: int) -> None:
        if count != self._threads:
            self._threads = count
            self._llama.llama_set_n_threads(self._handle, count, count)

    def logits(self, row: int) -> FloatArray:
        """Logits of the last token of the batch's row `row`; a view until the next decode."""
        pointer = self._llama.llama_get_logits_ith(self._handle, self._batch.last_index(row))
        address = ctypes.addressof(pointer.contents)
        view = self._logits_views.get(address)
        if view is None:
            # Rows stay where they are until llama.cpp makes its buffer larger.
            view = np.frombuffer(memoryview(self._logits_type.from_address(address)), dtype=np.float32)
            self._logits_views[address] = view
        return view

    def apply(self, operations: Sequence[CellOperation]) -> None:
        """Copy and cut cells."""
        for operation in operations:
            match operation:
                case CopyCells(source, target, length):
                    self._llama.llama_memory_seq_cp(self._memory, source, target, 0, length)
                case TrimCells(sequence, length):
                    self._llama.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def clear(self) -> None:
        """Forget every sequence."""
        self._llama.llama_memory_clear(self._memory, True)


class _BatchArrays:
    """A llama_batch whose arrays numpy owns."""

    def __init__(self, capacity: int) -> None:
        self._tokens = np.zeros(capacity, dtype=np.int32)
        self._positions = np.zeros(capacity, dtype=np.int32)
        self._sequences = np.zeros(capacity, dtype=np.int32)
        self._wants = np.zeros(capacity, dtype=np.int8)
        self._one_each = np.ones(capacity, dtype=np.int32)
        addresses = self._sequences.ctypes.data + 4 * np.arange(capacity, dtype=np.uint64)
        self._sequence_pointers = np.ascontiguousarray(addresses, dtype=np.uint64)
        self._count_up = np.arange(capacity, dtype=np.int32)
        self._last: list[int] = []
        self.tokens = 0
        """In the batch that was filled last."""
        self._batch = self._make_batch()

    def _make_batch(self) -> object:
        integers, integer_pointers = (
            ctypes.POINTER(ctypes.c_int32),
            ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)),
        )
        batch = llama().llama_batch()
        batch.token = self._tokens.ctypes.data_as(integers)
        batch.pos = self._positions.ctypes.data_as(integers)
        batch.n_seq_id = self._one_each.ctypes.data_as(integers)
        batch.seq_id = self._sequence_pointers.ctypes.data_as(integer_pointers)
        batch.logits = self._wants.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        return batch

    def fill(self, rows: Sequence[BatchRow]) -> object:
        """The batch of these rows; more tokens than the capacity are a ValueError or an IndexError."""
        self._last.clear()
        at = 0
        for row in rows:
            end = at + len(row.tokens)
            if end == at + 1:  # a next token, as most rows are: slices would cost ten times as much
                self._tokens[at], self._positions[at] = row.tokens[0], row.start
                self._sequences[at] = row.sequence
            else:
                self._tokens[at:end] = row.tokens
                self._positions[at:end] = self._count_up[: end - at] + row.start
                self._sequences[at:end] = row.sequence
                self._wants[at:end] = 0
            self._wants[end - 1] = row.wants_logits
            self._last.append(end - 1)
            at = end
        self.tokens = self._batch.n_tokens = at  # type: ignore[attr-defined]
        return self._batch

    def last_index(self, row: int) -> int:
        """Index in the batch of a row's last token."""
        return self._last[row]
