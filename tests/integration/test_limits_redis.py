"""Limits that several gateways share through a real Redis: exact, and honest while it is gone.

Each gateway is a process of its own; one of them and the Redis are killed and stalled in turn.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.limits.rules import LimitRule
from tests.support.processes import REPOSITORY
from tests.support.redis_server import RedisServer, redis_server

REPLICAS = 3
LONG_S = 30 * 86_400.0
LIMIT = 3000
ANSWER_LIMIT_S = 0.005
BACK_LIMIT_S = 5.0
STALL_S = 3.0
FORGOTTEN_S = 4.0
"""After how long all gateways know that one is gone: 2.5 s of silence and a tick of each."""
GATHERED_S = 12.0
"""After how long a Redis that waited in vain for one of the gateways grants again, and they know it."""
SCHEDULING_S = 0.02
"""What two shared cores may add to a wait of 5 ms."""
LATE_AT_MOST = 3
"""Calls of a gateway that may need that: the first one waits for Redis, the others must not."""


class GatewayProcess:
    """Owns one process of tests.fakes.limit_gateway and the file of its admissions."""

    def __init__(self, redis: RedisServer, name: str, folder: Path) -> None:
        self._log = folder / f"{name}.admitted"
        arguments = [redis.url, name, str(REPLICAS), str(self._log)]
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.limit_gateway", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=REPOSITORY,
            text=True,
        )

    @property
    def admitted(self) -> int:
        """What it admitted so far, by what it wrote before it went on."""
        return sum(map(int, self._log.read_text().split())) if self._log.exists() else 0

    def tell(self, do: str, **arguments: object) -> None:
        """Send a command; `answer` has what comes of it."""
        if self._popen.stdin is None:
            raise AssertionError("no pipe")
        self._popen.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._popen.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest command."""
        if self._popen.stdout is None:
            raise AssertionError("no pipe")
        answer: dict[str, Any] = json.loads(self._popen.stdout.readline())
        return answer

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Send a command and wait for the answer."""
        self.tell(do, **arguments)
        return self.answer()

    def stall(self) -> None:
        """SIGSTOP: it holds what it has, and says nothing."""
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, after `stall`."""
        self._popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()


Gateways = list[GatewayProcess]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def gateways(redis: RedisServer, tmp_path: Path) -> Iterator[Gateways]:
    found = [GatewayProcess(redis, f"gateway-{number}", tmp_path) for number in range(REPLICAS)]
    try:
        assert all(answer["is_known"] for answer in all_answers(found, "known", limit_s=20))
        yield found
    finally:
        for gateway in found:
            gateway.kill()


def all_answers(gateways: Gateways, do: str, **arguments: object) -> list[dict[str, Any]]:
    """One command to all at once, and their answers."""
    for gateway in gateways:
        gateway.tell(do, **arguments)
    return [gateway.answer() for gateway in gateways]


def budget(amount: int = LIMIT, *, when_gone: str = "refuse", window_s: float = LONG_S) -> dict[str, Any]:
    """A token budget; its window is longer than any test."""
    rule = LimitRule("tenant:acme:tokens", "tokens", "tenant", amount, window_s)
    return {**dataclasses.asdict(rule), "when_gone": when_gone}


def rate(burst: int, interval_s: float, *, when_gone: str = "refuse") -> dict[str, Any]:
    rule = LimitRule("tenant:acme:requests", "requests", "tenant", burst, burst * interval_s, interval_s)
    return {**dataclasses.asdict(rule), "when_gone": when_gone}


def concurrency(amount: int, *, when_gone: str = "refuse") -> dict[str, Any]:
    rule = LimitRule("tenant:acme:concurrency", "concurrency", "tenant", amount)
    return {**dataclasses.asdict(rule), "when_gone": when_gone}


def admitted_by(gateways: Gateways) -> int:
    return sum(gateway.admitted for gateway in gateways)


def test_three_gateways_together_admit_exactly_the_budget(gateways: Gateways) -> None:
    all_answers(gateways, "pound", rule=budget(), each=7, for_s=0.5)
    time.sleep(1.2)  # what is leased and unused is given back by the tick of a second
    all_answers(gateways, "pound", rule=budget(), each=7, for_s=1.5, pause_s=0.02)
    assert admitted_by(gateways) == LIMIT


def test_what_one_gateway_refunds_another_can_use(gateways: Gateways) -> None:
    one, other, _ = gateways
    one.ask("pound", rule=budget(), each=LIMIT, times=1)
    assert other.ask("pound", rule=budget(), each=10, times=1)["outcomes"] == {"token_budget": 1}
    one.ask("settle_all", used=LIMIT - 500)
    time.sleep(0.3)
    assert other.ask("pound", rule=budget(), each=10, for_s=1)["admitted"] == 500


