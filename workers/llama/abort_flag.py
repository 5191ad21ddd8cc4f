"""A byte that llama.cpp looks at while it computes, so that a batch can be ended from another thread.

llama.cpp asks a function after each node of the graph, some two hundred times a step. One of Python's
would wait for the interpreter's lock each time, and the computation with it. So it asks a function
of the C library that answers by the byte alone: the length of a text of no character or of one.
"""

from __future__ import annotations

import ctypes
from typing import Any


class AbortFlag:
    """Set = the batch that is being computed ends soon, and every later one at once, until it is cleared."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self._callback: object = None

    def install(self, library: Any, context: object) -> None:
        """Have a context look at it; the context must not outlive this object."""
        self._callback = ctypes.cast(ctypes.CDLL(None).strlen, library.ggml_abort_callback)
        library.llama_set_abort_callback(context, self._callback, ctypes.cast(self._text, ctypes.c_void_p))

    def set(self) -> None:
        """From any thread."""
        self._text[0] = b"x"

    def clear(self) -> None:
        """From any thread."""
        self._text[0] = b"\0"
