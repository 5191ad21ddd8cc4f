"""The accounts of all limits in this process.

Owns which there are: one for each rule that was used and is not whole again, and those of the
callers and models that called last, which are found by one look. Memory stays near the number
of rules in use, because each new account looks at old ones and forgets the idle.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from gateway.policy.limits.call_accounts import Account, CallAccounts
from gateway.policy.limits.rules import LimitRule

LOOKED_AT = 4
"""Old accounts that are looked at for each new one."""
CALLS_KEPT = 4096
"""Callers of a model whose accounts are kept, idle or not; the oldest goes for a new one."""
SLICE = 128
"""Accounts that are looked at in one turn of the event loop."""

NewAccount = Callable[[LimitRule], Account]


class Accounts:
    """Owns the accounts by their rule's name, and by the rules of a call."""

    def __init__(self, new_account: NewAccount) -> None:
        """new_account: makes one from which nothing was taken."""
        self._new_account = new_account
        self._by_name: OrderedDict[str, Account] = OrderedDict()
        # By the identity of the rules, which live as long as the entry that holds them.
        self._of_calls: OrderedDict[int, CallAccounts] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, rules: Sequence[LimitRule], now_s: float) -> CallAccounts:
        """The accounts of a call's rules, made where there are none."""
        known = self._of_calls.get(id(rules))
        return known if known is not None else self._group(rules, now_s)

    def peek(self, rule: LimitRule) -> Account:
        """The account of a rule, or a new one that is not kept."""
        kept = self._by_name.get(rule.name)
        if kept is None or _differs(kept.rule, rule):
            return self._new_account(rule)
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

        Those of the last callers stay, so that none is dropped between a call's question and
        the answer.
        """
        for _ in range(min(limit, len(self._by_name))):
            name, account = self._by_name.popitem(last=False)
            if account.users or not account.is_idle(now_s):
                self._by_name[name] = account

    def _group(self, rules: Sequence[LimitRule], now_s: float) -> CallAccounts:
        if len(self._of_calls) >= CALLS_KEPT:
            self._release(self._of_calls.popitem(last=False)[1])
        if any(rule.name not in self._by_name for rule in rules):
            self.forget_idle(LOOKED_AT * len(rules), now_s)
        made = self._of_calls[id(rules)] = CallAccounts(rules, [self._current(rule) for rule in rules])
        for account in made.accounts:
            account.users += 1
        return made

    def _release(self, of_call: CallAccounts) -> None:
        for account in of_call.accounts:
            account.users -= 1

    def _current(self, rule: LimitRule) -> Account:
        """The account of a rule, which may be new or read again from a file."""
        account = self._by_name.get(rule.name)
        if account is not None and _differs(account.rule, rule):
            while self._of_calls:  # they would go on with the old account
                self._release(self._of_calls.popitem()[1])
            account = None
        if account is None:
            account = self._by_name[rule.name] = self._new_account(rule)
        elif account.rule is not rule:
            account.adopt(rule)
        return account


def _differs(one: LimitRule, other: LimitRule) -> bool:
    """Whether what was counted by one rule says nothing for the other."""
    return one.kind == "tokens" and one.window_s != other.window_s
