"""What became of a process between two pages: rates, restarts, and pages that are missing."""

from __future__ import annotations

from mesh_cli.top.change import Change, Meter, Reading, Scrape, change_between
from mesh_cli.top.page import Page, parse_page
from mesh_cli.top.targets import Target

TARGET = Target("gateway", "http://127.0.0.1:1/metrics")
OK = (("code", "OK"), ("model", "m"))
FAILED = (("code", "INTERNAL"), ("model", "m"))
REQUESTS = "mesh_gateway_requests_total"


def _page(ok: float, *, failed: float | None = None, started: float | None = 100.0) -> Page:
    lines = [f'{REQUESTS}{{model="m",code="OK"}} {ok}', 'mesh_gateway_in_flight{model="m"} 7']
    lines += [] if failed is None else [f'{REQUESTS}{{model="m",code="INTERNAL"}} {failed}']
    lines += [] if started is None else [f"process_start_time_seconds {started}"]
    return parse_page("\n".join(lines) + "\n")


def _rate(change: Change, labels: tuple[tuple[str, str], ...] = OK) -> float | None:
    return None if change.rates is None else change.rates[REQUESTS][labels]


def test_a_rate_is_the_growth_over_the_time() -> None:
    assert _rate(change_between(_page(10), _page(16), 4)) == 1.5


def test_a_gauge_has_no_rate() -> None:
    change = change_between(_page(10), _page(16), 4)
    assert change.rates is not None
    assert "mesh_gateway_in_flight" not in change.rates
    assert list(change.page.families["mesh_gateway_in_flight"].values()) == [7]


def test_a_series_that_is_new_counts_from_zero() -> None:
    assert _rate(change_between(_page(10), _page(10, failed=8), 4), FAILED) == 2


def test_a_series_that_is_gone_has_no_rate() -> None:
    change = change_between(_page(10, failed=8), _page(10), 4)
    assert change.rates is not None
    assert FAILED not in change.rates[REQUESTS]


def test_a_counter_that_fell_counts_from_zero() -> None:
    assert _rate(change_between(_page(10, started=None), _page(6, started=None), 4)) == 1.5


def test_a_process_that_was_restarted_counts_from_zero_even_if_its_counters_are_higher_by_now() -> None:
    change = change_between(_page(10), _page(16, started=200.0), 4)
    assert (_rate(change), change.note) == (4, "restarted")


def test_an_older_process_at_the_same_address_has_no_rates() -> None:
    change = change_between(_page(10), _page(1000, started=50.0), 4)
    assert change.rates is None
    assert "another process" in change.note


def test_no_time_has_no_rates() -> None:
    assert change_between(_page(10), _page(16), 0).rates is None


def _read(meter: Meter, page: Page | None, at_s: float) -> Reading:
    (reading,) = meter.read([Scrape(TARGET, at_s, page, "" if page else "no connection")])
    return reading


def test_the_first_page_has_no_rates() -> None:
    change = _read(Meter(), _page(10), 0).change
    assert change is not None
    assert change.rates is None


def test_a_page_is_compared_with_the_last_one_there_was() -> None:
    meter = Meter()
    _read(meter, _page(10), 0)
    lost = _read(meter, None, 2)
    assert (lost.change, lost.problem, lost.target.kind) == (None, "no connection", "gateway")
    change = _read(meter, _page(18), 4).change
    assert change is not None
    assert _rate(change) == 2


def test_a_process_that_is_no_longer_asked_is_forgotten() -> None:
    meter = Meter()
    _read(meter, _page(10), 0)
    meter.read([])
    change = _read(meter, _page(18), 4).change
    assert change is not None
    assert change.rates is None
