"""What every pod of every overlay keeps to: rights, probes, sizes, images, room in its namespace."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from scripts.check_manifests import overlays
from tests.support.manifests import (
    NAMESPACES,
    Manifest,
    full_name,
    matches,
    of_kind,
    rendered,
    workloads,
)
from tests.support.quotas import over_quota, quantity

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",  # since Kubernetes 1.33
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""What the restricted profile lets a pod mount."""
OF_THE_NODE = ("hostNetwork", "hostPID", "hostIPC")
IMAGE = re.compile(r"(?P<name>[a-z0-9._/-]+)(:(?P<tag>[\w.-]+)|@sha256:[0-9a-f]{64})")
LABEL = "pod-security.kubernetes.io"

each_overlay = pytest.mark.parametrize("name", overlays())


def restricted_problems(pod: Manifest) -> Iterator[str]:
    """What the restricted profile of Pod Security would refuse."""
    yield from (one for one in OF_THE_NODE if pod.get(one))
    of_pod = pod.get("securityContext", {})
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']}"
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container.get("securityContext", {})
        merged = {**of_pod, **own}
        checks = {
            "runAsNonRoot": merged.get("runAsNonRoot") is True,
            "runAsUser": merged.get("runAsUser") != 0,
            "seccompProfile": merged.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
        }
        yield from (f"{container['name']}: {check}" for check, is_kept in checks.items() if not is_kept)


@each_overlay
def test_every_pod_keeps_the_restricted_profile_and_has_a_root_that_is_not_written_to(name: str) -> None:
    for workload in workloads(name):
        assert list(restricted_problems(workload.pod)) == [], workload.name
        assert workload.pod["securityContext"]["runAsUser"] > 0
        for container in workload.all_containers:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


@each_overlay
def test_there_is_no_other_kind_of_pod_and_none_outside_the_four_namespaces(name: str) -> None:
    documents = rendered(name)
    assert of_kind(documents, "Pod", "ReplicaSet", "DaemonSet", "Job", "CronJob") == []
    assert {one["metadata"]["name"] for one in of_kind(documents, "Namespace")} == set(NAMESPACES)
    namespaces = {one["metadata"].get("namespace") for one in documents}
    assert namespaces == {*NAMESPACES, None}
    cluster_wide = {one["kind"] for one in documents if "namespace" not in one["metadata"]}
    assert cluster_wide == {"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"}


