"""Sums of series by some of their labels, like PromQL's `sum by (…)`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from mesh_cli.top.page import Families

Key = tuple[str, ...]
"""The values of the labels that are grouped by."""
Where = Callable[[Mapping[str, str]], bool]
"""Whether a series with these labels counts."""


def everything(_: Mapping[str, str]) -> bool:
    """Every series counts."""
    return True


def summed(processes: Iterable[Families], name: str, by: Key, where: Where = everything) -> dict[Key, float]:
    """The sum of a metric over all processes, for each group. by: names of labels."""
    sums: defaultdict[Key, float] = defaultdict(float)
    for key, _, value in _grouped(processes, name, by, where):
        sums[key] += value
    return dict(sums)


def largest(processes: Iterable[Families], name: str, by: Key) -> dict[Key, float]:
    """The largest value of a metric in all processes, for each group."""
    found: dict[Key, float] = {}
    for key, _, value in _grouped(processes, name, by, everything):
        found[key] = max(value, found.get(key, -math.inf))
    return found


def counted(processes: Iterable[Families], name: str, by: Key) -> dict[Key, int]:
    """How many series of a metric there are in all processes, for each group."""
    counts: defaultdict[Key, int] = defaultdict(int)
    for key, _, _ in _grouped(processes, name, by, everything):
        counts[key] += 1
    return dict(counts)


def buckets(
    processes: Iterable[Families], name: str, by: Key, where: Where = everything
) -> dict[Key, dict[float, float]]:
    """The buckets of a histogram over all processes, for each group: upper bound to count.

    name: with its suffix `_bucket`. A bucket whose bound is no number is left out.
    """
    sums: defaultdict[Key, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for key, labels, value in _grouped(processes, name, by, where):
        try:
            bound = float(labels.get("le", ""))
        except ValueError:
            continue
        if not math.isnan(bound):
            sums[key][bound] += value
    return {key: dict(of_key) for key, of_key in sums.items()}


def _grouped(
    processes: Iterable[Families], name: str, by: Key, where: Where
) -> Iterator[tuple[Key, Mapping[str, str], float]]:
    for families in processes:
        for pairs, value in families.get(name, {}).items():
            labels = dict(pairs)
            if where(labels):
                yield tuple(labels.get(label, "") for label in by), labels, value
