"""F27: an issuer's key address that is down, slow, rotated, wrong, or has a thousand keys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from gateway.identity.identities import REFUSED, Identities
from gateway.identity.key_sources import MAX_KEY_SET_BYTES, KeySetEndpoint, Pace
from gateway.identity.metrics import IdentityMetrics
from gateway.metrics import GatewayMetrics
from gateway.policy.facts import Caller, Credentials, Refuse
from inference_mesh.background import Background
from inference_mesh.config.keys_file import new_key
from tests.fakes.key_endpoint import KeyEndpoint
from tests.support.tokens import AUDIENCE, ISSUER, SigningKey, claims, ed_key, jwks, rsa_key, unsigned

NOW_S = 1_800_000_000.0
HOUR_S = 3600.0
OTHER_ISSUER = "https://other.example"
ONE, TWO = rsa_key("one"), rsa_key("two")


@pytest.fixture
async def endpoint() -> AsyncIterator[KeyEndpoint]:
    """An address that knows the key "one"."""
    server = KeyEndpoint(jwks(ONE))
    await server.start()
    yield server
    await server.stop()


@contextlib.asynccontextmanager
async def background() -> AsyncIterator[Background]:
    running = Background()
    await running.open()
    try:
        yield running
    finally:
        await running.close()


def write_tenants(
    folder: Path, url: str, *more: dict[str, Any], tenants: tuple[str, ...] = ("acme",)
) -> Path:
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": url}
    listed = [{"name": name} for name in tenants]
    path = folder / "tenants.yaml"
    path.write_text(yaml.safe_dump({"tenants": listed, "issuers": [issuer, *more]}))
    return path


@contextlib.asynccontextmanager
async def identities_of(tenants: Path, keys: Path | None = None) -> AsyncIterator[Identities]:
    async with background() as running:
        identities = Identities(keys, tenants, requires_key=True, metrics=GatewayMetrics())
        identities.start(running)
        yield identities


def token(key: SigningKey, *, now_s: float = NOW_S, **changes: Any) -> Credentials:
    return Credentials(key.sign(claims(now_s, **changes)))


async def is_believed(identities: Identities, credentials: Credentials, now_s: float = NOW_S) -> bool:
    return isinstance(await identities.identify(credentials, now_s), Caller)


async def test_the_first_token_waits_for_the_keys_and_the_next_ones_do_not(
    tmp_path: Path, endpoint: KeyEndpoint
) -> None:
    async with identities_of(write_tenants(tmp_path, endpoint.url)) as identities:
        assert identities.try_identify(token(ONE), NOW_S) is None
        assert await is_believed(identities, token(ONE))
        assert isinstance(identities.try_identify(token(ONE, jti="another"), NOW_S), Caller)
    assert endpoint.asked == 1


async def test_a_rotated_key_is_known_with_its_first_token_and_the_old_one_no_more(
    tmp_path: Path, endpoint: KeyEndpoint
) -> None:
    async with identities_of(write_tenants(tmp_path, endpoint.url)) as identities:
        old = token(ONE)
        assert await is_believed(identities, old)
        endpoint.body = jwks(TWO).encode()
        assert await is_believed(identities, token(TWO))
        assert not await is_believed(identities, old)
    assert endpoint.asked == 2


async def test_a_flood_of_unknown_keys_asks_once(tmp_path: Path, endpoint: KeyEndpoint) -> None:
    async with identities_of(write_tenants(tmp_path, endpoint.url)) as identities:
        assert await is_believed(identities, token(ONE))
        flood = [token(TWO, jti=str(number)) for number in range(100)]
        found = await asyncio.gather(*(identities.identify(one, NOW_S) for one in flood))
        assert set(found) == {REFUSED}
        for number in range(100):
            unknown = Credentials(TWO.sign(claims(NOW_S), kid=f"k{number}"))
            assert identities.try_identify(unknown, NOW_S) is REFUSED
    assert endpoint.asked == 2


async def test_a_token_that_no_key_could_make_good_asks_nothing(
    tmp_path: Path, endpoint: KeyEndpoint
) -> None:
    async with identities_of(write_tenants(tmp_path, endpoint.url)) as identities:
        assert await is_believed(identities, token(ONE))
        stranger = Credentials(ONE.sign(claims(NOW_S, iss="https://nobody.example"), kid="new"))
        for credentials in (Credentials(unsigned(claims(NOW_S), kid="new")), stranger, Credentials("a.b.c")):
            assert identities.try_identify(credentials, NOW_S) is REFUSED
    assert endpoint.asked == 1


async def test_known_keys_work_for_hours_while_the_address_is_down(
    tmp_path: Path, endpoint: KeyEndpoint
) -> None:
    async with identities_of(write_tenants(tmp_path, endpoint.url)) as identities:
        assert await is_believed(identities, token(ONE))
        await endpoint.stop()
        assert not await is_believed(identities, token(TWO))
        assert endpoint.url in identities.detail["issuers"]
        for hours in (0, 1, 24):
            now_s = NOW_S + hours * HOUR_S
            assert await is_believed(identities, token(ONE, now_s=now_s), now_s)


async def test_a_change_of_tenants_keeps_the_keys_of_an_address_that_is_down(
    tmp_path: Path, endpoint: KeyEndpoint
) -> None:
    async with identities_of(write_tenants(tmp_path, endpoint.url)) as identities:
        assert await is_believed(identities, token(ONE))
        await endpoint.stop()
        write_tenants(tmp_path, endpoint.url, tenants=("acme", "blue"))
        blue = token(ONE, tenant="blue")
        async with asyncio.timeout(2):
            while not await is_believed(identities, blue):
                await asyncio.sleep(0.02)
        assert await is_believed(identities, token(ONE))


async def test_a_slow_address_holds_up_no_other_key_and_no_other_issuer(
    tmp_path: Path, endpoint: KeyEndpoint
) -> None:
    plain, key = new_key(tenant="acme")
    other = ed_key("other")
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": [key.model_dump(mode="json")]}))
    (tmp_path / "other.json").write_text(jwks(other))
    second = {
        "issuer": OTHER_ISSUER,
        "audience": AUDIENCE,
        "jwks_file": "other.json",
        "algorithms": ["EdDSA"],
    }
    tenants = write_tenants(tmp_path, endpoint.url, second)
    async with identities_of(tenants, tmp_path / "keys.yaml") as identities:
        assert await is_believed(identities, token(ONE))
        endpoint.stall()
        started = time.monotonic()
        waiting = asyncio.ensure_future(identities.identify(token(TWO), NOW_S))
        await endpoint.asked_times(2)
        for credentials in (Credentials(plain), token(ONE, jti="new"), token(other, iss=OTHER_ISSUER)):
            assert isinstance(identities.try_identify(credentials, NOW_S), Caller)
        assert not waiting.done()
        assert isinstance(await waiting, Refuse)
        assert time.monotonic() - started < 3
        assert identities.try_identify(token(TWO), NOW_S) is REFUSED


async def test_an_address_that_is_down_at_the_start_is_known_when_it_comes_back(
    endpoint: KeyEndpoint,
) -> None:
    await endpoint.stop()
    async with asked(endpoint, Pace(retry_s=0.1)) as source:
        await source.ask()
        assert source.last_error is not None
        await endpoint.start()
        async with asyncio.timeout(5):
            while not source.keys.knows("one"):
                await asyncio.sleep(0.02)
        assert source.last_error is None


async def test_a_thousand_keys_are_one_key_set(tmp_path: Path, endpoint: KeyEndpoint) -> None:
    many = [{**ONE.jwk, "kid": f"k{number}"} for number in range(1000)]
    endpoint.body = json.dumps({"keys": many}).encode()
    async with identities_of(write_tenants(tmp_path, endpoint.url)) as identities:
        for number in (0, 500, 999):
            assert await is_believed(identities, Credentials(ONE.sign(claims(NOW_S), kid=f"k{number}")))
    assert endpoint.asked == 1


@contextlib.asynccontextmanager
async def asked(endpoint: KeyEndpoint, pace: Pace, **fields: Any) -> AsyncIterator[KeySetEndpoint]:
    """The source of one address, asked at this pace."""
    metrics = IdentityMetrics(CollectorRegistry())
    source = KeySetEndpoint(endpoint.url, ISSUER, metrics, lambda: None, pace, **fields)
    async with background() as running:
        running.spawn("keys", source.run)
        yield source


async def test_unknown_keys_bring_one_asking_in_thirty_seconds(endpoint: KeyEndpoint) -> None:
    now = [1000.0]
    async with asked(endpoint, Pace(), clock=lambda: now[0]) as source:
        await source.ask()
        for passed_s, times in ((0.0, 2), (29.9, 2), (0.2, 3), (1.0, 3), (30.0, 4)):
            now[0] += passed_s
            await source.ask()
            assert endpoint.asked == times


async def test_keys_are_renewed_in_the_background(endpoint: KeyEndpoint) -> None:
    async with asked(endpoint, Pace(period_s=0.05)) as source:
        await endpoint.asked_times(3)
        assert source.keys.knows("one")


def _is_wrong(endpoint: KeyEndpoint, how: str) -> None:
    if how == "a redirect":
        endpoint.status, endpoint.headers = "302 Found", f"location: {endpoint.url}?again\r\n"
    elif how == "an error":
        endpoint.status = "500 Internal Server Error"
    elif how == "too much":
        endpoint.body = b" " * (MAX_KEY_SET_BYTES + 1)
    else:
        endpoint.body = {"no JSON": b"<html>", "no UTF-8": b"\xff", "no keys": b'{"keys": [{"kty": "oct"}]}'}[
            how
        ]


@pytest.mark.parametrize("how", ["a redirect", "an error", "too much", "no JSON", "no UTF-8", "no keys"])
async def test_an_answer_that_is_no_key_set_leaves_the_last_good_one(endpoint: KeyEndpoint, how: str) -> None:
    async with asked(endpoint, Pace()) as source:
        await source.ask()
        _is_wrong(endpoint, how)
        await source.ask()
        assert endpoint.asked == 2
        assert source.last_error is not None
        assert source.keys.knows("one")


async def test_an_answer_that_never_comes_is_given_up(endpoint: KeyEndpoint) -> None:
    endpoint.stall()
    async with asked(endpoint, Pace(timeout_s=0.1)) as source:
        started = time.monotonic()
        await source.ask()
        assert time.monotonic() - started < 1
        assert source.last_error is not None
