"""A batch that is computed for nobody is ended from another thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.processes import TINY_CHAT
from workers.llama.native import NativeModel
from workers.llama.native_context import BatchRow, ContextShape, DecodeStatus, NativeContext

TOKENS = 1500
ROW = BatchRow(sequence=0, start=0, tokens=[5] * TOKENS, wants_logits=True)


@pytest.fixture
def context() -> Iterator[NativeContext]:
    with contextlib.closing(NativeModel(TINY_CHAT)) as model:
        shape = ContextShape(cells=2 * TOKENS, sequences=2, batch_tokens=TOKENS, threads=1)
        with contextlib.closing(NativeContext(model, shape)) as made:
            yield made


def test_no_batch_is_computed_while_the_flag_is_set(context: NativeContext) -> None:
    context.abort.set()
    assert context.decode([ROW]) is DecodeStatus.ABORTED
    context.abort.clear()
    context.clear()
    assert context.decode([ROW]) is DecodeStatus.DONE


def test_a_batch_ends_soon_after_the_flag_is_set_in_another_thread(context: NativeContext) -> None:
    started = time.monotonic()
    assert context.decode([ROW]) is DecodeStatus.DONE
    whole_s = time.monotonic() - started
    context.clear()
    timer = threading.Timer(whole_s / 5, context.abort.set)
    timer.start()
    started = time.monotonic()
    assert context.decode([ROW]) is DecodeStatus.ABORTED
    timer.join()
    assert time.monotonic() - started < 0.9 * whole_s
