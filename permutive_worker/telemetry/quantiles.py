"""Estimates of quantiles from the buckets of a histogram."""

from collections.abc import Sequence


def quantile(bounds: Sequence[float], buckets: Sequence[int], share: float) -> float | None:
    """Return the value below which `share` (0 to 1) of the observations lie, None of no observations.

    Within a bucket they are taken to be spread evenly, as `histogram_quantile` of Prometheus does; beyond the
    last bound nothing is known but that bound.

    Args:
        bounds: upper bounds, rising.
        buckets: how many observations each has, and one more for what is beyond.
        share: 0.5 is the median.
    """
    rank = share * sum(buckets)
    below, lower = 0, 0.0
    for bound, inside in zip(bounds, buckets, strict=False):
        if inside and below + inside >= rank:
            return lower + (bound - lower) * max(0.0, rank - below) / inside
        below, lower = below + inside, bound
    return bounds[-1] if below < sum(buckets) else None
