"""What an engine tells while it works: the events that only the engine sees.

Owns the protocol and the observer that ignores everything. Metrics are another module's.
"""

from __future__ import annotations

from typing import Protocol


class EngineObserver(Protocol):
    """Takes an engine's events; called on the event loop, so it must be quick."""

    def batch_computed(self, rows: int) -> None:
        """One batch was computed. rows: requests in it, at least 1."""

    def requests_dropped(self, count: int) -> None:
        """So many queued requests were given up before any of their work began.

        Their deadline had passed, or their caller had left. count: at least 1.
        """


class NullObserver:
    """An observer that keeps nothing."""

    def batch_computed(self, rows: int) -> None:
        """Ignores the event."""

    def requests_dropped(self, count: int) -> None:
        """Ignores the event."""
