"""The verified callers: bounded, and each until its credential ends."""

from __future__ import annotations

from gateway.identity.caller_cache import CallerCache
from gateway.policy.facts import Caller


def test_the_caller_that_was_not_seen_for_the_longest_time_goes() -> None:
    cache = CallerCache(size=2)
    cache.put(b"a", Caller(key_id="a"))
    cache.put(b"b", Caller(key_id="b"))
    assert cache.get(b"a", 0.0) is not None
    cache.put(b"c", Caller(key_id="c"))
    assert [cache.get(name, 0.0) is not None for name in (b"a", b"b", b"c")] == [True, False, True]
    assert len(cache) == 2


def test_a_caller_that_is_put_again_pushes_nobody_out() -> None:
    cache = CallerCache(size=2)
    for name in (b"a", b"b", b"a", b"b"):
        cache.put(name, Caller())
    assert len(cache) == 2


def test_a_caller_is_forgotten_when_its_credential_ends() -> None:
    cache = CallerCache()
    cache.put(b"a", Caller(expires_at_s=100.0))
    assert cache.get(b"a", 99.9) is not None
    assert cache.get(b"a", 100.0) is None
    assert len(cache) == 0
    assert cache.get(b"a", 99.9) is None


def test_the_same_caller_comes_back_as_the_same_object() -> None:
    cache, caller = CallerCache(), Caller()
    cache.put(b"a", caller)
    assert cache.get(b"a", 0.0) is caller
