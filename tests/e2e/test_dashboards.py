"""Every query of every panel, asked of a real Prometheus that scrapes a live mesh under load, has data.

The rules are the real ones with shorter windows, the dashboards the committed ones, and the variables
offer what Prometheus has and are put in as Grafana does it. What Kubernetes measures comes from a fake
exporter with its names and labels (tests/fakes/kubernetes_exporter.py), through the real relabeling:
nothing here runs a kubelet or an API server. No panel is left out; panels of faults show real ones.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from scripts.generate_observability import DASHBOARDS
from tests.support.dashboard_scene import DashboardScene, dashboard_scene
from tests.support.grafana import Question, choices, documents, finite_series, questions
from tests.support.processes import wait_until
from tests.support.prometheus import Prometheus

LIMIT_S = 30.0
FAULTS = {
    "mesh_gateway_retries_total": "",
    "mesh_gateway_ejections_total": "",
    "mesh_gateway_silent_attempts_total": "",
    "mesh_gateway_broken_streams_total": 'result="resumed"',
    "mesh_gateway_queue_refusals_total": 'reason="queue_full"',
    "mesh_gateway_limit_refusals_total": "",
    "mesh_gateway_limit_degraded_total": "",
    "mesh_gateway_registry_reloads_total": 'result="failure"',
    "mesh_gateway_credential_checks_total": 'result!="ok"',
    "mesh_worker_queue_drops_total": "",
    "mesh_worker_expired_total": "",
    "mesh_gateway_shadow_calls_total": 'result="agreed"',
    "mesh_gateway_canary_requests_total": 'side="canary"',
    "mesh_gateway_response_cache_lookups_total": 'result="hit"',
}
"""What must have happened for real, so that the panels of it do not only show the 0 of nothing."""


@functools.cache
def asked() -> list[Question]:
    return [one for document in documents(DASHBOARDS).values() for one in questions(document)]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DashboardScene, Prometheus]]:
    with dashboard_scene(tmp_path_factory.mktemp("dashboards")) as scene:
        yield scene


def test_no_dashboard_and_no_panel_is_left_out() -> None:
    assert len(documents(DASHBOARDS)) == len(list(DASHBOARDS.iterdir())) == 5
    assert len(asked()) > 100


def test_a_panel_without_data_is_noticed(observed: tuple[DashboardScene, Prometheus]) -> None:
    _, server = observed
    for expr in ("mesh_no_such_metric", "0 * up / 0", 'up{job=~"$nothing"}'):
        for is_instant in (True, False):
            assert finite_series(server, Question("none", "none", "A", expr, is_instant), {}) == []


@pytest.mark.parametrize("metric", FAULTS)
def test_what_panels_of_faults_show_happened(
    observed: tuple[DashboardScene, Prometheus], metric: str
) -> None:
    _, server = observed
    expr = f"sum({metric}{{{FAULTS[metric]}}}) > 0"
    wait_until(lambda: server.query(expr), expr, LIMIT_S)


@pytest.mark.parametrize("uid", documents(DASHBOARDS))
def test_every_variable_of_a_dashboard_offers_something(
    observed: tuple[DashboardScene, Prometheus], uid: str
) -> None:
    _, server = observed
    document = documents(DASHBOARDS)[uid]
    names = {one["name"] for one in document["templating"]["list"] if one["type"] == "query"}
    wait_until(lambda: set(choices(server, document)) == names, f"all of {names} offer something", LIMIT_S)


@pytest.mark.parametrize("question", asked(), ids=lambda one: f"{one.dashboard}-{one.panel}-{one.ref}")
def test_a_panel_has_data(observed: tuple[DashboardScene, Prometheus], question: Question) -> None:
    _, server = observed
    document = documents(DASHBOARDS)[question.dashboard]

    def has_data() -> bool:
        return bool(finite_series(server, question, choices(server, document)))

    wait_until(has_data, f"data for {question.expr}", LIMIT_S)
