"""The figures of a load, from the outcomes of its calls. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mesh_cli.load.outcome import Outcome

PERCENTILES = (50, 90, 99)


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """How a duration is spread over calls, in seconds; by percentile, and the longest."""

    percentiles: Mapping[int, float]
    longest: float


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What came of a load.

    errors: calls by the name of their failure. rates are per second over the whole time, of calls
    that were answered. first_token and per_token: None unless the answers were streamed.
    """

    calls: int
    answered: int
    errors: Mapping[str, int]
    seconds: float
    calls_per_s: float
    prompt_tokens_per_s: float
    completion_tokens_per_s: float
    latency: Spread | None
    first_token: Spread | None
    per_token: Spread | None


def figures_of(outcomes: Sequence[Outcome]) -> Figures:
    """The figures of these calls; of none, zeros."""
    good = [outcome for outcome in outcomes if not outcome.error]
    seconds = max((one.ended_s for one in outcomes), default=0.0) - min(
        (one.due_s for one in outcomes), default=0.0
    )
    per_second = 1 / seconds if seconds > 0 else 0.0
    return Figures(
        calls=len(outcomes),
        answered=len(good),
        errors=dict(Counter(outcome.error for outcome in outcomes if outcome.error)),
        seconds=seconds,
        calls_per_s=len(good) * per_second,
        prompt_tokens_per_s=sum(one.answered.prompt_tokens for one in good) * per_second,
        completion_tokens_per_s=sum(one.answered.completion_tokens for one in good) * per_second,
        latency=spread_of(one.latency_s for one in good),
        first_token=spread_of(one.first_token_s for one in good),
        per_token=spread_of(one.per_token_s for one in good),
    )


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """The spread of the values that are there; None if there are none.

    A percentile is the smallest value that so many per cent of all do not exceed (nearest rank).
    """
    found = sorted(value for value in values if value is not None)
    if not found:
        return None
    at = {percent: found[-(-len(found) * percent // 100) - 1] for percent in PERCENTILES}
    return Spread(at, found[-1])
