"""Whether a call is copied to a shadow, and to which. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from inference_mesh.config.model_traffic import ShadowSpec
from inference_mesh.config.models_file import ModelEntry


class Target(NamedTuple):
    """A model in one version; empty = the registry names none."""

    model: str
    version: str


class Choice(enum.Enum):
    """What happens to a call that could be copied."""

    COPY = "copy"
    NOT_CHOSEN = "not_chosen"
    DROPPED = "dropped"


def shadow_of(entry: ModelEntry, entries: Mapping[str, ModelEntry]) -> Target | None:
    """Where copies of an entry's calls go; None without a shadow, or if its model is no more.

    entries: all of the registry, by name. A shadow that names no version gets the version of
    its model with the most weight.
    """
    if entry.shadow is None:
        return None
    other = entries.get(entry.shadow.model or entry.name)
    if other is None:
        return None
    if entry.shadow.version:
        return Target(other.name, entry.shadow.version)
    return Target(other.name, max(other.variants, key=lambda variant: variant.weight).version)


def stable_of(entry: ModelEntry, shadow: Target) -> Target:
    """What a shadow is compared with; its version is empty where several take the calls."""
    versions = [one.version for one in entry.variants if Target(entry.name, one.version) != shadow]
    return Target(entry.name, versions[0] if len(versions) == 1 else "")


def choose(spec: ShadowSpec, draw: float, in_flight: int, waiting: int) -> Choice:
    """Whether one call is copied.

    draw: a random number in [0, 1). in_flight: copies that run. waiting: callers who wait for
    the shadow's own target; they go first.
    """
    if draw >= spec.share:
        return Choice.NOT_CHOSEN
    if in_flight >= spec.max_in_flight or waiting > 0:
        return Choice.DROPPED
    return Choice.COPY
