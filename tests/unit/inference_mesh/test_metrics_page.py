"""The page says what the library's own encoders say, but for the times of creation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector
from prometheus_client import generate_latest as text_of
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_of
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.samples import Sample

from gateway.readings import Readings
from gateway.tally import Level, Tally
from gateway.timings import Timings
from inference_mesh.metrics_page import Format, MetricsPage, format_of

ODD = 'a "quoted" \\ name\nof 100%d'
TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c"}


@pytest.fixture
def registry() -> CollectorRegistry:
    """Every kind of metric that a process has, the library's and the gateway's."""
    made = CollectorRegistry()
    Counter("calls", 'Calls, "all" of them.', ("model", "code"), registry=made).labels(ODD, "OK").inc(3)
    Gauge("depth", "Depth\nof a queue \\ now.", registry=made).set(math.inf)
    Gauge("share", "Nothing yet.", registry=made).set(math.nan)
    seconds = Histogram("seconds", "Time.", ("model",), buckets=(0.1, 1), registry=made)
    seconds.labels("chat").observe(0.5, TRACE)
    Tally("tallied_total", "Tallied.", ("model",), made).add((ODD,), 2.5)
    level = Level("level", "Goes up and down.", ("model",), made)
    level.add(("chat",))
    level.add(("chat",), -1)
    timings = Timings("timed_seconds", "Timed.", ("model",), (0.1, 1), made)
    timings.observe((ODD,), 0.1)
    timings.observe((ODD,), 7.0, TRACE)
    timings.observe(("chat",), 0.5)
    Readings("read", "Asked for.", ("model",), made).watch((ODD,), lambda: 4.0)
    Gauge("without_series", "Nobody was seen.", ("model",), registry=made)
    return made


def facts(families: Iterator[Metric]) -> dict[str, tuple[str, str, list[Sample]]]:
    """Kind, meaning and samples by name. A sample's exemplar is compared by its labels and value."""
    found = {}
    for family in families:
        samples = [one for one in family.samples if not one.name.endswith("_created")]
        if samples or not family.name.endswith("_created"):
            plain = [
                (one.name, one.labels, repr(float(one.value)), one.exemplar and one.exemplar[:2])
                for one in samples
            ]
            found[family.name] = (family.type, family.documentation, plain)
    return found  # type: ignore[return-value]  # samples as tuples, so that NaN equals NaN


@pytest.mark.parametrize(
    ("form", "encode", "read"),
    [(Format.TEXT, text_of, read_text), (Format.OPENMETRICS, openmetrics_of, read_openmetrics)],
    ids=["text", "openmetrics"],
)
def test_a_page_is_what_the_library_would_write(
    registry: CollectorRegistry,
    form: Format,
    encode: Callable[[CollectorRegistry], bytes],
    read: Callable[[str], Iterator[Metric]],
) -> None:
    expected = facts(read(encode(registry).decode()))
    page = MetricsPage(registry)
    for _ in range(2):  # the second time with what it kept of the first
        assert facts(read(page.render(form).decode())) == expected
    assert len(expected) == 9


def test_exemplars_stand_in_openmetrics_only(registry: CollectorRegistry) -> None:
    page = MetricsPage(registry)
    assert page.render(Format.OPENMETRICS).count(TRACE["trace_id"].encode()) == 2
    assert TRACE["trace_id"].encode() not in page.render(Format.TEXT)


def test_what_is_forgotten_leaves_the_page(registry: CollectorRegistry) -> None:
    made = CollectorRegistry()
    tally = Tally("tallied_total", "Tallied.", ("model",), made)
    timings = Timings("timed_seconds", "Timed.", ("model",), (0.1, 1), made)
    readings = Readings("read", "Asked for.", ("model",), made)
    gauge = Gauge("depth", "Depth.", ("model",), registry=made)
    for model in ("gone", "kept"):
        tally.add((model,))
        timings.observe((model,), 0.5)
        readings.watch((model,), lambda: 1.0)
        gauge.labels(model).set(1)
    page = MetricsPage(made)
    assert b"gone" in page.render(Format.TEXT)
    for metric in (tally, timings, readings):
        metric.forget(lambda labels: labels[0] == "gone")
    gauge.remove("gone")
    text = page.render(Format.TEXT)
    assert b"gone" not in text
    assert text.count(b"kept") == 8


def test_the_metrics_of_the_process_are_on_it() -> None:
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    text = MetricsPage(made).render(Format.TEXT).decode()
    assert {family.name for family in read_text(text)} >= {"process_cpu_seconds", "process_open_fds"}


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format.TEXT),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Format.OPENMETRICS),
        ("text/plain, application/openmetrics-text ; version=0.0.1", Format.OPENMETRICS),
    ],
)
def test_a_scraper_gets_the_format_that_it_asks_for(accept: str, form: Format) -> None:
    assert format_of(accept) is form


def test_a_histogram_has_a_value_in_the_bucket_whose_bound_it_is() -> None:
    made = CollectorRegistry()
    timings = Timings("seconds", "Time.", (), (0.1, 1), made)
    for value in (0.1, 0.100001, 1.0, 1.5):
        timings.observe((), value)
    counts = {le: made.get_sample_value("seconds_bucket", {"le": le}) for le in ("0.1", "1.0", "+Inf")}
    assert counts == {"0.1": 1, "1.0": 3, "+Inf": 4}
    assert made.get_sample_value("seconds_count") == 4
    assert made.get_sample_value("seconds_sum") == pytest.approx(2.700001)
