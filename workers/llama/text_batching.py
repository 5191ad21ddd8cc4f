"""Which of the waiting texts form the next batch of a llama.cpp model. Pure.

Owns the choice; the queue owns who waits. Texts lie one after another in a batch, so nothing is
padded and lengths need not fit each other. But attention is computed between all tokens of a batch,
so that a long one costs more than two short ones: batches stay small, and a long text goes alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple


@dataclasses.dataclass(frozen=True, slots=True)
class PackLimits:
    """tokens: of a batch; a single longer text is served alone. texts: of a batch."""

    tokens: int
    texts: int


class Place(NamedTuple):
    """Where a text stands: the request's place in the queue, the text's among its pending ones."""

    request: int
    text: int


def next_pack(waiting: Sequence[Sequence[int]], limits: PackLimits) -> list[Place]:
    """The places of the texts to compute next, at least one.

    waiting: the lengths of each request's pending texts in tokens, the request whose turn it is
    first; none empty. Each request gets one text in turn, so that none is crowded out.
    """
    places = [Place(0, 0)]
    tokens = waiting[0][0]
    depth = 0
    requests = list(range(min(len(waiting), limits.texts)))
    while requests and len(places) < limits.texts and tokens < limits.tokens:
        for request in requests:
            place, length = Place(request, depth), waiting[request][depth]
            if place != places[0] and tokens + length <= limits.tokens and len(places) < limits.texts:
                places.append(place)
                tokens += length
        depth += 1
        requests = [request for request in requests if depth < len(waiting[request])]
    return places
