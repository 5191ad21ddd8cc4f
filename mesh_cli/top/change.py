"""What became of a process's counters between two pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from mesh_cli.top.page import COUNTERS, Families, Labels, Page
from mesh_cli.top.targets import Target


@dataclasses.dataclass(frozen=True, slots=True)
class Scrape:
    """What a process answered. at_s: clock of one's own, any zero. problem: why there is no page."""

    target: Target
    at_s: float
    page: Page | None = None
    problem: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """The gauges of a page, and how fast its counters grew since the page before.

    rates: per second; None if there is no page to compare with.
    """

    page: Page
    rates: Families | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a process now. change: None if it could not be read; problem says why."""

    target: Target
    change: Change | None = None
    problem: str = ""


class Meter:
    """Owns the last page of each process."""

    def __init__(self) -> None:
        self._before: dict[str, Scrape] = {}

    def read(self, scrapes: Sequence[Scrape]) -> list[Reading]:
        """What the scrapes say, each compared with the last one of its address that had a page."""
        readings = [self._read(scrape) for scrape in scrapes]
        told = {scrape.target.url for scrape in scrapes}
        kept = {url: scrape for url, scrape in self._before.items() if url in told}
        self._before = kept | {scrape.target.url: scrape for scrape in scrapes if scrape.page is not None}
        return readings

    def _read(self, scrape: Scrape) -> Reading:
        target, page = scrape.target, scrape.page
        before = self._before.get(target.url)
        known = page or (before.page if before is not None else None)
        if known is not None:
            target = dataclasses.replace(target, kind=known.kind, model=known.model or target.model)
        if page is None:
            return Reading(target, problem=scrape.problem)
        if before is None or before.page is None:
            return Reading(target, Change(page))
        return Reading(target, change_between(before.page, page, scrape.at_s - before.at_s))


def change_between(before: Page, after: Page, elapsed_s: float) -> Change:
    """How a process changed in a time of more than 0 s.

    The counters of a process that was started between the pages count from zero; so does a counter
    that fell, and one that is new.
    """
    if elapsed_s <= 0:
        return Change(after)
    if before.started_at_s is not None and after.started_at_s is not None:
        if after.started_at_s > before.started_at_s:
            return Change(after, _rates({}, after.families, elapsed_s), "restarted")
        if after.started_at_s < before.started_at_s:
            # Something in between chooses among several processes: their counters say nothing of each other.
            return Change(after, note="another process answers at this address")
    return Change(after, _rates(before.families, after.families, elapsed_s))


def _rates(before: Families, after: Families, elapsed_s: float) -> Families:
    none: Mapping[Labels, float] = {}
    return {
        name: {
            labels: _increase(before.get(name, none).get(labels, 0.0), value) / elapsed_s
            for labels, value in family.items()
        }
        for name, family in after.items()
        if name in COUNTERS
    }


def _increase(before: float, after: float) -> float:
    return after - before if after >= before else after
