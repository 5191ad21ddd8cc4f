"""Whether a call of a model starts, waits or is refused. Pure, the clock passed in.

Owns the count of calls in flight, the queue and the estimates of one target. Whoever waits is
told by the owner (`gateway.admission`), which asks here whose turn it is.
"""

from __future__ import annotations

import dataclasses
import random

from gateway.policy.admission.class_usage import ClassUsage
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.admission.fair_class import Place
from gateway.policy.admission.fair_queue import FairQueue
from gateway.policy.admission.service_estimate import ServiceEstimate
from gateway.policy.facts import Priority, RefusalKind, Refuse

RESERVE_SHARE = 16
"""One in so many places is kept for the highest class, in flight and in the queue."""
RESERVED_FOR_S = 60.0
"""How long after its last call places are kept for the highest class."""
CAUTION = 1.25
"""How much longer than estimated a wait is taken to be before a call is let wait."""
ANSWER_SHARE, LONGEST_ANSWER_S = 0.02, 0.05
"""What is kept of the time of a waiting call, so that its refusal arrives before its deadline."""
CUT_OFF_SHARE = 0.05
"""A call that ends in this last part of its time is taken to be ended by its deadline."""
SHORTEST_HINT_S, LONGEST_HINT_S = 0.05, 30.0
HINT_JITTER = 0.2

FULL = "the model's queue is full"
LATE = "the call would wait longer than the model or its own deadline allows"


@dataclasses.dataclass(frozen=True, slots=True)
class Waits:
    """The call waits. displaced: who left the full queue for it."""

    place: Place
    displaced: Place | None = None


