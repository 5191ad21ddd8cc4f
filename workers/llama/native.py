"""llama.cpp's model and vocabulary, with types.

Owns the ctypes calls that concern a model, and the log of the native library. Nothing
untyped leaves this module and `native_context`. The vocabulary may be used
from any thread; a context belongs to one.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference_mesh import telemetry
from inference_mesh.errors import ModelNotReadyError, ShuttingDownError
from workers.llama.placement import Placement, place_model

log = telemetry.get_logger(__name__)

PROGRESS_S = 10.0
"""A loading that takes longer says how far it is."""

_WARNING, _ERROR = 3, 4
"""Levels of ggml.h; the binding's own comment numbers them otherwise."""

_EXPECTED = (
    "possible training context overflow",
    "failed to find a memory slot",
    "removing memory module entries",
    "failed to decode, ret = 2",
)
"""Said of any unified KV cache, whose cells all sequences share, when it is full, and after an abort."""


def llama() -> Any:
    """The ctypes binding. Loaded at first use and not at import: it reads the environment then."""
    return _loaded()[0]


@functools.cache
def _loaded() -> tuple[Any, object]:
    """The binding, initialised once, and the log callback, which must live as long as it."""
    from llama_cpp import llama_cpp as library

    forward = library.llama_log_callback(_forward_log)
    library.llama_log_set(forward, ctypes.c_void_p(0))
    library.llama_backend_init()
    return library, forward


def _forward_log(level: int, text: bytes | None, _data: object) -> None:
    message = (text or b"").decode("utf-8", errors="replace").strip()
    if not message or any(text in message for text in _EXPECTED):
        return
    if level == _ERROR:
        log.error("llama.cpp", message=message)
    elif level == _WARNING:
        log.warning("llama.cpp", message=message)


@dataclasses.dataclass(frozen=True, slots=True)
class LoadTerms:
    """How a model is loaded. checks_weights: every weight is looked at, a ninth of the CPU time more."""

    placement: Placement = dataclasses.field(default_factory=Placement)
    checks_weights: bool = True


def has_gpu() -> bool:
    """True if this build of llama.cpp finds a GPU here."""
    return bool(llama().llama_supports_gpu_offload())


