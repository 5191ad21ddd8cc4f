"""Credentials are only named, never there; images become digests by one entry."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from mesh_cli.secret_manifests import CREDENTIALS, GATEWAY_KEYS
from tests.support.manifests import KUSTOMIZE, kubectl, mappings, of_kind, overlays, rendered, workloads

BY_HAND = {
    ("ai-gateway", "rest-bridge-tls"),
    ("ai-gateway", "gateway-tls"),
    ("ai-observability", "prometheus-door"),
}
"""Secrets that `mesh` does not make: certificates, and the users of Prometheus where it is opened."""
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
    needed = [one for one in references if isinstance(one, dict)]
    assert len(needed) == 2
    assert all(one["optional"] is True for one in needed)


def test_one_entry_of_images_turns_a_tag_into_a_digest_wherever_it_stands(tmp_path: Path) -> None:
    images = [{"name": f"inference-mesh/{name}", "digest": DIGEST} for name in ("gateway", "worker-llama")]
    base = os.path.relpath(KUSTOMIZE / "examples" / "model-files-pvc", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [base], "images": images}))
    command = [kubectl(), "kustomize", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    named = [line.split()[-1] for line in ended.stdout.splitlines() if "image: inference-mesh/" in line]
    pinned = [image for image in named if "gateway" in image or "worker-llama" in image]
    assert len(pinned) == 4
    assert {image.partition("@")[2] for image in pinned} == {DIGEST}
