"""Where the progress of a request's jobs waits for whoever reads their answers.

Owns the hand-over on the event loop. Progress that piles up while the reader is slow is
joined, so a slow reader gets fewer and larger pieces. Bounded by the answers' max_tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from inference_mesh.errors import InternalError
from workers.llama.job import Job, Progress


class Mailbox:
    """The progress of the jobs of one request; used on the event loop only."""

    def __init__(self, interval_s: float = 0.0) -> None:
        """interval_s: least time between two pieces; the end of an answer never waits."""
        self._interval_s = interval_s
        self._next_s = 0.0
        self._arrived: list[Progress] = []
        self._has_arrived = asyncio.Event()
        self._has_end = asyncio.Event()

    def put(self, progress: Progress) -> None:
        """Add progress; never blocks."""
        self._arrived.append(progress)
        self._has_arrived.set()
        if progress.is_last:
            self._has_end.set()

    async def take(self) -> Sequence[Progress]:
        """All progress since the last call, joined to one for each job; waits for some.

        Raises the error of a job that failed. Text that came before an error is given first.
        """
        await self._has_arrived.wait()
        if self._interval_s:
            await self._keep_distance()
        self._has_end.clear()
        arrived, self._arrived = self._arrived, []
        failed = next((one for one in arrived if one.error is not None), None)
        if failed is None:
            self._has_arrived.clear()
            return arrived if len(arrived) == 1 else _joined(arrived)
        before = [one for one in arrived if one.error is None]
        if before:
            self._arrived = [failed]
            return _joined(before)
        self._has_arrived.clear()
        raise failed.error or InternalError()

    async def _keep_distance(self) -> None:
        now_s = asyncio.get_running_loop().time
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._next_s):
                await self._has_end.wait()
        self._next_s = now_s() + self._interval_s


def _joined(parts: Sequence[Progress]) -> list[Progress]:
    of_jobs: dict[Job, list[Progress]] = {}
    for part in parts:
        of_jobs.setdefault(part.job, []).append(part)
    return [_one(own) if len(own) > 1 else own[0] for own in of_jobs.values()]


def _one(parts: Sequence[Progress]) -> Progress:
    return Progress(
        parts[-1].job,
        "".join(part.text for part in parts),
        tuple(token for part in parts for token in part.tokens),
        parts[-1].finish_reason,
        calls=tuple(call for part in parts for call in part.calls),
        logprobs=tuple(one for part in parts for one in part.logprobs),
    )
