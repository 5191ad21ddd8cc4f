"""A page of metrics is read whole, or refused with a reason."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mesh_cli.top import page
from mesh_cli.top.page import PageError, parse_page

METRICS_PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
READY = 'mesh_worker_model_ready{model="m"} 1\n'


def test_what_is_read_are_metrics_that_the_processes_have() -> None:
    told = METRICS_PAGE.read_text()
    missing = [name for name in page.READ if f"`{name.removesuffix('_bucket')}`" not in told]
    assert missing == []


def test_a_page_of_the_library_is_read() -> None:
    registry = CollectorRegistry()
    Gauge("mesh_worker_model_ready", "…", ("model",), registry=registry).labels("m").set(1)
    Gauge("process_start_time_seconds", "…", registry=registry).set(1234.5)
    Gauge("mesh_worker_other", "Not shown.", registry=registry).set(1)
    Counter("mesh_worker_requests", "…", ("model", "code"), registry=registry).labels("m", "OK").inc(3)
    times = Histogram("mesh_worker_request_seconds", "…", ("model",), buckets=(1, 2), registry=registry)
    times.labels("m").observe(1.5)
    read = parse_page(generate_latest(registry).decode())
    assert (read.kind, read.model, read.started_at_s) == ("worker", "m", 1234.5)
    assert read.families["mesh_worker_requests_total"] == {(("code", "OK"), ("model", "m")): 3}
    assert sorted(read.families["mesh_worker_request_seconds_bucket"].values()) == [0, 1, 1]
    assert "mesh_worker_other" not in read.families


def test_names_with_quotes_and_line_breaks_are_read_as_they_are() -> None:
    read = parse_page('mesh_worker_model_ready{model="a\\"}\\n\\\\b, {c\x85\u2028"} 1\n')
    assert read.model == 'a"}\n\\b, {c\x85\u2028'


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e300"])
def test_a_value_that_no_sum_can_be_made_of_is_left_out(value: str) -> None:
    read = parse_page(f'{READY}mesh_worker_slots{{model="m"}} {value}\n')
    assert not read.families.get("mesh_worker_slots")
    assert all(map(math.isfinite, read.families["mesh_worker_model_ready"].values()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html><body>Welcome</body></html>",
        '{"ready": true}',
        "go_goroutines 5\n",
        "mesh_bridge_in_flight 0\n",
        "mesh_worker_model_ready{model= 1\n",
        "mesh_worker_model_ready nonsense\n",
        f"{READY}mesh_worker_slots\n",
        f"{READY}mesh_worker_slots {'9' * 400}\n",
    ],
)
def test_what_is_no_page_of_a_gateway_or_worker_is_refused(text: str) -> None:
    with pytest.raises(PageError):
        parse_page(text)


def test_more_series_than_can_be_held_are_refused() -> None:
    many = "".join(f'mesh_worker_slots{{model="{number}"}} 1\n' for number in range(page.MAX_SERIES + 1))
    with pytest.raises(PageError, match="series"):
        parse_page(many)


def test_a_line_that_would_take_too_long_is_refused() -> None:
    with pytest.raises(PageError, match="characters"):
        parse_page(f'mesh_worker_slots{{model="{"a" * page.MAX_LINE_CHARACTERS}"}} 1\n')


@given(st.text(max_size=40), st.sampled_from(["", " ", "{", '{model="', '{model="m"} ', "{le=}"]))
def test_any_text_is_a_page_or_refused(text: str, start: str) -> None:
    try:
        parse_page(f"{READY}mesh_worker_slots{start}{text}\n")
    except PageError:
        return
