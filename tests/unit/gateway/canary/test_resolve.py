from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.facts import Caller, CallFacts, RefusalKind, Refuse, Route, RouteRule
from gateway.policy.routing.resolve import CanaryChoice, names_of, resolve
from gateway.policy.routing.visibility import may_use
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.config.tenants_file import Tenant

ADDRESS = "127.0.0.1:1"
NOBODY = Caller()


def entry(name: str = "chat", **fields: object) -> ModelEntry:
    return ModelEntry.model_validate({"name": name, "endpoints": [ADDRESS], **fields})


def versioned(sticky: str | None = None, **weights: float) -> ModelEntry:
    """A model with these versions; the one called `new` is a canary if `sticky` is given."""
    versions = [
        {"version": name, "weight": weight, "endpoints": [ADDRESS]} for name, weight in weights.items()
    ]
    canary = None if sticky is None else {"version": "new", "sticky": sticky}
    return ModelEntry.model_validate({"name": "chat", "versions": versions, "canary": canary})


def everyone_ready(model: str, version: str) -> bool:
    return True


def route(
    model: ModelEntry,
    name: str = "chat",
    version: str = "",
    *,
    caller: Caller = NOBODY,
    ready: Callable[[str, str], bool] = everyone_ready,
    canary: CanaryChoice | None = None,
    draw: float = 0.0,
    metadata: tuple[tuple[str, str], ...] = (),
) -> Route | Refuse:
    facts = CallFacts(name, version, 10, 0.0, 1e9, metadata)
    return resolve(facts, caller, names_of([model]), ready, lambda _: canary, draw)


def version_of(decision: Route | Refuse) -> str:
    assert isinstance(decision, Route)
    return decision.version


@pytest.mark.parametrize(
    ("name", "version", "rule"),
    [
        ("chat", "", RouteRule.NAME),
        ("talk", "", RouteRule.ALIAS),
        ("talk", "2", RouteRule.VERSION),
    ],
)
def test_a_name_an_alias_and_a_version_lead_to_the_model(name: str, version: str, rule: RouteRule) -> None:
    model = entry(version="2", aliases=["talk"])
    assert route(model, name, version) == Route(model, "2", rule)


@pytest.mark.parametrize(
    ("name", "version", "kind"),
    [
        ("", "", RefusalKind.INVALID),
        ("chat", "a b", RefusalKind.INVALID),
        ("chat", "v" * 65, RefusalKind.INVALID),
        ("none", "", RefusalKind.MODEL_NOT_FOUND),
        ("chat", "3", RefusalKind.MODEL_NOT_FOUND),
    ],
)
def test_what_is_no_model_is_refused(name: str, version: str, kind: RefusalKind) -> None:
    decision = route(entry(version="2"), name, version)
    assert isinstance(decision, Refuse)
    assert decision.kind is kind


def test_a_model_without_a_version_leaves_the_callers_to_the_worker() -> None:
    model = entry()
    assert route(model, version="9") == Route(model, "", RouteRule.NAME)


def test_a_model_that_may_not_be_used_reads_like_one_that_is_not() -> None:
    caller = Caller(tenant=Tenant(name="blue", models=("embed*",)))
    hidden = route(entry(), caller=caller)
    absent = route(entry("other"), "chat", caller=caller)
    assert isinstance(hidden, Refuse)
    assert hidden == absent


@pytest.mark.parametrize(
    ("patterns", "tenants", "is_allowed"),
    [
        (("*",), None, True),
        (("chat",), None, True),
        (("ch*",), None, True),
        (("*.5",), None, False),
        (("c.at",), None, False),
        ((), None, False),
        (("*",), ("green",), False),
        (("*",), ("green", "blue"), True),
        (("embed",), ("blue",), False),
    ],
)
def test_the_tenants_list_and_the_models_list_both_have_to_allow(
    patterns: tuple[str, ...], tenants: tuple[str, ...] | None, is_allowed: bool
) -> None:
    assert may_use(Tenant(name="blue", models=patterns), entry(tenants=tenants)) is is_allowed


def test_a_version_that_is_asked_for_is_taken_even_without_weight_share_or_replica() -> None:
    model = versioned("none", old=1, new=0)
    for version in ("old", "new"):
        decision = route(model, version=version, ready=lambda *_: False, canary=CanaryChoice("new", 0))
        assert decision == Route(model, version, RouteRule.VERSION)


