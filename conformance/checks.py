"""A suite of checks: what is claimed of a protocol's servers, and the function that examines each claim."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from conformance.subject import Subject

S = TypeVar("S")
"""What the checks of a suite talk to: a connected server of that protocol."""


class BreachError(Exception):
    """The server does not keep the claim; the message says what was seen instead."""


class NotApplicableError(Exception):
    """The claim cannot be examined on this server; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check(Generic[S]):
    """One claim and how it is examined. name: unique within its suite."""

    name: str
    claim: str
    examine: Callable[[S], Awaitable[None]]


class Suite(Generic[S]):
    """Owns the checks of one protocol, in the order in which they are run.

    connect: opens a server of it. Raises UnavailableError if nothing answers. is_spoken: whether
    what answers there speaks the protocol at all.
    """

    def __init__(
        self,
        name: str,
        title: str,
        connect: Callable[[Subject], AbstractAsyncContextManager[S]],
        is_spoken: Callable[[S], Awaitable[bool]],
    ) -> None:
        self.name = name
        self.title = title
        self.connect = connect
        self.is_spoken = is_spoken
        self.checks: list[Check[S]] = []

    def check(self, examine: Callable[[S], Awaitable[None]]) -> Callable[[S], Awaitable[None]]:
        """Take a function in as a check: its name with hyphens, its docstring as the claim."""
        claim = " ".join((inspect.getdoc(examine) or "").split())
        if not claim:
            raise ValueError(f"{examine.__name__}: a check needs a docstring, which is its claim")
        name = examine.__name__.replace("_", "-")
        if any(one.name == name for one in self.checks):
            raise ValueError(f"{self.name}: there are two checks of the name {name}")
        self.checks.append(Check(name, claim, examine))
        return examine


def expect(holds: object, otherwise: str) -> None:
    """Raises BreachError with what was seen unless the first holds."""
    if not holds:
        raise BreachError(otherwise)


def expect_same(found: object, wanted: object, what: str) -> None:
    """Raises BreachError unless both are equal. what: e.g. "model_name"."""
    if found != wanted:
        raise BreachError(f"{what} is {shown(found)}; {shown(wanted)} was expected")


def shown(value: object, longest: int = 120) -> str:
    """A value as text for a report, cut where it is long."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
