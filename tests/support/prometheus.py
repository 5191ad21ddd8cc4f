"""A real Prometheus under test: on a free port of loopback, with rules of its own, never left.

Owns starting and ending it, and reading its answers.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.processes import http_status_of, wait_until
from tests.support.redis_server import free_port

START_LIMIT_S = 20.0
INTERVAL = "500ms"
EXEMPLARS_S = 600.0


class Target(NamedTuple):
    """What is scraped. url: of its HTTP port. job, pod, namespace, node: labels, as they are in a cluster."""

    url: str
    job: str
    pod: str = ""
    namespace: str = ""
    node: str = ""
    path: str = "/metrics"

    @property
    def labels(self) -> dict[str, str]:
        """The labels that its series get."""
        named = {"pod": self.pod, "namespace": self.namespace, "node": self.node}
        return {name: value for name, value in named.items() if value}


class Alert(NamedTuple):
    """An alert that is pending or fires."""

    name: str
    state: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Prometheus:
    """Owns one prometheus process."""

    def __init__(self, popen: subprocess.Popen[bytes], port: int) -> None:
        self._popen = popen
        self._url = f"http://127.0.0.1:{port}"

    def wait_until_ready(self) -> None:
        """Wait until it answers queries."""
        wait_until(
            lambda: http_status_of(f"{self._url}/-/ready") == 200, "Prometheus is ready", START_LIMIT_S
        )

    def alerts(self) -> list[Alert]:
        """The alerts of this moment."""
        found: list[dict[str, Any]] = self._get("/api/v1/alerts", {})["alerts"]
        return [
            Alert(one["labels"]["alertname"], one["state"], one["labels"], one["annotations"])
            for one in found
        ]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an expression at this moment."""
        result: list[dict[str, Any]] = self._get("/api/v1/query", {"query": expr})["result"]
        return result

    def query_range(self, expr: str, seconds: float, step_s: float) -> list[dict[str, Any]]:
        """The series of an expression over the last seconds, a value for each step."""
        now_s = time.time()
        times = {"start": str(now_s - seconds), "end": str(now_s), "step": str(step_s)}
        result: list[dict[str, Any]] = self._get("/api/v1/query_range", {"query": expr, **times})["result"]
        return result

    def label_values(self, label: str, series: str) -> list[str]:
        """The values of a label of some series."""
        values: list[str] = self._get(f"/api/v1/label/{label}/values", {"match[]": series})
        return values

    def exemplars(self, expr: str) -> list[dict[str, Any]]:
        """The exemplars of the series in an expression, each with the labels of its series."""
        now_s = time.time()
        times = {"start": str(now_s - EXEMPLARS_S), "end": str(now_s + 1)}
        found: list[dict[str, Any]] = self._get("/api/v1/query_exemplars", {"query": expr, **times})
        return [{**series["seriesLabels"], **one} for series in found for one in series["exemplars"]]

    def end(self) -> None:
        """End it."""
        self._popen.kill()
        self._popen.wait()

    def _get(self, path: str, query: dict[str, str]) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None


@contextlib.contextmanager
def prometheus(
    folder: Path,
    rules: Mapping[str, str],
    targets: Sequence[Target],
    relabeling: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Iterator[Prometheus]:
    """A running Prometheus that is ended with the block.

    rules: text of each rule file. relabeling: what a job does to the series that it scraped.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise AssertionError("prometheus is not installed; see scripts/apt_packages.sh")
    port = free_port()
    config = _write_configuration(folder, rules, targets, relabeling or {})
    flags = ["--config.file", str(config), "--storage.tsdb.path", str(folder / "data")]
    flags += ["--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warn"]
    flags += ["--enable-feature=exemplar-storage"]
    with (folder / "prometheus.log").open("wb") as log:
        popen = subprocess.Popen([program, *flags], stdout=log, stderr=log, start_new_session=True)
    server = Prometheus(popen, port)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.end()


def fired(server: Prometheus, name: str, limit_s: float, **labels: str) -> Alert:
    """The alert of this name and these labels, once it fires. Fails after the limit."""
    ends_at = time.monotonic() + limit_s
    while time.monotonic() < ends_at:
        for alert in server.alerts():
            if (alert.name, alert.state) == (name, "firing") and labels.items() <= alert.labels.items():
                return alert
        time.sleep(0.2)
    others = sorted({(alert.name, alert.state) for alert in server.alerts()})
    raise AssertionError(f"{name} did not fire within {limit_s} s; there are {others}")


def _write_configuration(
    folder: Path,
    rules: Mapping[str, str],
    targets: Sequence[Target],
    relabeling: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Path:
    for name, text in rules.items():
        (folder / name).write_text(text)
    jobs = [
        {
            "job_name": job,
            "metrics_path": path,
            "static_configs": [
                {"targets": [one.url.removeprefix("http://")], "labels": one.labels}
                for one in targets
                if one.job == job
            ],
            "metric_relabel_configs": list(relabeling.get(job, ())),
        }
        for job, path in sorted({(one.job, one.path) for one in targets})
    ]
    document = {
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": [str(folder / name) for name in rules],
        "scrape_configs": jobs,
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(document))
    return path
