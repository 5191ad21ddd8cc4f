"""What the manifests read from Secrets is what `mesh` puts into them, and no file has any of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mesh_cli.secret_manifests import CREDENTIALS, GATEWAY_KEYS, SecretName, missing_credentials, with_keys

BASE = Path(__file__).parents[3] / "kustomize"


def documents() -> Iterator[dict[str, Any]]:
    for path in sorted(BASE.rglob("*.yaml")):
        yield from (one for one in yaml.safe_load_all(path.read_text()) if isinstance(one, dict))


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside a value."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from mappings(part)


def read_from_secrets() -> Iterator[tuple[SecretName, set[str]]]:
    """Each Secret that a workload names, with the keys of it that it reads."""
    for document in documents():
        namespace = document.get("metadata", {}).get("namespace", "")
        for one in mappings(document):
            if "secretKeyRef" in one:
                reference = one["secretKeyRef"]
                yield SecretName(namespace, reference["name"]), {reference["key"]}
            if "secretName" in one and "hosts" not in one:
                yield SecretName(namespace, one["secretName"]), {item["key"] for item in one.get("items", ())}


def test_every_secret_of_the_base_is_made_by_mesh_with_the_keys_that_are_read() -> None:
    made = {**missing_credentials({}), GATEWAY_KEYS: with_keys(None, [])}
    seen = set()
    for name, keys in read_from_secrets():
        if name in made:
            seen.add(name)
            assert keys <= set(made[name]["data"])
    assert seen == {GATEWAY_KEYS, *CREDENTIALS}


def test_no_manifest_is_a_secret_with_data() -> None:
    secrets = [one for one in documents() if one.get("kind") == "Secret"]
    assert [one for one in secrets if one.get("data") or one.get("stringData")] == []
    generators = [part for one in documents() for part in one.get("secretGenerator") or ()]
    assert generators == []
