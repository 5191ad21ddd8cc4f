"""The owner of identity over real files: what is believed, remembered, and forgotten."""

from __future__ import annotations

import asyncio
import datetime
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.identity.identities import REFUSED, Identities
from gateway.metrics import GatewayMetrics
from gateway.policy.facts import Caller, Credentials, Refuse
from inference_mesh.background import Background
from inference_mesh.config.keys_file import ApiKey, new_key
from tests.support.tokens import AUDIENCE, ISSUER, claims, jwks, rsa_key, unsigned

NOW_S = 1_800_000_000.0
RSA = rsa_key("one")


class Desk:
    """Identities over files of one folder, and their metrics."""

    def __init__(self, folder: Path, background: Background) -> None:
        self.folder = folder
        self.metrics = GatewayMetrics()
        self._background = background

    @property
    def keys_file(self) -> Path:
        return self.folder / "keys.yaml"

    @property
    def tenants_file(self) -> Path:
        return self.folder / "tenants.yaml"

    def write_keys(self, *keys: ApiKey) -> None:
        self.keys_file.write_text(yaml.safe_dump({"keys": [key.model_dump(mode="json") for key in keys]}))

    def write_tenants(self, *names: str, **first: Any) -> None:
        """A tenants file with one issuer; first: further fields of the first tenant."""
        tenants = [{"name": name, **(first if name == names[0] else {})} for name in names]
        issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": "jwks.json"}
        self.tenants_file.write_text(yaml.safe_dump({"tenants": tenants, "issuers": [issuer]}))

    def opened(self, *, requires_key: bool = True) -> Identities:
        keys = self.keys_file if self.keys_file.exists() else None
        tenants = self.tenants_file if self.tenants_file.exists() else None
        identities = Identities(keys, tenants, requires_key=requires_key, metrics=self.metrics)
        identities.start(self._background)
        return identities

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    background = Background()
    await background.open()
    (tmp_path / "jwks.json").write_text(jwks(RSA))
    yield Desk(tmp_path, background)
    await background.close()


def named(identities: Identities, text: str | None, now_s: float = NOW_S) -> str:
    """The tenant that a credential is; "" if it is refused."""
    found = identities.try_identify(Credentials(text), now_s)
    return found.tenant.name if isinstance(found, Caller) else ""


async def soon(is_so: Callable[[], bool], limit_s: float = 2.0) -> None:
    """Wait for a change of a file to be live: two seconds are the promise."""
    async with asyncio.timeout(limit_s):
        while not is_so():
            await asyncio.sleep(0.02)


async def test_every_refusal_is_the_same(desk: Desk) -> None:
    plain, key = new_key(tenant="gone")
    ended, ended_key = new_key(tenant="acme")
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    desk.write_keys(key, ended_key.model_copy(update={"expires": past}))
    desk.write_tenants("acme")
    identities = desk.opened()
    wrong = (None, "", "junk", plain, ended, new_key()[0], "a.b.c", unsigned(claims(NOW_S)), "x" * 1_000_000)
    for text in (*wrong, RSA.sign(claims(NOW_S, tenant="nobody")), rsa_key("two").sign(claims(NOW_S))):
        assert identities.try_identify(Credentials(text), NOW_S) is REFUSED
    assert identities.try_identify(Credentials(None, ("unknown.example",)), NOW_S) is REFUSED


async def test_keys_tokens_and_certificates_are_the_same_tenant(desk: Desk) -> None:
    plain, key = new_key(tenant="acme")
    desk.write_keys(key)
    desk.write_tenants("acme", certificates=["jobs.example"], priority="high")
    identities = desk.opened()
    found = [
        identities.try_identify(Credentials(plain), NOW_S),
        identities.try_identify(Credentials(RSA.sign(claims(NOW_S))), NOW_S),
        identities.try_identify(Credentials(None, ("jobs.example",)), NOW_S),
    ]
    callers = [caller for caller in found if isinstance(caller, Caller)]
    assert [caller.tenant.priority for caller in callers] == ["high"] * 3
    assert len({caller.salt for caller in callers}) == 1


async def test_a_wrong_text_is_refused_even_with_a_good_certificate(desk: Desk) -> None:
    desk.write_tenants("acme", certificates=["jobs.example"])
    identities = desk.opened()
    assert identities.try_identify(Credentials("junk", ("jobs.example",)), NOW_S) is REFUSED


async def test_where_no_key_is_needed_a_good_one_still_names_its_caller(desk: Desk) -> None:
    plain, key = new_key(tenant="acme")
    desk.write_keys(key)
    identities = desk.opened(requires_key=False)
    assert named(identities, plain) == "acme"
    for text in (None, "junk", unsigned(claims(NOW_S))):
        found = identities.try_identify(Credentials(text), NOW_S)
        assert found == Caller()


async def test_a_caller_is_the_same_object_from_call_to_call(desk: Desk) -> None:
    plain, key = new_key()
    desk.write_keys(key)
    identities = desk.opened()
    first = identities.try_identify(Credentials(plain), NOW_S)
    assert identities.try_identify(Credentials(plain), NOW_S) is first
    assert desk.metric("mesh_gateway_known_credentials") == 1
    assert desk.metric("mesh_gateway_credential_checks_total", kind="key", result="verified") == 1


