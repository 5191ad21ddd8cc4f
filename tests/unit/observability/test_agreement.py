"""Code, manifests, rules, dashboards and runbook speak of the same metrics, labels, ports and names.

One test file reads all of them, because each is right alone and wrong beside the others.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import pytest
import yaml

from gateway.admission.metrics import REASONS
from gateway.methods import INFERENCE_METHODS
from gateway.metrics import REQUEST_BUCKETS_S
from gateway.policy.facts import Priority
from gateway.settings import GatewaySettings
from observability.rules.objectives import FAULTS, INFERENCE, SLOW_S, UNARY
from rest_bridge.settings import BridgeSettings
from scripts.check_alerts import DASHBOARDS, PROMETHEUS, ROOT, RULES, TESTS, panels_of, plain
from scripts.metric_catalog import metrics_by_process
from tests.support.promql import Selector, grouped_labels, made_labels, selectors
from workers.metrics import LATENCY_BUCKETS_S
from workers.settings import WorkerSettings

RUNBOOK = ROOT / "observability" / "runbook.md"
GRAFANA = ROOT / "observability" / "grafana"
KUSTOMIZE = ROOT / "kustomize"
TEMPLATE = re.compile(r"\$labels\.(\w+)")
LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
ANNOTATION = "prometheus.io/port"
OF_OTHERS = {"redis", "loki", "alloy", "tempo"}
"""Containers that are scraped and are not of the mesh's own images."""
COMPONENT = "app.kubernetes.io/component"

SCRAPED = {"up", "scrape_duration_seconds", "scrape_samples_scraped"}
REDIS = {"redis_up", "redis_memory_used_bytes", "redis_memory_max_bytes"}
POD = {"namespace", "pod", "container"}
KUBERNETES = {
    "container_": POD,
    "machine_": set(),
    "kubelet_volume_": {"namespace", "persistentvolumeclaim"},
    "kubelet_running_pods": set(),
    "apiserver_request_total": {"code", "verb", "resource"},
    "apiserver_current_inflight_requests": {"request_kind"},
}
"""Labels of what Kubernetes measures, by the beginning of the name; without those of the scrape."""


class Use(NamedTuple):
    """An expression, where it stands, and the labels that its texts name."""

    place: str
    expr: str
    texts: set[str]


@functools.cache
def rules() -> list[dict[str, Any]]:
    return [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in DASHBOARDS}


@functools.cache
def configuration() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    return document


@functools.cache
def manifests() -> list[dict[str, Any]]:
    """Every document of kustomize/, patches included."""
    texts = [path.read_text() for path in sorted(KUSTOMIZE.rglob("*.yaml"))]
    return [one for text in texts for one in yaml.safe_load_all(text) if isinstance(one, dict)]


def uses() -> list[Use]:
    """Every expression of rules and dashboards."""
    found = []
    for rule in rules():
        texts = TEMPLATE.findall(json.dumps(rule.get("annotations", {})))
        found.append(Use(rule.get("alert") or rule["record"], rule["expr"], set(texts)))
    for name, document in dashboards().items():
        for panel in panels_of(document):
            for target in panel["targets"]:
                texts = LEGEND.findall(target.get("legendFormat", ""))
                found.append(Use(f"{name}: {panel['title']}", plain(target["expr"]), set(texts)))
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.findall(r"^label_values\((.*), (\w+)\)$", str(variable["query"]))[0]
                found.append(Use(f"{name}: {variable['name']}", plain(series), {label}))
    return found


@functools.cache
def target_labels() -> set[str]:
    """What a scrape adds to every series."""
    jobs = configuration()["scrape_configs"]
    rewritten = [step for job in jobs for step in job.get("relabel_configs", [])]
    return {"job", "instance"} | {
        step["target_label"] for step in rewritten if not step.get("target_label", "__").startswith("__")
    }


@functools.cache
def labels_by_name() -> dict[str, set[str]]:
    """Labels of each series that there is."""
    found: dict[str, set[str]] = {name: set() for name in SCRAPED | REDIS}
    found["ALERTS"] = {"alertname", "alertstate"}
    for metric in [one for some in metrics_by_process().values() for one in some]:
        own = set(metric.labels)
        if metric.kind == "histogram":
            found |= {f"{metric.name}_{part}": own for part in ("count", "sum")}
            found[f"{metric.name}_bucket"] = own | {"le"}
        else:
            found[metric.name] = own
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = set(rule["record"].split(":")[0].split("_"))
    return found