def test_most_calls_need_no_round_trip(gateways: Gateways) -> None:
    before = gateways[0].ask("exchanges")["ok"]
    answer = gateways[0].ask("pound", rule=budget(10**9), each=100, used=50, times=500)
    assert answer["outcomes"] == {"granted": 500}
    assert gateways[0].ask("exchanges")["ok"] - before <= 10


@pytest.mark.faults
def test_a_killed_gateway_and_a_killed_redis_never_let_the_budget_be_overshot(
    gateways: Gateways, redis: RedisServer
) -> None:
    rule, amount = budget(30_000), 30_000
    for gateway in gateways:
        gateway.tell("pound", rule=rule, each=10, for_s=4.0, pause_s=0.002)
    time.sleep(0.4)
    gateways[0].kill()
    time.sleep(FORGOTTEN_S)  # until the others have heard what it held, and that it is gone
    redis.kill()
    rest = gateways[1:]
    for gateway in rest:
        gateway.answer()
    while_gone = all_answers(rest, "pound", rule=rule, each=10, for_s=1.0, pause_s=0.002)
    assert all(answer["outcomes"].get("limits_unknown", 0) > 0 for answer in while_gone)
    redis.start()
    back_s = time.monotonic()
    assert all(answer["is_known"] for answer in all_answers(rest, "known", limit_s=BACK_LIMIT_S))
    assert time.monotonic() - back_s <= BACK_LIMIT_S
    all_answers(rest, "pound", rule=rule, each=50, for_s=2.0)
    time.sleep(1.2)
    all_answers(rest, "pound", rule=rule, each=50, for_s=1.5, pause_s=0.01)
    assert gateways[0].admitted > 0
    assert amount - amount // (2 * REPLICAS) <= admitted_by(gateways) <= amount


@pytest.mark.faults
def test_what_a_gateway_took_that_died_together_with_redis_is_never_granted_again(
    gateways: Gateways, redis: RedisServer
) -> None:
    rest, other = gateways[1:], budget(window_s=1.0)
    other["name"] = "tenant:other:tokens"
    all_answers(gateways, "pound", rule=budget(), each=10, times=1)
    assert gateways[0].ask("pound", rule=budget(), each=200, times=10)["admitted"] == 2000
    gateways[0].kill()
    redis.kill()
    redis.start()
    all_answers(rest, "gone", limit_s=2)
    assert all(answer["is_known"] for answer in all_answers(rest, "known", limit_s=GATHERED_S))
    all_answers(rest, "pound", rule=budget(), each=50, for_s=2.5, pause_s=0.01)
    assert admitted_by(rest) >= 2 * 10
    assert admitted_by(gateways) <= LIMIT
    # A window that began after the loss is whole.
    assert rest[0].ask("pound", rule=other, each=LIMIT, used=LIMIT, times=1)["admitted"] == LIMIT


@pytest.mark.faults
def test_a_gateway_that_hung_while_redis_was_lost_is_waited_for_and_then_nothing_is_withheld(
    gateways: Gateways, redis: RedisServer
) -> None:
    all_answers(gateways, "pound", rule=budget(), each=10, times=1)
    gateways[0].stall()
    redis.kill()
    redis.start()
    all_answers(gateways[1:], "gone", limit_s=2)
    assert all(answer["is_known"] for answer in all_answers(gateways[1:], "known", limit_s=GATHERED_S))
    all_answers(gateways[1:], "pound", rule=budget(), each=100, for_s=1.0, pause_s=0.01)
    assert admitted_by(gateways) < LIMIT
    gateways[0].resume()
    assert gateways[0].ask("gone", limit_s=2)["is_known"] is False
    assert gateways[0].ask("known", limit_s=GATHERED_S)["is_known"]
    time.sleep(1.2)
    all_answers(gateways, "pound", rule=budget(), each=100, for_s=4.0, pause_s=0.01)
    assert admitted_by(gateways) == LIMIT


@pytest.mark.faults
@pytest.mark.parametrize("when_gone", ["refuse", "share"])
def test_a_redis_that_comes_back_empty_under_load_grants_nothing_twice(
    gateways: Gateways, redis: RedisServer, when_gone: str
) -> None:
    rule, first = budget(when_gone=when_gone), 900
    answers = all_answers(gateways, "pound", rule=rule, each=first, times=1)
    assert [answer["admitted"] for answer in answers] == [first] * REPLICAS
    gateways[0].tell("pound", rule=rule, each=290, for_s=4.0, pause_s=0.01)
    redis.kill()
    for gateway in gateways[1:]:
        gateway.tell("pound", rule=rule, each=290, for_s=4.0, pause_s=0.01)
    redis.start()
    for gateway in gateways:
        gateway.answer()
    # How long a busy machine takes to gather is not what this is about.
    assert all(answer["is_known"] for answer in all_answers(gateways, "known", limit_s=GATHERED_S))
    time.sleep(1.2)
    all_answers(gateways, "pound", rule=rule, each=290, for_s=1.0, pause_s=0.01)
    # To refuse is exact. A share is each gateway's own guess: one may have had what was left of
    # the last Redis, and the others go on to their share.
    over = LIMIT - first * REPLICAS if when_gone == "share" else 0
    assert LIMIT <= admitted_by(gateways) <= LIMIT + over


