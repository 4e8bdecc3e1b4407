"""Ratios of times within rounds, and what they say."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Ratio(NamedTuple):
    median: float
    low: float  # the bootstrap interval of the median, 95 %
    high: float


def ratio(
    theirs: Sequence[float] | np.ndarray, ours: Sequence[float] | np.ndarray, draws: int = 2000
) -> Ratio:
    """The median over the rounds of their time / our time, with its bootstrap interval:
    rounds drawn with replacement.
    """
    values = np.asarray(theirs) / np.asarray(ours)
    chosen = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(np.median(values[chosen], axis=1), [0.025, 0.975])
    return Ratio(float(np.median(values)), float(low), float(high))


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))