def labels_of(selector: Selector) -> set[str] | None:
    """Labels of a series; None if there is no such one."""
    known = labels_by_name().get(selector.name)
    for beginning, labels in KUBERNETES.items():
        if selector.name.startswith(beginning) and is_kept(selector.name):
            known = labels
    return None if known is None else known | target_labels()


def is_kept(name: str) -> bool:
    """Whether Prometheus keeps this series of Kubernetes."""
    steps = [
        step for job in configuration()["scrape_configs"] for step in job.get("metric_relabel_configs", [])
    ]
    keeps = [step["regex"].replace("\\\n", "").replace(" ", "") for step in steps if step["action"] == "keep"]
    return any(re.fullmatch(keep, text) for keep in keeps for text in (name, f"{name};", f"{name};ai-models"))


@pytest.mark.parametrize("use", uses(), ids=lambda use: use.place)
def test_every_series_and_label_of_an_expression_is_one_of_the_code(use: Use) -> None:
    known: set[str] = made_labels(use.expr)
    read = list(selectors(use.expr))
    assert read
    for selector in read:
        labels = labels_of(selector)
        assert labels is not None, f"nothing exports {selector.name}"
        assert {label for label, _ in selector.matchers} <= labels, selector
        known |= labels
    assert grouped_labels(use.expr) <= known
    assert use.texts <= known


def test_a_series_that_nobody_exports_is_noticed() -> None:
    expr = 'sum by (model) (rate(mesh_gateway_requests{model=~"a",nothing="x"}[5m])) or on () vector(0)'
    found = list(selectors(expr))
    assert found == [Selector("mesh_gateway_requests", (("model", "a"), ("nothing", "x")))]
    assert labels_of(found[0]) is None
    assert labels_of(Selector("container_fs_reads_total", ())) is None
    assert grouped_labels(expr) == {"model"}
    assert not {"model", "nothing"} <= (labels_of(Selector("mesh_gateway_requests_total", ())) or set())


def test_every_metric_is_shown_or_watched() -> None:
    """But the size of a process's addresses, which says nothing, and what is for an endpoint picker."""
    read = {selector.name for use in uses() for selector in selectors(use.expr)}
    read |= {name.removesuffix(part) for name in read for part in ("_bucket", "_sum", "_count")}
    there = {metric.name for some in metrics_by_process().values() for metric in some}
    unseen = {name for name in there - read if not name.startswith("vllm:")}
    assert unseen == {"process_virtual_memory_bytes"}


def test_the_values_that_rules_match_are_those_of_the_code() -> None:
    assert set(pattern(INFERENCE, "method")) == set(INFERENCE_METHODS)
    assert set(pattern(UNARY, "method")) <= set(INFERENCE_METHODS)
    assert set(pattern(FAULTS, "code")) < set(grpc.StatusCode.__members__)
    assert float(SLOW_S) in REQUEST_BUCKETS_S
    assert float(SLOW_S) in LATENCY_BUCKETS_S
    matched = {
        value
        for use in uses()
        for one in selectors(use.expr)
        for name, value in one.matchers
        if name == "priority"
    }
    assert matched <= {priority.name.lower() for priority in Priority}
    assert "queue_full" in REASONS


def pattern(matchers: str, label: str) -> list[str]:
    """The alternatives of one matcher."""
    return re.search(rf'{label}=~"([^"]*)"', matchers)[1].split("|")  # type: ignore[index]


def test_every_job_is_a_component_that_the_manifests_have() -> None:
    matched = [
        value
        for use in uses()
        for one in selectors(use.expr)
        for name, value in one.matchers
        if name == "job"
    ]
    jobs = {job for value in matched if value != ".+" for job in value.split("|")}
    components = {
        labels["pairs"][COMPONENT]
        for document in manifests()
        for labels in document.get("labels", [])
        if COMPONENT in labels.get("pairs", {})
    }
    assert {"gateway", "worker"} <= jobs <= components


def scraped_pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """The port that Prometheus asks, and the pod template that has it."""
    for document in manifests():
        template = (
            document.get("spec", {}).get("template", {}) if document.get("kind") != "Kustomization" else {}
        )
        port = template.get("metadata", {}).get("annotations", {}).get(ANNOTATION)
        if port is not None:
            yield port, template


def test_the_ports_that_are_scraped_are_ports_of_the_processes() -> None:
    own = {
        str(settings.model_fields["http_port"].default)
        for settings in (GatewaySettings, BridgeSettings, WorkerSettings)
    }
    assert len(own) == 1
    scraped = list(scraped_pods())
    assert len(scraped) >= 4
    for port, template in scraped:
        names = {container["name"] for container in template["spec"]["containers"]}
        ports = {
            str(one["containerPort"])
            for each in template["spec"]["containers"]
            for one in each.get("ports", [])
        }
        assert port in ports, names
        assert port in own or names & OF_OTHERS
        assert template["metadata"]["annotations"]["prometheus.io/scrape"] == "true"


