"""Running suites: one check after another, each within its time, whatever the server does.

Owns the verdicts. A check that the server makes fail in a way that nobody foresaw is a breach
too: its answer had not the form that the protocol gives it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import time
from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import grpc
import httpx

from conformance.checks import BreachError, Check, NotApplicableError, Suite, shown
from conformance.subject import Subject


class Verdict(enum.Enum):
    """What became of a check."""

    HOLDS = "holds"
    BREAKS = "breaks"
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one claim. detail: what was seen, or why it was skipped; empty if it holds."""

    suite: str
    check: str
    claim: str
    verdict: Verdict
    detail: str
    seconds: float


async def examine(
    suites: Sequence[Suite[Any]], subject: Subject, *, chosen: str = "*"
) -> AsyncIterator[Finding]:
    """The finding of every check whose name fits a pattern, as it comes.

    chosen: e.g. "stream-*". Raises UnavailableError if nothing answers at all.
    """
    for suite in suites:
        async with suite.connect(subject) as server:
            for check in suite.checks:
                if fnmatchcase(check.name, chosen):
                    yield await _finding(suite.name, check, server, subject.timeout_s)


async def spoken(suites: Sequence[Suite[Any]], subject: Subject) -> list[Suite[Any]]:
    """Those whose protocol is spoken at the subject. Raises UnavailableError if nothing answers at all."""
    found = []
    for suite in suites:
        async with suite.connect(subject) as server:
            if await suite.is_spoken(server):
                found.append(suite)
    return found


async def _finding(suite: str, check: Check[Any], server: Any, timeout_s: float) -> Finding:
    begun = time.monotonic()
    verdict, detail = await _verdict(check, server, timeout_s)
    return Finding(suite, check.name, check.claim, verdict, detail, time.monotonic() - begun)


async def _verdict(check: Check[Any], server: Any, timeout_s: float) -> tuple[Verdict, str]:
    try:
        async with asyncio.timeout(timeout_s):
            await check.examine(server)
    except NotApplicableError as reason:
        return Verdict.SKIPPED, str(reason)
    except BreachError as seen:
        return Verdict.BREAKS, str(seen)
    except TimeoutError:
        return Verdict.BREAKS, f"no end within {timeout_s:g} s"
    except grpc.aio.AioRpcError as error:
        return Verdict.BREAKS, f"the call ended with {error.code().name}: {error.details()}"
    except httpx.HTTPError as error:
        return Verdict.BREAKS, f"the call broke: {type(error).__name__} {error}".rstrip()
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        # A check reads answers as the protocol writes them; where it stumbles, they are written otherwise.
        return Verdict.BREAKS, f"the answer has another form: {type(error).__name__} {shown(str(error))}"
    return Verdict.HOLDS, ""
