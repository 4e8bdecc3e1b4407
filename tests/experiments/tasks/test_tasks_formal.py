"""Tasks on formal languages and signals: what is drawn, what their options do,
and what partial knowledge scores.
"""

import collections
import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from answers import words
from answers_formal import ANSWERS

from experiments.tasks.counting import AnBn, AnBnCn, legal_shares
from experiments.tasks.dyck import Dyck, open_share
from experiments.tasks.flip_flop import FlipFlop
from experiments.tasks.flip_flop_language import FlipFlopLanguage
from experiments.tasks.linear_memory import LinearMemory
from experiments.tasks.lorenz import Lorenz
from experiments.tasks.mackey_glass import MackeyGlass
from experiments.tasks.reverse import Duplicate, Reverse
from experiments.tasks.word_problem import GROUPS, products

N = 4000
QUICK = {"a_n_b_n", "dyck", "duplicate", "flip_flop"}
VARIANTS = {
    "a_n_b_n": AnBn(9, shortest=4),
    "a_n_b_n_c_n": AnBnCn(9, shortest=4),
    "dyck": Dyck(13, shortest=5, kinds=3),
    "reverse": Reverse(7, shortest=3, symbols=5),
    "duplicate": Duplicate(7, shortest=3, symbols=5),
    "flip_flop": FlipFlop(20, pulse=0.5),
    "linear_memory": LinearMemory(3),
    "mackey_glass": MackeyGlass(90, horizon=17),
    "lorenz": Lorenz(8, horizon=3),
}


@functools.cache
def drawn(task, size=N):
    return jax.tree.map(
        np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(11), size)
    )


def strings(batch):
    return ["".join(map(str, word)) for word in words(batch.inputs, batch.mask)]


def even(counts, among):
    """Whether all of them were drawn, each about as often as the others."""
    assert set(counts) == set(among)
    assert np.abs(np.array(list(counts.values())) * len(among) / N - 1).max() < 5 * np.sqrt(
        len(among) / N
    )


@pytest.mark.parametrize(
    "name", slow.some(VARIANTS, QUICK.__contains__, "other options of tasks tested as they are")
)
def test_with_options_the_constant_scores_the_baseline(name):
    task, batch = VARIANTS[name], drawn(VARIANTS[name])
    outputs = jnp.broadcast_to(task.constant, (*batch.targets.shape[:2], task.score.output_size))
    np.testing.assert_allclose(
        float(task.score.loss(outputs, batch)), task.levels.baseline, rtol=0.03
    )


@pytest.mark.parametrize(
    "name", slow.some(VARIANTS, QUICK.__contains__, "other options of tasks tested as they are")
)
def test_with_options_who_knows_the_task_is_right(name):
    task, batch = VARIANTS[name], drawn(VARIANTS[name], 300)
    outputs = jnp.asarray(ANSWERS[name](task, batch.inputs, batch.mask))
    assert float(task.score.metric(outputs, batch)) == 1
    assert float(task.score.loss(outputs, batch)) < task.levels.solved


@pytest.mark.parametrize("task", [AnBn(6), AnBnCn(6)])
def test_counting_draws_every_n_alike(task):
    letters = range(1, task.letters + 1)
    legal = [
        "0" + "".join(str(k) * n for k in letters) + str(task.letters + 1) for n in range(1, 7)
    ]
    even(collections.Counter(strings(drawn(task))), legal)


@pytest.mark.parametrize("task", [AnBn(6, shortest=3), AnBnCn(6, shortest=3)])
def test_counting_is_judged_on_every_string_once(task):
    lengths = np.asarray(task.evaluation().mask).sum(axis=0)
    np.testing.assert_array_equal(lengths, 2 + task.letters * np.arange(3, 7))


@pytest.mark.parametrize("task", [AnBn(6, shortest=3), AnBnCn(6, shortest=3)])
def test_the_shares_of_counting_are_those_of_its_sets(task):
    batch = task.evaluation()
    shares = jnp.mean(batch.targets, axis=0, where=batch.scored[..., None]).mean(axis=0)
    np.testing.assert_allclose(legal_shares(task.letters, 3, 6), shares, rtol=1e-6)


def test_the_sets_of_a_a_b_b():
    batch = AnBn(2, shortest=2).evaluation()
    assert words(np.asarray(batch.inputs)) == [[0, 1, 1, 2, 2, 3]]
    sets = [np.flatnonzero(row).tolist() for row in batch.targets[:, 0]]
    assert sets == [[0], [0, 1], [0, 1], [1], [2], []]
    np.testing.assert_array_equal(batch.scored[:, 0], [1, 1, 1, 1, 1, 0])


