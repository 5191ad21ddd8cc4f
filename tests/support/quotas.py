"""What the pods of an overlay need at most, beside what the quotas of their namespaces allow.

Owns the reckoning, from the manifests alone. That all fits is for a test to say.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

from tests.support.manifests import Manifest, Workload, of_kind, rendered, workloads

UNITS = {"": "1", "m": "0.001", "Ki": str(2**10), "Mi": str(2**20), "Gi": str(2**30), "Ti": str(2**40)}


def over_quota(name: str) -> list[str]:
    """What does not fit, if every autoscaler is at its most and as many pods are still ending.

    After a rolling update all old pods may still be finishing their calls, and count until they end.
    """
    allowed = {
        one["metadata"]["namespace"]: one["spec"]["hard"] for one in of_kind(rendered(name), "ResourceQuota")
    }
    return [
        f"{namespace} needs {amount} of {key}, and has {allowed[namespace][key]}"
        for (namespace, key), amount in _used(name).items()
        if amount > quantity(allowed[namespace][key])
    ]


def quantity(text: str) -> Decimal:
    """A quantity of Kubernetes as a number."""
    match = re.fullmatch(r"([\d.]+)(\w*)", str(text))
    assert match is not None, text
    return Decimal(match[1]) * Decimal(UNITS[match[2]])


def _used(name: str) -> dict[tuple[str, str], Decimal]:
    """By namespace and resource."""
    used: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for workload in workloads(name):
        most = _most_replicas(workload)
        pods = most if _ends_before_it_starts(workload) else 2 * most + _surge(workload)
        used[workload.namespace, "pods"] += pods
        for key, amount in _needs(workload):
            used[workload.namespace, key] += pods * amount
        for claim in workload.document["spec"].get("volumeClaimTemplates", []):
            used[workload.namespace, "persistentvolumeclaims"] += most
            used[workload.namespace, "requests.storage"] += most * _storage_of(claim)
    for claim in of_kind(rendered(name), "PersistentVolumeClaim"):
        used[claim["metadata"]["namespace"], "persistentvolumeclaims"] += 1
        used[claim["metadata"]["namespace"], "requests.storage"] += _storage_of(claim)
    return used


def _most_replicas(workload: Workload) -> int:
    """The most that its autoscaler may start, or the number that it has."""
    for one in of_kind(workload.documents, "HorizontalPodAutoscaler", "ScaledObject"):
        spec = one["spec"]
        if (one["metadata"]["namespace"], spec["scaleTargetRef"]["name"]) == (
            workload.namespace,
            workload.name,
        ):
            return int(spec.get("maxReplicas") or spec["maxReplicaCount"])
    return int(workload.document["spec"].get("replicas", 1))


def _ends_before_it_starts(workload: Workload) -> bool:
    """Whether an old pod is gone before a new one is there."""
    strategy = workload.document["spec"].get("strategy", {}).get("type")
    return {workload.document["kind"], strategy} & {"StatefulSet", "Recreate"} != set()


def _surge(workload: Workload) -> int:
    """How many more a rolling update starts; one for a Deployment that says nothing and has few."""
    return int(workload.document["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 1))


def _storage_of(claim: Manifest) -> Decimal:
    """What a claim of a volume asks for."""
    return quantity(claim["spec"]["resources"]["requests"]["storage"])


def _needs(workload: Workload) -> Iterator[tuple[str, Decimal]]:
    """What one pod takes from the quota of its namespace."""
    for container in workload.containers:
        for kind, amounts in container["resources"].items():
            for resource, amount in amounts.items():
                if resource in ("cpu", "memory"):
                    yield f"{kind}.{resource}", quantity(amount)
                elif kind == "limits":
                    yield f"requests.{resource}", quantity(amount)
