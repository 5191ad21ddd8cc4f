"""The accounts of all limits in this process.

Owns which there are: one for each rule that was used and is not whole again. Memory stays near
the number of rules in use, because each new account looks at old ones and forgets the idle.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from gateway.policy.limits.decision import Account, new_account
from gateway.policy.limits.rules import LimitRule

LOOKED_AT = 4
"""Old accounts that are looked at for each new one."""
ALWAYS_KEPT = 256
"""Accounts that are kept, idle or not."""
SLICE = 128
"""Accounts that are looked at in one turn of the event loop."""


class Accounts:
    """Owns the accounts by their rule's name."""

    def __init__(self, *, phase_s: float) -> None:
        """phase_s: added to the clock before token windows are cut."""
        self._phase_s = phase_s
        self._by_name: OrderedDict[str, Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, rules: Sequence[LimitRule], now_s: float) -> list[Account]:
        """The accounts of a call's rules, made where there are none."""
        by_name, found = self._by_name, []
        for rule in rules:
            account = by_name.get(rule.name)
            if account is None:
                self.forget_idle(LOOKED_AT * len(rules), now_s)
                return [self._current(one) for one in rules]
            found.append(account if account.rule is rule else self._current(rule))
        return found

    def peek(self, rule: LimitRule) -> Account:
        """The account of a rule, or a new one that is not kept."""
        kept = self._by_name.get(rule.name)
        if kept is None or _differs(kept.rule, rule):
            return new_account(rule, self._phase_s)
        return kept

    def get(self, name: str) -> Account | None:
        """The account of a rule's name, if there is one."""
        return self._by_name.get(name)

    def slices(self) -> Iterator[list[Account]]:
        """All that are there now, some at a time; others may come and go meanwhile."""
        names = list(self._by_name)
        for start in range(0, len(names), SLICE):
            found = (self._by_name.get(name) for name in names[start : start + SLICE])
            yield [account for account in found if account is not None]

    def forget_idle(self, limit: int, now_s: float) -> None:
        """Look at so many of the accounts that were not looked at for longest, and drop the idle.

        The last few stay, so that none is dropped between a call's question and the answer.
        """
        for _ in range(min(limit, len(self._by_name) - ALWAYS_KEPT)):
            name, account = self._by_name.popitem(last=False)
            if not account.is_idle(now_s):
                self._by_name[name] = account

    def _current(self, rule: LimitRule) -> Account:
        """The account of a rule, which may be new or read again from a file."""
        account = self._by_name.get(rule.name)
        if account is None or _differs(account.rule, rule):
            account = self._by_name[rule.name] = new_account(rule, self._phase_s)
        account.rule = rule
        return account


def _differs(one: LimitRule, other: LimitRule) -> bool:
    """Whether what was counted by one rule says nothing for the other."""
    return one.kind == "tokens" and one.window_s != other.window_s
