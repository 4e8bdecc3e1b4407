"""Single tasks: that what is drawn is what the paper describes.
What holds of every task is in test_catalogue.py.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow

from experiments.tasks import TASKS, Batch
from experiments.tasks.task import held_out_batch

Adding, MovingPattern, TemporalOrder = (
    TASKS[name] for name in ("adding", "moving_pattern", "temporal_order")
)

KEY = jax.random.key(11)
N = 20_000


@pytest.fixture(scope="module")
def adding():
    return jax.tree.map(np.asarray, Adding(lag=20).sample(KEY, N))


@pytest.fixture(scope="module")
def order():
    return jax.tree.map(np.asarray, TemporalOrder(lag=100).sample(KEY, N // 4))


def test_who_knows_one_of_the_two_numbers_scores_one_twelfth(adding):
    first = adding.inputs[:10, :, 0][adding.inputs[:10, :, 1].T.astype(bool).T.nonzero()]
    known = np.where(adding.inputs[:10, :, 1] == 1, adding.inputs[:10, :, 0], 0).sum(axis=0)
    assert len(first) == N
    loss = float(Adding(lag=20).score.loss(jnp.asarray(known[:, None] + 0.5), Batch(*adding)))
    assert abs(loss - Adding().levels.partial) < 0.003


def test_the_best_constant_of_adding_is_near_one_sum_in_thirteen(adding):
    share = float(Adding(lag=20).score.metric(jnp.ones((N, 1)), Batch(*adding)))
    assert abs(share - 0.0784) < 4 * np.sqrt(0.0784 / N)  # P(|u + v - 1| < 0.04) = 1 - 0.96^2


def test_adding_marks_one_step_in_each_half_evenly(adding):
    marks = adding.inputs[..., 1]
    assert set(np.unique(marks)) == {0, 1}
    assert np.all(marks[:10].sum(axis=0) == 1) and np.all(marks[10:].sum(axis=0) == 1)
    np.testing.assert_allclose(marks.mean(axis=1), 0.1, atol=4 * np.sqrt(0.09 / N))


def test_adding_draws_uniform_numbers(adding):
    values = adding.inputs[..., 0]
    assert values.shape == (20, N) and adding.targets.shape == (N, 1)
    assert 0 <= values.min() and values.max() < 1
    assert abs(values.mean() - 0.5) < 0.002 and abs(values.var() - 1 / 12) < 0.001


def test_temporal_order_at_lag_100_is_experiment_6a(order):
    symbols, mask = order.inputs.argmax(axis=-1), order.mask
    start, sequences = mask.argmax(axis=0), range(mask.shape[1])
    assert set(110 - start) == set(range(100, 111))
    # padding, then the sequence
    assert np.all(mask[-1]) and np.all(np.diff(mask.astype(int), axis=0) >= 0)
    assert np.all(order.inputs.sum(axis=-1) == mask)  # one-hot in the sequence, zero in the padding
    assert np.all(symbols[start, sequences] == 7) and np.all(symbols[-1] == 6)
    for b in sequences[:500]:
        t = np.flatnonzero(np.isin(symbols[:, b], [4, 5]) & mask[:, b])
        assert len(t) == 2 and np.sum(symbols[start[b] :, b] >= 4) == 4
        assert 10 <= t[0] - start[b] <= 20 and 50 <= t[1] - start[b] <= 60


@pytest.fixture(scope="module")
def moving():
    return jax.tree.map(np.asarray, MovingPattern(lag=10).sample(KEY, N // 4))


def test_who_knows_the_last_frame_but_not_the_directions_of_moving_pattern_scores_its_partial():
    # all of them
    patterns = np.array(list(itertools.product([0.0, 1.0], repeat=9))).reshape(-1, 3, 3)
    way = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1]
    errors = []
    for x, y in itertools.product(range(10), repeat=2):  # all phases
        # with and against the way to and fro
        ahead = [{(x + 1) % 10, (11 - x) % 10}, {(y + 1) % 10, (11 - y) % 10}]
        frames = np.zeros((len(ahead[0]) * len(ahead[1]), len(patterns), 8, 8))
        for frame, (i, j) in zip(frames, itertools.product(*ahead), strict=True):
            frame[:, way[i] : way[i] + 3, way[j] : way[j] + 3] = patterns
        errors.append(np.mean((frames - frames.mean(axis=0)) ** 2))
    np.testing.assert_allclose(np.mean(errors), MovingPattern().levels.partial, rtol=1e-12)


def test_the_pattern_moves_by_one_pixel_along_both_axes_turns_at_the_edges_and_is_never_cut(moving):
    frames = np.concatenate([moving.inputs, moving.targets[None]])[..., 0]
    assert frames.shape == (11, N // 4, 8, 8) and set(np.unique(frames)) == {0, 1}
    assert np.all(frames.sum(axis=(2, 3)) == frames[0].sum(axis=(1, 2)))
    shifts = [
        np.roll(frames[:-1], way, axis=(2, 3)) for way in itertools.product([1, -1], repeat=2)
    ]
    assert np.all(np.any([np.all(shift == frames[1:], axis=(2, 3)) for shift in shifts], axis=0))
    # no pixel missing, so that the place of the pattern is seen
    full = frames[:, frames[0].sum(axis=(1, 2)) >= 9]
    rows = full.any(axis=3).argmax(axis=2)
    ways = np.diff(rows, axis=0)
    turned = ways[1:] != ways[:-1]
    assert np.all(np.isin(rows[1:-1][turned], [0, 5])) and turned.any()


@pytest.mark.parametrize("lag", [10, 17, 30])
@pytest.mark.parametrize("symbols", [2, 3, 4])
def test_temporal_order_marks_as_many_steps_as_it_says_and_its_classes_are_alike(lag, symbols):
    task = TemporalOrder(lag, symbols)
    batch = jax.jit(task.sample, static_argnums=1)(KEY, 4000)
    marked = np.asarray(batch.inputs[..., 4:6].sum(axis=-1))
    assert np.all(marked.sum(axis=0) == symbols) and np.all(marked[-1] == 0)
    share = np.bincount(np.asarray(batch.targets)) / 4000
    np.testing.assert_allclose(share, 0.5**symbols, atol=4 * np.sqrt(0.5**symbols / 4000))


def test_the_last_frame_is_rarely_the_next_one(moving):
    metric = MovingPattern(lag=10).score.metric(jnp.asarray(moving.inputs[-1]), Batch(*moving))
    assert float(metric) < 0.1


def test_copying_at_lag_100_is_that_of_the_uRNN_paper():
    batch = TASKS["copying"](100).sample(KEY, 64)
    symbols = np.asarray(batch.inputs.argmax(axis=-1))
    assert symbols.shape == (120, 64) and set(np.unique(symbols[:10])) == set(range(1, 9))
    assert np.all(symbols[10:109] == 0) and np.all(symbols[109] == 9) and np.all(symbols[110:] == 0)
    assert np.all(batch.targets[:110] == 0) and np.array_equal(batch.targets[110:], symbols[:10])
    # 10 ln 8 / 120
    assert TASKS["copying"](100).levels.baseline == pytest.approx(0.17329, abs=5e-6)


def test_parity_draws_every_length_alike_and_tests_longer_ones():
    batch = jax.jit(TASKS["parity"](8).sample, static_argnums=1)(KEY, 8000)
    share = np.bincount(np.asarray(batch.mask.sum(axis=0)), minlength=9) / 8000
    assert share[0] == 0 and np.all(np.abs(share[1:] - 1 / 8) < 4 * np.sqrt(1 / 8 / 8000))


def test_options_out_of_bounds_are_refused_with_their_bounds():
    with pytest.raises(ValueError, match="symbols must be from 2 to 4, got 5"):
        TemporalOrder(100, symbols=5)
    with pytest.raises(ValueError, match="shortest must be from 1 to 20, got 21"):
        TASKS["parity"](20, shortest=21)


@pytest.mark.parametrize(
    "name",
    slow.some(
        sorted(set(TASKS) - {"a_n_b_n", "a_n_b_n_c_n"}),
        {"adding", "copying", "parity", "digits"}.__contains__,
        "all tasks draw what is held out by the same function",
    ),
)
def test_sequences_held_out_are_always_the_same_and_none_of_the_evaluation(name):
    try:
        task = TASKS[name]()
        _ = task.levels
    except ImportError as error:
        pytest.skip(str(error))
    first, evaluation = jax.jit(lambda: (task.held_out(), task.evaluation()))()
    again = held_out_batch(task)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    count = min(first.inputs.shape[1], evaluation.inputs.shape[1])
    assert not np.array_equal(first.inputs[:, :count], evaluation.inputs[:, :count])
