"""Numbers that every call adds to: a quarter of the cost of `prometheus_client`'s.

Owns plain numbers by labels, and makes samples or lines of them when they are asked for. Not safe
for two threads that add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from inference_mesh.metrics_page import Format, head_of, number_text

Labels = tuple[str, ...]


class Tally(Collector):
    """Owns the series of one counter."""

    _type = "counter"
    _suffix = "_total"
    _family: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        """name: of a counter, ends with "_total". labels: the names of the labels."""
        self._name = name.removesuffix(self._suffix)  # these four as those of the library's metrics
        self._documentation = documentation
        self._labelnames = tuple(labels)
        self._counts: dict[Labels, float] = {}
        self._heads: dict[Labels, str] = {}
        registry.register(self)

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Add to a series. labels: one value for each label."""
        counts = self._counts
        counts[labels] = counts.get(labels, 0) + amount

    def of(self, labels: Labels) -> float:
        """The number of a series; 0 if there is none."""
        return self._counts.get(labels, 0)

    def forget(self, is_over: Callable[[Labels], bool]) -> None:
        """Drop the series for whose labels it is true."""
        for labels in [one for one in self._counts if is_over(one)]:
            del self._counts[labels]
            self._heads.pop(labels, None)

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The metric without samples, so that its name is taken."""
        yield self._family(self._name, self._documentation, labels=self._labelnames)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The samples of this moment."""
        family = self._family(self._name, self._documentation, labels=self._labelnames)
        for labels, count in list(self._counts.items()):
            family.add_metric(labels, count)
        yield family

    def lines(self, _: Format) -> Iterator[str]:
        """The same as lines of a page."""
        heads = self._heads
        for labels, count in list(self._counts.items()):
            head = heads.get(labels)
            if head is None:
                named = dict(zip(self._labelnames, labels, strict=True))
                head = heads[labels] = head_of(self._name + self._suffix, named)
            yield f"{head}{number_text(count)}\n"


class Level(Tally):
    """Owns the series of one gauge, which goes up and down."""

    _type = "gauge"
    _suffix = ""
    _family = GaugeMetricFamily

    def set(self, labels: Labels, value: float) -> None:
        """Have a series at a value. labels: one value for each label."""
        self._counts[labels] = value

    def remove(self, labels: Labels) -> None:
        """Drop a series, if it is there."""
        self._counts.pop(labels, None)
        self._heads.pop(labels, None)
