"""The settings in the manifests are settings of the services, are good, and fit what is around them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from inference_mesh.config.models_file import parse_models
from inference_mesh.config.tenants_file import parse_tenants
from inference_mesh.lifecycle import FLUSH_LIMIT_S
from inference_mesh.settings import ServiceSettings, load_settings
from rest_bridge.settings import BridgeSettings
from scripts.check_manifests import overlays
from scripts.metric_catalog import metrics_by_process
from tests.support.manifests import (
    Manifest,
    Workload,
    config_file,
    full_name,
    matches,
    named,
    of_kind,
    rendered,
    workloads,
)
from workers.llama.environment import native_environment
from workers.settings import WorkerSettings

CLASSES: dict[str, type[ServiceSettings]] = {"gateway": GatewaySettings, "rest-bridge": BridgeSettings}
OF_OTHERS = {"MODEL_FILES", "ALLOWED_URLS", "REDIS_PASSWORD", *native_environment("passive", {})}
"""Variables of our pods that are no settings: what another part of the pod reads."""
CLOSING_S = 5
"""What closing a model and ending the last connections may take."""

each_overlay = pytest.mark.parametrize("name", overlays())


def processes(name: str) -> Iterator[Workload]:
    """The workloads that run the mesh's own images."""
    for workload in workloads(name):
        if workload.containers[0]["image"].startswith("inference-mesh/"):
            yield workload