def test_weights_share_the_calls() -> None:
    model = versioned(a=1, b=3, c=0)
    chosen = [version_of(route(model, draw=index / 100)) for index in range(100)]
    assert (chosen.count("a"), chosen.count("b"), chosen.count("c")) == (25, 75, 0)


def test_a_canary_gets_its_share_and_the_rest_is_shared_by_weight() -> None:
    model = versioned("none", a=1, b=1, new=0)
    share = CanaryChoice("new", 20.0)
    decisions = [route(model, canary=share, draw=index / 1000) for index in range(1000)]
    chosen = [version_of(one) for one in decisions]
    assert (chosen.count("new"), chosen.count("a"), chosen.count("b")) == (200, 400, 400)
    rules = {version_of(one): one.rule for one in decisions if isinstance(one, Route)}
    assert rules == {"new": RouteRule.CANARY, "a": RouteRule.WEIGHT, "b": RouteRule.WEIGHT}


@given(
    weight=st.floats(0, 100),
    draw=st.floats(0, 1, exclude_max=True),
    ready=st.sets(st.sampled_from(["a", "b", "new"])),
    sticky=st.booleans(),
)
def test_no_choice_falls_on_a_version_without_a_replica_while_another_has_one(
    weight: float, draw: float, ready: set[str], sticky: bool
) -> None:
    model = versioned("key" if sticky else "none", a=1, b=2, new=0)
    takes_traffic = {"a", "b", "new"} if weight else {"a", "b"}
    decision = route(
        model,
        caller=Caller(key_id=f"key-{draw}"),
        ready=lambda _, version: version in ready,
        canary=CanaryChoice("new", weight),
        draw=draw,
    )
    chosen = version_of(decision)
    assert chosen in takes_traffic
    assert chosen in ready or not ready & takes_traffic


def test_a_canary_that_was_rolled_back_gets_nothing_even_if_nobody_else_is_ready() -> None:
    model = versioned("none", old=1, new=0)
    decision = route(
        model, ready=lambda _, version: version == "new", canary=CanaryChoice("new", 0.0), draw=0.0
    )
    assert version_of(decision) == "old"


@pytest.mark.parametrize("sticky", ["key", "tenant", "header:x-session-id"])
def test_whoever_is_in_a_growing_share_stays_in_it(sticky: str) -> None:
    model = versioned(sticky, old=1, new=0)
    was_in: set[int] = set()
    for weight in (5.0, 25.0, 50.0, 100.0):
        now_in = set()
        for number in range(400):
            name = f"who-{number}"
            caller = Caller(key_id=name, tenant=Tenant(name=name))
            choices = {
                version_of(
                    route(
                        model,
                        caller=caller,
                        canary=CanaryChoice("new", weight),
                        draw=draw,
                        metadata=(("x-session-id", name),),
                    )
                )
                for draw in (0.0, 0.5, 0.99)
            }
            assert len(choices) == 1
            if choices == {"new"}:
                now_in.add(number)
        assert was_in <= now_in
        assert abs(len(now_in) / 400 - weight / 100) < 0.07
        was_in = now_in


def test_who_has_nothing_to_stay_by_is_drawn() -> None:
    for sticky in ("key", "tenant", "header:x-session-id"):
        model = versioned(sticky, old=1, new=0)
        half = CanaryChoice("new", 50.0)
        assert version_of(route(model, canary=half, draw=0.1)) == "new"
        assert version_of(route(model, canary=half, draw=0.9)) == "old"


def test_a_token_stays_by_its_tenant_where_keys_stay() -> None:
    model = versioned("key", old=1, new=0)
    caller = Caller(tenant=Tenant(name="blue"))
    chosen = {
        version_of(route(model, caller=caller, canary=CanaryChoice("new", 50.0), draw=draw / 10))
        for draw in range(10)
    }
    assert len(chosen) == 1


def test_sticky_callers_stay_with_one_of_several_stable_versions() -> None:
    model = versioned("key", a=1, b=1, new=0)
    seen = set()
    for number in range(50):
        caller = Caller(key_id=f"key-{number}")
        decisions = [
            route(model, caller=caller, canary=CanaryChoice("new", 0.0), draw=draw / 10) for draw in range(10)
        ]
        assert len({version_of(one) for one in decisions}) == 1
        seen.add(version_of(decisions[0]))
    assert seen == {"a", "b"}
