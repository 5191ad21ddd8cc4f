"""A model, its callers and its queue as discrete events: minutes of load in a moment."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import random
from collections.abc import Callable, Sequence

from gateway.policy.admission.admission_control import AdmissionControl
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.admission.fair_class import Place
from gateway.policy.facts import Priority, Refuse


@dataclasses.dataclass(frozen=True)
class Source:
    """Calls that come at random moments. time_s: from the arrival to the deadline; None = none."""

    rate: float
    tenant: str = "acme"
    weight: float = 1.0
    priority: Priority = Priority.NORMAL
    time_s: float | None = None
    costs: tuple[int, ...] = (100,)


@dataclasses.dataclass
class Outcome:
    """What became of the calls of one source. late: started, but not done in time."""

    arrived: int = 0
    done: int = 0
    done_tokens: int = 0
    late: int = 0
    refused_at_once: int = 0
    refused_after_s: list[float] = dataclasses.field(default_factory=list)
    waits_s: list[float] = dataclasses.field(default_factory=list)

    @property
    def refused(self) -> int:
        return self.refused_at_once + len(self.refused_after_s)


class Simulation:
    """One target that works on `capacity` calls at once, each for as long as `seconds_of` draws."""

    def __init__(
        self, capacity: int, size: int, seconds_of: Callable[[int, random.Random], float], *, seed: int = 1
    ) -> None:
        self.now_s = 0.0
        self._rng = random.Random(seed)
        self._seconds_of = seconds_of
        self.control = AdmissionControl(size, 1e9, self._rng)
        self.control.capacity = capacity
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._waiting: dict[Place, Outcome] = {}

    def run(self, sources: Sequence[Source], seconds: float) -> list[Outcome]:
        """What became of the calls of so many seconds."""
        outcomes = [Outcome() for _ in sources]
        for source, outcome in zip(sources, outcomes, strict=True):
            arrive = functools.partial(self._arrive, source, outcome)
            self._later(self._rng.expovariate(source.rate), arrive)
        while self._events and self._events[0][0] < seconds:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
        return outcomes

    def _later(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._numbers), event))

    def _arrive(self, source: Source, outcome: Outcome) -> None:
        self._later(self._rng.expovariate(source.rate), lambda: self._arrive(source, outcome))
        deadline_s = None if source.time_s is None else self.now_s + source.time_s
        cost = self._rng.choice(source.costs)
        entry = EntryFacts(source.tenant, source.weight, source.priority, cost, deadline_s)
        outcome.arrived += 1
        if self.control.try_start(entry, self.now_s):
            self._work(entry, outcome, 0.0)
            return
        verdict = self.control.wait(entry, self.now_s)
        if isinstance(verdict, Refuse):
            outcome.refused_at_once += 1
            return
        if verdict.displaced is not None:
            self._refuse(verdict.displaced)
        place = verdict.place
        self._waiting[place] = outcome
        self._later(place.latest_start_s - self.now_s, lambda: self._expire(place))

    def _work(self, entry: EntryFacts, outcome: Outcome, wait_s: float) -> None:
        """A call is cut off at its deadline, as gRPC does."""
        assert entry.deadline_s is None or self.now_s < entry.deadline_s
        outcome.waits_s.append(wait_s)
        started_s, seconds = self.now_s, self._seconds_of(entry.cost, self._rng)
        left_s = seconds if entry.deadline_s is None else entry.deadline_s - self.now_s

        def end() -> None:
            self.control.finish(entry, started_s, self.now_s)
            if seconds <= left_s:
                outcome.done += 1
                outcome.done_tokens += entry.cost
            else:
                outcome.late += 1
            self._hand_over()

        self._later(min(seconds, left_s), end)

    def _hand_over(self) -> None:
        while (place := self.control.next_in_line(self.now_s)) is not None:
            if place.latest_start_s <= self.now_s:
                self.control.withdraw(place)
                self._refuse(place)
            else:
                self.control.start(place)
                self._work(place.entry, self._waiting.pop(place), self.now_s - place.arrived_s)

    def _expire(self, place: Place) -> None:
        if place in self._waiting:
            self.control.withdraw(place)
            self._refuse(place)

    def _refuse(self, place: Place) -> None:
        self._waiting.pop(place).refused_after_s.append(self.now_s - place.arrived_s)
