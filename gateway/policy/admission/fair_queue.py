"""The bounded queue of a model: classes in strict order, fair shares within a class.

Owns the order and whom a newcomer displaces from a full queue. What is worth waiting for is
`admission_control`'s to decide.
"""

from __future__ import annotations

from gateway.policy.admission.entry import EntryFacts
from gateway.policy.admission.fair_class import FairClass, Place
from gateway.policy.facts import Priority


class FairQueue:
    """Owns the places of all waiting calls of one model."""

    def __init__(self) -> None:
        self.depth = 0
        self._classes = tuple(FairClass() for _ in Priority)

    def depth_of(self, priority: Priority) -> int:
        """Calls of a class that wait."""
        return self._classes[priority].depth

    def has_waiting(self, priority: Priority) -> bool:
        """Whether a call waits that goes before a newcomer of this class."""
        return any(self._classes[one].depth for one in range(priority + 1))

    def cost_before(self, entry: EntryFacts) -> float:
        """What would be started before a call that came now, in tokens."""
        higher = sum(self._classes[one].cost for one in range(entry.priority))
        return higher + self._classes[entry.priority].cost_before(entry)

    def displaced_by(self, entry: EntryFacts) -> Place | None:
        """Who must leave a full queue for a newcomer; None if it is the newcomer itself.

        The newest call of the lowest class below its own; else, in its own class, the newest
        of the tenant that has the most waiting for its share, so that nobody fills the queue
        for the others. Source of the latter: McKenney 1990, Stochastic Fairness Queueing.
        """
        for priority in range(len(self._classes) - 1, entry.priority, -1):
            found = self._classes[priority].newest_of_longest()
            if found is not None:
                return found
        return self._classes[entry.priority].newest_over_share(entry)

    def add(self, place: Place) -> None:
        """Have a call wait."""
        self._classes[place.entry.priority].add(place)
        self.depth += 1

    def head(self) -> Place | None:
        """The call whose turn is next; None if none waits."""
        if self.depth:
            for one in self._classes:
                if one.depth:
                    return one.head()
        return None

    def start(self, head: Place) -> None:
        """Take the head out, and charge its tenant."""
        self._classes[head.entry.priority].start(head)
        self.depth -= 1

    def remove(self, place: Place) -> None:
        """Take a call out without a charge."""
        self._classes[place.entry.priority].remove(place)
        self.depth -= 1
