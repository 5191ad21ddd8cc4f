"""Signing keys and tokens (JWT) as an issuer makes them, and as an attacker would like to."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://issuer.example"
AUDIENCE = "inference-mesh"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclasses.dataclass(frozen=True)
class SigningKey:
    """A private key under its `kid`."""

    key_id: str
    algorithm: str
    private: PrivateKey

    @property
    def jwk(self) -> dict[str, Any]:
        """Its public half, as a JWKS has it."""
        algorithm: Any = jwt.get_algorithm_by_name(self.algorithm)
        public: dict[str, Any] = algorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": self.key_id, "use": "sig", "alg": self.algorithm}

    @property
    def public_pem(self) -> bytes:
        """Its public half, as it may lie on any web page."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form)

    def sign(self, claims: dict[str, Any], **headers: Any) -> str:
        """A token with these claims; headers: added to the header, None = taken out."""
        merged: dict[str, Any] = {"kid": self.key_id, **headers}
        return jwt.encode(
            claims,
            self.private,
            algorithm=self.algorithm,
            headers={name: value for name, value in merged.items() if value is not None},
        )


def rsa_key(key_id: str) -> SigningKey:
    """An RSA key, the same for the same id: making one takes long."""
    return SigningKey(key_id, "RS256", _rsa(key_id))


def ec_key(key_id: str) -> SigningKey:
    """A key on P-256."""
    return SigningKey(key_id, "ES256", ec.generate_private_key(ec.SECP256R1()))


def ed_key(key_id: str) -> SigningKey:
    """An Ed25519 key."""
    return SigningKey(key_id, "EdDSA", ed25519.Ed25519PrivateKey.generate())


def jwks(*keys: SigningKey) -> str:
    """The public halves of some keys."""
    return json.dumps({"keys": [key.jwk for key in keys]})


def claims(now_s: float, **changes: Any) -> dict[str, Any]:
    """What a good token of tenant "acme" says for ten minutes; a change to None takes a claim out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "iat": now_s, "nbf": now_s, "exp": now_s + 600, "tenant": "acme"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def unsigned(body: dict[str, Any], **header: Any) -> str:
    """A token whose header says `alg: none`."""
    return f"{_part({'alg': 'none', 'typ': 'JWT', **header})}.{_part(body)}."


def signed_by_secret(body: dict[str, Any], secret: bytes, **header: Any) -> str:
    """A token that is signed with HMAC, whose secret is something public: the confusion of algorithms."""
    signing_input = f"{_part({'alg': 'HS256', 'typ': 'JWT', **header})}.{_part(body)}"
    digest = hmac.new(secret, signing_input.encode(), hashlib.sha256).digest()
    return f"{signing_input}.{_text(digest)}"


@functools.cache
def _rsa(key_id: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _part(value: dict[str, Any]) -> str:
    return _text(json.dumps(value).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
