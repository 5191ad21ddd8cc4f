"""How long a worker's stream may keep us waiting.

Owns one timer, and only what we wait for counts: a client who reads slowly is not the
worker's silence. The timer is set once and looks back when it fires, so that a message costs
nothing but a look at the clock.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Self

from inference_mesh.config.model_traffic import TimeLimits

FIRST, BETWEEN = "first token", "next token"


class Patience:
    """Cancels a worker's stream that is silent for too long; a context manager.

    is_over: whether it did. awaited: what we wait for, as FIRST or BETWEEN.
    """

    def __init__(self, upstream: Any, limits: TimeLimits | None) -> None:
        """limits: None = it may be silent for as long as the call lasts."""
        self._upstream = upstream
        self._limits = limits
        self._limit_s = limits.first_token_s if limits is not None else math.inf
        self._loop = asyncio.get_running_loop()
        self._waiting_since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False
        self.awaited = FIRST

    def __enter__(self) -> Self:
        if self._limits is not None:
            self.wait()
            self._timer = self._loop.call_later(self._limit_s, self._look)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def wait(self) -> None:
        """We wait for a message from now on."""
        self._waiting_since_s = self._loop.time()

    def heard(self) -> None:
        """A message came."""
        self._waiting_since_s = None
        if self.awaited == FIRST and self._limits is not None:
            self.awaited, self._limit_s = BETWEEN, self._limits.between_tokens_s
            self._stop()
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        since_s = now_s if self._waiting_since_s is None else self._waiting_since_s
        left_s = since_s + self._limit_s - now_s
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
            return
        self.is_over = True
        self._upstream.cancel()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
