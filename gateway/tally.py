"""A counter for what every call adds to: a quarter of the cost of `prometheus_client.Counter`.

Owns plain numbers by labels, and makes samples of them when they are asked for. Not safe for
two threads that add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

Labels = tuple[str, ...]


class Tally(Collector):
    """Owns the series of one counter."""

    _type = "counter"

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        """name: ends with "_total". labels: the names of the labels."""
        self._name = name.removesuffix("_total")  # these four as those of the library's metrics
        self._documentation = documentation
        self._labelnames = tuple(labels)
        self._counts: dict[Labels, float] = {}
        registry.register(self)

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Add to a series. labels: one value for each label."""
        counts = self._counts
        counts[labels] = counts.get(labels, 0) + amount

    def forget(self, is_over: Callable[[Labels], bool]) -> None:
        """Drop the series for whose labels it is true."""
        for labels in [one for one in self._counts if is_over(one)]:
            del self._counts[labels]

    def describe(self) -> Iterator[CounterMetricFamily]:
        """The counter without samples, so that its name is taken."""
        yield CounterMetricFamily(self._name, self._documentation, labels=self._labelnames)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The samples of this moment."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for labels, count in list(self._counts.items()):
            family.add_metric(labels, count)
        yield family
