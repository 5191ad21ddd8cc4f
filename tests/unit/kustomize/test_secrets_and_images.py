"""Credentials are only named, never there; images become digests by one entry."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from mesh_cli.secret_manifests import CREDENTIALS, GATEWAY_KEYS
from scripts.check_manifests import KUSTOMIZE, overlays
from tests.support.manifests import kubectl, mappings, of_kind, rendered, workloads

BY_HAND = {
    ("ai-gateway", "rest-bridge-tls"),
    ("ai-gateway", "gateway-tls"),
    ("ai-observability", "prometheus-door"),
    ("ai-gateway", "worker-client-tls"),
    ("ai-models", "worker-tls"),
}
"""Secrets that `mesh` does not make: certificates, and the users of Prometheus where it is opened."""
NOT_WITHOUT = {"worker-client-tls"}
"""Secrets that a gateway waits for: without them it could not be sure of its workers."""
DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize("name", overlays())
def test_no_overlay_has_a_secret_and_each_that_it_names_is_known(name: str) -> None:
    assert of_kind(rendered(name), "Secret") == []
    named = set()
    for document in rendered(name):
        for one in mappings(document):
            reference = one.get("secretKeyRef", {}).get("name") or one.get("secretName")
            if isinstance(reference, str):
                named.add((document["metadata"]["namespace"], reference))
    made = {(one.namespace, one.name) for one in (GATEWAY_KEYS, *CREDENTIALS)}
    assert made <= named <= made | BY_HAND


@pytest.mark.parametrize("name", overlays())
def test_gateways_start_without_any_secret_so_that_they_can_say_what_is_missing(name: str) -> None:
    [gateway] = [one for one in workloads(name) if one.name == "gateway"]
    references = [one.get("secretKeyRef") or one.get("secret") for one in mappings(gateway.pod)]
    needed = [one for one in references if isinstance(one, dict) and one.get("secretName") not in NOT_WITHOUT]
    assert len(needed) == 2
    assert all(one["optional"] is True for one in needed)


def images_of(folder: Path, kustomization: dict[str, object]) -> list[str]:
    """The images that a kustomization in this folder renders."""
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    command = [kubectl(), "kustomize", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split()[-1] for line in ended.stdout.splitlines() if line.strip().startswith("image: ")]


def test_one_entry_of_images_turns_a_tag_into_a_digest_wherever_it_stands(tmp_path: Path) -> None:
    images = [{"name": f"inference-mesh/{name}", "digest": DIGEST} for name in ("gateway", "worker-llama")]
    base = os.path.relpath(KUSTOMIZE / "examples" / "model-files-pvc", tmp_path)
    named = images_of(tmp_path, {"resources": [base], "images": images})
    pinned = [image for image in named if "/gateway" in image or "/worker-llama" in image]
    assert len(pinned) == 4
    assert {image.partition("@")[2] for image in pinned} == {DIGEST}


def test_an_overlay_that_renames_images_takes_the_gpu_component_itself(tmp_path: Path) -> None:
    base = os.path.relpath(KUSTOMIZE / "base", tmp_path)
    gpu = os.path.relpath(KUSTOMIZE / "components" / "gpu-llama", tmp_path)
    images = [
        {"name": f"inference-mesh/{name}", "newName": f"registry.example/{name}", "newTag": "0.2.0"}
        for name in ("worker-llama", "worker-llama-gpu")
    ]
    named = images_of(tmp_path, {"resources": [base], "components": [gpu], "images": images})
    assert [image for image in named if "llama" in image] == ["registry.example/worker-llama-gpu:0.2.0"]
