"""Who goes next among the waiting calls of one class: the tenants take turns by weight.

Owns the shares of the tenants. A tenant's own calls keep their order. What a tenant is charged
is what was started, so a call that leaves the queue costs it nothing. Source: Goyal, Vin and
Cheng 1996, Start-time Fair Queuing.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections import OrderedDict

from gateway.policy.admission.entry import EntryFacts

LOOKED_AT = 512
"""Tenants that are compared to find the one with the longest backlog, so that its cost is bounded."""
LATER_CALLS = 1.5
"""Of what waits, how much may at most go before a call, with those of others that come later."""
KEPT_FLOWS = 64
"""Tenants that are remembered, whether something of theirs waits or not."""


@dataclasses.dataclass(slots=True, eq=False)
class Place:
    """One call's place in the queue. latest_start_s: when it is too late to start it."""

    entry: EntryFacts
    arrived_s: float
    latest_start_s: float
    number: int = 0


class _Flow:
    """The waiting calls of one tenant. next_start: virtual time at which its first may start."""

    __slots__ = ("cost", "is_listed", "next_start", "places", "weight")

    def __init__(self, next_start: float) -> None:
        self.places: OrderedDict[int, Place] = OrderedDict()
        self.weight = 0.0
        self.cost = 0
        self.next_start = next_start
        self.is_listed = False

    @property
    def backlog(self) -> float:
        """What waits, relative to the tenant's share."""
        return self.cost / self.weight


class FairClass:
    """Owns the waiting calls of one class. All methods are O(log tenants)."""

    def __init__(self) -> None:
        self.depth = 0
        self.cost = 0
        self._weight = 0.0
        self._virtual_time = 0.0
        self._flows: dict[str, _Flow] = {}
        # Each flow stands here at most once, and never before the virtual time.
        self._order: list[tuple[float, int, _Flow]] = []
        self._numbers = itertools.count()
        self._forget_at = KEPT_FLOWS

    def add(self, place: Place) -> None:
        """Put a call at the end of its tenant's."""
        entry = place.entry
        flow = self._flows.get(entry.tenant)
        if flow is None:
            self._forget_settled()
            flow = self._flows[entry.tenant] = _Flow(self._virtual_time)
        if flow.places:
            self._weight -= flow.weight
        flow.weight = entry.weight
        self._weight += entry.weight
        place.number = next(self._numbers)
        flow.places[place.number] = place
        flow.cost += entry.cost
        self.cost += entry.cost
        self.depth += 1
        self._list(flow)

    def head(self) -> Place | None:
        """The call whose turn is next; None if none waits."""
        while self._order:
            flow = self._order[0][2]
            if flow.places:
                return next(iter(flow.places.values()))
            heapq.heappop(self._order)
            flow.is_listed = False
        return None

    def start(self, head: Place) -> None:
        """Take the head out, and charge its tenant."""
        self._virtual_time, _, flow = heapq.heappop(self._order)
        flow.is_listed = False
        flow.next_start = self._virtual_time + head.entry.cost / head.entry.weight
        self.remove(head)
        if flow.places:
            self._list(flow)

    def remove(self, place: Place) -> None:
        """Take a call out without a charge, whether it was the head or not."""
        flow = self._flows[place.entry.tenant]
        del flow.places[place.number]
        flow.cost -= place.entry.cost
        self.cost -= place.entry.cost
        self.depth -= 1
        if not self.depth:
            self._begin_anew()
        elif not flow.places:
            self._weight -= flow.weight

    def cost_before(self, entry: EntryFacts) -> float:
        """What would be started before a call that came now, in tokens.

        While the tenant's share reaches the call, each other tenant gets as much for its weight,
        if it has as much waiting or still to come.
        """
        flow = self._flows.get(entry.tenant)
        start, weight = self._virtual_time, self._weight
        if flow is not None:
            start = max(start, flow.next_start) + flow.cost / entry.weight
        if flow is None or not flow.places:
            weight += entry.weight
        return min(LATER_CALLS * self.cost, (start - self._virtual_time) * weight)

    def newest_of_longest(self) -> Place | None:
        """The newest call of the tenant that has the most waiting for its share; None if none waits."""
        flow = self._longest()
        return None if flow is None else next(reversed(flow.places.values()))

    def newest_over_share(self, entry: EntryFacts) -> Place | None:
        """Likewise, if that tenant would still have more waiting than a newcomer's; else None."""
        flow, own = self._longest(), self._flows.get(entry.tenant)
        waiting = entry.cost + (own.cost if own is not None else 0)
        if flow is None or flow is own or flow.backlog <= waiting / entry.weight:
            return None
        return next(reversed(flow.places.values()))

    def _longest(self) -> _Flow | None:
        some = (flow for _, _, flow in itertools.islice(self._order, LOOKED_AT) if flow.places)
        return max(some, key=lambda flow: flow.backlog, default=None)

    def _list(self, flow: _Flow) -> None:
        if flow.is_listed:
            return
        flow.is_listed = True
        flow.next_start = max(self._virtual_time, flow.next_start)
        heapq.heappush(self._order, (flow.next_start, next(self._numbers), flow))

    def _begin_anew(self) -> None:
        """Nobody waits, so nobody has had more than their share of the waiting."""
        self._weight = self._virtual_time = 0.0
        self._flows.clear()
        self._order.clear()
        self._forget_at = KEPT_FLOWS

    def _forget_settled(self) -> None:
        """Forget tenants that wait for nothing and had no more than their share, once they are many."""
        if len(self._flows) < self._forget_at:
            return
        now = self._virtual_time
        self._flows = {
            tenant: flow for tenant, flow in self._flows.items() if flow.places or flow.next_start > now
        }
        kept = set(self._flows.values())
        self._order = [listed for listed in self._order if listed[2] in kept]
        heapq.heapify(self._order)
        self._forget_at = 2 * len(self._flows) + KEPT_FLOWS
