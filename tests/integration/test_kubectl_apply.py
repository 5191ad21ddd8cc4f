"""`kubectl apply -k` as a user types it, in kustomize/, against an empty cluster and again."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.check_manifests import KUSTOMIZE, overlays
from tests.fakes.fake_kubernetes import OF_OPERATORS, FakeKubernetes, running
from tests.support.manifests import full_name, kubectl, of_kind, rendered

LINE = re.compile(r"(\S+) (created|configured|unchanged)")
HASHED = re.compile(r"ConfigMap/[a-z-]+/[a-z-]+-[bcdfghkmt2456789]{10}")
OPERATORS = "overlays/prod-operators"
OPERATIONS = KUSTOMIZE.parent / "docs" / "operations.md"
APPLY_LIMIT_S = 60.0
ALWAYS_PATCHED = "poddisruptionbudget.policy/"
"""kubectl sends the selector of a PodDisruptionBudget each time, as its type demands, and then says
`configured` on any cluster; that nothing changed shows in the object's version."""


@dataclasses.dataclass(frozen=True)
class Applied:
    """How a `kubectl apply` ended: its status, its complaints, and what it said of each object."""

    status: int
    complaints: str
    said: list[tuple[str, str]]

    @property
    def words(self) -> set[str]:
        """created, configured, unchanged: those that it said."""
        return {word for _, word in self.said}


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A fake cluster, and a kubectl that knows no other."""

    api: FakeKubernetes
    environment: dict[str, str]

    def apply(self, name: str) -> Applied:
        """What a user types in kustomize/."""
        ended = subprocess.run(
            [kubectl(), "apply", "-k", name],
            cwd=KUSTOMIZE,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=APPLY_LIMIT_S,
        )
        matches = [LINE.fullmatch(line) for line in ended.stdout.splitlines()]
        assert None not in matches, ended.stdout
        return Applied(ended.returncode, ended.stderr, [(one[1], one[2]) for one in matches if one])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """An empty cluster that knows the built-in kinds."""
    api, kubeconfig = FakeKubernetes(), tmp_path / "kubeconfig"
    with running(api, kubeconfig):
        # A home of its own: kubectl keeps there what it discovered of a cluster.
        home = {"HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig)}
        yield Cluster(api, {"PATH": os.environ["PATH"], **home})


def names_in(name: str) -> set[str]:
    return {full_name(one) for one in rendered(name)}


def names_of(api: FakeKubernetes) -> set[str]:
    return {"/".join(part for part in key if part) for key in api.objects}


@pytest.mark.parametrize("name", [name for name in overlays() if name != OPERATORS])
def test_one_apply_makes_all_of_it_on_an_empty_cluster_and_a_second_changes_nothing(
    cluster: Cluster, name: str
) -> None:
    first = cluster.apply(name)
    assert (first.status, first.complaints, first.words) == (0, "", {"created"})
    assert names_of(cluster.api) == names_in(name)
    before = cluster.api.versions()

    second = cluster.apply(name)
    assert (second.status, second.complaints, len(second.said)) == (0, "", len(first.said))
    changed = {(subject, word) for subject, word in second.said if word != "unchanged"}
    assert all(subject.startswith(ALWAYS_PATCHED) and word == "configured" for subject, word in changed)
    assert cluster.api.versions() == before


def test_the_namespaces_may_come_first_so_that_secrets_are_there_before_the_pods(cluster: Cluster) -> None:
    first = cluster.apply("base/namespaces")
    assert (first.status, first.complaints, first.words) == (0, "", {"created"})
    second = cluster.apply("overlays/prod")
    assert (second.status, second.complaints) == (0, "")
    assert names_of(cluster.api) == names_in("overlays/prod")


def test_without_its_operators_the_overlay_says_which_kinds_are_missing_and_makes_the_rest(
    cluster: Cluster,
) -> None:
    first = cluster.apply(OPERATORS)
    assert first.status == 1
    missing = set(re.findall(r'no matches for kind "(\w+)"', first.complaints))
    assert missing == {one.kind for one in OF_OPERATORS}
    theirs = {full_name(one) for one in rendered(OPERATORS) if one["kind"] in missing}
    assert names_of(cluster.api) == names_in(OPERATORS) - theirs


def test_with_its_operators_the_overlay_is_applied_at_once(cluster: Cluster) -> None:
    cluster.api.install(OF_OPERATORS)
    first = cluster.apply(OPERATORS)
    assert (first.status, first.complaints, first.words) == (0, "", {"created"})
    before = cluster.api.versions()
    assert cluster.apply(OPERATORS).status == 0
    assert cluster.api.versions() == before


def test_a_cluster_can_go_on_from_prod_to_its_operators(cluster: Cluster) -> None:
    assert cluster.apply("overlays/prod").status == 0
    cluster.api.install(OF_OPERATORS)
    second = cluster.apply(OPERATORS)
    assert (second.status, second.complaints) == (0, "")
    # kubectl deletes nothing. Old versions of hashed ConfigMaps harm nobody; the autoscalers are KEDA's now.
    left = {one for one in names_of(cluster.api) - names_in(OPERATORS) if not HASHED.fullmatch(one)}
    taken_over = {f"HorizontalPodAutoscaler/ai-models/{name}" for name in ("llm", "embeddings")}
    assert left == {"Ingress/ai-gateway/rest-bridge", "Ingress/ai-gateway/gateway", *taken_over}
    for scaled in of_kind(rendered(OPERATORS), "ScaledObject"):
        name = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"]
        assert f"HorizontalPodAutoscaler/ai-models/{name}" in taken_over
        assert scaled["metadata"]["annotations"]["scaledobject.keda.sh/transfer-hpa-ownership"] == "true"
    assert "kubectl -n ai-gateway delete ingress rest-bridge gateway" in OPERATIONS.read_text()


def test_the_fake_refuses_what_a_cluster_would(cluster: Cluster, tmp_path: Path) -> None:
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "nowhere"}}
    (tmp_path / "a.json").write_text(json.dumps(document))
    command = [kubectl(), "apply", "-f", str(tmp_path / "a.json")]
    ended = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'namespaces "nowhere" not found' in ended.stderr
    assert cluster.api.objects == {}
