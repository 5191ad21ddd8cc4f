"""Which key a credential is, and whom it names. Owns no key: they are told."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from gateway.policy.facts import Caller
from inference_mesh.config.keys_file import ApiKey, hash_of, id_of
from inference_mesh.config.tenants_file import Tenant

NO_SUCH_KEY_SHA256 = "0" * 64
"""Compared with where there is no key, so that an unknown id takes as long as a wrong secret."""

SALT_PURPOSE = b"inference-mesh tenant salt\x00"


def authenticate(credential: str | None, keys: Mapping[str, ApiKey], wall_time_s: float) -> ApiKey | None:
    """The key that the credential is; None if it is missing, unknown, wrong or expired.

    keys: by id. wall_time_s: Unix time.
    """
    presented = credential or ""
    key = keys.get(id_of(presented) or "")
    expected = NO_SUCH_KEY_SHA256 if key is None else key.sha256
    is_same = hmac.compare_digest(hash_of(presented), expected)
    if key is None or not is_same:
        return None
    expires_at_s = expiry_of(key)
    return None if expires_at_s is not None and wall_time_s >= expires_at_s else key


def expiry_of(key: ApiKey) -> float | None:
    """Unix time at which a key ends; None = never."""
    return None if key.expires is None else key.expires.timestamp()


def caller_of_key(key: ApiKey, tenant: Tenant) -> Caller:
    """Who calls with a key."""
    return Caller(
        key_id=key.id,
        tenant=tenant,
        scopes=frozenset(key.scopes),
        limits=key.all_limits,
        salt=tenant_salt(tenant.name),
        expires_at_s=expiry_of(key),
    )


def tenant_salt(tenant: str) -> str:
    """What workers keep the tenants' caches apart by: equal on every gateway, tells no name."""
    return hashlib.sha256(SALT_PURPOSE + tenant.encode()).hexdigest()[:16]
