"""Alloy reads the lines that the processes write, from the pods that Prometheus scrapes, and tells Loki.

Nothing here can run Alloy or Loki, so their configuration is compared with what it speaks of.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import yaml

from inference_mesh import telemetry, tracing
from scripts.check_alerts import PROMETHEUS, ROOT
from tests.support.canaries import leaks_in, marked
from tests.support.manifests import Workload, workloads

FOLDER = ROOT / "observability" / "loki"
ALLOY = (FOLDER / "config.alloy").read_text()
LOKI: dict[str, Any] = yaml.safe_load((FOLDER / "loki.yml").read_text())
COMPONENT = re.compile(r'^([a-z]+(?:\.[a-z]+)+) "(\w+)" \{$', re.MULTILINE)
REFERENCE = re.compile(r"= \[?((?:discovery|loki)\.[a-z.]+)\.(\w+)\.(?:targets|output|receiver)\b")


def mesh_job() -> dict[str, Any]:
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    return next(job for job in jobs if job["job_name"] == "mesh")


def keys_of(block: str) -> set[str]:
    """The names in the map of a block, e.g. of `stage.json`."""
    found = re.search(rf"{re.escape(block)} \{{\s*\w+ = \{{([^}}]*)\}}", ALLOY)
    assert found, block
    return set(re.findall(r'(\w+) = ""', found[1]))


def test_the_fields_that_are_read_are_those_of_a_log_line() -> None:
    token = telemetry.current_request_id.set("7f3c")
    record = logging.LogRecord("gateway", logging.INFO, "", 0, "call", (), None)
    with tracing.span("test"):
        line = json.loads(telemetry.JsonFormatter("gateway").format(record))
    telemetry.current_request_id.reset(token)
    read = keys_of("stage.json")
    assert read - {"trace_id"} <= set(line)
    assert '"trace_id"' in (ROOT / "inference_mesh" / "telemetry.py").read_text()
    assert keys_of("stage.labels") == {"level"}
    assert keys_of("stage.labels") | keys_of("stage.structured_metadata") | {"time"} == read


def test_alloy_reads_the_pods_that_prometheus_scrapes() -> None:
    discovery = mesh_job()["kubernetes_sd_configs"][0]
    names = re.search(r"names = (\[.*\])", ALLOY)
    assert names
    assert set(json.loads(names[1])) == set(discovery["namespaces"]["names"])
    assert f'"{discovery["selectors"][0]["label"]}"' in ALLOY
    labels = {step.get("target_label") for step in mesh_job()["relabel_configs"]}
    assert set(re.findall(r'target_label\s+= "(\w+)"', ALLOY)) - {"container"} <= labels


def test_every_component_that_is_named_is_there() -> None:
    there = {f"{kind}.{name}" for kind, name in COMPONENT.findall(ALLOY)}
    named = {f"{kind}.{name}" for kind, name in REFERENCE.findall(ALLOY)}
    assert len(there) == 5
    assert named < there
    assert ALLOY.count("{") == ALLOY.count("}")


def test_logs_go_to_the_port_of_loki_and_grafana_asks_it() -> None:
    base = f"http://loki:{LOKI['server']['http_listen_port']}"
    assert f'url = "{base}/loki/api/v1/push"' in ALLOY
    source = yaml.safe_load((FOLDER / "datasource.yml").read_text())["datasources"][0]
    assert (source["type"], source["url"]) == ("loki", base)


def test_logs_are_kept_for_a_time_and_then_deleted() -> None:
    assert LOKI["limits_config"]["retention_period"] == "360h"
    assert LOKI["compactor"]["retention_enabled"] is True
    assert LOKI["compactor"]["delete_request_store"] == "filesystem"


def alloy() -> Workload:
    [found] = [one for one in workloads("examples/telemetry") if one.name == "alloy"]
    return found


def test_alloy_is_not_started_again_because_another_is_away() -> None:
    """`/-/healthy` fails while Loki or the API server does; source: Alloy's reference of HTTP endpoints."""
    container = alloy().containers[0]
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert probes == {"/-/ready"}


def test_alloy_listens_where_its_probes_and_prometheus_ask() -> None:
    workload = alloy()
    [listening] = [one for one in workload.containers[0]["args"] if "listen-addr" in one]
    port = workload.annotations["prometheus.io/port"]
    assert listening == f"--server.http.listen-addr=0.0.0.0:{port}"
    assert workload.ports == {"http": int(port)}


def test_alloy_remembers_how_far_it_read_where_it_may_write() -> None:
    workload = alloy()
    mounts = {one["mountPath"]: one for one in workload.containers[0]["volumeMounts"]}
    [place] = [
        one.partition("=")[2] for one in workload.containers[0]["args"] if one.startswith("--storage.path")
    ]
    volumes = {one["name"]: one for one in workload.pod["volumes"]}
    assert "emptyDir" in volumes[mounts[place]["name"]]
    assert "--disable-reporting" in workload.containers[0]["args"]


def test_lines_of_the_logs_own_parts_do_not_make_more_lines() -> None:
    """Alloy reads Loki's and Alloy's own pods too, so neither may tell each thing that it did."""
    assert LOKI["server"]["log_level"] == "warn"
    assert re.search(r'logging \{\s*level\s+= "warn"', ALLOY)


def line_of(error: BaseException, logger: str = "gateway", message: str = "unmapped exception") -> str:
    record = logging.LogRecord(logger, logging.ERROR, "", 0, message, (), (type(error), error, None))
    lines = [form("gateway").format(record) for form in (telemetry.JsonFormatter, telemetry.TextFormatter)]
    assert leaks_in("log", "".join(lines)) == []
    return str(json.loads(lines[0])["exception"])


def test_an_exception_is_told_by_its_frames_and_classes_and_not_by_its_words() -> None:
    said = marked("Who are you?")
    try:
        try:
            int(said)
        except ValueError as error:
            raise ExceptionGroup(said, [KeyError(said), RuntimeError(said)]) from error
    except ExceptionGroup as group:
        text = line_of(group)
    assert [
        name for name in ("ValueError", "ExceptionGroup", "KeyError", "RuntimeError") if name in text
    ] == [
        "ValueError",
        "ExceptionGroup",
        "KeyError",
        "RuntimeError",
    ]
    assert "int(said)" in text


def test_of_an_error_of_the_system_its_words_are_told() -> None:
    assert line_of(ConnectionRefusedError(111, "Connection refused")).endswith("Connection refused")


def test_what_asyncio_says_of_a_task_does_not_quote_its_exception() -> None:
    error = ValueError(marked("a prompt"))
    message = f"Task exception was never retrieved\nfuture: <Task finished exception={error!r}>"
    assert "ValueError" in line_of(error, "asyncio", message)
