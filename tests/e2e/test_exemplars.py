"""Exemplars: a slow bucket of a histogram leads to the trace of a call, as a real Prometheus keeps it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from observability.dashboards.panels import WITH_EXEMPLARS
from tests.support.processes import TINY_CHAT, MeshProcess, process_group, wait_until, write_models_file
from tests.support.prometheus import Prometheus, Target, prometheus
from tests.support.span_receiver import span_receiver

TRACE = "0af7651916cd43dd8448eb211c80319c"
HISTOGRAMS = sorted(WITH_EXEMPLARS)
OPENMETRICS = "application/openmetrics-text"


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[list[MeshProcess]]:
    """A bridge, a gateway and a worker that trace what their caller traces."""
    with span_receiver(ratio=0.0) as spans, process_group(tmp_path) as group:
        worker = group.worker(TINY_CHAT, *spans.arguments, name="chat", runtime="llama")
        worker.wait_until_ready()
        gateway = group.gateway(
            write_models_file(tmp_path / "models.yaml", {"chat": [worker]}), *spans.arguments
        )
        gateway.wait_until_ready()
        bridge = group.bridge(gateway, *spans.arguments)
        bridge.wait_until_ready()
        yield [bridge, gateway, worker]


def test_prometheus_finds_the_trace_of_a_call_in_every_histogram_of_latency(
    chat: list[MeshProcess], tmp_path: Path
) -> None:
    jobs = ("rest-bridge", "gateway", "worker")
    targets = [Target(process.url, job, job) for process, job in zip(chat, jobs, strict=True)]
    with prometheus(tmp_path, {}, targets) as server:
        _ask(chat[0], flags="00")
        _ask(chat[0], flags="01")
        found: dict[str, set[str]] = {}

        def is_all_found() -> bool:
            found.update({name: _traces(server, name) for name in HISTOGRAMS})
            return all(found.values())

        wait_until(is_all_found, f"exemplars of {HISTOGRAMS}", 20)
        assert set.union(*found.values()) == {TRACE}
        codes = server.query("sum by (code) (mesh_gateway_requests_total)")
        assert {one["metric"]["code"] for one in codes} == {"OK"}


def test_a_page_of_metrics_is_in_the_format_that_is_asked_for(chat: list[MeshProcess]) -> None:
    _ask(chat[0], flags="01")
    for process in chat:
        wanted, page = _page(process, f"{OPENMETRICS};version=1.0.0,text/plain;q=0.5")
        assert wanted.startswith(f"{OPENMETRICS}; version=1.0.0")
        assert page.endswith("# EOF\n")
        assert f'trace_id="{TRACE}"' in page
        plain_type, plain = _page(process, "text/plain")
        assert plain_type.startswith("text/plain")
        assert TRACE not in plain
        assert _names(page) == _names(plain)


def _ask(bridge: MeshProcess, flags: str) -> None:
    payload = {"prompt": "Hi", "max_tokens": 4}
    answer = httpx.post(
        f"{bridge.url}/api/infer",
        json={"model": "chat", "payload": payload, "stream": True},
        headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-{flags}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text


def _traces(server: Prometheus, histogram: str) -> set[str]:
    found: list[dict[str, Any]] = server.exemplars(f"{histogram}_bucket")
    return {one["labels"]["trace_id"] for one in found}


def _page(process: MeshProcess, accept: str) -> tuple[str, str]:
    request = urllib.request.Request(f"{process.url}/metrics", headers={"accept": accept})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(answer.headers["content-type"]), answer.read().decode()


def _names(page: str) -> set[str]:
    """The names of its samples."""
    return {line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if line[0] != "#"}
