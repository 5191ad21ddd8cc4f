"""`python -m workers.llama.probe_child FILE TASK LIMIT_BYTES PARENT`: loads a file that may be hostile.

A process of its own, which llama.cpp may abort. Its last line on standard output is a JSON object:
`{"reason": ""}` for a sound file, else what llama.cpp says against it. Its parent is `probe`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path

from inference_mesh.errors import MeshError
from workers.llama.gguf_check import read_gguf
from workers.llama.model_task import default_pooling
from workers.llama.native import NativeModel
from workers.llama.native_context import BatchRow, ContextShape, DecodeStatus, NativeContext
from workers.llama.text_context import TextContext, TextShape
from workers.llama.text_settings import PACK_TEXTS

_PR_SET_PDEATHSIG = 1
_CELLS = 256
EVERY_KIND_OF_TEXT = b"".join(
    (bytes(range(1, 128)), "é ß Ж λ 中 あ 한 🐶 \u200d \uffff \U0010ffff".encode(), b"\x80\xff")
)
"""Vocabularies without a way to write some byte abort at the first text that has it."""


def main() -> None:
    """Limit this process, try the file and print the verdict."""
    path, task, limit_bytes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    _limit(limit_bytes)
    _end_with(int(sys.argv[4]))
    said = _Said()
    logging.getLogger().addHandler(said)
    try:
        _try(path, task)
    except MeshError as error:
        print(json.dumps({"reason": said.text() or error.message}))  # noqa: T201
    else:
        print(json.dumps({"reason": ""}))  # noqa: T201


def _limit(address_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (address_bytes, address_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # where memory runs out, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _end_with(parent: int) -> None:
    """Have the kernel end this process with its parent, which may be gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the worker is gone")


def _try(path: Path, task: str) -> None:
    with contextlib.closing(NativeModel(path)) as model:
        model.pieces()
        tokens = model.tokenize(EVERY_KIND_OF_TEXT, adds_special=True, parses_special=True)
        if task == "generate":
            _generate(model, tokens[:1] or [0])
        else:
            pooling = "rank" if task == "rerank" else default_pooling(read_gguf(path))
            with contextlib.closing(
                TextContext(model, TextShape(_CELLS, texts=PACK_TEXTS, threads=1, pooling=pooling))
            ) as context:
                context.vectors([tokens[:1] or [0]] * 2)


def _generate(model: NativeModel, tokens: list[int]) -> None:
    shape = ContextShape(cells=_CELLS, sequences=1, batch_tokens=_CELLS, threads=1)
    with contextlib.closing(NativeContext(model, shape)) as context:
        row = BatchRow(sequence=0, start=0, tokens=tokens, wants_logits=True)
        if context.decode([row]) is not DecodeStatus.DONE:
            raise MeshError("the model loads, but cannot compute a token")
        context.logits(0).sum()


class _Said(logging.Handler):
    """Keeps the first error that llama.cpp reports: the later ones follow from it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._first = ""

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "fields", {})
        self._first = self._first or str(fields.get("message", ""))

    def text(self) -> str:
        """What it said; empty if nothing."""
        return self._first


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # a damaged model may hang or abort while its threads end
