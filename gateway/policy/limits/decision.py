"""Whether a call keeps all of its limits, and how it is refused. Pure, the clock passed in.

Owns the all-or-nothing over the accounts of one call. Whose accounts they are, and the ledger
behind them, is the limiter's matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway.policy.facts import Cost, RefusalKind, Refuse
from gateway.policy.limits.call_accounts import Account, CallAccounts, SharedAccount
from gateway.policy.limits.call_slots import CallSlots
from gateway.policy.limits.lease import ASK, GONE, ROOM, Terms
from gateway.policy.limits.request_lease import RequestLease
from gateway.policy.limits.request_pace import RequestPace
from gateway.policy.limits.rules import LimitRule
from gateway.policy.limits.token_window import TokenWindow

REFUSALS = {
    "requests": RefusalKind.RATE_LIMITED,
    "concurrency": RefusalKind.TOO_MANY_AT_ONCE,
    "tokens": RefusalKind.TOKEN_BUDGET,
}
OWNERS = {
    "key": "the key",
    "tenant": "the tenant",
    "tenant_model": "the tenant for this model",
    "model": "the model",
}
PERIODS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86_400.0: "day"}


def own_account(rule: LimitRule, phase_s: float) -> Account:
    """An account of a limit that no other gateway shares. phase_s: added to the clock for token windows."""
    if rule.kind == "requests":
        return RequestPace(rule)
    account = CallSlots(rule) if rule.kind == "concurrency" else TokenWindow(rule, phase_s)
    account.be_alone()
    return account


def shared_account(rule: LimitRule, phase_s: float) -> Account:
    """An account of a limit that gateways share, from which nothing was taken."""
    if rule.kind == "requests":
        return RequestLease(rule)
    return CallSlots(rule) if rule.kind == "concurrency" else TokenWindow(rule, phase_s)


def take_all(of_call: CallAccounts, cost: Cost, now_s: float, terms: Terms) -> int | Refuse | None:
    """Take one call from all accounts, or nothing from any.

    Returns the tokens of answer that the call may have, at most what it asks for; a refusal by
    the limit that keeps it waiting longest; or None if the ledger must be asked before.
    """
    accounts = of_call.accounts
    longest_s, refusing, is_asking = ROOM, None, False
    for account in accounts:
        verdict = account.check(cost, now_s, terms)
        if verdict:
            is_asking = is_asking or verdict == ASK
            if verdict > longest_s:
                longest_s, refusing = verdict, account
    if refusing is not None:
        return refusal_of(refusing, longest_s, accounts, now_s, terms)
    if is_asking:
        return None
    granted = cost.completion_tokens
    for window in of_call.windows:
        granted = min(granted, max(window.free, 0) - cost.prompt_tokens)
    tokens = cost.prompt_tokens + granted
    for account in accounts:
        account.take(tokens, now_s, terms)
    return granted


def lacking(accounts: Sequence[Account], cost: Cost, now_s: float, terms: Terms) -> list[SharedAccount]:
    """The accounts for which the ledger must be asked before the call can be decided."""
    return [
        account
        for account in accounts
        if not isinstance(account, RequestPace) and account.check(cost, now_s, terms) == ASK
    ]


def refusal_of(
    refusing: Account, wait_s: float, accounts: Sequence[Account], now_s: float, terms: Terms
) -> Refuse:
    """The refusal by one of a call's limits. wait_s: infinite = to wait does not help."""
    rule = refusing.rule
    ordered = (refusing, *(account for account in accounts if account is not refusing))
    standings = tuple(account.standing(now_s, terms) for account in ordered)
    if terms.source is GONE and rule.when_gone == "refuse" and math.isfinite(wait_s):
        message = f"whether {OWNERS[rule.scope]} is within its limits cannot be told now"
        return Refuse(RefusalKind.LIMITS_UNKNOWN, message, wait_s, standings)
    hint_s = wait_s if math.isfinite(wait_s) else None
    return Refuse(REFUSALS[rule.kind], _message(rule), hint_s, standings)


def _message(rule: LimitRule) -> str:
    owner = OWNERS[rule.scope]
    if rule.kind == "requests":
        return f"over {1 / rule.interval_s:g} requests per second, the limit of {owner}"
    if rule.kind == "concurrency":
        return f"over {rule.amount} calls at once, the limit of {owner}"
    period = PERIODS.get(rule.window_s, f"{rule.window_s:g} s")
    return f"over {rule.amount} tokens per {period}, the budget of {owner}"
