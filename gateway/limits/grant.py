"""A grant: what the limits gave one call, and the way back of what it does not use.

Owns the settling of one call. The accounts that it gives back to are the limiter's.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.policy.facts import Standing
from gateway.policy.limits.call_accounts import CallAccounts
from gateway.policy.limits.call_slots import CallSlots
from gateway.policy.limits.lease import GONE, Terms
from gateway.policy.limits.token_window import TokenWindow

Released = Callable[[CallSlots | TokenWindow], None]
"""Told of each account that got something back of which the ledger must hear."""


class Grant:
    """Owns one call's reservations until it is settled; every grant must be.

    completion_tokens: tokens of answer that the call may have. is_clamped: whether that is
    less than it asked for.
    """

    __slots__ = (
        "_now_s",
        "_of_call",
        "_on_release",
        "_reserved",
        "_standings",
        "_terms",
        "completion_tokens",
        "is_clamped",
        "is_settled",
    )

    def __init__(
        self,
        of_call: CallAccounts,
        prompt_tokens: int,
        completion_tokens: int,
        now_s: float,
        terms: Terms,
        on_release: Released | None,
    ) -> None:
        """After so much was taken from the accounts at now_s. on_release: None = nobody is told."""
        self._of_call = of_call
        self._reserved = prompt_tokens + completion_tokens
        self._now_s = now_s
        self._terms = terms
        self._on_release = on_release
        self._standings: tuple[Standing, ...] | None = None
        self.completion_tokens = completion_tokens
        self.is_clamped = self.is_settled = False

    @property
    def is_degraded(self) -> bool:
        """Whether the shared ledger could not be asked."""
        return self._terms.source is GONE and bool(self._of_call.accounts)

    @property
    def token_total(self) -> int | None:
        """Tokens of prompt and answer that are reserved; None if no budget applies."""
        return self._reserved if self._of_call.windows else None

    @property
    def standings(self) -> tuple[Standing, ...]:
        """How the limits of the call stood when they were first asked for."""
        if self._standings is None:
            now_s, terms = self._now_s, self._terms
            self._standings = tuple([one.standing(now_s, terms) for one in self._of_call.accounts])
        return self._standings

    @property
    def tightest(self) -> list[Standing]:
        """Of each kind of limit the standing with the least left."""
        return self._of_call.tightest(self._now_s, self._terms)

    def prompt_is(self, prompt_tokens: int, now_s: float) -> None:
        """Give back what was reserved for the prompt beyond its exact length.

        A clamped grant keeps it: its worker was told the total, and may answer with all of it.
        """
        if not self.is_settled and not self.is_clamped:
            kept = min(prompt_tokens + self.completion_tokens, self._reserved)
            if kept < self._reserved:
                self._keep(kept, now_s)

    def settle(self, used_tokens: int, now_s: float) -> None:
        """Give back everything but the tokens that were used; does nothing when called again."""
        if self.is_settled:
            return
        self.is_settled = True
        of_call, reserved = self._of_call, self._reserved
        if used_tokens < reserved:
            self._keep(max(0, used_tokens), now_s)
        elif used_tokens > reserved:
            for window in of_call.windows:
                window.charge(self._now_s, used_tokens - reserved)
        self._release(of_call)

    def leave_model(self, now_s: float) -> frozenset[str]:
        """Give back all of the limits that are the model's, whose call goes to another; their names.

        Requests that were counted stay counted.
        """
        callers, models = self._of_call.by_owner()
        self._give_back(models, self._reserved, now_s)
        self._release(models)
        self._of_call, self._standings = callers, None
        return frozenset(rule.name for rule in models.rules)

    def _keep(self, tokens: int, now_s: float) -> None:
        """Give back all but so many tokens, of which there are more."""
        spare, self._reserved = self._reserved - tokens, tokens
        self._give_back(self._of_call, spare, now_s)

    def _release(self, of_call: CallAccounts) -> None:
        on_release = self._on_release
        for slots in of_call.slots:
            slots.limit += 1
            if on_release is not None and (slots.is_tight or not slots.is_renewed):
                on_release(slots)

    def _give_back(self, of_call: CallAccounts, spare: int, now_s: float) -> None:
        granted_s, on_release = self._now_s, self._on_release
        for window in of_call.windows:
            if window.began_s <= granted_s and now_s < window.until_s:
                window.limit += spare
                if on_release is not None and (window.is_tight or not window.is_renewed):
                    on_release(window)
