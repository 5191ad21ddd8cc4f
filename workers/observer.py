"""What an engine tells while it works: the events that only the engine sees.

Owns the protocol and the observer that ignores everything. Metrics are another module's.
"""

from __future__ import annotations

from typing import Protocol


class EngineObserver(Protocol):
    """Takes an engine's events; called on the event loop, so it must be quick."""

    def batch_computed(self, rows: int) -> None:
        """One batch was computed. rows: requests in it, at least 1."""

    def request_expired(self) -> None:
        """One request's deadline passed before its answer was complete."""


class NullObserver:
    """An observer that keeps nothing."""

    def batch_computed(self, rows: int) -> None:
        """Ignores the event."""

    def request_expired(self) -> None:
        """Ignores the event."""
