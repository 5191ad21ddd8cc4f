"""components/worker-tls: where certificates lie, whom they name, and what the documents say of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from scripts.check_manifests import KUSTOMIZE
from tests.support.manifests import Manifest, Workload, full_name, overlay_of, rendered, workloads

COMPONENT = "components/worker-tls"
SECURED = "examples/worker-tls"
OPERATIONS = (KUSTOMIZE.parent / "docs" / "operations.md").read_text()
FILES = {"tls.crt", "tls.key", "ca.crt"}
"""What cert-manager, and `kubectl create secret generic --type kubernetes.io/tls`, put in a Secret."""
PREFIX = {"gateway": "MESH_GATEWAY_WORKER_TLS", "worker": "MESH_WORKER_TLS"}


def sides(name: str = SECURED) -> list[Workload]:
    """The gateway and the workers of every model."""
    return [one for one in workloads(name) if one.namespace == "ai-models" or one.name == "gateway"]


def tls_settings(workload: Workload) -> dict[str, str]:
    """What the component tells a process."""
    prefix = PREFIX[workload.labels["app.kubernetes.io/component"]]
    given = workload.environment(workload.containers[0])
    return {
        key.removeprefix(f"{prefix}_"): value for key, value in given.items() if key.startswith(f"{prefix}_")
    }


def documented() -> dict[str, Manifest]:
    """The Certificates of docs/operations.md, by the Secret that they make."""
    blocks = re.findall(r"```yaml\n(.*?)```", OPERATIONS, re.DOTALL)
    found = [one for block in blocks for one in yaml.safe_load_all(block)]
    return {
        f"{one['metadata']['namespace']}/{one['spec']['secretName']}": one
        for one in found
        if one.get("kind") == "Certificate"
    }


def secret_of(workload: Workload) -> tuple[str, Manifest]:
    """The Secret that a pod has its certificate from, and the mount."""
    [volume] = [one for one in workload.pod["volumes"] if one["name"] in ("tls", "worker-tls")]
    [mount] = [one for one in workload.containers[0]["volumeMounts"] if one["name"] == volume["name"]]
    assert "optional" not in volume["secret"], "a pod waits for its certificate, and never goes without"
    return f"{workload.namespace}/{volume['secret']['secretName']}", mount


@pytest.mark.parametrize("workload", sides(), ids=lambda one: one.name)
def test_each_file_is_one_of_a_secret_that_is_mounted_whole_so_that_a_renewed_one_is_seen(
    workload: Workload,
) -> None:
    secret, mount = secret_of(workload)
    assert secret in documented()
    assert "subPath" not in mount
    assert mount["readOnly"] is True
    files = {Path(one) for one in tls_settings(workload).values() if one.startswith("/")}
    assert {one.name for one in files} == FILES
    assert {str(one.parent) for one in files} == {mount["mountPath"]}


@pytest.mark.parametrize("workload", sides(), ids=lambda one: one.name)
def test_keys_are_read_by_the_group_of_the_process_and_by_nobody_else(workload: Workload) -> None:
    modes = [one["secret"].get("defaultMode") for one in workload.pod["volumes"] if "secret" in one]
    assert set(modes) == {0o440}
    assert workload.pod["securityContext"]["fsGroup"] == workload.pod["securityContext"]["runAsGroup"]


def test_each_side_checks_the_name_that_the_others_certificate_has() -> None:
    certificates = documented()
    checked = {
        "ai-models/worker-tls": {
            tls_settings(one)["NAME"] for one in sides() if one.namespace == "ai-gateway"
        },
        "ai-gateway/worker-client-tls": {
            tls_settings(one)["GATEWAY_NAMES"] for one in sides() if one.namespace == "ai-models"
        },
    }
    assert {key: set(one["spec"]["dnsNames"]) for key, one in certificates.items()} == checked


def test_the_documented_certificates_are_of_one_authority_each_for_its_side_of_a_connection() -> None:
    certificates = documented()
    usages = {
        key: set(one["spec"]["usages"]) & {"server auth", "client auth"} for key, one in certificates.items()
    }
    assert usages == {
        "ai-models/worker-tls": {"server auth"},
        "ai-gateway/worker-client-tls": {"client auth"},
    }
    # An Issuer is for one namespace, and `ca.crt` is that of the other side only if both have the same.
    issuers = {tuple(sorted(one["spec"]["issuerRef"].items())) for one in certificates.values()}
    assert len(issuers) == 1
    assert ("kind", "ClusterIssuer") in next(iter(issuers))


@pytest.mark.parametrize("base", ["overlays/prod-operators", "examples/canary", "examples/model-files-pvc"])
def test_a_model_that_comes_later_has_it_without_a_line_more(base: str, tmp_path: Path) -> None:
    found = sides(overlay_of(tmp_path, base, COMPONENT))
    assert {one.name for one in found} == {one.name for one in sides(base)}
    assert all(
        {"tls.crt", "tls.key"} <= {Path(one).name for one in tls_settings(side).values()} for side in found
    )


def test_it_changes_the_gateway_and_the_workers_and_neither_ports_nor_probes() -> None:
    before = {full_name(one): one for one in rendered("overlays/prod")}
    after = {full_name(one): one for one in rendered(SECURED)}
    assert set(before) == set(after)
    changed = {
        name
        for name, one in before.items()
        if json.dumps(one, sort_keys=True) != json.dumps(after[name], sort_keys=True)
    }
    assert changed == {
        "Deployment/ai-gateway/gateway",
        "Deployment/ai-models/llm",
        "Deployment/ai-models/embeddings",
    }
    for name in changed:
        [old], [new] = (one["spec"]["template"]["spec"]["containers"] for one in (before[name], after[name]))
        assert {key for key in old if old[key] != new[key]} <= {"env", "volumeMounts"}
