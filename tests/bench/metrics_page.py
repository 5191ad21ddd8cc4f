"""What /metrics of a gateway costs when 50 tenants have called each of 1,000 models (F28).

A process that has the gateway's parts without transport, as in `policy_scene`, and its HTTP port: a
gateway with 1,000 real replicas does not fit on one machine. Each tenant's key calls each model once;
then the page is read once a second, at rest and amid calls at a steady rate.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from starlette.applications import Starlette

from inference_mesh.http_server import HttpServer, Readiness, operations_routes
from inference_mesh.lifecycle import write_port_file
from inference_mesh.process_metrics import ProcessMetrics
from inference_mesh.telemetry import configure_logging
from tests.bench.policy_scene import METHOD, Scene, SceneSize
from tests.bench.report import Figure, print_table, write_report
from tests.support.load import percentile
from tests.support.processes import MeshProcess, metric_sum, process_group, wait_until

COMMAND = "make bench"
SIZE = SceneSize(keys=50, tenants=50, models=1000, replicas=1)
FILL_LIMIT_S = 120.0
SCRAPES, SCRAPE_EVERY_S = 20, 1.0
CALLS_PER_S = 100
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
"""What Prometheus asks for."""
LATE_S = "0.025"
MAX_S, MAX_SERIES, MAX_LATE_SHARE = 0.1, 60_000, 0.02


def main() -> None:
    """Measure, print and write the report; with --port-file, be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", type=Path)
    port_file = parser.parse_args().port_file
    if port_file is not None:
        configure_logging("bench", "error")
        asyncio.run(_serve(port_file))
        return
    with tempfile.TemporaryDirectory() as folder, process_group(Path(folder)) as group:
        gateway = group.start("tests.bench.metrics_page", name="gateway")
        gateway.wait_for_ports()
        wait_until(lambda: _calls_of(_page(gateway)) >= SIZE.models * SIZE.keys, "all called", FILL_LIMIT_S)
        figures = _figures(gateway)
        gateway.popen.kill()
    rows = [
        (one.figure, f"{one.value:.4g}", one.target or "", "yes" if one.holds else "NO") for one in figures
    ]
    print_table(("figure", "value", "target", "holds"), rows)
    print(f"\n{len(figures)} figures in {write_report('metrics_page', figures)}; reproduce with: {COMMAND}")


async def _serve(port_file: Path) -> None:
    """Call each model with each key, serve the page, and go on calling at a steady rate once it is read."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), SIZE, None)
        process = ProcessMetrics(scene.metrics.registry)
        async with scene.opened():
            for key, model in itertools.product(range(SIZE.keys), range(SIZE.models)):
                await _call(scene, key, model)
            process.start()
            routes = operations_routes(lambda: Readiness(True, {}), scene.metrics.registry)
            server = HttpServer(Starlette(routes=routes), "127.0.0.1", 0)
            await server.start()
            write_port_file(str(port_file), grpc=0, http=server.port)
            await asyncio.sleep((SCRAPES + 2) * SCRAPE_EVERY_S)
            for number in itertools.count():
                await _call(scene, number % SIZE.keys, number % SIZE.models)
                await asyncio.sleep(1 / CALLS_PER_S)


async def _call(scene: Scene, key: int, model: int) -> None:
    """One call, counted as `front.desk` does it."""
    name, metrics = f"chat-{model:04d}", scene.metrics
    metrics.in_flight.add((name,))
    await scene.call(scene.asker_of(key, model))
    metrics.in_flight.add((name,), -1)
    metrics.requests.add((name, METHOD, "OK"))
    metrics.request_seconds.observe((name, METHOD), 0.05)


def _figures(gateway: MeshProcess) -> list[Figure]:
    before = _page(gateway)
    at_rest = _scrapes(gateway)
    after = _page(gateway)
    done = _calls_of(after)
    wait_until(lambda: _calls_of(_page(gateway)) > done, "calls go on", FILL_LIMIT_S)
    amid_calls = _scrapes(gateway)
    series = sum(not line.startswith("#") for line in after.splitlines())
    return [
        *_of_scrapes("at rest", at_rest),
        *_of_scrapes(f"amid {CALLS_PER_S} calls/s", amid_calls),
        _figure("series on the page", series, MAX_SERIES, "≤ {}"),
        _figure("MiB of the page", len(after) / 2**20, None),
        _figure(
            f"share of timers later than {LATE_S} s, at rest",
            _late_share(before, after),
            MAX_LATE_SHARE,
            "≤ {}",
        ),
    ]


def _of_scrapes(when: str, seconds: list[float]) -> Iterator[Figure]:
    yield _figure(f"{when}: median ms of a scrape", statistics.median(seconds) * 1e3, MAX_S * 1e3, "≤ {:g}")
    yield _figure(f"{when}: p95 ms of a scrape", percentile(seconds, 95) * 1e3, MAX_S * 1e3, "≤ {:g}")


def _figure(name: str, value: float, limit: float | None, target: str = "") -> Figure:
    full = f"/metrics, 1,000 models x 50 keys: {name}"
    if limit is None:
        return Figure(full, value, COMMAND)
    return Figure(full, value, COMMAND, target.format(limit), value <= limit)


def _scrapes(gateway: MeshProcess) -> list[float]:
    taken = []
    for _ in range(SCRAPES):
        started = time.monotonic()
        _page(gateway)
        taken.append(time.monotonic() - started)
        time.sleep(max(0.0, SCRAPE_EVERY_S - taken[-1]))
    return taken


def _page(gateway: MeshProcess) -> str:
    request = urllib.request.Request(f"{gateway.url}/metrics", headers={"accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def _calls_of(page: str) -> float:
    return metric_sum(page, "mesh_gateway_requests_total")


def _late_share(before: str, after: str) -> float:
    """Share of the event loop's timers between two pages that ran too late."""
    name = "mesh_event_loop_lag_seconds"
    pages = (before, after)
    beats = [metric_sum(page, f"{name}_count") for page in pages]
    in_time = [metric_sum(page, f"{name}_bucket", le=LATE_S) for page in pages]
    return 1 - (in_time[1] - in_time[0]) / max(1.0, beats[1] - beats[0])


if __name__ == "__main__":
    main()
