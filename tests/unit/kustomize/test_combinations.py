"""Logs, traces and what else is a component go together, and each stands alone on every overlay."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.check_manifests import KUSTOMIZE
from tests.support.manifests import (
    Manifest,
    datasources,
    full_name,
    kubectl,
    mappings,
    overlay_of,
    rendered,
    workloads,
)
from tests.support.network_flows import Network
from tests.support.quotas import over_quota, quantity

PROD = "overlays/prod"
OPERATIONS = KUSTOMIZE.parent / "docs" / "operations.md"
LOGS, TRACES, LINKS = "components/logs", "components/traces", "components/logs-traces-links"
LINKED = {"exemplarTraceIdDestinations", "derivedFields", "tracesToLogsV2"}


class Case(NamedTuple):
    """An overlay with components beside it, and the datasources and links that Grafana has then."""

    base: str
    components: tuple[str, ...]
    sources: set[str]
    links: set[str]


CASES = {
    "prod": Case(PROD, (), {"prometheus"}, set()),
    "logs": Case(PROD, (LOGS,), {"prometheus", "loki"}, set()),
    "traces": Case(PROD, (TRACES,), {"prometheus", "tempo"}, {"exemplarTraceIdDestinations"}),
    "traces, then logs": Case(
        PROD, (TRACES, LOGS), {"prometheus", "loki", "tempo"}, {"exemplarTraceIdDestinations"}
    ),
    "all, links included": Case(
        PROD,
        (TRACES, LOGS, LINKS, "components/worker-tls", "components/observability-ingress"),
        {"prometheus", "loki", "tempo"},
        LINKED,
    ),
    "dev": Case("overlays/dev", (LOGS, TRACES, LINKS), {"prometheus", "loki", "tempo"}, LINKED),
    "operators": Case(
        "overlays/prod-operators", (LOGS, TRACES, LINKS), {"prometheus", "loki", "tempo"}, LINKED
    ),
    "a model more": Case(
        "examples/model-files-pvc", (TRACES,), {"prometheus", "tempo"}, {"exemplarTraceIdDestinations"}
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Each in turn; it is rendered once for all tests."""
    return CASES[request.param]


@pytest.fixture(scope="module")
def name(case: Case, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The case, for `rendered`."""
    return overlay_of(tmp_path_factory.mktemp("overlay"), case.base, *case.components)


def test_grafana_has_a_datasource_for_each_store_that_is_there_and_none_for_another(
    case: Case, name: str
) -> None:
    sources = [one["uid"] for one in datasources(name)]
    assert sorted(sources) == sorted(case.sources)
    assert set(sources) <= {one.name for one in workloads(name)}


def test_links_lead_only_to_datasources_that_are_there(case: Case, name: str) -> None:
    sources = datasources(name)
    assert {key for one in sources for key in one.get("jsonData", {})} & LINKED == case.links
    led_to = {one["datasourceUid"] for one in mappings(sources) if "datasourceUid" in one}
    assert led_to <= {one["uid"] for one in sources}


def test_every_flow_is_let_through_on_both_sides_and_no_other(name: str) -> None:
    network = Network(name)
    ours = {one.name for one in workloads(name)}
    used = network.used()
    assert network.allowed_out() == {flow for flow in used if flow[0] in ours}
    assert network.allowed_in() == {flow for flow in used if flow[1] in ours}


def test_it_fits_the_quotas(name: str) -> None:
    assert over_quota(name) == []


def test_with_traces_every_process_tells_tempo_and_without_them_nobody(case: Case, name: str) -> None:
    told = {
        workload.name
        for workload in workloads(name)
        for container in workload.containers
        if any(variable.endswith("_OTLP_ENDPOINT") for variable in workload.environment(container))
    }
    ours = {one.name for one in workloads(name) if one.containers[0]["image"].startswith("inference-mesh/")}
    assert told == (ours if TRACES in case.components else set())


def test_prometheus_asks_the_stores_too(name: str) -> None:
    stores = {one.name for one in workloads(name)} & {"loki", "alloy", "tempo"}
    asked = {flow[1] for flow in Network(name).used() if flow[0] == "prometheus"}
    assert asked & {"loki", "alloy", "tempo"} == stores


@pytest.mark.parametrize("beside", [(), (LOGS,), (TRACES,)])
def test_links_without_both_ends_are_refused_when_they_are_rendered(
    beside: tuple[str, ...], tmp_path: Path
) -> None:
    name = overlay_of(tmp_path, PROD, *beside, LINKS)
    ended = subprocess.run(
        [kubectl(), "kustomize", name], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode != 0
    assert "grafana-" in ended.stderr


def test_logs_and_traces_change_nothing_of_prod_but_what_they_are_for(tmp_path: Path) -> None:
    before = {full_name(one): canonical(one) for one in rendered(PROD)}
    after = {full_name(one): canonical(one) for one in rendered(overlay_of(tmp_path, PROD, LOGS))}
    changed = {name for name, text in before.items() if after.get(name) != text}
    assert changed == {"Deployment/ai-observability/grafana"}
    assert {name.partition("/")[0] for name in set(after) - set(before)} == {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    }


def canonical(document: Manifest) -> str:
    """A text that is the same for the same object."""
    return json.dumps(document, sort_keys=True)


@pytest.mark.parametrize(("component", "stores"), [("logs", {"loki", "alloy"}), ("traces", {"tempo"})])
def test_the_documented_costs_are_what_the_pods_ask_for(component: str, stores: set[str]) -> None:
    there = [one for one in workloads("examples/telemetry") if one.name in stores]
    requests = [one.containers[0]["resources"]["requests"] for one in there]
    claims = [one for w in there for one in w.document["spec"].get("volumeClaimTemplates", [])]
    cpu = sum(quantity(one["cpu"]) for one in requests) * 1000
    memory = sum(quantity(one["memory"]) for one in requests) / 2**20
    [volume] = [quantity(one["spec"]["resources"]["requests"]["storage"]) / 2**30 for one in claims]
    [row] = re.findall(rf"^\| `components/{component}` \|.*$", OPERATIONS.read_text(), re.MULTILINE)
    assert f"{cpu:.0f}m CPU, {memory:.0f} MiB and a volume of {volume:.0f} GiB" in row
