"""Every overlay and example renders by plain kubectl, and is what Kubernetes' own schemas ask for."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from scripts import generate_prometheus_rule
from scripts.check_manifests import KUSTOMIZE, overlays
from tests.support.manifests import Manifest, full_name, rendered

OLDEST = "1.30"
"""From here on all that prod has is known: preStop.sleep came last."""
OF_OPERATORS = {
    "Certificate": "cert-manager.io",
    "Gateway": "gateway.networking.k8s.io",
    "GRPCRoute": "gateway.networking.k8s.io",
    "HTTPRoute": "gateway.networking.k8s.io",
    "InferencePool": "inference.networking.k8s.io",
    "PrometheusRule": "monitoring.coreos.com",
    "ScaledObject": "keda.sh",
    "ServiceMonitor": "monitoring.coreos.com",
}
"""Kinds that come with an operator: their schemas are not checked here."""
NEEDS = {"examples/model-files-image": "1.33"}
"""Overlays that need a newer Kubernetes."""


def is_of_operator(document: Manifest) -> bool:
    return str(document["apiVersion"]).partition("/")[0] in OF_OPERATORS.values()


def test_there_are_the_overlays_that_the_documents_name() -> None:
    assert {"overlays/dev", "overlays/prod", "overlays/prod-operators", "examples/canary"} <= set(overlays())


@pytest.mark.parametrize("name", overlays())
def test_an_overlay_renders_and_names_each_object_once(name: str) -> None:
    names = [full_name(one) for one in rendered(name)]
    assert len(names) > 40
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", [name for name in overlays() if name != "overlays/prod-operators"])
def test_no_overlay_but_that_of_the_operators_has_a_kind_that_needs_one(name: str) -> None:
    assert [full_name(one) for one in rendered(name) if is_of_operator(one)] == []


def test_the_operators_overlay_has_every_kind_of_the_list_and_no_other() -> None:
    found = {one["kind"]: one["apiVersion"].partition("/")[0] for one in rendered("overlays/prod-operators")}
    assert {kind: group for kind, group in found.items() if kind in OF_OPERATORS} == OF_OPERATORS
    unknown = [one for one in rendered("overlays/prod-operators") if is_of_operator(one)]
    assert {one["kind"] for one in unknown} == set(OF_OPERATORS)


@pytest.mark.parametrize("name", overlays())
@pytest.mark.parametrize("version", ["oldest", "newest"])
def test_every_object_fits_the_schema_of_its_kind_and_has_no_field_beside_it(name: str, version: str) -> None:
    wanted = NEEDS.get(name, OLDEST) if version == "oldest" else str(kubernetes_validate.latest_version())
    skipped = [full_name(one) for one in rendered(name) if is_of_operator(one)]
    print(f"{name}: not checked, because an operator brings the schema: {', '.join(skipped) or 'nothing'}")
    for document in rendered(name):
        if not is_of_operator(document):
            check_schema(json.dumps(document, sort_keys=True), wanted)


@functools.cache
def check_schema(document: str, version: str) -> None:
    """Once for the overlays that have it alike."""
    try:
        kubernetes_validate.validate(json.loads(document), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise AssertionError(f"{full_name(json.loads(document))} in {version}: {error}") from None


def test_the_schemas_notice_a_field_that_does_not_exist() -> None:
    policy = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "any"}}
    with pytest.raises(AssertionError):
        check_schema(json.dumps({**policy, "spec": {"maxUnavailabel": 1}}), OLDEST)


def kustomizations() -> dict[Path, Manifest]:
    return {path: yaml.safe_load(path.read_text()) for path in KUSTOMIZE.rglob("kustomization.yaml")}


def test_every_component_is_used_by_an_overlay_an_example_or_the_base() -> None:
    used = {
        (path.parent / component).resolve()
        for path, document in kustomizations().items()
        for component in document.get("components", ())
    }
    there = {path.parent for path in KUSTOMIZE.glob("components/*/kustomization.yaml")}
    assert {path for path in used if path.is_relative_to(KUSTOMIZE)} == there
    elsewhere = {path for path in used if not path.is_relative_to(KUSTOMIZE)}
    assert {path.parent.name for path in elsewhere} == {"observability"}


def test_every_model_folder_is_listed_and_in_the_registry() -> None:
    base = KUSTOMIZE / "base"
    folders = {path.parent.name for path in base.glob("models/*/kustomization.yaml")}
    listed = yaml.safe_load((base / "models" / "kustomization.yaml").read_text())["resources"]
    assert {name for name in listed if not name.endswith(".yaml")} == folders
    entries = yaml.safe_load((base / "gateway" / "models.yaml").read_text())["models"]
    assert {entry["service"].partition(".")[0] for entry in entries} == folders


def test_no_file_is_left_out_of_its_kustomization() -> None:
    for path, document in kustomizations().items():
        named = re.findall(r"[\w./-]+\.(?:yaml|env|conf|py|yml)\b", yaml.safe_dump(document))
        files = {file.name for file in path.parent.iterdir() if file.is_file()} - {path.name}
        assert files == {Path(one).name for one in named if (path.parent / one).is_file()}, path


def test_the_rules_of_the_prometheus_operator_are_those_of_prometheus() -> None:
    assert generate_prometheus_rule.TARGET.read_text() == generate_prometheus_rule.text()