def settings_of(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the process would read; it refuses unknown variables and values out of range by itself."""
    environment = workload.environment(workload.containers[0])
    for variable in os.environ:
        if variable.startswith("MESH_"):
            monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings(CLASSES.get(workload.name, WorkerSettings))
    for variable in environment:
        monkeypatch.delenv(variable)
    return settings


@each_overlay
def test_every_variable_is_one_that_the_process_reads(name: str) -> None:
    for workload in processes(name):
        cls = CLASSES.get(workload.name, WorkerSettings)
        prefix = str(cls.model_config["env_prefix"])
        known = {f"{prefix}{field}".upper() for field in cls.model_fields} | OF_OTHERS
        known |= {"MESH_REDIS_URL"} if cls is GatewaySettings else set()
        assert set(workload.environment(workload.containers[0])) - known == set()


@each_overlay
def test_every_process_would_start_with_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(processes(name))) >= 4
    for workload in processes(name):
        settings = settings_of(workload, monkeypatch)
        assert settings.host == "0.0.0.0"
        ports = {"http": settings.http_port}
        if workload.name != "rest-bridge":
            ports["grpc"] = settings.grpc_port
        assert workload.ports == ports
        assert workload.annotations["prometheus.io/port"] == str(settings.http_port)


@each_overlay
def test_a_pod_is_given_longer_than_its_longest_stop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for workload in processes(name):
        settings = settings_of(workload, monkeypatch)
        before_s = workload.containers[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        longest_s = before_s + settings.drain_delay_s + settings.grace_s + FLUSH_LIMIT_S + CLOSING_S
        assert workload.pod["terminationGracePeriodSeconds"] > longest_s


@each_overlay
def test_no_rollout_is_called_failed_while_a_pod_may_still_be_starting(name: str) -> None:
    for workload in processes(name):
        probe = workload.containers[0]["startupProbe"]
        longest_s = probe["periodSeconds"] * probe["failureThreshold"]
        # 600 s is what Kubernetes gives a rollout that says nothing.
        assert longest_s < workload.document["spec"].get("progressDeadlineSeconds", 600), workload.name


@each_overlay
def test_a_stop_waits_as_long_as_the_longest_call_of_the_registry(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = parse_models(config_file(rendered(name), "gateway-models", "models.yaml"), source=name)
    longest_s = max(entry.timeout_s for entry in registry.models)
    for workload in processes(name):
        assert settings_of(workload, monkeypatch).grace_s >= longest_s


@each_overlay
def test_prod_lets_nobody_in_without_a_key_and_looks_for_its_files_where_they_are_mounted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [gateway] = [one for one in processes(name) if one.name == "gateway"]
    settings = settings_of(gateway, monkeypatch)
    assert settings.auth == "required"
    container = gateway.containers[0]
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in gateway.pod["volumes"]}
    # Whole directories: a file that is mounted by subPath never changes.
    assert not any("subPath" in mount for mount in mounts.values())
    for file in (settings.models, settings.keys, settings.tenants):
        volume = volumes[mounts[str(file.parent)]["name"]]
        if "secret" in volume:
            assert volume["secret"]["secretName"] == "gateway-keys"
            assert volume["secret"]["optional"] is True
        else:
            config_file(rendered(name), volume["configMap"]["name"], file.name)


@each_overlay
def test_each_gateway_knows_how_many_may_share_the_limits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [gateway] = [one for one in processes(name) if one.name == "gateway"]
    scalers = [
        one["spec"]["maxReplicas"]
        for one in of_kind(rendered(name), "HorizontalPodAutoscaler")
        if full_name(one).endswith("/ai-gateway/gateway")
    ]
    assert settings_of(gateway, monkeypatch).replicas == (scalers[0] if scalers else 1)


@each_overlay
def test_registry_and_tenants_are_good_and_every_model_is_served_under_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = rendered(name)
    parse_tenants(config_file(documents, "gateway-tenants", "tenants.yaml"), source=name)
    registry = parse_models(config_file(documents, "gateway-models", "models.yaml"), source=name)
    served = {
        one.name: settings_of(one, monkeypatch) for one in processes(name) if one.namespace == "ai-models"
    }
    routed = set()
    for entry in registry.models:
        for service, version in [(one.service, one.version) for one in entry.versions or [entry]]:
            workload = str(service).partition(".")[0]
            routed.add(workload)
            assert served[workload].name == entry.name
            assert served[workload].version in ("", version)
    assert routed == set(served)


def test_only_the_registry_keeps_its_name_when_it_changes() -> None:
    for name in overlays():
        maps = of_kind(rendered(name), "ConfigMap")
        unhashed = [full_name(one) for one in maps if not has_hash(one["metadata"]["name"])]
        assert unhashed == ["ConfigMap/ai-gateway/gateway-models"]


def has_hash(name: str) -> bool:
    """Whether it ends like the names that kustomize makes: ten characters without vowels and look-alikes."""
    ending = name.rpartition("-")[2]
    return len(ending) == 10 and set(ending) <= set("bcdfghkmt2456789")


@each_overlay
def test_every_config_map_is_mounted_or_read_by_somebody(name: str) -> None:
    used = set()
    for workload in workloads(name):
        for volume in workload.pod.get("volumes", []):
            for source in (volume, *volume.get("projected", {}).get("sources", ())):
                if "configMap" in source:
                    used.add((workload.namespace, source["configMap"]["name"]))
        for container in workload.all_containers:
            used |= {
                (workload.namespace, one["configMapRef"]["name"]) for one in container.get("envFrom", [])
            }
    there = {
        (one["metadata"]["namespace"], one["metadata"]["name"])
        for one in of_kind(rendered(name), "ConfigMap")
    }
    assert used == there


def test_a_gpu_is_asked_for_by_the_image_that_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [one for one in processes("examples/gpu") if one.namespace == "ai-models"]
    assert {one.containers[0]["image"].partition(":")[0] for one in workers} == {
        "inference-mesh/worker-llama-gpu",
        "inference-mesh/worker-onnx-gpu",
    }
    for worker in workers:
        container = worker.containers[0]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert worker.pod["tolerations"][0]["key"] == "nvidia.com/gpu"
        assert worker.document["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        settings = settings_of(worker, monkeypatch)
        assert settings.provider == ("cuda" if settings.runtime == "onnx" else "cpu")


def test_the_embedded_models_need_no_volume() -> None:
    for name in ("overlays/dev", "overlays/prod", "overlays/prod-operators"):
        for worker in (one for one in processes(name) if one.namespace == "ai-models"):
            assert [sorted(volume) for volume in worker.pod["volumes"]] == [["emptyDir", "name"]]


def test_each_scaled_model_is_measured_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = rendered("overlays/prod-operators")
    workers = [one for one in processes("overlays/prod-operators") if one.namespace == "ai-models"]
    names = {one.name: settings_of(one, monkeypatch).name for one in workers}
    assert {one["metadata"]["name"] for one in of_kind(documents, "ScaledObject")} == set(names)
    for scaled in of_kind(documents, "ScaledObject"):
        [trigger] = scaled["spec"]["triggers"]
        assert f"model=`{names[scaled['metadata']['name']]}`" in trigger["metadata"]["query"]
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        measured = set(re.findall(r'__name__=~"([^"]+)"', trigger["metadata"]["query"])[0].split("|"))
        known = {one.name for some in metrics_by_process().values() for one in some if "model" in one.labels}
        assert measured <= known


def test_the_monitor_of_the_operator_finds_every_service_that_prometheus_scrapes() -> None:
    documents = rendered("overlays/prod-operators")
    [monitor] = of_kind(documents, "ServiceMonitor")
    ports = {one["port"] for one in monitor["spec"]["endpoints"]}
    for workload in workloads("overlays/prod-operators"):
        if workload.annotations.get("prometheus.io/scrape") == "true":
            service = named(documents, "Service", workload.namespace, workload.name)
            assert workload.namespace in monitor["spec"]["namespaceSelector"]["matchNames"]
            assert ports & {one["name"] for one in service["spec"]["ports"]}
            labels = service["metadata"]["labels"]
            assert matches(monitor["spec"]["selector"], labels)
            assert labels[monitor["spec"]["jobLabel"]] == workload.labels[monitor["spec"]["jobLabel"]]


def test_the_monitor_of_the_operator_scrapes_no_pod_twice() -> None:
    documents = rendered("overlays/prod-operators")
    [monitor] = of_kind(documents, "ServiceMonitor")
    ports = {one["port"] for one in monitor["spec"]["endpoints"]}
    scraped = [
        (
            service["metadata"]["namespace"],
            service["spec"]["selector"]["app.kubernetes.io/name"],
            port["name"],
        )
        for service in of_kind(documents, "Service")
        if matches(monitor["spec"]["selector"], service["metadata"]["labels"])
        for port in service["spec"]["ports"]
        if port["name"] in ports and service["metadata"]["namespace"] in namespaces_of(monitor)
    ]
    assert len(scraped) == len(set(scraped)) >= 5


def namespaces_of(monitor: Manifest) -> list[str]:
    """Where a ServiceMonitor looks."""
    names: list[str] = monitor["spec"]["namespaceSelector"]["matchNames"]
    return names
