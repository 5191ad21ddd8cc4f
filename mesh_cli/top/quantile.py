"""Quantiles of histograms, as Prometheus estimates them."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping


def histogram_quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The value that this share of the observations does not exceed, in the unit of the bounds.

    share: between 0 and 1, exclusive. buckets: upper bound to how many observations (or how many
    per second) do not exceed it; the last bound is infinite. Within a bucket the observations
    count as evenly spread; what is above the last finite bound counts as that bound. None if there
    is no observation, or no infinite bound.
    Source: Prometheus, promql/quantile.go, bucketQuantile for classic histograms.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return None
    # Sums over several processes need not be scraped at one moment; they count as if they only grew.
    counts = list(itertools.accumulate((buckets[bound] for bound in bounds), max))
    if counts[-1] <= 0:
        return None
    rank = share * counts[-1]
    index = bisect.bisect_left(counts, rank, hi=len(counts) - 1)
    if index == len(bounds) - 1:
        return bounds[-2]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    start, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    return start + (bounds[index] - start) * (rank - below) / (counts[index] - below)
