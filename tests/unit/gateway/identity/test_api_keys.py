"""API keys: which text is one, and what it takes to guess."""

from __future__ import annotations

import datetime
import gc
import hashlib
import secrets
import statistics
import string
import time

import pytest

from gateway.policy.identity.api_keys import authenticate, caller_of_key, tenant_salt
from inference_mesh.config.keys_file import ApiKey, new_key
from inference_mesh.config.limits import LimitsSpec
from inference_mesh.config.tenants_file import Tenant

NOW_S = 1_800_000_000.0
SECRET_ALPHABET = string.ascii_letters + string.digits + "-_"


def ending(key: ApiKey, at_s: float) -> ApiKey:
    return key.model_copy(update={"expires": datetime.datetime.fromtimestamp(at_s, datetime.UTC)})


def test_a_key_is_known_by_its_whole_text_only() -> None:
    plain, key = new_key()
    keys = {key.id: key}
    assert authenticate(plain, keys, NOW_S) is key
    for wrong in (None, "", key.id, plain[:-1], plain + "a", plain.upper(), f" {plain}", f"{plain}\n"):
        assert authenticate(wrong, keys, NOW_S) is None


def test_the_stored_hash_is_no_key() -> None:
    _, key = new_key()
    for wrong in (key.sha256, f"mesh_{key.id}_{key.sha256[:43]}"):
        assert authenticate(wrong, {key.id: key}, NOW_S) is None


def test_a_text_that_cannot_be_a_key_matches_no_placeholder() -> None:
    key = ApiKey(id="aaaaaaaa", sha256="0" * 64)
    assert authenticate("", {key.id: key, "": key}, NOW_S) is None


def test_a_key_ends_in_the_second_that_it_says() -> None:
    plain, key = new_key()
    keys = {key.id: ending(key, NOW_S)}
    assert authenticate(plain, keys, NOW_S - 0.001) is keys[key.id]
    assert authenticate(plain, keys, NOW_S) is None


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_a_key_ends_by_the_wall_clock_wherever_it_jumps(jump_s: float) -> None:
    plain, key = new_key()
    keys = {key.id: ending(key, NOW_S + 3600)}
    assert (authenticate(plain, keys, NOW_S + jump_s) is None) == (jump_s > 3600)


def test_a_caller_has_the_keys_rights_and_the_tenants_salt() -> None:
    _, key = new_key(scopes=("admin",))
    key = ending(key.model_copy(update={"requests_per_second": 2.0, "burst": 3}), NOW_S)
    caller = caller_of_key(key, Tenant(name="acme"))
    assert (caller.key_id, caller.tenant.name, caller.scopes) == (key.id, "acme", frozenset({"admin"}))
    assert caller.limits == LimitsSpec(requests_per_second=2.0, burst=3)
    assert caller.salt == tenant_salt("acme") != tenant_salt("acme2")
    assert caller.expires_at_s == NOW_S
    assert "acme" not in caller.salt


def test_a_known_id_with_a_wrong_secret_takes_as_long_as_an_unknown_id() -> None:
    """B2.2: 10,000 of each kind, interleaved; medians less than 5 % apart.

    Noise of the machine only makes them differ, so one of a few rounds is enough.
    """
    keys = {}
    for number in range(200):
        key_id = f"{number:08d}"
        keys[key_id] = ApiKey(id=key_id, sha256=hashlib.sha256(key_id.encode()).hexdigest())
    assert any(_difference(keys) < 0.05 for _ in range(20))


def _difference(keys: dict[str, ApiKey]) -> float:
    known = [f"mesh_{number % 200:08d}_{_secret()}" for number in range(10_000)]
    unknown = [f"mesh_{number % 200 + 500:08d}_{_secret()}" for number in range(10_000)]
    gc.collect()
    times = _timed(keys, known, unknown)
    of_known, of_unknown = (statistics.median(one) for one in zip(*times, strict=True))
    difference: float = abs(of_known - of_unknown) / min(of_known, of_unknown)
    return difference


def _timed(keys: dict[str, ApiKey], known: list[str], unknown: list[str]) -> list[tuple[int, int]]:
    """Who comes first in a pair finds colder caches: each kind does so half of the time."""
    found = []
    for number, (one, other) in enumerate(zip(known, unknown, strict=True)):
        if number % 2:
            found.append((_time_of(keys, one), _time_of(keys, other)))
        else:
            found.append((_time_of(keys, other), _time_of(keys, one))[::-1])
    return found


def _time_of(keys: dict[str, ApiKey], credential: str) -> int:
    started = time.perf_counter_ns()
    authenticate(credential, keys, NOW_S)
    return time.perf_counter_ns() - started


def _secret() -> str:
    return "".join(secrets.choice(SECRET_ALPHABET) for _ in range(43))