@pytest.mark.faults
def test_what_a_killed_gateway_used_stays_used(gateways: Gateways) -> None:
    gateways[0].ask("pound", rule=budget(), each=100, times=10)
    gateways[0].kill()
    rest = gateways[1:]
    all_answers(rest, "pound", rule=budget(), each=10, for_s=0.5)
    time.sleep(1.2)
    all_answers(rest, "pound", rule=budget(), each=10, for_s=1.5, pause_s=0.02)
    outstanding = (LIMIT - 0) // (2 * REPLICAS)  # the most that one lease holds beyond its need
    assert LIMIT - outstanding <= admitted_by(gateways) <= LIMIT


@pytest.mark.faults
@pytest.mark.parametrize("when_gone", ["refuse", "share"])
def test_while_redis_is_gone_or_hung_every_answer_comes_within_5_ms(
    gateways: Gateways, redis: RedisServer, when_gone: str
) -> None:
    rule = budget(10**6, when_gone=when_gone)
    all_answers(gateways, "pound", rule=rule, each=10, times=20)
    redis.stall()
    answers = all_answers(gateways, "pound", rule=rule, each=10**5, for_s=STALL_S, pause_s=0.001)
    assert all(answer["longest_s"] <= ANSWER_LIMIT_S + SCHEDULING_S for answer in answers)
    assert all(answer["late"] <= LATE_AT_MOST for answer in answers)
    expected = "limits_unknown" if when_gone == "refuse" else "degraded"
    assert all(answer["outcomes"].get(expected, 0) > 0 for answer in answers)
    redis.resume()
    assert all(answer["is_known"] for answer in all_answers(gateways, "known", limit_s=BACK_LIMIT_S))
    all_answers(gateways, "pound", rule=rule, each=10**4, for_s=1.0)
    time.sleep(1.2)
    all_answers(gateways, "pound", rule=rule, each=10**4, for_s=1.0, pause_s=0.01)
    assert admitted_by(gateways) == 10**6


@pytest.mark.faults
def test_while_redis_is_gone_a_share_is_the_limit_divided_by_the_gateways(
    gateways: Gateways, redis: RedisServer
) -> None:
    redis.kill()
    all_answers(gateways, "gone", limit_s=5)
    answers = all_answers(gateways, "pound", rule=budget(when_gone="share"), each=7, for_s=0.5)
    assert [answer["admitted"] for answer in answers] == [LIMIT // REPLICAS] * REPLICAS
    redis.start()
    all_answers(gateways, "known", limit_s=BACK_LIMIT_S)
    all_answers(gateways, "pound", rule=budget(when_gone="share"), each=7, for_s=0.5)
    assert admitted_by(gateways) == LIMIT


@pytest.mark.faults
def test_a_rate_holds_across_gateways_and_an_empty_redis(gateways: Gateways, redis: RedisServer) -> None:
    burst, interval_s = 60, 0.02
    started_s = time.monotonic()
    for gateway in gateways:
        gateway.tell("pound", rule=rate(burst, interval_s), for_s=5.0, pause_s=0.002)
    time.sleep(1.0)
    redis.kill()
    redis.start()
    for gateway in gateways:
        gateway.answer()
    allowed = burst + (time.monotonic() - started_s) / interval_s
    assert 0.5 * allowed <= admitted_by(gateways) <= allowed


@pytest.mark.faults
def test_calls_at_once_hold_across_gateways_and_come_back_from_a_killed_one(gateways: Gateways) -> None:
    all_answers(gateways, "pound", rule=concurrency(12), for_s=0.5, pause_s=0.001)
    assert 12 - 2 * REPLICAS <= admitted_by(gateways) <= 12
    held_by_killed = gateways[0].admitted
    before = admitted_by(gateways[1:])
    gateways[0].kill()
    time.sleep(6.0)  # the ledger takes a silent gateway's calls to be gone after 5 s
    all_answers(gateways[1:], "pound", rule=concurrency(12), for_s=1.5, pause_s=0.01)
    assert held_by_killed > 0
    assert admitted_by(gateways[1:]) == 12
    assert before < 12


@pytest.mark.faults
def test_an_empty_redis_learns_again_which_calls_run(gateways: Gateways, redis: RedisServer) -> None:
    rule = concurrency(12, when_gone="share")
    all_answers(gateways, "pound", rule=rule, for_s=1.5, pause_s=0.01)
    redis.kill()
    redis.start()
    all_answers(gateways, "gone", limit_s=2)
    all_answers(gateways, "known", limit_s=BACK_LIMIT_S)
    all_answers(gateways, "pound", rule=rule, for_s=1.5, pause_s=0.01)
    assert admitted_by(gateways) == 12