class AdmissionControl:
    """Owns who is in flight and who waits for one target.

    size: calls that may wait. max_wait_s: longest wait of any of them. capacity: calls that may be
    in flight; 0 = nobody is there to serve them, and nobody is kept. spare: copies in flight, for
    which callers neither wait nor are refused.
    """

    def __init__(self, size: int, max_wait_s: float, rng: random.Random) -> None:
        self.size = size
        self.max_wait_s = max_wait_s
        self.capacity = 0
        self.in_flight = 0
        self.spare = 0
        self.queue = FairQueue()
        self.estimate = ServiceEstimate()
        self._usage = ClassUsage()
        self._rng = rng
        self._high_in_flight = 0
        self._reserved_until_s = float("-inf")
        self._is_reserved = False
        self._full_until_s = [float("-inf")] * len(Priority)

    def try_start(self, entry: EntryFacts, now_s: float) -> bool:
        """Whether the call is in flight at once, because there is room and nobody goes before it."""
        if entry.priority is Priority.HIGH:
            self._reserved_until_s = now_s + RESERVED_FOR_S
        self._is_reserved = now_s < self._reserved_until_s
        if self.queue.depth and self.queue.has_waiting(entry.priority):
            return False
        if not self._has_room(entry.priority):
            return False
        if entry.deadline_s is not None and entry.deadline_s <= now_s:
            return False
        self._start(entry)
        return True

    def try_spare(self) -> bool:
        """Whether a copy may go in flight: nobody waits, and a place of the lowest class is left."""
        is_left = self.in_flight + self.spare < self.capacity - self._reserve_against(Priority.BULK)
        if self.queue.depth or not is_left:
            return False
        self.spare += 1
        return True

    @property
    def is_over(self) -> bool:
        """Whether copies take places that callers need."""
        return self.spare > 0 and self.in_flight + self.spare > self.capacity

    def wait(self, entry: EntryFacts, now_s: float) -> Waits | Refuse:
        """A place in the queue, if the call can be expected to keep it and to start in time."""
        self._usage.decay(now_s)
        wait_s = self.expected_wait_s(entry)
        latest_start_s = self._latest_start_s(entry, now_s)
        late_s = now_s + wait_s * CAUTION - latest_start_s
        if late_s >= 0:
            return self.refuse_late(entry, late_s)
        if self._would_be_displaced(entry.priority, now_s):
            return self.refuse_full(entry)
        displaced = None
        if self.queue.depth >= self._size_for(entry.priority, now_s):
            displaced = self.queue.displaced_by(entry) if self.size else None
            if displaced is None:
                self._note_full(entry.priority, now_s)
                return self.refuse_full(entry)
            self.queue.remove(displaced)
        place = Place(entry, now_s, latest_start_s)
        self.queue.add(place)
        return Waits(place, displaced)

    def next_in_line(self, now_s: float) -> Place | None:
        """The call whose turn it is, if there is room for it. The owner starts or withdraws it."""
        head = self.queue.head()
        if head is None:
            return None
        self._is_reserved = now_s < self._reserved_until_s
        return head if self._has_room(head.entry.priority) else None

    def start(self, head: Place) -> None:
        """The call whose turn it is goes in flight."""
        self.queue.start(head)
        self._start(head.entry)

    def withdraw(self, place: Place) -> None:
        """A waiting call leaves the queue without having had its turn."""
        self.queue.remove(place)

    def finish(self, entry: EntryFacts, started_s: float, now_s: float) -> None:
        """A call in flight ended, however it ended."""
        self.in_flight -= 1
        if entry.priority is Priority.HIGH:
            self._high_in_flight -= 1
        if self.capacity == 0:
            return
        duration_s = now_s - started_s
        self._usage.observe(entry.priority, started_s, now_s)
        if entry.deadline_s is not None and _is_cut_off(entry.deadline_s, started_s, now_s):
            self.estimate.observe_cut_off(entry.cost, duration_s)
        else:
            self.estimate.observe(entry.cost, duration_s)

    def expected_wait_s(self, entry: EntryFacts) -> float:
        """Seconds until a call that came now would start; 0 if at once or if nothing is known."""
        if self._has_room(entry.priority) and not self.queue.has_waiting(entry.priority):
            return 0.0
        places = max(1, self.capacity - self._reserve_against(entry.priority))
        ahead_s = self.queue.cost_before(entry) * self.estimate.seconds_for_cost
        share = self._usage.share_left(entry.priority, self.capacity)
        return (ahead_s + self.estimate.mean_s / 2) / (places * share)

    def refuse_full(self, entry: EntryFacts) -> Refuse:
        """The refusal of a call for which the queue has no place."""
        return Refuse(RefusalKind.QUEUE_FULL, FULL, self._hint_s(self.expected_wait_s(entry)))

    def refuse_late(self, entry: EntryFacts, late_s: float) -> Refuse:
        """The refusal of a call that would start so many seconds too late."""
        return Refuse(RefusalKind.TOO_LATE, LATE, self._hint_s(late_s))

    def _latest_start_s(self, entry: EntryFacts, now_s: float) -> float:
        longest_s = now_s + self.max_wait_s
        if entry.deadline_s is None:
            return longest_s
        left_s = entry.deadline_s - now_s
        needed_s = min(LONGEST_ANSWER_S, left_s * ANSWER_SHARE)
        if entry.priority is not Priority.HIGH:  # which is tried as long as it has any time
            needed_s = max(needed_s, self.estimate.seconds_of(entry.cost))
        return min(entry.deadline_s - needed_s, longest_s)

    def _has_room(self, priority: Priority) -> bool:
        if self.in_flight >= self.capacity:
            return self.capacity == 0
        reserve = self._reserve_against(priority)
        return not reserve or self.in_flight - self._high_in_flight < self.capacity - reserve

    def _reserve_against(self, priority: Priority) -> int:
        """Places that a class leaves free for the highest; none for models with few."""
        if priority is Priority.HIGH or not self._is_reserved:
            return 0
        return self.capacity // RESERVE_SHARE

    def _size_for(self, priority: Priority, now_s: float) -> int:
        """Places of the queue that a class may fill before it must displace others.

        What is kept for the highest class need not be taken from those who wait already.
        """
        if priority is Priority.HIGH or now_s >= self._reserved_until_s or self.size < 2:
            return self.size
        return self.size - max(1, self.size // RESERVE_SHARE)

    def _note_full(self, priority: Priority, now_s: float) -> None:
        """A class gets more calls than it has places, until those that wait now have had their turn."""
        turn_s = self.queue.depth * self.estimate.mean_s / max(1, self.capacity)
        self._full_until_s[priority] = now_s + turn_s

    def _would_be_displaced(self, priority: Priority, now_s: float) -> bool:
        """Whether a class above had calls refused lately, so that its next one would take the place."""
        return any(now_s < until_s for until_s in self._full_until_s[:priority])

    def _start(self, entry: EntryFacts) -> None:
        self.in_flight += 1
        if entry.priority is Priority.HIGH:
            self._high_in_flight += 1

    def _hint_s(self, estimate_s: float) -> float:
        bounded_s = min(max(estimate_s, SHORTEST_HINT_S), LONGEST_HINT_S)
        return bounded_s * self._rng.uniform(1 - HINT_JITTER, 1 + HINT_JITTER)


def _is_cut_off(deadline_s: float, started_s: float, now_s: float) -> bool:
    """Whether a call ended because its time was over."""
    return now_s >= deadline_s - CUT_OFF_SHARE * (deadline_s - started_s)
