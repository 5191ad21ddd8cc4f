"""What `mesh top` shows: short cells, and nothing that steers a terminal."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mesh_cli.errors import UsageError
from mesh_cli.top import report as reports
from mesh_cli.top.cells import amount, duration, part_of, printable, share
from mesh_cli.top.change import Reading, change_between
from mesh_cli.top.choices import Grouping, SortKey
from mesh_cli.top.page import parse_page
from mesh_cli.top.report import document, report_of
from mesh_cli.top.targets import Target, targets_of_urls
from mesh_cli.top.views import PlainView

EVIL = "\\n\x1b[2J\x1b]0;title\x07\x9b31m\u202e[red]x[/]"
TARGET = Target("w", "http://w", "worker")


def _shown(text: str, grouping: Grouping = Grouping.MODEL, width: int = 240) -> str:
    page = parse_page(text)
    file = io.StringIO()
    view = PlainView(Console(file=file, width=width))
    view.show(report_of([Reading(TARGET, change_between(page, page, 1))], grouping, SortKey.NAME, 0, 1))
    return file.getvalue()


@pytest.mark.parametrize("grouping", [Grouping.MODEL, Grouping.REPLICA])
def test_what_a_process_calls_its_model_cannot_steer_the_terminal(grouping: Grouping) -> None:
    shown = _shown(f'mesh_worker_model_ready{{model="a{EVIL}"}} 1\n', grouping)
    assert len(shown.splitlines()) == 2
    assert all(one.isprintable() for line in shown.split("\n") for one in line)
    assert "[red]x[/]" in shown


def test_a_tenant_cannot_steer_the_terminal_either() -> None:
    shown = _shown(
        f'mesh_gateway_tenant_requests_total{{tenant="t{EVIL}",model="m",outcome="OK"}} 1\n', Grouping.TENANT
    )
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown
    assert "\x9b" not in shown


@given(st.text(max_size=100))
def test_any_name_is_made_printable_and_short(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert len(shown) <= 40
    assert len(name) > 40 or len(shown) == len(name)


def test_a_long_name_is_cut_and_the_table_fits_80_columns() -> None:
    shown = _shown(f'mesh_worker_model_ready{{model="{"m" * 300}"}} 1\n', width=80)
    heading, row = shown.splitlines()
    assert heading.split()[-1] == "READY"
    assert row.split()[-1] == "1/1"
    assert "m…" in row


def test_more_rows_than_can_be_shown_are_counted() -> None:
    text = "".join(f'mesh_worker_model_ready{{model="{n}"}} 1\n' for n in range(reports.MAX_ROWS + 3))
    assert "and 3 more rows" in _shown(text)


def test_json_has_every_number_or_null() -> None:
    page = parse_page(f'mesh_worker_model_ready{{model="a{EVIL}"}} 1\n')
    lost = Reading(Target("lost", "http://lost", "gateway", note="failed: x"), problem="no connection")
    report = report_of(
        [Reading(TARGET, change_between(page, page, 1)), lost], Grouping.MODEL, SortKey.KV, 5, 1
    )
    told = json.loads(json.dumps(document(report), allow_nan=False))
    (row,) = told["rows"]
    assert (told["time"], told["interval_s"], told["by"], told["more_rows"]) == (5, 1, "model", 0)
    assert (row["requests_per_s"], row["p50_s"], row["ready"]) == (0, None, 1)
    assert "replica" not in row
    assert row["model"].isprintable()
    assert told["processes"][1] == {
        "name": "lost",
        "kind": "gateway",
        "reachable": False,
        "problem": "failed: x; no connection",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0.00ms"),
        (0.00035, "0.35ms"),
        (0.0042, "4.2ms"),
        (0.00996, "10ms"),
        (0.9994, "999ms"),
        (0.9999, "1.0s"),
        (99.9, "99.9s"),
        (300, "300s"),
    ],
)
def test_a_time_is_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.25, "0.25"),
        (12.345, "12.3"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (34_000, "34k"),
    ],
)
def test_an_amount_is_short(number: float | None, text: str) -> None:
    assert amount(number) == text


def test_shares_and_parts() -> None:
    assert (share(0.256), share(None), part_of(1, 2), part_of(None, 2)) == ("26%", "-", "1/2", "-")


def test_an_address_is_a_url_or_host_and_port() -> None:
    urls = ["127.0.0.1:9090", "http://127.0.0.1:9090/", "http://user:secret@[::1]:9091/x?a=1"]
    first, second = targets_of_urls(urls)
    assert (first.name, first.url) == ("127.0.0.1:9090", "http://127.0.0.1:9090/metrics")
    assert (second.name, second.url) == ("[::1]:9091/x", "http://user:secret@[::1]:9091/x?a=1")


@pytest.mark.parametrize(
    "address",
    ["", "ftp://a/metrics", "http://", "http://a:b/", "a:99999", "http://a:0/", "file:///etc", "http://[::1"],
)
def test_what_is_no_address_is_wrong_use(address: str) -> None:
    with pytest.raises(UsageError, match="--metrics"):
        targets_of_urls([address])
