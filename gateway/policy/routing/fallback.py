"""Whether another model may be asked after a failure. Pure."""

from __future__ import annotations

UNAVAILABLE = frozenset({"UNAVAILABLE", "SHUTTING_DOWN", "MODEL_NOT_READY"})
OVERLOADED = frozenset({"OVERLOADED"})
TOO_LONG = frozenset({"INPUT_TOO_LONG"})

FALLS_BACK = UNAVAILABLE | OVERLOADED | TOO_LONG
"""Reasons of docs/errors.md that are of the model and not of the caller: a limit, a deadline or a
wrong request would only fail again."""


def falls_back(reason: str) -> bool:
    """Whether a failure with this reason is one that another model may not have."""
    return reason in FALLS_BACK
