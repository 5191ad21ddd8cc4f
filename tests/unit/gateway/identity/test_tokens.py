"""Tokens (JWT): what is believed, and that everything else is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.facts import Caller
from gateway.policy.identity.key_set import KeySet, parse_key_set
from gateway.policy.identity.tenant_book import OpenTenantBook, TenantBook
from gateway.policy.identity.tokens import caller_of_token, read_token
from inference_mesh.config.tenants_file import Issuer, Tenant
from tests.support.tokens import (
    AUDIENCE,
    ISSUER,
    claims,
    ec_key,
    ed_key,
    jwks,
    rsa_key,
    signed_by_secret,
    unsigned,
)

NOW_S = 1_800_000_000.0
DAY_S = 86_400.0
RSA = rsa_key("one")
OTHER = rsa_key("two")
KEYS = parse_key_set(jwks(RSA, OTHER), source="jwks.json")
BOOK = TenantBook([Tenant(name="acme"), Tenant(name="blue")])
GOOD = RSA.sign(claims(NOW_S))


def issuer(**fields: Any) -> Issuer:
    return Issuer.model_validate({"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": "keys.json", **fields})


def caller_of(
    text: str,
    *,
    now_s: float = NOW_S,
    keys: KeySet = KEYS,
    book: TenantBook = BOOK,
    believed: Issuer | None = None,
) -> Caller | None:
    token = read_token(text)
    return None if token is None else caller_of_token(token, believed or issuer(), keys, book, now_s)


def test_a_good_token_names_its_tenant_until_it_ends() -> None:
    caller = caller_of(GOOD)
    assert caller is not None
    assert (caller.tenant.name, caller.key_id, caller.scopes) == ("acme", "", frozenset({"infer"}))
    assert caller.expires_at_s == NOW_S + 600 + 30
    assert caller.salt


@pytest.mark.parametrize("make", [rsa_key, ec_key, ed_key])
def test_every_kind_of_public_key_can_sign(make: Any) -> None:
    key = make("k")
    believed = issuer(algorithms=[key.algorithm])
    keys = parse_key_set(jwks(key), source="jwks.json")
    assert caller_of(key.sign(claims(NOW_S)), keys=keys, believed=believed) is not None


ATTACKS = {
    "alg none": unsigned(claims(NOW_S), kid="one"),
    "alg none and no key id": unsigned(claims(NOW_S)),
    "alg None": unsigned(claims(NOW_S), alg="None", kid="one"),
    "HS256 signed with the public key": signed_by_secret(claims(NOW_S), RSA.public_pem, kid="one"),
    "no exp": RSA.sign(claims(NOW_S, exp=None)),
    "no aud": RSA.sign(claims(NOW_S, aud=None)),
    "no iss": RSA.sign(claims(NOW_S, iss=None)),
    "another issuer": RSA.sign(claims(NOW_S, iss="https://issuer.example.evil")),
    "another audience": RSA.sign(claims(NOW_S, aud="inference-mesh-2")),
    "no audience of a list": RSA.sign(claims(NOW_S, aud=["a", "b"])),
    "an audience that is a mapping": RSA.sign(claims(NOW_S, aud={AUDIENCE: 1})),
    "not yet": RSA.sign(claims(NOW_S, nbf=NOW_S + 31)),
    "made in the future": RSA.sign(claims(NOW_S, iat=NOW_S + 31)),
    "over": RSA.sign(claims(NOW_S, exp=NOW_S - 31)),
    "a text as a time": RSA.sign(claims(NOW_S, nbf="now")),
    "true as a time": RSA.sign(claims(NOW_S, exp=True)),
    "a time past all times": RSA.sign(claims(NOW_S, exp=10**400)),
    "an endless time": RSA.sign(claims(NOW_S, exp=float("inf"))),
    "no number as a time": RSA.sign(claims(NOW_S, exp=float("nan"))),
    "a path as key id": RSA.sign(claims(NOW_S), kid="../../dev/null"),
    "a key id of a database": RSA.sign(claims(NOW_S), kid="' OR 1=1 --"),
    "another key's id": RSA.sign(claims(NOW_S), kid="two"),
    "a key of nobody": rsa_key("three").sign(claims(NOW_S), kid="one"),
    "a key that it brings itself": rsa_key("three").sign(
        claims(NOW_S),
        kid="one",
        jwk=rsa_key("three").jwk,
        jku="http://127.0.0.1:9/keys",
        x5u="http://127.0.0.1:9/",
    ),
    "a critical extension": RSA.sign(claims(NOW_S), crit=["exp"]),
    "a tenant that is not one": RSA.sign(claims(NOW_S, tenant="nobody")),
    "no tenant": RSA.sign(claims(NOW_S, tenant=None)),
    "a list of tenants": RSA.sign(claims(NOW_S, tenant=["acme"])),
    "a megabyte": RSA.sign(claims(NOW_S, padding="x" * 1_000_000)),
    "just too long": RSA.sign(claims(NOW_S, padding="x" * 8192)),
    "two parts": GOOD.rpartition(".")[0],
    "four parts": f"{GOOD}.AA",
    "no parts": "..",
    "a line break": f"{GOOD}\n",
    "another script": GOOD.replace(".", ".é", 1),
    "a deep claim": f"{GOOD.partition('.')[0]}.{'W1tb' * 1500}.AA",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_not_to_be_believed_is_not(attack: str) -> None:
    assert caller_of(ATTACKS[attack]) is None


def test_headers_with_addresses_change_nothing_for_a_good_token() -> None:
    assert (
        caller_of(RSA.sign(claims(NOW_S), jku="http://127.0.0.1:9/", x5u="http://127.0.0.1:9/")) is not None
    )


def test_an_issuers_list_of_algorithms_holds_whatever_its_keys_can_do() -> None:
    assert caller_of(GOOD, believed=issuer(algorithms=["RS512"])) is None


def test_one_audience_of_several_is_enough() -> None:
    assert caller_of(RSA.sign(claims(NOW_S, aud=["other", AUDIENCE]))) is not None


def test_a_token_without_a_key_id_is_checked_by_the_keys_that_fit() -> None:
    assert caller_of(OTHER.sign(claims(NOW_S), kid=None)) is not None
    assert caller_of(rsa_key("three").sign(claims(NOW_S), kid=None)) is None


@pytest.mark.parametrize("leeway_s", [0.0, 30.0, 60.0])
def test_times_are_kept_to_the_leeway_and_no_further(leeway_s: float) -> None:
    believed = issuer(leeway_s=leeway_s)
    end_s = NOW_S + 600 + leeway_s
    assert caller_of(GOOD, now_s=end_s - 0.01, believed=believed) is not None
    assert caller_of(GOOD, now_s=end_s, believed=believed) is None
    assert caller_of(GOOD, now_s=NOW_S - leeway_s, believed=believed) is not None
    assert caller_of(GOOD, now_s=NOW_S - leeway_s - 0.01, believed=believed) is None


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_token_is_of_no_use_a_day_away_on_the_wall_clock(jump_s: float) -> None:
    assert caller_of(GOOD, now_s=NOW_S + jump_s) is None
    assert caller_of(RSA.sign(claims(NOW_S + jump_s)), now_s=NOW_S + jump_s) is not None


def test_values_of_a_claim_are_mapped_to_tenants_and_others_are_nobody() -> None:
    believed = issuer(tenant_claim="org", tenants={"team-1": "blue"})
    mapped = caller_of(RSA.sign(claims(NOW_S, org="team-1")), believed=believed)
    assert mapped is not None
    assert mapped.tenant.name == "blue"
    assert caller_of(RSA.sign(claims(NOW_S, org="blue")), believed=believed) is None


@pytest.mark.parametrize(
    ("value", "scopes"),
    [
        ("admin infer", {"admin", "infer"}),
        (["infer", "root"], {"infer"}),
        ("administrator", set()),
        (None, set()),
        ({"admin": 1}, set()),
        ([["admin"], 5], set()),
    ],
)
def test_a_scopes_claim_gives_what_it_says_and_nothing_more(value: object, scopes: set[str]) -> None:
    caller = caller_of(RSA.sign(claims(NOW_S, scope=value)), believed=issuer(scopes_claim="scope"))
    assert caller is not None
    assert caller.scopes == scopes


def test_without_a_scopes_claim_a_token_can_only_infer() -> None:
    caller = caller_of(RSA.sign(claims(NOW_S, scope="admin", scopes=["admin"])))
    assert caller is not None
    assert caller.scopes == {"infer"}


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "a\nb"])
def test_without_a_tenants_file_a_token_names_a_well_formed_tenant(name: str) -> None:
    assert caller_of(RSA.sign(claims(NOW_S, tenant=name)), book=OpenTenantBook()) is None
    assert caller_of(RSA.sign(claims(NOW_S, tenant="new.one")), book=OpenTenantBook()) is not None


@given(st.integers(0, len(GOOD.rpartition(".")[0]) - 1), st.characters(codec="ascii"))
def test_no_character_of_a_signed_token_can_be_changed(place: int, character: str) -> None:
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    assert (caller_of(changed) is None) == (changed != GOOD)


@given(st.text(alphabet="abcXYZ019-_.={}\"' \n", max_size=200))
def test_no_text_is_more_than_refused(text: str) -> None:
    assert caller_of(text) is None
