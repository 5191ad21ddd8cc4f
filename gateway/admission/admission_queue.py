"""The calls in flight and in the queue of one target.

Owns their tickets and timers, and hands a free place to whose turn it is. Who that is, and who
is refused, `policy.admission` decides.
"""

from __future__ import annotations

import asyncio
import random

from gateway.admission.metrics import DISPLACED, AdmissionMetrics
from gateway.policy.admission.admission_control import AdmissionControl
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.admission.fair_class import Place
from gateway.policy.facts import Priority, RefusalKind, Refuse
from inference_mesh.config.model_traffic import QueueSpec


class AdmissionQueue:
    """Owns who may work on a target now, and who waits.

    All times are of the event loop's clock. With a capacity of 0 every call passes straight
    through, because whoever asks a model without replicas is told at once.
    """

    def __init__(self, model: str, spec: QueueSpec, metrics: AdmissionMetrics, rng: random.Random) -> None:
        self._model = model
        self._metrics = metrics
        self._control = AdmissionControl(spec.size, spec.max_wait_s, rng)
        self._waiting: dict[Place, Waiting] = {}

    @property
    def depth(self) -> int:
        """Calls that wait."""
        return self._control.queue.depth

    @property
    def in_flight(self) -> int:
        """Calls that have a ticket."""
        return self._control.in_flight

    @property
    def capacity(self) -> int:
        """Calls that may be in flight."""
        return self._control.capacity

    def depth_of(self, priority: Priority) -> int:
        """Calls of a class that wait."""
        return self._control.queue.depth_of(priority)

    def expected_wait_s(self, entry: EntryFacts) -> float:
        """Seconds that a call would wait if it came now, as far as can be told."""
        return self._control.expected_wait_s(entry)

    def try_enter(self, entry: EntryFacts, now_s: float) -> Ticket | Waiting | Refuse:
        """A ticket if the call may start, its place in the queue if it must wait, or a refusal.

        A ticket must be left, and the turn of a waiting call awaited at once.
        """
        control = self._control
        if control.try_start(entry, now_s):
            return Ticket(self, entry, now_s, 0.0)
        outcome = control.wait(entry, now_s)
        if isinstance(outcome, Refuse):
            self._metrics.refused(self._model, entry.priority, outcome.kind.value)
            return outcome
        if outcome.displaced is not None:
            displaced = self._waiting.pop(outcome.displaced)
            self._refuse(displaced, control.refuse_full(displaced.place.entry), DISPLACED)
        waiting = self._waiting[outcome.place] = Waiting(self, outcome.place)
        return waiting

    def try_spare(self) -> bool:
        """Whether a copy of a call may work on the target now; `leave_spare` must follow."""
        return self._control.try_spare()

    def leave_spare(self) -> None:
        """A copy ended."""
        self._control.spare -= 1

    @property
    def is_over(self) -> bool:
        """Whether copies take places that callers need."""
        return self._control.is_over

    def resize(self, capacity: int) -> None:
        """Have so many calls in flight from now on; those that are too many end first."""
        self._control.capacity = capacity
        if self._waiting:
            self.hand_over(asyncio.get_running_loop().time())

    def configure(self, spec: QueueSpec) -> None:
        """Apply another size and longest wait to the calls that come from now on."""
        self._control.size, self._control.max_wait_s = spec.size, spec.max_wait_s

    def hand_over(self, now_s: float) -> None:
        """Give the free places to those whose turn it is."""
        control = self._control
        while (place := control.next_in_line(now_s)) is not None:
            waiting = self._waiting[place]
            if waiting.is_over:
                self.withdraw(waiting)
            elif place.latest_start_s <= now_s:
                self.refuse_late(waiting)
            else:
                del self._waiting[place]
                control.start(place)
                wait_s = now_s - place.arrived_s
                self._metrics.waited(self._model, place.entry.priority, wait_s)
                waiting.end_with(Ticket(self, place.entry, now_s, wait_s))

    def finish(self, entry: EntryFacts, started_s: float, now_s: float) -> None:
        """Take back the place of a ticket that was left."""
        self._control.finish(entry, started_s, now_s)
        if self._waiting:
            self.hand_over(now_s)

    def withdraw(self, waiting: Waiting) -> None:
        """Free the place of a call whose caller left."""
        if self._waiting.pop(waiting.place, None) is not None:
            self._control.withdraw(waiting.place)

    def refuse_late(self, waiting: Waiting) -> None:
        """Refuse a waiting call that would not end in time if it started now."""
        control, entry = self._control, waiting.place.entry
        self.withdraw(waiting)
        late = control.refuse_late(entry, control.expected_wait_s(entry))
        self._refuse(waiting, late, RefusalKind.TOO_LATE.value)

    def _refuse(self, waiting: Waiting, refusal: Refuse, reason: str) -> None:
        self._metrics.refused(self._model, waiting.place.entry.priority, reason)
        waiting.end_with(refusal)


class Ticket:
    """The right to work on a target, until it is left. waited_s: how long the call waited for it."""

    __slots__ = ("_entry", "_queue", "_started_s", "waited_s")

    def __init__(self, queue: AdmissionQueue, entry: EntryFacts, started_s: float, waited_s: float) -> None:
        self._queue: AdmissionQueue | None = queue
        self._entry = entry
        self._started_s = started_s
        self.waited_s = waited_s

    def leave(self, now_s: float) -> None:
        """Give the place to the next; more than once does no harm."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.finish(self._entry, self._started_s, now_s)


class Waiting:
    """A call in the queue, until its turn or its refusal."""

    __slots__ = ("_outcome", "_queue", "_timer", "place")

    def __init__(self, queue: AdmissionQueue, place: Place) -> None:
        loop = asyncio.get_running_loop()
        self.place = place
        self._queue = queue
        self._outcome: asyncio.Future[Ticket | Refuse] = loop.create_future()
        self._timer = loop.call_at(place.latest_start_s, queue.refuse_late, self)

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more: the caller left, or has an outcome."""
        return self._outcome.done()

    async def turn(self) -> Ticket | Refuse:
        """The ticket once it is the call's turn, or its refusal as soon as it would be too late.

        A caller who is cancelled leaves no trace, not even at the moment of the hand-over.
        """
        try:
            return await self._outcome
        except asyncio.CancelledError:
            self.leave()
            raise

    def end_with(self, outcome: Ticket | Refuse) -> None:
        """Tell the caller what became of the call, which is in the queue no more."""
        self._timer.cancel()
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def leave(self) -> None:
        """Wait no more; a place that was just given goes to the next."""
        self._timer.cancel()
        self._queue.withdraw(self)
        if self._outcome.done() and not self._outcome.cancelled():
            outcome = self._outcome.result()
            if isinstance(outcome, Ticket):
                outcome.leave(asyncio.get_running_loop().time())