@pytest.mark.parametrize("order", [np.arange(10), np.random.default_rng(0).permutation(10)])
def test_counting_counts_up_to_the_first_string_that_is_wrong(order):
    task = AnBn(10)
    whole = task.evaluation()
    batch = type(whole)(*(None if part is None else part[:, order] for part in whole))
    outputs = np.where(batch.targets > 0.5, 50.0, -50.0)
    outputs[-2, order == 6] *= -1  # n = 7, at its last set; the longer ones are right
    assert float(task.score.metric(jnp.asarray(outputs), batch)) == pytest.approx(0.6)
    outputs[-2, order == 0] *= -1
    assert float(task.score.metric(jnp.asarray(outputs), batch)) == 0


def test_a_larger_n_of_counting_keeps_the_smaller_ones():
    assert AnBn(10, shortest=2).at_lag(40) == AnBn(40, shortest=2)


@pytest.mark.parametrize("make", [AnBn, Dyck, Reverse])
def test_a_shortest_above_the_longest_is_refused(make):
    with pytest.raises(ValueError, match="shortest must be from 1 to 6, got 7"):
        make(6, shortest=7)


def test_dyck_without_an_even_length_is_refused():
    with pytest.raises(ValueError, match="shortest must be from 1 to 12, got 13"):
        Dyck(12).at_lag(13)


def walks(pairs):
    """All well-nested strings of one kind as steps of +1 and -1, with their probabilities."""
    for walk in itertools.product([1, -1], repeat=2 * pairs):
        depth = np.cumsum([0, *walk])
        if depth.min() == 0 and depth[-1] == 0:
            free = (depth[:-1] > 0) & (depth[:-1] < 2 * pairs - np.arange(2 * pairs))
            yield walk, 0.5 ** free.sum()


def test_dyck_draws_every_string_as_often_as_its_walk_says():
    counts = collections.Counter(strings(drawn(Dyck(6, shortest=6))))
    assert len(counts) == 5
    for walk, probability in walks(3):
        share = counts["".join("0" if up == 1 else "1" for up in walk)] / N
        assert abs(share - probability) < 4 * np.sqrt(probability / N)


def test_dyck_draws_every_even_length_and_every_kind_alike():
    batch = drawn(Dyck(10, shortest=3, kinds=4))
    even(collections.Counter(batch.mask.sum(axis=0).tolist()), [4, 6, 8, 10])
    first = batch.inputs[batch.mask.argmax(axis=0), np.arange(N)].argmax(axis=-1)
    even(collections.Counter(first.tolist()), range(4))


def test_the_share_of_open_brackets_is_that_of_all_strings():
    shares = [
        sum(p * np.mean(np.cumsum(walk) > 0) for walk, p in walks(pairs)) for pairs in (2, 3, 4, 5)
    ]
    assert sum(p for _, p in walks(5)) == 1
    np.testing.assert_allclose(open_share(2, 5), np.mean(shares), rtol=1e-12)


@pytest.mark.parametrize(
    ("task", "answer"),
    [(Reverse(3, shortest=3), [2, 1, 0]), (Duplicate(3, shortest=3), [0, 1, 2, 0, 1, 2])],
)
def test_a_string_is_given_back_after_the_marker_at_empty_steps(task, answer):
    batch = drawn(task)
    symbols = batch.inputs.argmax(axis=-1)
    assert (
        np.all(symbols[3] == 2)
        and np.all(batch.inputs[:4].sum(axis=-1) == 1)
        and not batch.inputs[4:].any()
    )
    np.testing.assert_array_equal(batch.targets[4:], symbols[answer])
    np.testing.assert_array_equal(batch.scored.all(axis=1), np.arange(4 + len(answer)) > 3)
    even(
        collections.Counter(map(tuple, symbols[:3].T.tolist())),
        list(itertools.product([0, 1], repeat=3)),
    )