@each_overlay
def test_every_namespace_enforces_the_profile_and_has_a_quota_sizes_and_a_default_of_no_traffic(
    name: str,
) -> None:
    documents = rendered(name)
    for namespace in of_kind(documents, "Namespace"):
        labels = namespace["metadata"]["labels"]
        assert {labels[f"{LABEL}/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}
        assert labels[f"{LABEL}/enforce-version"].startswith("v1.")
    for kind in ("ResourceQuota", "LimitRange"):
        found = [one["metadata"]["namespace"] for one in of_kind(documents, kind)]
        assert sorted(found) == sorted(NAMESPACES)
    denied = [
        one["metadata"]["namespace"]
        for one in of_kind(documents, "NetworkPolicy")
        if one["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ]
    assert sorted(denied) == sorted(NAMESPACES)


@each_overlay
def test_no_pod_has_a_token_but_prometheus_and_who_reads_logs(name: str) -> None:
    for workload in workloads(name):
        asks_api = workload.name in ("prometheus", "alloy")
        assert workload.pod["automountServiceAccountToken"] is asks_api
        assert workload.pod.get("serviceAccountName") == (workload.name if asks_api else None)
        assert workload.pod["enableServiceLinks"] is False


@each_overlay
def test_rights_are_to_read_and_those_of_the_whole_cluster_are_prometheus_alone(name: str) -> None:
    documents = rendered(name)
    accounts = {one["metadata"]["name"] for one in of_kind(documents, "ServiceAccount")}
    assert accounts == {one.name for one in workloads(name)} & {"prometheus", "alloy"}
    wide = of_kind(documents, "ClusterRole", "ClusterRoleBinding")
    assert {one["metadata"]["name"] for one in wide} == {"inference-mesh-prometheus"}
    for role in of_kind(documents, "ClusterRole", "Role"):
        assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
        assert "secrets" not in {kind for rule in role["rules"] for kind in rule.get("resources", [])}
    for binding in of_kind(documents, "ClusterRoleBinding", "RoleBinding"):
        assert [one["namespace"] for one in binding["subjects"]] == ["ai-observability"]


def test_who_reads_logs_may_do_so_in_the_four_namespaces_and_read_nothing_else() -> None:
    documents = rendered("examples/telemetry")
    roles = of_kind(documents, "Role")
    assert sorted(one["metadata"]["namespace"] for one in roles) == sorted(NAMESPACES)
    assert all(
        one["rules"]
        == [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch"]}]
        for one in roles
    )
    bound = {
        (one["metadata"]["namespace"], one["roleRef"]["name"]) for one in of_kind(documents, "RoleBinding")
    }
    assert bound == {(namespace, "read-logs") for namespace in NAMESPACES}


@each_overlay
def test_every_container_that_stays_has_three_probes_on_a_port_of_its_own(name: str) -> None:
    for workload in workloads(name):
        for container in workload.containers:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                [how] = [
                    container[probe][one]
                    for one in ("httpGet", "tcpSocket", "exec")
                    if one in container[probe]
                ]
                assert how.get("port", next(iter(ports))) in ports, (workload.name, probe)


@each_overlay
def test_a_process_of_the_mesh_starts_lives_and_is_ready_by_the_page_that_says_so(name: str) -> None:
    for workload in workloads(name):
        for container in workload.containers:
            if container["image"].startswith("inference-mesh/"):
                paths = {
                    key: value["httpGet"]["path"] for key, value in container.items() if key.endswith("Probe")
                }
                is_worker = workload.namespace == "ai-models"
                assert paths == {
                    "startupProbe": "/readyz" if is_worker else "/healthz",  # a worker loads its model first
                    "readinessProbe": "/readyz",
                    "livenessProbe": "/healthz",
                }


@each_overlay
def test_every_container_says_what_it_needs_and_what_it_may_have(name: str) -> None:
    for workload in workloads(name):
        for container in workload.all_containers:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            for resource in ("cpu", "memory"):
                assert 0 < quantity(requests[resource]) <= quantity(limits[resource])


@each_overlay
def test_every_image_has_a_version_or_a_digest(name: str) -> None:
    images = {one["image"] for workload in workloads(name) for one in workload.all_containers}
    images |= {
        one["image"]["reference"] for w in workloads(name) for one in w.pod["volumes"] if "image" in one
    }
    for image in images:
        match = IMAGE.fullmatch(image)
        assert match is not None, image
        assert match["tag"] is None or any(character.isdigit() for character in match["tag"]), image
        assert match["tag"] != "latest"


@each_overlay
def test_what_has_several_replicas_is_never_taken_away_at_once_and_is_spread(name: str) -> None:
    documents = rendered(name)
    scaled = {
        (one["metadata"]["namespace"], one["spec"]["scaleTargetRef"]["name"]): one["spec"]
        for one in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject")
    }
    for workload in workloads(name):
        spec = scaled.get((workload.namespace, workload.name))
        replicas = workload.document["spec"].get("replicas", 1)
        if spec is not None:
            # Else each `kubectl apply` would undo what the autoscaler did.
            assert "replicas" not in workload.document["spec"]
            replicas = spec.get("minReplicas", spec.get("minReplicaCount"))
        budgets = [
            one["spec"]
            for one in of_kind(documents, "PodDisruptionBudget")
            if one["metadata"]["namespace"] == workload.namespace
            and matches(one["spec"]["selector"], workload.labels)
        ]
        assert len(budgets) == (1 if replicas > 1 else 0), workload.name
        assert all(one["maxUnavailable"] == 1 for one in budgets)
        if replicas > 1:
            spread = workload.pod["topologySpreadConstraints"]
            assert {one["topologyKey"].rpartition("/")[2] for one in spread} == {"zone", "hostname"}
            assert all(matches(one["labelSelector"], workload.labels) for one in spread)


@each_overlay
def test_every_pod_has_a_priority_that_exists(name: str) -> None:
    classes = {one["metadata"]["name"]: one["value"] for one in of_kind(rendered(name), "PriorityClass")}
    assert classes["mesh-gateway"] > classes["mesh-worker"] > classes["mesh-batch"]
    assert {workload.pod["priorityClassName"] for workload in workloads(name)} <= set(classes)


@each_overlay
def test_every_selector_takes_the_pods_of_one_workload(name: str) -> None:
    for document in of_kind(rendered(name), "Service", "Deployment", "StatefulSet", "PodDisruptionBudget"):
        selector = document["spec"]["selector"]
        selector = {"matchLabels": selector} if document["kind"] == "Service" else selector
        taken = [
            one.name
            for one in workloads(name)
            if one.namespace == document["metadata"]["namespace"] and matches(selector, one.labels)
        ]
        assert len(taken) == 1, full_name(document)


@each_overlay
def test_the_quotas_have_room_for_the_most_replicas_and_for_as_many_that_end(name: str) -> None:
    assert over_quota(name) == []


@each_overlay
def test_no_container_is_larger_than_its_namespace_lets_one_be(name: str) -> None:
    largest = {
        one["metadata"]["namespace"]: one["spec"]["limits"][0]["max"]
        for one in of_kind(rendered(name), "LimitRange")
    }
    for workload in workloads(name):
        for container in workload.all_containers:
            for resource, most in largest[workload.namespace].items():
                assert quantity(container["resources"]["limits"][resource]) <= quantity(most), workload.name
