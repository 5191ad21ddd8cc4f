"""How many threads a step takes, by what earlier steps of its size took.

Owns the estimates. Threads of one step wait for each other some hundred times. Where waiting means to
sleep, as it must on shared cores, a small step is as fast in one thread, at half the CPU time;
where a core is the process's own, all threads are faster. Neither is known beforehand, so both are
tried. The logits are the same, bit for bit. Pure: seconds are passed in.
"""

from __future__ import annotations

from collections import deque

LARGE_STEP_TOKENS = 32
"""From here on a step has work enough for all threads in any case."""

WORTH_IT = 1.2
"""All threads are taken if a step is so many times faster with them: others need the cores too."""

_TRIES = 3
"""Of each kind before the first decision."""

_LOOK_AGAIN_STEPS = 100
"""After so many steps of a size, one is done in the other way: the machine's load changes."""

_REMEMBERED = 5


class ThreadChoice:
    """The choice for one context: one thread or all."""

    def __init__(self, most: int) -> None:
        """most: how many there are, at least 1."""
        self._most = most
        self._sizes = [_Size() for _ in range(LARGE_STEP_TOKENS.bit_length())]

    def threads(self, tokens: int) -> int:
        """For a step with so many tokens."""
        if self._most == 1 or tokens >= LARGE_STEP_TOKENS:
            return self._most
        return 1 if self._sizes[tokens.bit_length()].is_alone_next() else self._most

    def observe(self, tokens: int, threads: int, seconds: float) -> None:
        """Note how long a step took that was computed with so many threads."""
        if self._most > 1 and tokens < LARGE_STEP_TOKENS:
            self._sizes[tokens.bit_length()].observe(seconds / tokens, is_alone=threads == 1)


class _Size:
    """The steps between one power of two and the next."""

    def __init__(self) -> None:
        self._alone: deque[float] = deque(maxlen=_REMEMBERED)
        self._together: deque[float] = deque(maxlen=_REMEMBERED)
        self._steps = 0

    def is_alone_next(self) -> bool:
        """Whether the next step takes one thread."""
        if min(len(self._alone), len(self._together)) < _TRIES:
            return len(self._alone) < len(self._together)
        # The least of several: what else the machine does only ever makes a step slower.
        is_better = min(self._alone) < WORTH_IT * min(self._together)
        return is_better != (self._steps % _LOOK_AGAIN_STEPS == 0)

    def observe(self, seconds: float, *, is_alone: bool) -> None:
        """Note the seconds per token of a step."""
        self._steps += 1
        (self._alone if is_alone else self._together).append(seconds)