def test_the_manifests_give_the_ports_that_the_settings_have_by_default() -> None:
    text = "\n".join(path.read_text() for path in KUSTOMIZE.rglob("*.env"))
    for settings in (GatewaySettings, BridgeSettings):
        prefix = settings.model_config["env_prefix"]
        for name, port in re.findall(rf"^{prefix}(\w+_PORT)=(\d+)$", text, re.MULTILINE):
            assert int(port) == settings.model_fields[name.lower()].default


def test_prometheus_and_the_network_policies_know_the_same_namespaces() -> None:
    job = next(one for one in configuration()["scrape_configs"] if one["job_name"] == "mesh")
    searched = {name for one in job["kubernetes_sd_configs"] for name in one["namespaces"]["names"]}
    namespaces = {one["metadata"]["name"] for one in manifests() if one.get("kind") == "Namespace"}
    assert searched == namespaces
    label = job["kubernetes_sd_configs"][0]["selectors"][0]["label"]
    name, _, value = label.partition("=")
    assert any(
        labels["pairs"].get(name) == value and labels.get("includeTemplates")
        for document in manifests()
        for labels in document.get("labels", [])
        if "pairs" in labels
    )


def test_grafana_asks_the_prometheus_that_there_is() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources.yml").read_text())["datasources"]
    main = next(one for one in sources if one.get("isDefault"))
    service = next(
        one for one in manifests() if one.get("kind") == "Service" and one["metadata"]["name"] == "prometheus"
    )
    assert main["type"] == "prometheus"
    assert main["url"] == f"http://prometheus:{service['spec']['ports'][0]['port']}"
    interval = configuration()["global"]["scrape_interval"]
    assert main["jsonData"]["timeInterval"] == interval


@pytest.mark.parametrize("name", [path.name for path in DASHBOARDS])
def test_a_dashboard_is_complete(name: str) -> None:
    document = dashboards()[name]
    assert document["uid"] == name.removesuffix(".json")
    assert document["editable"] is False
    variables = {one["name"]: one["type"] for one in document["templating"]["list"]}
    assert variables["datasource"] == "datasource"
    panels = panels_of(document)
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        places = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {place["uid"] for place in places} == {"${datasource}"}
        assert panel["targets"]
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        used = {one for target in panel["targets"] for one in re.findall(r"\$\{?(\w+)", target["expr"])}
        assert {one for one in used if not one.startswith("__")} <= set(variables)


def test_the_mounted_files_are_the_generated_ones() -> None:
    for folder, files in ((PROMETHEUS, RULES), (GRAFANA, DASHBOARDS)):
        document = yaml.safe_load((folder / "kustomization.yaml").read_text())
        listed = {file for one in document["configMapGenerator"] for file in one["files"]}
        assert {path.relative_to(folder).as_posix() for path in files} <= listed
        assert [file for file in listed if not (folder / file).exists()] == []


def test_every_alert_leads_to_a_dashboard_and_to_its_entry_in_the_runbook() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted({alert["alert"] for alert in alerts()})
    boards = {document["uid"]: document for document in dashboards().values()}
    for alert in alerts():
        file, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert (ROOT / file) == RUNBOOK
        assert anchor == alert["alert"].lower()
        uid, _, query = alert["annotations"]["dashboard"].removeprefix("/d/").partition("?")
        chosen = {one.partition("=")[0].removeprefix("var-") for one in query.split("&") if one}
        assert chosen <= {one["name"] for one in boards[uid]["templating"]["list"]}
        assert alert["labels"]["severity"] in {"page", "ticket"}


def test_every_entry_of_the_runbook_says_what_it_means_where_to_look_and_what_to_do() -> None:
    for entry in re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]:
        assert re.findall(r"^\*\*(\w+)\.\*\*", entry, re.MULTILINE) == ["Means", "Look", "Do"]


def test_every_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = [
        case
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    for alert in {alert["alert"] for alert in alerts()}:
        mine = [case["exp_alerts"] for case in cases if case["alertname"] == alert]
        assert [] in mine, alert
        firing = [one for expected in mine for one in expected]
        assert firing, alert
        assert all(
            set(one["exp_annotations"]) == {"summary", "description", "dashboard", "runbook_url"}
            for one in firing
        )
