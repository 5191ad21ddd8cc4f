"""Which replica gets a call: load, weight, slow start and the cache of its prompt."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from gateway.policy.routing.affinity import beginning_of, by_prefix, prefix_hash
from gateway.policy.routing.pick import pick
from gateway.policy.routing.replica import Replica, address_hash, work_of
from gateway.policy.routing.slow_start import share_of
from inference_mesh.load_report import LoadReport
from inference_mesh.v1 import payload_pb2


def replica(address: str, outstanding: int = 0, slots: int | None = None) -> Replica:
    made = Replica(address)
    made.outstanding, made.slots = outstanding, slots
    return made


def chat(*messages: tuple[str, str]) -> bytes:
    made = [payload_pb2.ChatMessage(role=role, content=content) for role, content in messages]
    return beginning_of(payload_pb2.Generate(chat=payload_pb2.Chat(messages=made)), "chat")


def prompt(text: str) -> bytes:
    return beginning_of(payload_pb2.Generate(prompt=text, max_tokens=5), "prompt")


def test_the_less_busy_of_two_is_picked_and_none_of_none() -> None:
    busy, idle = replica("busy", 3), replica("idle", 1)
    assert all(pick([busy, idle], 0.0, random.Random(seed)) is idle for seed in range(20))
    assert pick([busy], 0.0, random.Random(0)) is busy
    assert pick([], 0.0, random.Random(0)) is None


def test_idle_replicas_share_the_calls() -> None:
    replicas = [replica(name) for name in "abc"]
    rng = random.Random(1)
    picked = Counter(one.address for _ in range(300) if (one := pick(replicas, 0.0, rng)))
    assert min(picked.values()) > 60


def test_a_replica_with_more_slots_takes_more_before_it_counts_as_busy() -> None:
    small, large = replica("small", 2, slots=4), replica("large", 5, slots=16)
    assert pick([small, large], 0.0, random.Random(1)) is large


def test_work_of_other_gateways_counts_and_is_forgotten_with_the_reports_age() -> None:
    reported, quiet = replica("reported", 1), replica("quiet", 2)
    reported.note_report(LoadReport(1.0, queued=9, running=4), now_s=10.0)
    assert work_of(reported, 10.0) == 13.0
    assert pick([reported, quiet], 10.0, random.Random(1)) is quiet
    assert pick([reported, quiet], 20.0, random.Random(1)) is reported


def test_our_own_calls_in_a_report_are_not_counted_twice() -> None:
    one = replica("one", 5)
    one.note_report(LoadReport(1.0, queued=1, running=4), now_s=10.0)
    assert work_of(one, 10.0) == 5.0


@pytest.mark.parametrize(("ready_for_s", "share"), [(0, 0.1), (0.5, 0.1), (5, 0.5), (10, 1), (99, 1)])
def test_a_replica_that_came_back_gets_its_share_step_by_step(ready_for_s: float, share: float) -> None:
    assert share_of(ready_for_s) == share


def test_a_replica_that_came_back_is_spared_at_first() -> None:
    old, new = replica("old", 5), replica("new")
    new.come_back(100.0)
    assert pick([old, new], 100.0, random.Random(1)) is old
    assert pick([old, new], 110.0, random.Random(1)) is new


def ranked(addresses: str, prefix: int) -> str:
    found = by_prefix([replica(address) for address in addresses], prefix, 0.0)
    assert found is not None
    return found[0].address


def test_every_gateway_finds_the_same_replica_for_a_prefix_in_whatever_order_it_knows_them() -> None:
    for number in range(50):
        prefix = prefix_hash("salt", str(number).encode())
        assert ranked("abcdef", prefix) == ranked("fbdeca", prefix)


def test_prefixes_spread_over_the_replicas_and_only_those_of_one_that_goes_move() -> None:
    prefixes = [prefix_hash("salt", str(number).encode()) for number in range(600)]
    before = {prefix: ranked("abcdef", prefix) for prefix in prefixes}
    after = {prefix: ranked("abcde", prefix) for prefix in prefixes}
    assert min(Counter(before.values()).values()) > 60
    assert all(after[prefix] == where for prefix, where in before.items() if where != "f")


def test_tenants_with_the_same_prompt_have_replicas_of_their_own() -> None:
    places = {ranked("abcdefgh", prefix_hash(f"tenant {number}", b"hello")) for number in range(50)}
    assert len(places) > 4


def test_a_popular_prefix_fills_no_replica_over_its_bound() -> None:
    replicas = [replica(address) for address in "abcd"]
    prefix = prefix_hash("", b"popular")
    firsts = 0
    for _ in range(100):
        found = by_prefix(replicas, prefix, 0.0)
        assert found is not None
        found[0].outstanding += 1
        firsts += found[1]
    counts = sorted(one.outstanding for one in replicas)
    assert counts[-1] <= 32  # 1.25 times a quarter of 100, rounded up
    assert firsts == counts[-1]


def test_none_is_found_without_replicas() -> None:
    assert by_prefix([], 7, 0.0) is None


def test_all_turns_of_a_conversation_begin_alike() -> None:
    first = [("system", "be kind"), ("user", "hello")]
    later = [*first, ("assistant", "hi"), ("user", "and now?")]
    assert chat(*first) == chat(*later)
    assert chat(*first) != chat(("system", "be kind"), ("user", "hello!"))


def test_a_prompt_is_known_by_its_first_characters_or_tokens() -> None:
    common = "ä" * 512
    assert prompt(common + "a") == prompt(common + "b") == common.encode()
    assert prompt("short") == b"short"
    tokens = [payload_pb2.Tokens(ids=range(start, start + 1000)) for start in (0, 1)]
    assert len({beginning_of(payload_pb2.Generate(tokens=one), "tokens") for one in tokens}) == 2


def test_a_chat_without_a_user_is_known_by_all_of_it() -> None:
    assert chat(("system", "a")) != chat(("system", "a"), ("system", "b"))


def test_addresses_are_told_apart() -> None:
    assert len({address_hash(f"10.0.0.{number}:50051") for number in range(256)}) == 256
