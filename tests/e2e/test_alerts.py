"""Each alert fires once for real: its fault is done to real processes, and a real Prometheus sees it.

The windows of the rules are shorter by 400, at least three seconds; promtool proves the real ones.
All faults are done at once, so the whole takes no longer than the slowest alert; the gateways die last.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

import pytest
import yaml

from observability.rules import rule_files
from tests.support.alert_scene import SCALE, Scene, alert_scene
from tests.support.processes import wait_until
from tests.support.prometheus import Prometheus, fired

LIMIT_S = 60.0
HEALTHY_S = 3.0
LAST = "MeshGatewayDown"


@functools.cache
def expected() -> list[tuple[str, str]]:
    """Name and window of every alert, those that are slow to fire last."""
    texts = reversed(rule_files(SCALE).values())
    groups = [group for text in texts for group in yaml.safe_load(text)["groups"]]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    return [(one["alert"], one["labels"].get("window", "")) for one in alerts if one["alert"] != LAST]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Prometheus]]:
    with alert_scene(tmp_path_factory.mktemp("alerts")) as scene:
        yield scene


@pytest.fixture(scope="module")
def broken(observed: tuple[Scene, Prometheus]) -> tuple[Scene, Prometheus]:
    observed[0].break_everything()
    return observed


def test_a_healthy_mesh_fires_no_alert(observed: tuple[Scene, Prometheus]) -> None:
    scene, server = observed
    scene.use_a_little()
    wait_until(lambda: not server.query("up == 0") and server.query("up"), "all are scraped", 20)
    wait_until(lambda: len(server.query("model:request_errors:ratio_rate3d")) == 2, "rules are computed", 20)
    ends_at = time.monotonic() + HEALTHY_S
    while time.monotonic() < ends_at:
        assert [alert.name for alert in server.alerts() if alert.state == "firing"] == []
        time.sleep(0.2)


@pytest.mark.parametrize(("name", "window"), expected())
def test_its_fault_fires_an_alert(broken: tuple[Scene, Prometheus], name: str, window: str) -> None:
    scene, server = broken
    alert = fired(server, name, LIMIT_S, **({"window": window} if window else {}))
    if name == "MeshKvCacheExhausted":
        scene.load.stop("full")
    assert "no value" not in "".join(alert.annotations.values())
    assert alert.annotations["runbook_url"].endswith(f"#{name.lower()}")


def test_the_alert_that_no_gateway_answers_fires_when_all_are_killed(
    broken: tuple[Scene, Prometheus],
) -> None:
    scene, server = broken
    assert LAST not in {alert.name for alert in server.alerts()}
    scene.kill_the_gateways()
    assert fired(server, LAST, LIMIT_S).labels["severity"] == "page"
