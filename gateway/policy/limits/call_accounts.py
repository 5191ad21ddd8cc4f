"""The accounts that one caller's calls of one model draw on, together or not at all. Pure.

Owns the short way of a call: where every account has room at hand, one is taken of each, and
nobody is asked. It looks at plain numbers of the accounts, because each call comes by here;
what is to be done where one has no room is `decision`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.policy.facts import Standing
from gateway.policy.limits.call_slots import CallSlots
from gateway.policy.limits.lease import Terms
from gateway.policy.limits.request_lease import RequestLease
from gateway.policy.limits.request_pace import RequestPace
from gateway.policy.limits.rules import LimitRule
from gateway.policy.limits.token_window import TokenWindow

SharedAccount = RequestLease | CallSlots | TokenWindow
Account = RequestPace | SharedAccount


OF_MODEL = frozenset({"tenant_model", "model"})
"""Scopes of rules that a call of another model does not have to keep."""


class CallAccounts:
    """Owns the accounts of a call's rules, sorted by what a call takes of them.

    paces: of requests, where no gateway shares; singles: what a call takes one of; slots: of
    those, what it gives back at its end; windows: what it takes tokens of.
    """

    __slots__ = ("_kinds", "accounts", "paces", "rules", "singles", "slots", "windows")

    def __init__(self, rules: Sequence[LimitRule], accounts: Sequence[Account]) -> None:
        self.rules = rules
        self.accounts = tuple(accounts)
        self.paces = tuple(one for one in accounts if isinstance(one, RequestPace))
        self.singles = tuple(one for one in accounts if isinstance(one, RequestLease | CallSlots))
        self.slots = tuple(one for one in accounts if isinstance(one, CallSlots))
        self.windows = tuple(one for one in accounts if isinstance(one, TokenWindow))
        kinds: dict[str, list[Account]] = {}
        for rule, account in zip(rules, accounts, strict=True):
            kinds.setdefault(rule.kind, []).append(account)
        self._kinds = tuple([tuple(kind) for kind in kinds.values()])

    def by_owner(self) -> tuple[CallAccounts, CallAccounts]:
        """The same apart: those of the caller alone, and those of the model."""
        both = tuple(zip(self.rules, self.accounts, strict=True))
        callers = [(rule, account) for rule, account in both if rule.scope not in OF_MODEL]
        models = [(rule, account) for rule, account in both if rule.scope in OF_MODEL]
        return _of(callers), _of(models)

    def take(self, tokens: int, now_s: float) -> bool:
        """Take one call of so many tokens, if every account has room at hand; else nothing."""
        if not self._has_room(tokens, now_s):
            return False
        for pace in self.paces:
            pace.pass_one(now_s)
        for single in self.singles:
            single.drawn += 1
        for window in self.windows:
            window.drawn += tokens
        return True

    def tightest(self, now_s: float, terms: Terms) -> list[Standing]:
        """How the account of each kind stands that has the least left: what a caller meets first."""
        found: list[Standing] = []
        for kind in self._kinds:
            least, tight = -1, kind[0]
            for one in kind:
                left = one.left(now_s, terms)
                if least < 0 or left < least:
                    least, tight = left, one
                elif left == least:
                    tight = _later(tight, one, now_s, terms)
            found.append(tight.standing(now_s, terms))
        return found

    def _has_room(self, tokens: int, now_s: float) -> bool:
        for pace in self.paces:
            if now_s < pace.opens_s:
                return False
        for single in self.singles:
            if single.drawn >= single.limit or now_s >= single.until_s:
                return False
        if tokens:
            for window in self.windows:
                if window.drawn + tokens > window.limit or now_s >= window.until_s:
                    return False
        return True


def _later(one: Account, other: Account, now_s: float, terms: Terms) -> Account:
    """Of two with as much left the one that is whole again later."""
    return other if other.standing(now_s, terms).reset_s > one.standing(now_s, terms).reset_s else one


def _of(both: Sequence[tuple[LimitRule, Account]]) -> CallAccounts:
    return CallAccounts(tuple([rule for rule, _ in both]), [account for _, account in both])