class _Progress:
    """Tells the log how far a long loading is; called by llama.cpp in the loading thread."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._told_s = time.monotonic()

    def __call__(self, share: float, _data: object) -> bool:
        """share: 0 to 1. True: go on."""
        now_s = time.monotonic()
        if now_s - self._told_s >= PROGRESS_S:
            self._told_s = now_s
            log.info("loading", file=self._file, percent=round(100 * share))
        return True


class NativeModel:
    """A loaded model: its weights, vocabulary and metadata."""

    def __init__(self, path: Path, terms: LoadTerms = LoadTerms()) -> None:
        """Load it; blocks. Raises ModelNotReadyError."""
        self._llama = llama()
        params = self._llama.llama_model_default_params()
        params.check_tensors = terms.checks_weights
        shares = place_model(params, terms.placement, self._llama)
        progress = self._llama.llama_progress_callback(_Progress(path.name))
        params.progress_callback = progress
        self.handle = self._llama.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise ModelNotReadyError(f"llama.cpp cannot load {path.name}; the worker's log says why")
        del shares, progress  # they had to live as long as the loading
        self.vocabulary = self._llama.llama_model_get_vocab(self.handle)
        self.vocabulary_size = int(self._llama.llama_vocab_n_tokens(self.vocabulary))
        self._readers = 0
        self._readers_changed = threading.Condition()

    def close(self) -> None:
        """Free the model once no thread reads its vocabulary; every context must be gone."""
        with self._readers_changed:
            self._readers_changed.wait_for(lambda: self._readers == 0)
            if self.handle:
                self._llama.llama_model_free(self.handle)
                self.handle = None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Keeps the model in memory. Raises ShuttingDownError if it is gone."""
        with self._readers_changed:
            if not self.handle:
                raise ShuttingDownError("the model was unloaded")
            self._readers += 1
        try:
            yield
        finally:
            with self._readers_changed:
                self._readers -= 1
                self._readers_changed.notify_all()

    @property
    def trained_context(self) -> int:
        """Tokens that the model was trained on at a time."""
        return int(self._llama.llama_model_n_ctx_train(self.handle))

    @property
    def parameter_count(self) -> int:
        """Number of weights."""
        return int(self._llama.llama_model_n_params(self.handle))

    @property
    def can_generate(self) -> bool:
        """True for decoder-only models, the ones this engine runs."""
        has_decoder = bool(self._llama.llama_model_has_decoder(self.handle))
        other = self._llama.llama_model_has_encoder(self.handle) or self._llama.llama_model_is_diffusion(
            self.handle
        )
        return has_decoder and not other

    @property
    def can_cut_state(self) -> bool:
        """False for recurrent and hybrid models, whose state has no positions to cut at."""
        recurrent = self._llama.llama_model_is_recurrent(self.handle)
        return not (recurrent or self._llama.llama_model_is_hybrid(self.handle))

    @property
    def chat_template(self) -> str:
        """The model's own chat template (Jinja); empty if it has none."""
        template = self._llama.llama_model_chat_template(self.handle, None)
        return (template or b"").decode("utf-8", errors="replace")

    def named_template(self, name: str) -> str:
        """The template that the file has under a name of its own; empty if it has none."""
        template = self._llama.llama_model_chat_template(self.handle, name.encode())
        return (template or b"").decode("utf-8", errors="replace")

    @property
    def adds_begin_token(self) -> bool:
        """True if tokenising with special tokens puts the begin-of-text token first."""
        return bool(self._llama.llama_vocab_get_add_bos(self.vocabulary))

    @property
    def adds_separator(self) -> bool:
        """True if the model wants a separator between two texts."""
        return bool(self._llama.llama_vocab_get_add_sep(self.vocabulary))

    @property
    def separator_token(self) -> int:
        """Id of the token between two texts; -1 if there is none."""
        return int(self._llama.llama_vocab_sep(self.vocabulary))

    @property
    def adds_end_token(self) -> bool:
        """True if tokenising with special tokens appends the end-of-text token."""
        return bool(self._llama.llama_vocab_get_add_eos(self.vocabulary))

    @property
    def begin_token(self) -> int:
        """Id of the token that begins a text; -1 if there is none."""
        return int(self._llama.llama_vocab_bos(self.vocabulary))

    @property
    def end_token(self) -> int:
        """Id of the token that ends a text; -1 if there is none."""
        return int(self._llama.llama_vocab_eos(self.vocabulary))

    def end_tokens(self) -> frozenset[int]:
        """Ids of the tokens with which an answer ends."""
        is_end = self._llama.llama_vocab_is_eog
        return frozenset(token for token in range(self.vocabulary_size) if is_end(self.vocabulary, token))

    def control_tokens(self) -> frozenset[int]:
        """Ids of the tokens that steer the model and have no text of their own."""
        is_control = self._llama.llama_vocab_is_control
        return frozenset(token for token in range(self.vocabulary_size) if is_control(self.vocabulary, token))

    def pieces(self) -> list[bytes]:
        """The bytes of each token, by id; empty for control tokens."""
        return [self.piece(token, with_control=False) for token in range(self.vocabulary_size)]

    def piece(self, token: int, *, with_control: bool) -> bytes:
        """The bytes of one token."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = int(
                self._llama.llama_token_to_piece(self.vocabulary, token, buffer, size, 0, with_control)
            )
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def tokenize(self, text: bytes, *, adds_special: bool, parses_special: bool) -> list[int]:
        """Token ids of UTF-8 text.

        adds_special: with the begin token, where the model wants one. parses_special: the
        names of control tokens in the text mean those tokens.
        """
        size = len(text) + 8
        while True:
            tokens = np.empty(size, dtype=np.int32)
            pointer = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
            arguments = (text, len(text), pointer, size, adds_special, parses_special)
            with self._reading():
                count = int(self._llama.llama_tokenize(self.vocabulary, *arguments))
            if count >= 0:
                return [int(token) for token in tokens[:count]]
            size = -count

    def apply_known_template(self, template: str, messages: Sequence[tuple[str, str]]) -> str | None:
        """The messages in a template that llama.cpp recognises; None if it does not.

        It runs no Jinja, it compares the template with those it knows.
        """
        structure = self._llama.llama_chat_message
        chat = (structure * len(messages))(
            *(structure(role.encode(), text.encode()) for role, text in messages)
        )
        size = 256 + 2 * sum(len(role.encode()) + len(text.encode()) + 32 for role, text in messages)
        for _ in range(2):
            buffer = ctypes.create_string_buffer(size)
            length = int(
                self._llama.llama_chat_apply_template(
                    template.encode(), chat, len(messages), True, buffer, size
                )
            )
            if length <= size:
                return None if length < 0 else buffer.raw[:length].decode("utf-8", errors="replace")
            size = length
        return None
