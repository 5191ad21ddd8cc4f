"""A grant: what the limits gave one call, and the way back of what it does not use.

Owns the settling of one call. The accounts that it gives back to are the limiter's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.policy.facts import Cost, Standing
from gateway.policy.limits.call_slots import CallSlots
from gateway.policy.limits.decision import Account
from gateway.policy.limits.lease import GONE, Terms
from gateway.policy.limits.token_window import TokenWindow

Released = Callable[[CallSlots | TokenWindow], None]
"""Told of each account that got something back."""


class Grant:
    """Owns one call's reservations until it is settled; every grant must be.

    completion_tokens: tokens of answer that the call may have. is_clamped: whether that is
    less than it asked for. is_degraded: whether the shared ledger could not be asked.
    """

    __slots__ = (
        "_accounts",
        "_generations",
        "_now_s",
        "_on_release",
        "_reserved",
        "_standings",
        "_terms",
        "completion_tokens",
        "is_clamped",
        "is_degraded",
        "is_settled",
    )

    def __init__(
        self,
        accounts: Sequence[Account],
        cost: Cost,
        completion_tokens: int,
        now_s: float,
        terms: Terms,
        on_release: Released | None,
    ) -> None:
        """After the accounts were taken from. on_release: told of what comes back; None = nobody."""
        self._accounts = accounts
        self._generations = [one.generation for one in accounts if isinstance(one, TokenWindow)]
        self._reserved = cost.prompt_tokens + completion_tokens
        self._now_s = now_s
        self._terms = terms
        self._on_release = on_release
        self._standings: tuple[Standing, ...] | None = None
        self.completion_tokens = completion_tokens
        self.is_clamped = completion_tokens < cost.completion_tokens
        self.is_degraded = bool(accounts) and terms.source is GONE
        self.is_settled = False

    @property
    def token_total(self) -> int | None:
        """Tokens of prompt and answer that are reserved; None if no budget applies."""
        return self._reserved if self._generations else None

    @property
    def standings(self) -> tuple[Standing, ...]:
        """How the limits of the call stood when they were first asked for."""
        if self._standings is None:
            self._standings = tuple(one.standing(self._now_s, self._terms) for one in self._accounts)
        return self._standings

    def prompt_is(self, prompt_tokens: int, now_s: float) -> None:
        """Give back what was reserved for the prompt beyond its exact length.

        A clamped grant keeps it: its worker was told the total, and may answer with all of it.
        """
        if not self.is_settled and not self.is_clamped:
            self._keep(min(prompt_tokens + self.completion_tokens, self._reserved), now_s)

    def settle(self, used_tokens: int, now_s: float) -> None:
        """Give back everything but the tokens that were used; does nothing when called again."""
        if self.is_settled:
            return
        self.is_settled = True
        beyond = used_tokens - self._reserved
        self._keep(min(max(used_tokens, 0), self._reserved), now_s)
        generations = iter(self._generations)
        for account in self._accounts:
            if isinstance(account, CallSlots):
                account.release()
                self._released(account)
            elif isinstance(account, TokenWindow):
                generation = next(generations)
                if beyond > 0:
                    account.charge(generation, beyond, self._terms.source)

    def _keep(self, tokens: int, now_s: float) -> None:
        spare, self._reserved = self._reserved - tokens, tokens
        if spare <= 0:
            return
        windows = (one for one in self._accounts if isinstance(one, TokenWindow))
        for account, generation in zip(windows, self._generations, strict=True):
            if account.refund(generation, spare, now_s):
                self._released(account)

    def _released(self, account: CallSlots | TokenWindow) -> None:
        if self._on_release is not None:
            self._on_release(account)
