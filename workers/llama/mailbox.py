"""Where the progress of one job waits for whoever reads its answer.

Owns the hand-over on the event loop. Progress that piles up while the reader is slow is
joined, so a slow reader gets fewer and larger pieces. Bounded by the answer's max_tokens.
"""

from __future__ import annotations

import asyncio

from workers.llama.job import Job, Progress


class Mailbox:
    """The progress of one job; used on the event loop only."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._arrived: list[Progress] = []
        self._has_arrived = asyncio.Event()

    def put(self, progress: Progress) -> None:
        """Add progress; never blocks."""
        self._arrived.append(progress)
        self._has_arrived.set()

    async def take(self) -> Progress:
        """All progress since the last call as one; waits for some. Raises its error, if any.

        Text that came before an error is given first.
        """
        await self._has_arrived.wait()
        arrived, self._arrived = self._arrived, []
        last = arrived[-1]
        if last.error is not None and len(arrived) > 1:
            self._arrived = [last]
            return _joined(arrived[:-1])
        self._has_arrived.clear()
        if last.error is not None:
            raise last.error
        return _joined(arrived)


def _joined(parts: list[Progress]) -> Progress:
    return Progress(
        parts[-1].job,
        "".join(part.text for part in parts),
        tuple(token for part in parts for token in part.tokens),
        parts[-1].finish_reason,
    )
