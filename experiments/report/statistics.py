"""What few seeds tell: exact tests of whether one cell is ahead of another, corrected for their
number, and intervals of what was counted.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def rank_test(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p-value of the exact permutation test of a sum of ranks (Wilcoxon; Mann and
    Whitney), that the two come from one distribution.

    Args:
        a, b: a value of each seed, such as the updates that it needed, infinite where it did not
            solve its task. Equal values share the mean of their ranks.

    Returns:
        The share of all ways to deal the values out whose sum of ranks lies as far from its mean
        as this one: with three against three never below 0.1, with five against five 0.008.
    """
    values = sorted([*a, *b])
    # twice the mean rank of each value, so that ties give integers
    doubled = {value: 2 * values.index(value) + values.count(value) + 1 for value in set(values)}
    ways = _ways([doubled[value] for value in values], len(a))
    middle = len(a) * (len(values) + 1)  # of the sum of doubled ranks
    found = abs(sum(doubled[value] for value in a) - middle)
    extreme = sum(count for total, count in ways.items() if abs(total - middle) >= found)
    return extreme / math.comb(len(values), len(a))


def _ways(ranks: list[int], chosen: int) -> dict[int, int]:
    """In how many ways `chosen` of the ranks have each sum."""
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in range(chosen))]
    for rank in ranks:
        for size in range(chosen, 0, -1):
            for total, count in ways[size - 1].items():
                ways[size][total + rank] = ways[size].get(total + rank, 0) + count
    return ways[chosen]


def rank_correlation(
    a: Sequence[float], b: Sequence[float], draws: int = 2000
) -> tuple[float, float, float]:
    """Spearman's correlation of ranks, and the interval that holds it with 95 % (the bootstrap of
    the pairs, percentiles of so many draws).

    Args:
        a, b: pairs, three or more. Equal values share the mean of their ranks.
        draws: of pairs with replacement; those in which all values of one are equal do not count.

    Returns:
        The correlation, and the ends of its interval; NaN where all values of one are equal.
    """
    pairs = np.stack([np.asarray(a, float), np.asarray(b, float)], axis=1)
    if math.isnan(_spearman(pairs)):
        return math.nan, math.nan, math.nan
    rng = np.random.default_rng(0)
    drawn = [_spearman(pairs[rng.integers(len(pairs), size=len(pairs))]) for _ in range(draws)]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return _spearman(pairs), float(low), float(high)


def _spearman(pairs: np.ndarray) -> float:
    """NaN where all values of one are equal."""
    ranks = [
        (column[:, None] > column).sum(axis=1) + (column[:, None] == column).sum(axis=1) / 2
        for column in pairs.T
    ]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])


def share_interval(count: int, of: int) -> tuple[float, float]:
    """The interval that holds a probability with 95 %, of how often something came (Wilson 1927).

    Args:
        count: how many seeds did.
        of: how many seeds, 1 or more.
    """
    z = 1.96
    share = count / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    low = (middle - half) / (1 + z * z / of)
    high = (middle + half) / (1 + z * z / of)
    return max(low, 0.0), min(high, 1.0)


def range_covers(seeds: int) -> float:
    """With what probability the range of so many seeds holds the median of all seeds."""
    return 1 - 0.5 ** (seeds - 1)


def holm(values: Mapping[Any, float]) -> dict[Any, float]:
    """p-values corrected for their number (Holm 1979): of all that lie below a level, the chance
    that one is wrong lies below it too.
    """
    corrected = {}
    largest = 0.0
    for k, name in enumerate(sorted(values, key=lambda name: values[name])):
        largest = max(largest, min(1.0, (len(values) - k) * values[name]))
        corrected[name] = largest
    return corrected
