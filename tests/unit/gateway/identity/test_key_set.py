"""JWKS documents: which keys of them may check which signature."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.identity.key_set import MAX_KEYS_TRIED, KeySet, parse_key_set
from inference_mesh.config.errors import ConfigError
from tests.support.tokens import ec_key, ed_key, jwks, rsa_key

RSA = rsa_key("one")


def parsed(*keys: Any) -> KeySet:
    return parse_key_set(json.dumps({"keys": list(keys)}), source="jwks.json")


def fitting(keys: KeySet, key_id: str | None, algorithm: str) -> int:
    return len(list(keys.fitting(key_id, algorithm)))


def test_a_key_checks_only_signatures_of_its_own_kind() -> None:
    keys = parse_key_set(jwks(RSA, ec_key("two"), ed_key("three")), source="jwks.json")
    assert len(keys) == 3
    assert [fitting(keys, name, "RS256") for name in ("one", "two", "three")] == [1, 0, 0]
    assert [fitting(keys, name, "ES256") for name in ("one", "two", "three")] == [0, 1, 0]
    assert [fitting(keys, name, "EdDSA") for name in ("one", "two", "three")] == [0, 0, 1]
    assert fitting(keys, "two", "ES384") == 0
    assert [fitting(keys, "one", name) for name in ("HS256", "none", "RS512", "PS256")] == [0, 0, 0, 0]


def test_a_key_without_an_algorithm_checks_every_one_of_its_kind() -> None:
    keys = parsed({name: value for name, value in RSA.jwk.items() if name != "alg"})
    assert [fitting(keys, "one", name) for name in ("RS256", "PS512", "HS256", "ES256")] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"alg": "HS256"},
        {"n": 5},
        {"kty": ["RSA"]},
    ],
)
def test_a_key_that_is_for_something_else_makes_no_set(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parsed({**RSA.jwk, **change})


def test_a_key_that_cannot_be_built_fits_nothing() -> None:
    keys = parsed({**RSA.jwk, "n": "!!"}, {**RSA.jwk, "kid": "two", "n": "AA", "e": "AA"}, RSA.jwk)
    assert fitting(keys, "one", "RS256") == 1
    assert fitting(keys, "two", "RS256") == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys": {}}', '{"keys": [5]}', "[" * 100_000, "{" * 9])
def test_what_is_no_jwks_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_key_set(text, source="jwks.json")


def test_an_empty_list_is_a_good_set_that_believes_nobody() -> None:
    assert len(parsed()) == 0
    assert not parsed().knows(None)


def test_a_published_private_key_is_used_by_its_public_half() -> None:
    private = {**RSA.jwk, "d": "AQAB", "p": "AQAB", "q": "AQAB"}
    assert fitting(parsed(private), "one", "RS256") == 1


def test_without_a_key_id_a_few_keys_are_tried_and_no_more() -> None:
    keys = parsed(*({**RSA.jwk, "kid": str(number)} for number in range(50)))
    assert fitting(keys, None, "RS256") == MAX_KEYS_TRIED
    assert keys.knows(None)
    assert not keys.knows("../../dev/null")


def test_a_thousand_keys_are_read_within_the_time_of_a_reload() -> None:
    text = json.dumps({"keys": [{**RSA.jwk, "kid": str(number)} for number in range(1000)]})
    started = time.perf_counter()
    keys = parse_key_set(text, source="jwks.json")
    assert fitting(keys, "999", "RS256") == 1
    assert len(keys) == 1000
    assert time.perf_counter() - started < 0.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["RSA", "EC", "sig"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from(["kty", "kid", "use", "alg", "key_ops", "crv", "n", "e", "x", "y"])


@given(st.lists(st.dictionaries(MEMBERS, JSON, max_size=6), max_size=3))
def test_whatever_stands_in_a_jwks_the_good_key_beside_it_is_found(listed: list[dict[str, Any]]) -> None:
    keys = parsed(*listed, {**RSA.jwk, "kid": "the good one"})
    assert fitting(keys, "the good one", "RS256") == 1
    for one in listed:
        if isinstance(one.get("kid"), str):
            list(keys.fitting(one["kid"], "RS256"))
