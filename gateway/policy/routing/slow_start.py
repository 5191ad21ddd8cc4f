"""How much of its share a replica that just came back gets. Pure.

Its caches are cold and its connections new, so it starts small and gets all of it after the
ramp. Source: Envoy's slow start mode.
"""

from __future__ import annotations

RAMP_S = 10.0
SMALLEST_SHARE = 0.1


def share_of(ready_for_s: float) -> float:
    """From SMALLEST_SHARE to 1, for the seconds since the replica became ready."""
    if ready_for_s >= RAMP_S:
        return 1.0
    return max(SMALLEST_SHARE, ready_for_s / RAMP_S)
