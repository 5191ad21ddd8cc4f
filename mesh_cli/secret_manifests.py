"""The Secrets that the manifests in kustomize/ expect, as documents. Pure.

Owns their names, keys and forms: the gateway's keys, Redis's password in the two namespaces
that need it, Grafana's login. No file of the repository holds any of their contents.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import secrets
from collections.abc import Iterable, Mapping

import yaml

from inference_mesh.config.keys_file import ApiKey, parse_keys
from mesh_cli.errors import FailedError
from mesh_cli.kubectl import Manifest

KEYS_FILE = "keys.yaml"
ADMIN_USER = "admin"


@dataclasses.dataclass(frozen=True, slots=True)
class SecretName:
    """A Secret's namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"Secret {self.namespace}/{self.name}"


GATEWAY_KEYS = SecretName("ai-gateway", "gateway-keys")
REDIS = SecretName("ai-infra", "redis")
REDIS_OF_GATEWAY = SecretName("ai-gateway", "redis")
GRAFANA = SecretName("ai-observability", "grafana")
CREDENTIALS = (REDIS, REDIS_OF_GATEWAY, GRAFANA)


def secret(name: SecretName, contents: Mapping[str, str]) -> Manifest:
    """A new Secret with these texts."""
    metadata = {
        "name": name.name,
        "namespace": name.namespace,
        "labels": {"app.kubernetes.io/part-of": "inference-mesh"},
    }
    data = {key: _encoded(text) for key, text in contents.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def text_of(manifest: Manifest, key: str) -> str | None:
    """One text of a Secret; None if it has none of this name. Raises FailedError if it is no text."""
    encoded = (manifest.get("data") or {}).get(key)
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        metadata = manifest["metadata"]
        raise FailedError(f"Secret {metadata['namespace']}/{metadata['name']}: '{key}' is no text") from None


def keys_in(manifest: Manifest | None) -> tuple[ApiKey, ...]:
    """The API keys of the gateway's Secret; none if it is not there. Raises ConfigError."""
    text = None if manifest is None else text_of(manifest, KEYS_FILE)
    return parse_keys(text or "", source=str(GATEWAY_KEYS))


def with_keys(manifest: Manifest | None, keys: Iterable[ApiKey]) -> Manifest:
    """The gateway's Secret with these keys; all else of the one that is there stays as it is."""
    contents = {KEYS_FILE: keys_text(keys)}
    if manifest is None:
        return secret(GATEWAY_KEYS, contents)
    return {**manifest, "data": {**(manifest.get("data") or {}), KEYS_FILE: _encoded(contents[KEYS_FILE])}}


def keys_text(keys: Iterable[ApiKey]) -> str:
    """The text of a keys.yaml."""
    entries = [key.model_dump(mode="json", exclude_defaults=True) for key in keys]
    return yaml.safe_dump({"keys": entries}, sort_keys=False)


def missing_credentials(present: Mapping[SecretName, Manifest]) -> dict[SecretName, Manifest]:
    """The Secrets of Redis and Grafana that are not there, with new passwords.

    The password of Redis is taken over from its other Secret, if that is there. Raises
    FailedError if the two differ.
    """
    contents = {**_redis_contents(present), GRAFANA: _grafana_contents()}
    return {name: secret(name, texts) for name, texts in contents.items() if name not in present}


def as_yaml(manifests: Iterable[Manifest]) -> str:
    """Documents for `kubectl apply -f -`."""
    return yaml.safe_dump_all(manifests, sort_keys=False, explicit_start=True)


def _redis_contents(present: Mapping[SecretName, Manifest]) -> dict[SecretName, dict[str, str]]:
    known = {
        text_of(present[name], "password") or "" for name in (REDIS, REDIS_OF_GATEWAY) if name in present
    }
    if len(known) > 1 or "" in known:
        raise FailedError(
            f"{REDIS} and {REDIS_OF_GATEWAY} must hold the same password; "
            f"delete the wrong one, and it is made again from the other"
        )
    # Hexadecimal: it stands in a URL and in Redis's configuration, and neither has to escape it.
    password = known.pop() if known else secrets.token_hex(32)
    return {
        REDIS: {"password": password, "auth.conf": f"requirepass {password}\n"},
        REDIS_OF_GATEWAY: {"password": password},
    }


def _grafana_contents() -> dict[str, str]:
    return {"admin-user": ADMIN_USER, "admin-password": secrets.token_urlsafe(24)}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
