"""Which key a credential is, and what it allows."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from gateway.policy.facts import Caller, KeyFacts, RefusalKind, Refuse
from inference_mesh.config.keys_file import hash_of, id_of

NO_SUCH_KEY_SHA256 = "0" * 64
"""Compared with where there is no key, so that an unknown id takes as long as a wrong secret."""

SALT_PURPOSE = b"inference-mesh tenant salt\x00"


def authenticate(credential: str | None, keys: Mapping[str, KeyFacts], wall_time_s: float) -> KeyFacts | None:
    """The key that the credential is; None if it is missing, unknown, wrong or expired.

    keys: by id. wall_time_s: Unix time.
    """
    presented = credential or ""
    key = keys.get(id_of(presented) or "")
    expected = NO_SUCH_KEY_SHA256 if key is None else key.sha256
    is_same = hmac.compare_digest(hash_of(presented), expected)
    if key is None or not is_same:
        return None
    is_expired = key.expires_at_s is not None and wall_time_s >= key.expires_at_s
    return None if is_expired else key


def authorise(caller: Caller, scope: str) -> Refuse | None:
    """A refusal if the caller lacks the scope."""
    if scope in caller.scopes:
        return None
    return Refuse(RefusalKind.FORBIDDEN, f"the key lacks the scope '{scope}'")


def tenant_salt(tenant: str) -> str:
    """What workers keep the tenants' caches apart by: equal on every gateway, tells no name."""
    return hashlib.sha256(SALT_PURPOSE + tenant.encode()).hexdigest()[:16]
