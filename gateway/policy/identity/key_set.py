"""The public keys of an issuer, as a JWKS has them (RFC 7517).

Owns which key may check which signature. Does not own where the text comes from, nor how often
it is asked for. A private or symmetric key is never used, even if somebody publishes one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jwt

from inference_mesh.config.errors import ConfigError, Problem

MAX_KEYS_TRIED = 4
"""Signatures that one token can have checked; more than one only if several keys fit it."""

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
_PUBLIC_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


class KeySet:
    """Keys by their `kid`. A key is built when a token first asks for it: a thousand cost little."""

    def __init__(self, keys: Iterable[Mapping[str, Any]] = ()) -> None:
        self._keys = tuple(key for key in keys if _algorithms(key))
        self._places: dict[str, list[int]] = {}
        for place, key in enumerate(self._keys):
            if isinstance(key.get("kid"), str):
                self._places.setdefault(key["kid"], []).append(place)
        self._built: dict[tuple[int, str], jwt.PyJWK | None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def knows(self, key_id: str | None) -> bool:
        """True if a newer set is not needed to judge a token of this `kid`; None = it has none."""
        return bool(self._keys) if key_id is None else key_id in self._places

    def fitting(self, key_id: str | None, algorithm: str) -> Iterator[jwt.PyJWK]:
        """The keys that may have made a signature, a few at most; key_id None = any of the set."""
        places = range(len(self._keys)) if key_id is None else self._places.get(key_id, ())
        tried = 0
        for place in places:
            key = self._key(place, algorithm)
            if key is not None:
                yield key
                tried += 1
            if tried == MAX_KEYS_TRIED:
                return

    def _key(self, place: int, algorithm: str) -> jwt.PyJWK | None:
        stored = self._keys[place]
        if algorithm not in _algorithms(stored):
            return None
        if (place, algorithm) not in self._built:
            self._built[place, algorithm] = _built(stored, algorithm)
        return self._built[place, algorithm]


def parse_key_set(text: str, *, source: str) -> KeySet:
    """The keys of a JWKS. Raises ConfigError if it is none, or none of its keys can be used.

    An empty list is a good set: it says that nobody is believed.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(source, (Problem("", "is not JSON"),)) from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ConfigError(source, (Problem("keys", "must be a list of public keys (JWKS)"),))
    keys = KeySet(key for key in listed if isinstance(key, dict))
    if listed and not keys:
        raise ConfigError(source, (Problem("keys", "has no public RSA, EC or Ed25519 key for signatures"),))
    return keys


def _algorithms(key: Mapping[str, Any]) -> frozenset[str]:
    """The signatures that a key may check by its own words; empty = none."""
    kind = key.get("kty")
    if not isinstance(kind, str) or key.get("use", "sig") != "sig" or not _is_for_verifying(key):
        return frozenset()
    if not all(isinstance(key.get(member), str) for member in _PUBLIC_MEMBERS.get(kind, ("?",))):
        return frozenset()
    possible = _RSA if kind == "RSA" else _CURVES.get((kind, key["crv"]), frozenset())
    named = key.get("alg")
    return possible if named is None else possible & {str(named)}


def _is_for_verifying(key: Mapping[str, Any]) -> bool:
    operations = key.get("key_ops")
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _built(stored: Mapping[str, Any], algorithm: str) -> jwt.PyJWK | None:
    """The public half alone: what PyJWT makes of a private key cannot verify."""
    members = ("kty", *_PUBLIC_MEMBERS[stored["kty"]])
    try:
        return jwt.PyJWK({member: stored[member] for member in members}, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError):
        return None
