"""Single tasks of recall and of finite automata:
that what is drawn is what the paper describes, and their exact levels.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from answers_recall import ANSWERS, follow, words

from experiments.tasks.associative_recall import AssociativeRecall
from experiments.tasks.cycle_navigation import CycleNavigation
from experiments.tasks.embedded_reber import EmbeddedReber
from experiments.tasks.even_pairs import EvenPairs
from experiments.tasks.first_symbol import FirstSymbol
from experiments.tasks.induction import Induction
from experiments.tasks.latch import Latch
from experiments.tasks.modular_arithmetic import ModularArithmetic
from experiments.tasks.multiplication import Multiplication
from experiments.tasks.selective_copying import SelectiveCopying

KEY = jax.random.key(11)
N = 4000


@functools.cache
def drawn(task):
    return jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(KEY, N))


def within_luck(counts, shares):
    """Whether counts of N draws are those of independent draws with these probabilities."""
    shares = np.asarray(shares)
    return np.all(
        np.abs(np.asarray(counts) / N - shares) < 4.5 * np.sqrt(shares * (1 - shares) / N) + 1e-9
    )


def test_who_knows_one_of_the_two_factors_scores_one_thirty_sixth():
    task = Multiplication(20)
    batch = drawn(task)
    known = (batch.inputs[:10, :, 0] * batch.inputs[:10, :, 1]).sum(axis=0)
    errors = (known / 2 - batch.targets[:, 0]) ** 2
    assert abs(errors.mean() - task.levels.partial) < 4 * errors.std() / np.sqrt(N)


def test_first_symbol_is_b_then_x_or_y_then_even_distractors_then_e():
    task = FirstSymbol(20, distractors=5)
    batch = drawn(task)
    sequences = words(batch.inputs, batch.mask)
    assert batch.inputs.shape == (25, N, 9)
    assert all(word[0] == 7 and word[1] in (5, 6) and word[-1] == 8 for word in sequences)
    assert within_luck(np.bincount([len(word) - 3 for word in sequences])[20:], [1 / 3] * 3)
    between = np.concatenate([word[2:-1] for word in sequences])
    np.testing.assert_allclose(
        np.bincount(between) / len(between), 0.2, atol=4 * np.sqrt(0.16 / len(between))
    )
    assert within_luck(np.bincount(batch.targets), [1 / 2] * 2)


@pytest.mark.parametrize("noisy", [False, True])
def test_latch_tells_the_class_at_the_first_steps_and_is_noise_of_variance_one_fifth_elsewhere(
    noisy,
):
    batch = drawn(Latch(20, informative=3, noisy=noisy))
    sequences = [batch.inputs[batch.mask[:, b], b, 0] for b in range(N)]
    signs = 2.0 * batch.targets - 1
    first, rest = (
        np.array([word[:3] for word in sequences]),
        np.concatenate([word[3:] for word in sequences]),
    )
    assert within_luck(np.bincount([len(word) for word in sequences])[20:], [1 / 3] * 3)
    assert abs(rest.mean()) < 4 * np.sqrt(0.2 / len(rest)) and abs(
        rest.var() - 0.2
    ) < 4 * 0.2 * np.sqrt(2 / len(rest))
    deviations = first - signs[:, None]
    expected = 0.2 if noisy else 0
    assert abs(deviations.var() - expected) <= 4 * expected * np.sqrt(2 / deviations.size)


def test_even_one_noisy_step_tells_enough_to_solve_the_latch():
    task = Latch(20, informative=1, noisy=True)
    batch = drawn(task)
    first = batch.inputs[batch.mask.argmax(axis=0), np.arange(N), 0]
    odds = 10 * first  # the logarithm of them: 2 x / 0.2, by Bayes
    losses = np.log1p(np.exp(np.where(batch.targets == 1, -odds, odds)))
    # the mean over N(1, 0.2), by numerical integration
    assert abs(losses.mean() - 0.0344) < 4 * losses.std() / np.sqrt(N)
    assert 0.0344 < task.levels.solved


GRAMMAR_LAG = 13


@functools.cache
def reber_strings(longest=GRAMMAR_LAG):
    """Every string up to a length, with its probability under the condition
    that it is no longer.
    """
    strings, unfinished = {}, {"B": (None, 1.0)}
    while unfinished:
        word, (place, share) = unfinished.popitem()
        after = {} if len(word) > longest else follow(place)
        if place is not None and place[1] == "done" and len(word) <= longest:
            strings[word] = share
        unfinished |= {
            word + symbol: (there, share / len(after)) for symbol, there in after.items()
        }
    total = sum(strings.values())
    return {word: share / total for word, share in strings.items()}


def prefix_sums():
    """For every beginning of a string: the sum of the weights, in the loss,
    of all strings that begin so.
    """
    sums = dict.fromkeys(
        {word[:t] for word in reber_strings() for t in range(1, len(word) + 1)}, 0.0
    )
    for word, share in reber_strings().items():
        for t in range(1, len(word) + 1):
            sums[word[:t]] += share / (len(word) - 1)
    return sums


def test_reber_strings_come_as_often_as_the_grammar_says():
    task = EmbeddedReber(GRAMMAR_LAG)
    batch = drawn(task)
    strings = [
        "".join("BTPSXVE"[symbol] for symbol in word) for word in words(batch.inputs, batch.mask)
    ]
    expected = reber_strings()
    assert {"BTBTXSETE", "BPBPVVEPE", "BTBTSXXVVETE"} < set(expected) and set(strings) <= set(
        expected
    )
    assert within_luck([strings.count(word) for word in expected], list(expected.values()))


def test_reber_asks_for_the_next_symbol_and_judges_the_outer_one():
    batch = drawn(EmbeddedReber(GRAMMAR_LAG))
    for b, word in enumerate(words(batch.inputs, batch.mask)):
        assert batch.targets[batch.scored[:, b], b].tolist() == word[1:]
        assert batch.targets[batch.judged[:, b], b].tolist() == [word[1]]


def test_the_baseline_of_reber_is_the_entropy_of_the_mean_shares_of_the_symbols():
    shares = np.zeros(7)
    for word, share in reber_strings().items():
        shares += [share * word[1:].count(symbol) / (len(word) - 1) for symbol in "BTPSXVE"]
    task = EmbeddedReber(GRAMMAR_LAG)
    np.testing.assert_allclose(np.exp(task.constant), shares, rtol=1e-5)
    assert task.levels.baseline == pytest.approx(-np.sum(shares * np.log(shares)), rel=1e-12)


def test_the_other_levels_of_reber_are_those_of_one_who_knows_all_strings():
    sums, least, ignorant = prefix_sums(), 0.0, 0.0
    for word, share in reber_strings().items():
        other = word[0] + {"T": "P", "P": "T"}[word[1]]
        outer = len(word) - 2
        surprises = [math.log(sums[word[:t]] / sums[word[: t + 1]]) for t in range(1, len(word))]
        least += share * sum(surprises) / (len(word) - 1)
        # of the same string, but for the outer symbol
        either = sums[word[:outer]] + sums[other + word[2:outer]]
        surprises[outer - 1] = math.log(either / sums[word[: outer + 1]])
        ignorant += share * sum(surprises) / (len(word) - 1)
    levels = EmbeddedReber(GRAMMAR_LAG).levels
    assert levels.partial == pytest.approx(ignorant, rel=1e-12)
    assert levels.solved == pytest.approx(least + (ignorant - least) / 4, rel=1e-12)


def test_who_does_not_know_the_outer_symbol_of_reber_scores_the_partial_level():
    task = EmbeddedReber(GRAMMAR_LAG)
    batch = drawn(task)
    outputs = ANSWERS["embedded_reber"](task, batch.inputs, batch.mask)
    outputs[-3, :, 1:3] = outputs[-3, :, 1:3].max(axis=-1, keepdims=True)
    logs = jax.nn.log_softmax(jnp.asarray(outputs))
    surprises = -np.take_along_axis(np.asarray(logs), batch.targets[..., None], axis=-1)[..., 0]
    losses = np.mean(surprises, axis=0, where=batch.scored)
    assert abs(losses.mean() - task.levels.partial) < 4 * losses.std() / np.sqrt(N)


def test_reber_strings_can_be_longer_than_most():
    lengths = drawn(EmbeddedReber(40, shortest=31)).mask.sum(axis=0)
    assert lengths.min() == 31 and lengths.max() <= 40


def test_selective_copying_draws_all_places_and_symbols_alike():
    task = SelectiveCopying(9, items=3, symbols=4)
    batch = drawn(task)
    symbols = batch.inputs.argmax(axis=-1)
    assert batch.inputs.shape == (12, N, 6) and np.all(symbols[9:] == 5)
    shown = (symbols[:9] > 0) & (symbols[:9] < 5)
    assert np.all(shown.sum(axis=0) == 3)
    places = [tuple(np.flatnonzero(column)) for column in shown.T]
    assert within_luck(
        [places.count(those) for those in itertools.combinations(range(9), 3)], 1 / 84
    )
    triples = [tuple(column) for column in batch.targets[9:].T]
    assert within_luck(
        [triples.count(those) for those in itertools.product(range(4), repeat=3)], 1 / 64
    )


RECALL = AssociativeRecall(24, vocabulary=16, pairs=3)


def test_associative_recall_shows_pairs_then_each_key_once_more_at_even_gaps():
    batch = drawn(RECALL)
    symbols = batch.inputs.argmax(axis=-1)
    keys, values = symbols[:6:2], symbols[1:6:2]
    assert keys.min() == 1 and keys.max() == 7 and values.min() == 8 and values.max() == 15
    for b in range(500):
        assert len(set(keys[:, b])) == len(set(values[:, b])) == 3
        assert sorted(symbols[6:, b]) == sorted([0] * 15 + list(keys[:, b]))
        assert np.array_equal(
            np.flatnonzero(symbols[6:, b]) + 6, np.flatnonzero(batch.scored[:, b])
        )
    assert np.all(symbols[7::2] == 0)


def test_the_gaps_of_associative_recall_follow_the_power_law():
    symbols = drawn(RECALL).inputs.argmax(axis=-1)
    places = [
        tuple((np.flatnonzero(symbols[6:, b] == symbols[key, b])[0]) // 2 for key in (0, 2))
        for b in range(N)
    ]
    law = np.arange(1, 10) ** -0.99 / np.sum(np.arange(1, 10) ** -0.99)
    pairs = list(itertools.permutations(range(9), 2))
    # one after the other, without the first
    shares = [law[i] * law[j] / (1 - law[i]) for i, j in pairs]
    assert within_luck([places.count(pair) for pair in pairs], shares)


def test_who_knows_the_values_of_associative_recall_but_not_whose_they_are_scores_its_partial():
    batch = drawn(RECALL)
    there = batch.inputs[:6, :, 8:].sum(axis=0)
    outputs = jnp.broadcast_to(jnp.asarray(50 * there), (24, N, 8))
    assert (
        float(RECALL.score.loss(outputs, batch))
        == pytest.approx(math.log(3), rel=1e-5)
        == RECALL.levels.partial
    )


def test_induction_has_one_special_symbol_in_the_first_half_and_one_at_the_end():
    batch = drawn(Induction(11, symbols=5))
    symbols = batch.inputs.argmax(axis=-1)
    assert batch.inputs.shape == (11, N, 6) and np.all(symbols[-1] == 5)
    special = symbols[:-1] == 5
    assert np.all(special.sum(axis=0) == 1)
    assert within_luck(special.sum(axis=1), [1 / 5] * 5 + [0] * 5)
    assert within_luck(np.bincount(batch.targets), [1 / 5] * 5)


def test_even_pairs_of_two_bits_is_whether_they_differ():
    batch = drawn(EvenPairs(2))
    bits = batch.inputs.argmax(axis=-1)
    assert np.array_equal(batch.targets, bits[0] ^ bits[1])
    assert within_luck(np.bincount(bits[0] * 2 + bits[1]), [1 / 4] * 4)


@pytest.mark.parametrize(("shortest", "lag"), [(1, 2), (2, 5), (5, 5)])
def test_the_constant_of_cycle_navigation_counts_all_walks(shortest, lag):
    lengths = range(shortest, lag + 1)
    ends = [[sum(walk) % 5 for walk in itertools.product((0, 1, -1), repeat=n)] for n in lengths]
    shares = np.mean([np.bincount(places, minlength=5) / len(places) for places in ends], axis=0)
    task = CycleNavigation(lag, shortest)
    np.testing.assert_allclose(task.shares, shares, rtol=0, atol=1e-12)


def test_the_actions_of_cycle_navigation_are_stay_forth_and_back():
    batch = drawn(CycleNavigation(2, shortest=2))
    table = np.zeros((3, 3), int)
    table[tuple(batch.inputs.argmax(axis=-1))] = batch.targets
    assert table.tolist() == [[0, 1, 4], [1, 2, 0], [4, 0, 3]]


@pytest.mark.parametrize(("shortest", "lag"), [(1, 3), (2, 6), (5, 5)])
def test_the_constant_of_modular_arithmetic_counts_all_expressions(shortest, lag):
    shares = []
    for n in range(shortest, lag + 1):
        if n % 2:
            texts = itertools.product(*["01234" if t % 2 == 0 else "+-*" for t in range(n)])
            values = [eval("".join(text)) % 5 for text in texts]
            shares.append(np.bincount(values, minlength=5) / len(values))
    task = ModularArithmetic(lag, shortest)
    expected = np.mean(shares, axis=0)
    np.testing.assert_allclose(np.exp(task.constant), expected, rtol=1e-5)
    assert task.levels.baseline == pytest.approx(-np.sum(expected * np.log(expected)), rel=1e-12)


def test_expressions_are_digits_with_operators_between_them_and_all_lengths_are_alike():
    batch = drawn(ModularArithmetic(7))
    sequences = words(batch.inputs, batch.mask)
    assert all(
        set(word[:-1:2]) <= set(range(5)) and set(word[1:-1:2]) <= {5, 6, 7} and word[-1] == 8
        for word in sequences
    )
    assert within_luck(np.bincount([len(word) for word in sequences])[2::2], [1 / 4] * 4)
    counts = np.bincount(np.concatenate([word[:-1] for word in sequences]))
    np.testing.assert_allclose(counts[:5] / counts[:5].sum(), 1 / 5, atol=0.02)
    np.testing.assert_allclose(counts[5:] / counts[5:].sum(), 1 / 3, atol=0.02)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (Latch, {"lag": 3}, "informative must be from 1 to 2, got 3"),
        (EmbeddedReber, {"lag": 8}, "lag must be at least 9"),
        (EmbeddedReber, {"lag": 20, "shortest": 8}, "shortest must be from 9 to 20, got 8"),
        (SelectiveCopying, {"lag": 3}, "items must be from 1 to 3, got 4"),
        (AssociativeRecall, {"lag": 15}, "pairs must be from 1 to 3, got 4"),
        (AssociativeRecall, {"vocabulary": 9}, "vocabulary must be from 10 to"),
        (EvenPairs, {"shortest": 1}, "shortest must be from 2 to 20, got 1"),
        (ModularArithmetic, {"lag": 8, "shortest": 8}, "odd number from it up to lag=8, got 8"),
    ],
)
def test_options_that_make_no_task_are_refused(task, options, message):
    with pytest.raises(ValueError, match=message):
        task(**options)