@pytest.mark.parametrize("task", [Reverse(5, shortest=2), Duplicate(5, shortest=2)])
def test_strings_to_give_back_have_every_length_alike(task):
    even(
        collections.Counter((drawn(task).scored.sum(axis=0) // task.answers).tolist()), [2, 3, 4, 5]
    )


def test_pulses_come_at_step_0_and_as_often_as_asked():
    pulses = drawn(FlipFlop(30, pulse=0.3)).inputs
    assert set(np.unique(pulses)) == {-1, 0, 1} and np.all(pulses[0] != 0)
    assert abs(np.mean(pulses[1:] != 0) - 0.3) < 0.003 and abs(pulses.mean()) < 0.003


def test_who_repeats_the_pulses_scores_the_partial_level_of_flip_flop():
    task = FlipFlop(10, pulse=0.3)
    batch = drawn(task)
    np.testing.assert_allclose(
        float(task.score.loss(jnp.asarray(batch.inputs), batch)), 0.63, rtol=0.01
    )
    assert task.levels.partial == pytest.approx(0.63)


@pytest.mark.parametrize("pulse", [-0.1, 1.1])
def test_a_pulse_that_is_no_probability_is_refused(pulse):
    with pytest.raises(ValueError, match="pulse must be from 0 to 1"):
        FlipFlop(pulse=pulse)


def test_the_signal_of_linear_memory_is_uniform():
    u = drawn(LinearMemory(4)).inputs
    assert u.shape == (16, N, 1) and -0.5 <= u.min() < -0.499 and 0.499 < u.max() < 0.5
    assert abs(u.mean()) < 0.005 and abs(u.var() - 1 / 12) < 0.001


def test_the_memory_capacity_counts_the_delays_that_are_known():
    task = LinearMemory(4)
    batch = drawn(task)
    outputs = 3 * batch.targets + 1  # a correlation knows neither scale nor place
    outputs[..., 2:] = 7
    assert float(task.score.metric(jnp.asarray(outputs), batch)) == pytest.approx(0.5, abs=1e-5)
    noisy = batch.targets + np.random.default_rng(0).uniform(-0.5, 0.5, batch.targets.shape).astype(
        np.float32
    )
    assert float(task.score.metric(jnp.asarray(noisy), batch)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("task", [MackeyGlass(90), Lorenz(90)])
def test_a_prediction_is_asked_for_the_value_so_many_steps_ahead(task):
    batch = drawn(task)
    np.testing.assert_array_equal(batch.targets[: -task.horizon], batch.inputs[task.horizon :])
    np.testing.assert_array_equal(
        batch.scored.all(axis=1), np.arange(90) >= (20 if isinstance(task, MackeyGlass) else 0)
    )


@pytest.mark.parametrize("task", [MackeyGlass(90), Lorenz(90)])
def test_a_chaotic_series_is_standardised_and_never_the_same(task):
    values = drawn(task).inputs
    assert (
        np.abs(values.mean(axis=(0, 1))).max() < 0.03
        and np.abs(values.var(axis=(0, 1)) - 1).max() < 0.03
    )
    assert len(np.unique(values[0, :, 0])) > 0.99 * N


def test_who_repeats_the_last_value_scores_the_partial_level_of_mackey_glass():
    for horizon in (1, 6):
        task = MackeyGlass(100, horizon)
        batch = drawn(task)
        np.testing.assert_allclose(
            float(task.score.loss(jnp.asarray(batch.inputs), batch)), task.levels.partial, rtol=0.03
        )
    assert task.levels.partial == pytest.approx(0.659, abs=0.005)  # of 2,000 series of 30,000 steps


@pytest.mark.parametrize("make", [MackeyGlass, Lorenz])
def test_a_horizon_below_one_is_refused(make):
    with pytest.raises(ValueError, match="horizon must be from 1 to 500, got 0"):
        dataclasses.replace(make(), horizon=0)


@pytest.mark.parametrize(
    ("group", "order", "derived"),
    [("z60", 60, [1]), ("s3", 6, [3, 1]), ("a4_z5", 60, [4, 1]), ("a5", 60, [60])],
)
def test_the_groups_are_those_of_their_names(group, order, derived):
    """As many elements; and what the commutators generate, and those of these, until nothing
    changes: one element of a commutative group, in the end one of a solvable one."""

    def times(a, b):
        return tuple(a[k] for k in b)

    def closed(some):
        found = {tuple(range(len(GROUPS[group][0])))}
        while True:
            more = {times(a, b) for a in found for b in some} | found
            if more == found:
                return found
            found = more

    def inverse(a):
        return tuple(int(k) for k in np.argsort(a))

    elements = closed([tuple(g.tolist()) for g in GROUPS[group]])
    assert len(elements) == order == len(products(group))
    sizes = []
    while not sizes or sizes[-1] not in (1, 60):
        commutators = {
            times(times(inverse(a), inverse(b)), times(a, b)) for a in elements for b in elements
        }
        elements = closed(commutators)
        sizes.append(len(elements))
    assert sizes == derived


def test_of_the_flip_flop_language_longer_sequences_have_as_many_writes_and_reads():
    task = FlipFlopLanguage(64)
    far = task.at_lag(640)
    assert far.ignored == pytest.approx(0.98)
    acted = [
        float(one.sample(jax.random.key(0), 500).inputs[..., 2::2].sum() / 500)
        for one in (task, far)
    ]
    np.testing.assert_allclose(acted, 2 + 0.2 * 30, rtol=0.12)
