"""Exact tests of few seeds, against all permutations."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from experiments.report.statistics import (
    holm,
    range_covers,
    rank_correlation,
    rank_test,
    share_interval,
)
from experiments.report.verdicts import ahead


def by_permutations(a, b):
    values = np.array([*a, *b])
    ranks = np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])
    sums = [
        abs(ranks[list(some)].sum() - ranks.mean() * len(a))
        for some in itertools.combinations(range(len(values)), len(a))
    ]
    return np.mean(np.array(sums) >= sums[0] - 1e-9)


@pytest.mark.parametrize("sizes", [(3, 3), (5, 5), (2, 6), (4, 5)])
def test_the_p_value_is_the_share_of_permutations_as_far_apart(sizes):
    rng = np.random.default_rng(sum(sizes))
    for _ in range(20):
        a, b = (rng.integers(0, 6, n).astype(float) for n in sizes)  # with many ties
        a[rng.random(len(a)) < 0.2] = np.inf
        assert rank_test(a.tolist(), b.tolist()) == pytest.approx(by_permutations(a, b))


def test_few_seeds_cannot_prove_anything():
    assert rank_test([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)
    assert rank_test([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / math.comb(10, 5))
    assert rank_test([math.inf] * 3, [math.inf] * 3) == 1
    assert rank_test([100.0] * 10, [150.0] * 10) == pytest.approx(2 / math.comb(20, 10))


def test_the_correction_is_that_of_holm():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(("count", "of"), [(0, 5), (1, 5), (5, 5), (7, 10), (40, 40)])
def test_the_interval_of_a_share_ends_where_a_score_test_begins_to_reject(count, of):
    low, high = share_interval(count, of)
    assert 0 <= low <= count / of <= high <= 1
    for p in {low, high} - {0.0, 1.0}:
        assert abs(count / of - p) / math.sqrt(p * (1 - p) / of) == pytest.approx(1.96)


def test_the_range_of_seeds_holds_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for seeds in (3, 5, 10):
        drawn = rng.normal(size=(20_000, seeds))
        holds = (drawn.min(axis=1) < 0) & (drawn.max(axis=1) > 0)
        assert holds.mean() == pytest.approx(range_covers(seeds), abs=0.01)


def test_the_correlation_of_ranks_is_that_of_scipy_with_ties_too():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 6, 30)
    b = a + rng.normal(size=30)
    found, low, high = rank_correlation(a, b)
    np.testing.assert_allclose(found, spearmanr(a, b).statistic, atol=1e-12)
    assert low < found < high < 1
    assert rank_correlation([1, 2, 3], [10, 100, 1000])[0] == pytest.approx(1)
    assert math.isnan(rank_correlation([1, 2, 3], [5, 5, 5])[0])


def test_the_interval_of_a_correlation_holds_the_true_one_as_often_as_it_says():
    rng = np.random.default_rng(2)
    rho = 0.6
    true = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's of two Gaussians
    held = 0
    for _ in range(100):
        a = rng.normal(size=40)
        b = rho * a + np.sqrt(1 - rho**2) * rng.normal(size=40)
        _, low, high = rank_correlation(a, b, draws=300)
        held += low <= true <= high
    assert held >= 86


def row(cell, steps):
    return {"cell": cell, "learning_rate": 0.01, "finished": True, "steps_to_solve": steps,
            "best_params_metric": [1.0] * len(steps)}  # fmt: skip


def test_a_report_says_ahead_only_where_the_seeds_show_it():
    gru, lstm, rnn = ([100, 150, 100, 100, 150], [300, 350, 400, 300, 350], [None] * 5)
    (words,) = ahead([row("gru", gru), row("lstm", lstm), row("rnn", rnn)])
    assert "gru before lstm (p = 0.024)" in words and "lstm before rnn" in words
    (words,) = ahead([row("gru", gru[:3]), row("lstm", lstm[:3])])
    assert words.startswith("These seeds show no cell ahead of another") and "0.1" in words
    assert ahead([row("gru", gru)]) == []
    assert ahead([row("rnn", rnn), row("gru", rnn)]) == []  # no seed has solved it


def test_a_report_says_where_learning_rates_were_chosen_on_the_seeds_that_are_compared():
    rows = [row("gru", [100] * 5), row("gru", [200] * 5), row("lstm", [300] * 5)]
    (words,) = ahead(rows)
    assert "chosen on the same seeds" in words
    (words,) = ahead([rows[0], rows[2]])
    assert "chosen on the same seeds" not in words
