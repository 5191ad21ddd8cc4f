from __future__ import annotations

import ast
import dataclasses
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway.policy
from gateway.front.refusals import error_of
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import Admit, CallFacts, KeyFacts, ModelFacts, RateLimit, RefusalKind, Refuse
from gateway.policy.identity.api_keys import authenticate, tenant_salt
from gateway.policy.limits.gcra import RateLimiter, gcra
from gateway.policy.routing.pick import pick
from gateway.policy.routing.resolve import names_of, resolve
from gateway.policy.routing.retry_budget import RetryBudget, retries_allowed
from inference_mesh.config.keys_file import new_key
from inference_mesh.errors import MeshError

PLAIN, STORED = new_key(tenant="blue")
KEY = KeyFacts(STORED.id, STORED.sha256, "blue", frozenset({"infer"}))
MODELS = (ModelFacts("chat", version="2", aliases=("talk",)), ModelFacts("embed"))


def call(model: str = "chat", credential: str | None = PLAIN, **facts: object) -> CallFacts:
    values = {"version": "", "size_bytes": 10, "now_s": 0.0, "wall_time_s": 1e9, **facts}
    return CallFacts(model=model, credential=credential, **values)  # type: ignore[arg-type]


def engine(*, requires_key: bool = True, key: KeyFacts = KEY) -> PolicyEngine:
    made = PolicyEngine(requires_key=requires_key, max_message_bytes=1000)
    made.replace_models(MODELS)
    made.replace_keys([key])
    return made


def test_the_policy_imports_no_transport() -> None:
    for path in Path(gateway.policy.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [
                name for name in names if name.split(".")[0] in ("grpc", "httpx", "asyncio", "socket")
            ]


def test_an_admitted_call_has_its_caller_its_model_and_its_version() -> None:
    decision = engine().admit(call("talk"))
    assert isinstance(decision, Admit)
    assert (decision.caller.key_id, decision.model.name, decision.version) == (KEY.id, "chat", "2")


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (call(credential=None), RefusalKind.UNAUTHENTICATED),
        (call(credential=PLAIN[:-1] + "!"), RefusalKind.UNAUTHENTICATED),
        (call(credential=new_key()[0]), RefusalKind.UNAUTHENTICATED),
        (call("", credential=None), RefusalKind.UNAUTHENTICATED),
        (call(size_bytes=1001), RefusalKind.TOO_LARGE),
        (call(""), RefusalKind.INVALID),
        (call(version="a b"), RefusalKind.INVALID),
        (call("none"), RefusalKind.MODEL_NOT_FOUND),
        (call(version="3"), RefusalKind.MODEL_NOT_FOUND),
    ],
)
def test_a_call_that_may_not_go_on_is_refused_for_its_reason(facts: CallFacts, kind: RefusalKind) -> None:
    refusal = engine().admit(facts)
    assert isinstance(refusal, Refuse)
    assert refusal.kind is kind


def test_every_kind_of_refusal_becomes_an_error() -> None:
    errors = [error_of(Refuse(kind, "why")) for kind in RefusalKind]
    assert all(isinstance(error, MeshError) for error in errors)
    assert len({type(error) for error in errors}) == len(RefusalKind)


def test_without_required_keys_anyone_may_call() -> None:
    assert isinstance(engine(requires_key=False).admit(call(credential=None)), Admit)


def test_required_keys_without_any_key_refuse_everyone() -> None:
    empty = engine()
    empty.replace_keys([])
    assert isinstance(empty.admit(call()), Refuse)


def test_an_expired_key_is_no_key() -> None:
    key = dataclasses.replace(KEY, expires_at_s=100.0)
    assert authenticate(PLAIN, {key.id: key}, 99.9) is key
    assert authenticate(PLAIN, {key.id: key}, 100.0) is None


def test_a_refused_call_costs_no_rate() -> None:
    made = engine(key=dataclasses.replace(KEY, limit=RateLimit(rate=1, burst=1)))
    for _ in range(5):
        made.admit(call("none"))
    assert isinstance(made.admit(call()), Admit)
    assert isinstance(made.admit(call()), Refuse)


def test_a_key_that_stays_keeps_its_rate_over_a_reload() -> None:
    limited = dataclasses.replace(KEY, limit=RateLimit(rate=1, burst=1))
    made = engine(key=limited)
    made.admit(call())
    made.replace_keys([limited])
    assert isinstance(made.admit(call()), Refuse)


def test_salts_of_tenants_differ_and_tell_no_name() -> None:
    assert tenant_salt("blue") == tenant_salt("blue") != tenant_salt("green")
    assert "blue" not in tenant_salt("blue")


def test_a_model_without_version_takes_any() -> None:
    assert resolve("embed", "9", names_of(MODELS)) == MODELS[1]


LIMITS = st.builds(RateLimit, rate=st.floats(0.01, 10_000, allow_nan=False), burst=st.integers(1, 100))


@given(LIMITS, st.lists(st.floats(0, 5, allow_nan=False), max_size=200))
def test_no_window_admits_more_than_burst_and_rate_allow(limit: RateLimit, gaps: list[float]) -> None:
    now_s, limiter, admitted = 1000.0, RateLimiter(), []
    for gap in gaps:
        now_s += gap
        if limiter.take("key", limit, now_s).is_admitted:
            admitted.append(now_s)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            allowed = limit.burst + limit.rate * (admitted[last] - admitted[first])
            assert last - first + 1 <= allowed + 1e-3


@given(LIMITS, st.integers(0, 300))
def test_who_waits_as_long_as_told_is_admitted(limit: RateLimit, before: int) -> None:
    now_s, arrival_s = 1000.0, float("-inf")
    for _ in range(before):
        arrival_s, _ = gcra(arrival_s, now_s, limit)
    arrival_s, verdict = gcra(arrival_s, now_s, limit)
    if not verdict.is_admitted:
        _, again = gcra(arrival_s, now_s + verdict.retry_after_s, limit)
        assert again.is_admitted


@given(LIMITS)
def test_a_new_caller_has_the_whole_burst(limit: RateLimit) -> None:
    limiter = RateLimiter()
    verdicts = [limiter.take("key", limit, 5.0).is_admitted for _ in range(limit.burst + 1)]
    assert verdicts == [True] * limit.burst + [False]


@dataclasses.dataclass
class Replica:
    name: str
    outstanding: int


def test_the_less_busy_of_two_is_picked_and_none_of_none() -> None:
    busy, idle = Replica("busy", 3), Replica("idle", 1)
    assert all(pick([busy, idle], random.Random(seed)) is idle for seed in range(20))
    assert pick([busy], random.Random(0)) is busy
    assert pick([], random.Random(0)) is None


def test_idle_replicas_share_the_calls() -> None:
    replicas = [Replica(name, 0) for name in "abc"]
    rng = random.Random(1)
    counts = dict.fromkeys("abc", 0)
    for _ in range(300):
        chosen = pick(replicas, rng)
        assert chosen is not None
        counts[chosen.name] += 1
    assert min(counts.values()) > 60


@pytest.mark.parametrize(("active", "allowed"), [(0, 3), (10, 3), (20, 4), (100, 20)])
def test_retries_are_a_share_of_the_active_calls(active: int, allowed: int) -> None:
    assert retries_allowed(active) == allowed


def test_a_spent_budget_refuses_until_calls_end() -> None:
    budget = RetryBudget()
    budget.start_call()
    assert [budget.take() for _ in range(4)] == [True, True, True, False]
    budget.end_call(3)
    assert budget.take()
