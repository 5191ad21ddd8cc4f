"""A gauge whose values are asked for when the metrics are read.

Owns what to ask, by labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.tally import Labels
from inference_mesh.metrics_page import Format, head_of, number_text

Read = Callable[[], float]
"""The value of now; asked by another thread."""


class Readings(Collector):
    """Owns the series of one gauge."""

    _type = "gauge"

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        """labels: the names of the labels."""
        self._name = name  # these four as those of the library's metrics
        self._documentation = documentation
        self._labelnames = tuple(labels)
        self._asked: dict[Labels, tuple[str, Read]] = {}
        registry.register(self)

    def watch(self, labels: Labels, read: Read) -> None:
        """Ask for the value of a series from now on."""
        head = head_of(self._name, dict(zip(self._labelnames, labels, strict=True)))
        self._asked[labels] = (head, read)

    def forget(self, is_over: Callable[[Labels], bool]) -> None:
        """Drop the series for whose labels it is true."""
        for labels in [one for one in self._asked if is_over(one)]:
            del self._asked[labels]

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The metric without samples, so that its name is taken."""
        yield GaugeMetricFamily(self._name, self._documentation, labels=self._labelnames)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The samples of this moment."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for labels, (_, read) in list(self._asked.items()):
            family.add_metric(labels, read())
        yield family

    def lines(self, _: Format) -> Iterator[str]:
        """The same as lines of a page."""
        for head, read in list(self._asked.values()):
            yield f"{head}{number_text(read())}\n"
