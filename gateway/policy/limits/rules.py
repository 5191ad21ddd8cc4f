"""Which limits apply to a call: those of its key, its tenant, its tenant's use of the model, the model.

Owns the rules as values. What is left of each is the accounts' matter.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

from gateway.policy.facts import Caller
from inference_mesh.config.limits import LimitsSpec, WhenGone
from inference_mesh.config.models_file import ModelEntry

Kind = Literal["requests", "concurrency", "tokens"]
Scope = Literal["key", "tenant", "tenant_model", "model"]


@dataclasses.dataclass(frozen=True, slots=True)
class LimitRule:
    """One limit.

    name: unique, e.g. "tenant:acme:tokens". amount: requests that may come at once, calls at
    the same time, or tokens of a window. window_s: of requests the time in which the burst
    comes back, of tokens the period, 0 for concurrency. interval_s: between two requests at
    the sustained rate; else 0. when_gone: what applies while the ledger cannot be asked.
    """

    name: str
    kind: Kind
    scope: Scope
    amount: int
    window_s: float = 0.0
    interval_s: float = 0.0
    when_gone: WhenGone = "share"

    @property
    def tolerance_s(self) -> float:
        """How much earlier than at the sustained rate a request may come."""
        return self.window_s - self.interval_s


def rules_of(caller: Caller, entry: ModelEntry) -> tuple[LimitRule, ...]:
    """Every limit that a caller's calls of a model must keep: key, tenant, tenant and model, model."""
    tenant = caller.tenant
    found: list[LimitRule] = []
    if caller.key_id:
        found += _rules(f"key:{caller.key_id}", "key", caller.limits)
    found += _rules(f"tenant:{tenant.name}", "tenant", tenant.limits)
    of_model = tenant.model_limits.get(entry.name)
    if of_model is not None:
        found += _rules(f"tenant:{tenant.name}/{entry.name}", "tenant_model", of_model)
    found += _rules(f"model:{entry.name}", "model", entry.limits)
    return tuple(found)


@functools.lru_cache(maxsize=16_384)
def _rules(owner: str, scope: Scope, spec: LimitsSpec) -> tuple[LimitRule, ...]:
    """The same objects for all callers of an owner, so that accounts know their rule at a glance."""
    gone = spec.when_redis_is_gone
    found: list[LimitRule] = []
    rate = spec.requests_per_second
    if rate is not None:
        name = f"{owner}:requests"
        found.append(LimitRule(name, "requests", scope, spec.burst, spec.burst / rate, 1 / rate, gone))
    if spec.concurrency is not None:
        name = f"{owner}:concurrency"
        found.append(LimitRule(name, "concurrency", scope, spec.concurrency, when_gone=gone))
    if spec.tokens is not None:
        name, period_s = f"{owner}:tokens", spec.tokens.period_s
        found.append(LimitRule(name, "tokens", scope, spec.tokens.amount, period_s, when_gone=gone))
    return tuple(found)
