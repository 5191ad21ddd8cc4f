"""Whom a signed token (JWT, RFC 7519) names, and whether it is to be believed (RFC 8725).

Owns every check of a token. Its header chooses nothing: `alg` must be on the issuer's list and
fit the key, `kid` only finds a key of the issuer's set, and `jku`, `x5u`, `jwk` are not looked
at. The clock is told, so PyJWT checks signatures only.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jwt

from gateway.policy.facts import Caller
from gateway.policy.identity.api_keys import tenant_salt
from gateway.policy.identity.key_set import KeySet
from gateway.policy.identity.tenant_book import TenantBook
from inference_mesh.config.tenants_file import TENANT_NAME, Issuer

MAX_TOKEN_CHARACTERS = 8192
MAX_TIME_S = 2.0**53
KNOWN_SCOPES = frozenset({"infer", "admin"})


@dataclasses.dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token says of itself, before anything of it is believed.

    key_id: None = it names no key.
    """

    text: str
    issuer: str
    algorithm: str
    key_id: str | None


def read_token(text: str) -> UnverifiedToken | None:
    """What a text says if it has the form of a token; None if not, or if it is too long."""
    if len(text) > MAX_TOKEN_CHARACTERS or text.count(".") != 2 or not text.isascii():
        return None
    try:
        parts = jwt.PyJWS().decode_complete(text, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None
    claims = _claims(parts["payload"])
    issuer, algorithm = claims.get("iss"), parts["header"].get("alg")
    key_id = parts["header"].get("kid")
    if not isinstance(issuer, str) or not isinstance(algorithm, str):
        return None
    return UnverifiedToken(text, issuer, algorithm, key_id) if isinstance(key_id, str | None) else None


def caller_of_token(
    token: UnverifiedToken, issuer: Issuer, keys: KeySet, tenants: TenantBook, wall_time_s: float
) -> Caller | None:
    """Who calls with a token; None if it is not to be believed.

    keys: the issuer's. wall_time_s: Unix time.
    """
    if token.issuer != issuer.issuer or token.algorithm not in issuer.algorithms:
        return None
    claims = _signed_claims(token, keys)
    if claims is None or not _is_for_us(claims, issuer):
        return None
    expires_at_s = _end_of(claims, issuer.leeway_s, wall_time_s)
    name = _tenant_name(claims, issuer)
    tenant = None if name is None else tenants.named(name)
    if expires_at_s is None or tenant is None:
        return None
    return Caller(
        tenant=tenant,
        scopes=_scopes(claims, issuer),
        salt=tenant_salt(tenant.name),
        expires_at_s=expires_at_s,
    )


def _signed_claims(token: UnverifiedToken, keys: KeySet) -> dict[str, Any] | None:
    """The claims if one of the keys made the signature."""
    for key in keys.fitting(token.key_id, token.algorithm):
        try:
            parts = jwt.PyJWS().decode_complete(
                token.text,
                key=key,
                algorithms=[token.algorithm],
                options={"verify_signature": True, "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError:
            continue
        return _claims(parts["payload"])
    return None


def _claims(payload: bytes) -> dict[str, Any]:
    """The claims of a payload; empty if it is not an object."""
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _is_for_us(claims: dict[str, Any], issuer: Issuer) -> bool:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    return claims.get("iss") == issuer.issuer and issuer.audience in audiences


def _end_of(claims: dict[str, Any], leeway_s: float, wall_time_s: float) -> float | None:
    """Unix time until which a token is believed; None if that is over or has not begun."""
    for name in ("nbf", "iat"):
        if name in claims:
            begins_at_s = _time(claims[name])
            if begins_at_s is None or wall_time_s < begins_at_s - leeway_s:
                return None
    expires_at_s = _time(claims.get("exp"))
    if expires_at_s is None or wall_time_s >= expires_at_s + leeway_s:
        return None
    return expires_at_s + leeway_s


def _time(value: object) -> float | None:
    """A NumericDate in seconds; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= MAX_TIME_S else None


def _tenant_name(claims: dict[str, Any], issuer: Issuer) -> str | None:
    value = claims.get(issuer.tenant_claim)
    if not isinstance(value, str):
        return None
    if issuer.tenants:
        return issuer.tenants.get(value)
    return value if TENANT_NAME.fullmatch(value) else None


def _scopes(claims: dict[str, Any], issuer: Issuer) -> frozenset[str]:
    """What the token may do: of an issuer with a claim for it, no more than that claim says."""
    if issuer.scopes_claim is None:
        return frozenset({"infer"})
    value = claims.get(issuer.scopes_claim)
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
    return KNOWN_SCOPES.intersection(word for word in words if isinstance(word, str))
