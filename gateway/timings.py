"""A histogram for what every call adds to: half of the cost of `prometheus_client.Histogram`.

Owns counts by labels and bucket, and makes samples or lines of them when they are asked for. Not
safe for two threads that observe.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from gateway.tally import Labels
from inference_mesh.metrics_page import Format, exemplar_text, head_of, number_text


@dataclasses.dataclass(slots=True)
class _Series:
    """counts: of each bucket alone, the last for what is over every bound.

    template: its lines, with a place for the count and the exemplar of each bucket, and for the
    count and the sum of all. marks: the exemplars as a page has them, by bucket.
    """

    counts: list[int]
    template: str
    total: float = 0.0
    exemplars: dict[int, Exemplar] = dataclasses.field(default_factory=dict)
    marks: dict[int, str] = dataclasses.field(default_factory=dict)


class Timings(Collector):
    """Owns the series of one histogram."""

    _type = "histogram"

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """labels: the names of the labels. buckets: their upper bounds, rising."""
        self._name = name  # these four as those of the library's metrics
        self._documentation = documentation
        self._labelnames = tuple(labels)
        self._bounds = [float(bound) for bound in buckets]
        self._names = [*map(floatToGoString, self._bounds), "+Inf"]
        self._series: dict[Labels, _Series] = {}
        registry.register(self)

    def observe(self, labels: Labels, value: float, exemplar: dict[str, str] | None = None) -> None:
        """Add a value to a series. exemplar: labels that lead to the call that it is of."""
        series = self._series.get(labels) or self._new_series(labels)
        place = bisect.bisect_left(self._bounds, value)
        series.counts[place] += 1
        series.total += value
        if exemplar is not None:
            seen = series.exemplars[place] = Exemplar(exemplar, value, time.time())
            series.marks[place] = exemplar_text(seen)

    def forget(self, is_over: Callable[[Labels], bool]) -> None:
        """Drop the series for whose labels it is true."""
        for labels in [one for one in self._series if is_over(one)]:
            del self._series[labels]

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """The metric without samples, so that its name is taken."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The samples of this moment."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for labels, series in list(self._series.items()):
            sums = itertools.accumulate(series.counts)
            buckets = [
                (name, count, series.exemplars.get(place))
                for place, (name, count) in enumerate(zip(self._names, sums, strict=True))
            ]
            family.add_metric(labels, cast("Sequence[tuple[str, float]]", buckets), series.total)
        yield family

    def lines(self, form: Format) -> Iterator[str]:
        """The same as lines of a page."""
        none = [""] * len(self._names)
        for series in list(self._series.values()):
            sums, marks = list(itertools.accumulate(series.counts)), none
            if series.marks and form is Format.OPENMETRICS:
                marks = [series.marks.get(place, "") for place in range(len(none))]
            places = itertools.chain.from_iterable(zip(sums, marks, strict=True))
            yield series.template % (*places, sums[-1], number_text(series.total))

    def _new_series(self, labels: Labels) -> _Series:
        named = dict(zip(self._labelnames, labels, strict=True))
        heads = [head_of(f"{self._name}_bucket", {**named, "le": bound}) for bound in self._names]
        lines = [f"{_literal(head)}%d%s\n" for head in heads]
        lines.append(f"{_literal(head_of(f'{self._name}_count', named))}%d\n")
        lines.append(f"{_literal(head_of(f'{self._name}_sum', named))}%s\n")
        series = self._series[labels] = _Series([0] * len(self._names), "".join(lines))
        return series


def _literal(text: str) -> str:
    """A text inside a template."""
    return text.replace("%", "%%")
