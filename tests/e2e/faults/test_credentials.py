"""F27: the address of an issuer's keys is slow, is gone, changes its keys, or has a thousand of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from inference_mesh.client import MeshClient
from tests.e2e.faults.conftest import Paced, entry, write_keys, write_yaml
from tests.fakes.key_endpoint import KeyEndpoint
from tests.support.load import Outcome, failures, one_call
from tests.support.processes import MeshProcess
from tests.support.tokens import AUDIENCE, ISSUER, SigningKey, claims, ec_key, jwks, rsa_key

pytestmark = pytest.mark.faults

SHORT: dict[str, Any] = {"prompt": "a", "max_tokens": 4, "temperature": 0}
ONE, TWO = rsa_key("one"), rsa_key("two")


@pytest.fixture
async def endpoint() -> AsyncIterator[KeyEndpoint]:
    """An address that knows the key "one"."""
    server = KeyEndpoint(jwks(ONE))
    await server.start()
    yield server
    await server.stop()


def _gateway(paced: Paced, folder: Path, endpoint: KeyEndpoint) -> tuple[MeshProcess, str]:
    """A gateway that asks the address for keys, and an API key of the same tenant."""
    keys = write_keys(folder / "keys.yaml", ["acme"])
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": endpoint.url}
    write_yaml(folder / "tenants.yaml", {"tenants": [{"name": "acme"}], "issuers": [issuer]})
    files = ("--keys", str(folder / "keys.yaml"), "--tenants", str(folder / "tenants.yaml"))
    return paced.gateway(folder, [entry([paced.worker(slots=16, service_s=0.005)])], *files), keys["acme"]


def _token(key: SigningKey, **changes: Any) -> str:
    return key.sign(claims(time.time(), **changes))


async def _call(gateway: MeshProcess, credential: str) -> Outcome:
    async with MeshClient(gateway.grpc_target, api_key=credential) as client:
        return await one_call(lambda: client.infer("chat", SHORT, timeout_s=20))


async def test_f27_known_keys_work_while_the_address_is_slow_and_after_it_is_gone(
    paced: Paced, tmp_path: Path, endpoint: KeyEndpoint
) -> None:
    gateway, api_key = _gateway(paced, tmp_path, endpoint)
    calm = [await _call(gateway, one) for one in (_token(ONE), api_key)]
    endpoint.stall()
    waiting = asyncio.ensure_future(_call(gateway, _token(TWO)))
    await endpoint.asked_times(2)
    meanwhile = [await _call(gateway, one) for one in (_token(ONE, jti="new"), api_key)]
    assert not waiting.done(), "the others waited for the slow address"
    refused = await waiting
    endpoint.resume()
    await endpoint.stop()
    gone = [await _call(gateway, one) for one in (_token(ONE, jti="newer"), api_key)]
    assert failures([*calm, *meanwhile, *gone]) == []
    assert refused.error is not None
    assert refused.error.reason == "UNAUTHENTICATED"


async def test_f27_a_rotation_to_a_thousand_keys_is_known_at_once_and_unknown_keys_ask_no_more(
    paced: Paced, tmp_path: Path, endpoint: KeyEndpoint
) -> None:
    gateway, _ = _gateway(paced, tmp_path, endpoint)
    assert (await _call(gateway, _token(ONE))).error is None
    endpoint.body = jwks(TWO, *(ec_key(f"other-{number}") for number in range(999))).encode()
    assert (await _call(gateway, _token(TWO))).error is None
    assert (await _call(gateway, _token(ONE))).error is not None
    flood = [_token(TWO) for _ in range(20)] + [
        TWO.sign(claims(time.time()), kid=f"unknown-{number}") for number in range(20)
    ]
    outcomes = await asyncio.gather(*(_call(gateway, one) for one in flood))
    assert sum(one.error is None for one in outcomes) == 20
    assert endpoint.asked == 2
