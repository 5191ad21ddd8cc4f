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


class Target(NamedTuple):
    """What is scraped. url: of its HTTP port. job, pod: labels, as they are in a cluster."""

    url: str
    job: str
    pod: str


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
        found = self._get("/api/v1/alerts", {})["alerts"]
        return [
            Alert(one["labels"]["alertname"], one["state"], one["labels"], one["annotations"])
            for one in found
        ]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an expression at this moment."""
        result: list[dict[str, Any]] = self._get("/api/v1/query", {"query": expr})["result"]
        return result

    def end(self) -> None:
        """End it."""
        self._popen.kill()
        self._popen.wait()

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        url = f"{self._url}{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                data: dict[str, Any] = json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None
        return data


@contextlib.contextmanager
def prometheus(folder: Path, rules: Mapping[str, str], targets: Sequence[Target]) -> Iterator[Prometheus]:
    """A running Prometheus that is ended with the block. rules: text of each rule file."""
    program = shutil.which("prometheus")
    if program is None:
        raise AssertionError("prometheus is not installed; see scripts/apt_packages.sh")
    port = free_port()
    config = _write_configuration(folder, rules, targets)
    flags = ["--config.file", str(config), "--storage.tsdb.path", str(folder / "data")]
    flags += ["--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warn"]
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


def _write_configuration(folder: Path, rules: Mapping[str, str], targets: Sequence[Target]) -> Path:
    for name, text in rules.items():
        (folder / name).write_text(text)
    jobs = [
        {
            "job_name": job,
            "static_configs": [
                {"targets": [one.url.removeprefix("http://")], "labels": {"pod": one.pod}}
                for one in targets
                if one.job == job
            ],
        }
        for job in sorted({one.job for one in targets})
    ]
    document = {
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": [str(folder / name) for name in rules],
        "scrape_configs": jobs,
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(document))
    return path
