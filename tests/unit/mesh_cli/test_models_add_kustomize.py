"""`mesh models add --kustomize`: one folder, and the two lists that name it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference_mesh.config.models_file import parse_models
from mesh_cli.errors import UsageError
from mesh_cli.kustomize_model import NewModel, folder_of, settings_of, with_registry_entry, with_resource
from tests.support.meshes import ROOT, mesh
from tests.support.network_flows import Network

MODEL = NewModel("qwen2.5-0.5b", "/models/qwen.gguf", "llama")


@pytest.fixture
def kustomize(tmp_path: Path) -> Path:
    """A copy of the manifests."""
    return Path(shutil.copytree(ROOT / "kustomize", tmp_path / "kustomize"))


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*")}


def rendered(folder: Path) -> list[dict[str, Any]]:
    command = ["kubectl", "kustomize", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return list(yaml.safe_load_all(ended.stdout))


def test_a_name_is_all_it_takes_and_kustomize_renders_what_comes_of_it(kustomize: Path) -> None:
    before = {(one["kind"], one["metadata"]["name"]) for one in rendered(kustomize / "base" / "models")}
    ended = mesh("models", "add", MODEL.name, "--kustomize", cwd=kustomize.parent)
    assert ended.returncode == 0, ended.stderr
    documents = rendered(kustomize / "base" / "models")
    added = [one for one in documents if (one["kind"], one["metadata"]["name"]) not in before]
    kinds = {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"}
    assert {one["kind"] for one in added} == kinds
    assert len(documents) == len(before) + len(added)
    [deployment] = [one for one in added if one["kind"] == "Deployment"]
    [settings] = [one for one in added if one["kind"] == "ConfigMap"]
    label = {"app.kubernetes.io/name": "qwen2-5-0-5b"}
    assert deployment["spec"]["selector"]["matchLabels"].items() >= label.items()
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    assert settings["data"] == {
        "MESH_WORKER_NAME": MODEL.name,
        "MESH_WORKER_MODEL": f"/models/{MODEL.name}.gguf",
        "MESH_WORKER_RUNTIME": "llama",
    }
    entry = parse_models((kustomize / "base" / "gateway" / "models.yaml").read_text()).models[-1]
    assert (entry.name, entry.service) == (MODEL.name, "qwen2-5-0-5b.ai-models.svc.cluster.local")


def test_prod_serves_the_new_model_and_opens_its_flows_as_for_the_others(kustomize: Path) -> None:
    shutil.copytree(ROOT / "observability", kustomize.parent / "observability")
    assert mesh("models", "add", "mine", "--kustomize", cwd=kustomize.parent).returncode == 0
    prod = Network(str(kustomize / "overlays" / "prod"))
    flows = prod.used()
    assert {("gateway", "mine", 50051), ("prometheus", "mine", 8080)} <= flows
    assert {flow for flow in flows if flow[1] == "mine"} == {
        flow for flow in prod.allowed_in() if flow[1] == "mine"
    }
    assert {flow for flow in prod.allowed_out() if flow[0] == "mine"} == set()


def test_nothing_of_the_copied_model_is_left_in_the_folder(kustomize: Path) -> None:
    for template, name in (("llm", "tiny-chat"), ("embeddings", "minilm")):
        files = folder_of(texts(kustomize / "base" / "models" / template), template, MODEL)
        words = set("\n".join(files.values()).replace("/", " ").split())
        assert [word for word in words if template in word or name in word] == []


def test_engine_file_and_task_can_be_said(kustomize: Path) -> None:
    options = ("--model-path", "/models/bge", "--task", "embed")
    ended = mesh("models", "add", "bge", "--kustomize", *options, cwd=kustomize.parent)
    assert ended.returncode == 0, ended.stderr
    folder = kustomize / "base" / "models" / "bge"
    assert settings_of((folder / "settings.env").read_text()) == {
        "MESH_WORKER_NAME": "bge",
        "MESH_WORKER_MODEL": "/models/bge",
        "MESH_WORKER_RUNTIME": "onnx",
        "MESH_WORKER_TASK": "embed",
    }
    assert "inference-mesh/worker-onnx" in (folder / "deployment.yaml").read_text()


def test_all_other_files_stay_as_they_are(kustomize: Path) -> None:
    before = texts(kustomize)
    assert mesh("models", "add", "mine", "--kustomize", cwd=kustomize.parent).returncode == 0
    after = texts(kustomize)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"base/models/kustomization.yaml", "base/gateway/models.yaml"}
    assert {name.rpartition("/")[0] for name in after.keys() - before.keys()} == {"base/models/mine"}


@pytest.mark.parametrize(
    "command",
    [
        ("tiny-chat", "--kustomize"),
        ("llm", "--kustomize"),
        ("Mine", "--kustomize"),
        ("models/mine.gguf", "--kustomize"),
        ("mine", "--kustomize", "--replicas", "2"),
        ("mine", "--kustomize", "--config", "mesh.yaml"),
        ("mine", "--kustomize", "--like", "nope"),
        ("mine", "--kustomize", "--like", "embeddings"),
        ("mine", "--kustomize", "--model-path", "relative.gguf"),
        ("mine", "--kustomize", "--kustomize-dir", "nowhere"),
        ("mine", "--runtime", "onnx"),
        ("mine", "--like", "llm"),
    ],
)
def test_what_cannot_be_added_is_told_and_changes_nothing(kustomize: Path, command: tuple[str, ...]) -> None:
    before = texts(kustomize.parent)
    ended = mesh("models", "add", *command, cwd=kustomize.parent)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert texts(kustomize.parent) == before


def test_two_names_of_one_service_do_not_mix(kustomize: Path) -> None:
    assert mesh("models", "add", "a.b", "--kustomize", cwd=kustomize.parent).returncode == 0
    assert mesh("models", "add", "a-b", "--kustomize", cwd=kustomize.parent).returncode == 2


@pytest.mark.parametrize(
    ("name", "service"),
    [("a", "a"), ("qwen2.5", "qwen2-5"), ("7b", "m-7b"), ("x" * 63, "x" * 63), ("1" * 63, "m-" + "1" * 61)],
)
def test_a_service_is_named_by_a_dns_label(name: str, service: str) -> None:
    assert NewModel(name, "/m", "llama").service == service


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resources:\n  - llm # first\n  - policy.yaml\n", ["llm", "new", "policy.yaml"]),
        ("# c\nresources:\n- llm\n- embeddings\nkind: K", ["llm", "embeddings", "new"]),
        ("resources:\n- policy.yaml\n", ["policy.yaml", "new"]),
    ],
)
def test_a_folder_is_listed_after_the_others(text: str, expected: list[str]) -> None:
    added = with_resource(text, "new", source="kustomization.yaml")
    assert yaml.safe_load(added) == {**yaml.safe_load(text), "resources": expected}
    assert added.count("#") == text.count("#")


@pytest.mark.parametrize("text", ["", "[]", "resources: [llm]\n", "kind: K\n", "resources:\n- new\n"])
def test_a_list_in_another_form_is_left_to_its_owner(text: str) -> None:
    with pytest.raises(UsageError):
        with_resource(text, "new", source="kustomization.yaml")


def test_a_registry_in_another_form_is_left_to_its_owner() -> None:
    with pytest.raises(UsageError):
        with_registry_entry("models: [{name: a, service: a}]\n", MODEL, source="models.yaml")
