from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gateway.policy
from gateway.front.refusals import error_of
from gateway.policy.engine import ADMIN_SCOPE, PolicyEngine, authorise
from gateway.policy.facts import Admit, Caller, CallFacts, RefusalKind, Refuse, RouteRule, Standing
from gateway.policy.routing.fallback import FALLS_BACK, falls_back
from inference_mesh.config.limits import LimitsSpec
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.config.tenants_file import Tenant
from inference_mesh.errors import MeshError, TokenBudgetError, all_error_classes

BLUE = Caller("abcd1234", Tenant(name="blue", models=("chat", "embed")))
CHAT = ModelEntry(name="chat", service="chat", version="2", aliases=("talk",), fallback=("embed", "secret"))
MODELS = (CHAT, ModelEntry(name="embed", service="embed"), ModelEntry(name="secret", service="secret"))


def call(model: str = "chat", version: str = "", size_bytes: int = 10) -> CallFacts:
    return CallFacts(model, version, size_bytes, now_s=0.0, wall_time_s=1e9)


def engine() -> PolicyEngine:
    made = PolicyEngine(
        max_message_bytes=1000, has_ready=lambda model, version: True, canary_of=lambda entry: None
    )
    made.replace_models(MODELS)
    return made


def test_the_policy_imports_no_transport() -> None:
    banned = {"grpc", "httpx", "asyncio", "socket", "redis", "starlette"}
    for path in Path(gateway.policy.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & banned, path


def test_an_admitted_call_has_its_caller_its_model_its_version_and_the_reason() -> None:
    assert engine().admit(BLUE, call("talk"), 0.5) == Admit(BLUE, CHAT, "2", RouteRule.ALIAS)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (call(size_bytes=1001), RefusalKind.TOO_LARGE),
        (call(""), RefusalKind.INVALID),
        (call(version="a b"), RefusalKind.INVALID),
        (call("none"), RefusalKind.MODEL_NOT_FOUND),
        (call("secret"), RefusalKind.MODEL_NOT_FOUND),
        (call(version="3"), RefusalKind.MODEL_NOT_FOUND),
    ],
)
def test_a_call_that_may_not_go_on_is_refused_for_its_reason(facts: CallFacts, kind: RefusalKind) -> None:
    refusal = engine().admit(BLUE, facts, 0.5)
    assert isinstance(refusal, Refuse)
    assert refusal.kind is kind


def test_a_model_of_others_reads_as_one_that_does_not_exist() -> None:
    hidden, missing = engine().admit(BLUE, call("secret"), 0.5), engine().admit(BLUE, call("nobody"), 0.5)
    assert isinstance(hidden, Refuse)
    assert isinstance(missing, Refuse)
    assert hidden.message.replace("secret", "nobody") == missing.message


def test_a_credential_without_the_scope_is_refused() -> None:
    refusal = engine().admit(Caller(scopes=frozenset({ADMIN_SCOPE})), call(), 0.5)
    assert isinstance(refusal, Refuse)
    assert refusal.kind is RefusalKind.FORBIDDEN
    assert authorise(Caller(scopes=frozenset({ADMIN_SCOPE})), ADMIN_SCOPE) is None


def test_every_kind_of_refusal_becomes_an_error() -> None:
    errors = [error_of(Refuse(kind, "why")) for kind in RefusalKind]
    assert all(isinstance(error, MeshError) for error in errors)


def test_the_error_of_a_limit_names_it() -> None:
    standing = Standing("tenant:blue:tokens", "tokens", 1000, 3, 60, 12)
    error = error_of(Refuse(RefusalKind.TOKEN_BUDGET, "spent", 12, (standing,)))
    assert isinstance(error, TokenBudgetError)
    assert [one.subject for one in error.violations] == ["tenant:blue:tokens"]
    assert error.violations[0].description == "1000 tokens in 60 s"


def test_a_list_has_only_what_the_caller_may_use() -> None:
    assert [entry.name for entry in engine().visible_to(BLUE)] == ["chat", "embed"]


def test_a_fallback_leads_only_to_what_the_caller_may_use() -> None:
    made = engine()
    admitted = made.admit(BLUE, call(), 0.5)
    assert isinstance(admitted, Admit)
    others = made.fallbacks_of(admitted, 0.5)
    assert [(one.model.name, one.rule) for one in others] == [("embed", RouteRule.FALLBACK)]


def test_falling_back_is_for_reasons_that_exist_and_are_not_the_callers() -> None:
    assert {error.reason for error in all_error_classes()} >= FALLS_BACK
    assert falls_back("UNAVAILABLE")
    assert not falls_back("TOKEN_BUDGET_SPENT")


def test_the_rules_of_a_caller_and_a_model_are_kept_until_the_models_change() -> None:
    made = engine()
    limited = Caller("abcd1234", Tenant(name="blue"), limits=LimitsSpec(concurrency=2))
    rules = made.rules_of(limited, CHAT)
    assert [rule.name for rule in rules] == ["key:abcd1234:concurrency"]
    assert made.rules_of(limited, CHAT) is rules
    made.replace_models(MODELS)
    assert made.rules_of(limited, CHAT) is not rules