async def test_a_known_credential_ends_with_the_wall_clock(desk: Desk) -> None:
    desk.write_tenants("acme")
    identities = desk.opened()
    token = RSA.sign(claims(NOW_S))
    assert named(identities, token) == "acme"
    assert named(identities, token, NOW_S + 86_400) == ""
    assert named(identities, token) == "acme"


async def test_a_revoked_key_is_refused_within_two_seconds(desk: Desk) -> None:
    plain, key = new_key()
    other, other_key = new_key()
    desk.write_keys(key, other_key)
    identities = desk.opened()
    assert named(identities, plain)
    desk.write_keys(other_key)
    await soon(lambda: not named(identities, plain))
    assert named(identities, other)


async def test_a_file_that_is_wrong_changes_nothing_and_says_why(desk: Desk) -> None:
    plain, key = new_key(tenant="acme")
    desk.write_keys(key)
    desk.write_tenants("acme")
    identities = desk.opened()
    desk.tenants_file.write_text("tenants: [{name: acme, model: x}]")
    desk.keys_file.write_text("keys: [")
    await soon(lambda: desk.metric("mesh_gateway_tenants_last_reload_successful") == 0)
    await soon(lambda: desk.metric("mesh_gateway_keys_last_reload_successful") == 0)
    assert named(identities, plain) == "acme"
    assert "tenants[0].model" in identities.detail["tenants"]
    assert desk.metric("mesh_gateway_tenants_reloads_total", result="failure") == 1
    assert identities.lets_callers_in


async def test_what_a_tenant_may_changes_within_two_seconds(desk: Desk) -> None:
    plain, key = new_key(tenant="acme")
    desk.write_keys(key)
    desk.write_tenants("acme", models=["one"])
    identities = desk.opened()

    def models() -> tuple[str, ...]:
        found = identities.try_identify(Credentials(plain), NOW_S)
        assert isinstance(found, Caller)
        return found.tenant.models

    assert models() == ("one",)
    desk.write_tenants("acme", models=["two"])
    await soon(lambda: models() == ("two",))
    desk.write_tenants("blue")
    await soon(lambda: isinstance(identities.try_identify(Credentials(plain), NOW_S), Refuse))


async def test_keys_of_a_file_are_rotated_within_two_seconds(desk: Desk) -> None:
    desk.write_tenants("acme")
    identities = desk.opened()
    old, new = RSA.sign(claims(NOW_S)), rsa_key("two").sign(claims(NOW_S))
    assert (named(identities, old), named(identities, new)) == ("acme", "")
    (desk.folder / "jwks.json").write_text(jwks(rsa_key("two")))
    await soon(lambda: named(identities, new) == "acme")
    assert named(identities, old) == ""
    (desk.folder / "jwks.json").write_text("{}")
    await soon(lambda: "issuers" in identities.detail and "jwks.json" in identities.detail["issuers"])
    assert named(identities, new) == "acme"
    assert desk.metric("mesh_gateway_issuer_keys_last_reload_successful", issuer=ISSUER) == 0


async def test_an_issuer_that_is_taken_out_is_believed_no_more(desk: Desk) -> None:
    desk.write_tenants("acme")
    identities = desk.opened()
    token = RSA.sign(claims(NOW_S))
    assert named(identities, token) == "acme"
    desk.tenants_file.write_text(yaml.safe_dump({"tenants": [{"name": "acme"}]}))
    await soon(lambda: named(identities, token) == "")
    assert desk.metric("mesh_gateway_issuer_keys", issuer=ISSUER) is None


async def test_a_tenants_file_that_was_never_good_lets_nobody_in(desk: Desk) -> None:
    plain, key = new_key(tenant="acme")
    desk.write_keys(key)
    desk.tenants_file.write_text("tenants: 5")
    assert named(desk.opened(), plain) == ""


async def test_readiness_says_who_can_come_in(desk: Desk) -> None:
    nobody = Identities(None, None, requires_key=True, metrics=GatewayMetrics())
    assert not nobody.lets_callers_in
    assert "no keys" in nobody.detail["keys"]
    assert Identities(None, None, requires_key=False, metrics=GatewayMetrics()).lets_callers_in
    desk.write_tenants("acme")
    identities = desk.opened()
    assert identities.lets_callers_in
    assert identities.detail == {"keys": "0 keys", "tenants": "1 tenants", "issuers": "1 issuers"}


async def test_ten_thousand_keys_and_their_callers_take_forty_megabytes_at_most(desk: Desk) -> None:
    """Measured on a fifth of them: tracing each allocation makes reading slow."""
    made = [new_key() for _ in range(2000)]
    stored = [key.model_dump(mode="json", include={"id", "sha256"}) for _, key in made]
    desk.keys_file.write_text(json.dumps({"keys": stored}))  # JSON is YAML
    tracemalloc.start()
    try:
        identities = desk.opened()
        assert all(named(identities, plain) for plain, _ in made)
        gc.collect()
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert desk.metric("mesh_gateway_known_credentials") == 2000
    assert held_bytes < 8_000_000


async def test_a_known_credential_costs_microseconds(desk: Desk) -> None:
    plain, key = new_key()
    desk.write_keys(key)
    identities = desk.opened()
    credentials = Credentials(plain)
    times = []
    for _ in range(5000):
        started = time.perf_counter()
        identities.try_identify(credentials, NOW_S)
        times.append(time.perf_counter() - started)
    assert statistics.median(times) < 10e-6
