"""The tasks: what is drawn, and that the closed-form baselines are what a constant predictor scores."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.tasks import TASKS, Adding, MovingPattern, TemporalOrder

KEY = jax.random.key(11)
N = 20_000


@pytest.fixture(scope="module")
def adding():
    return jax.tree.map(np.asarray, Adding(lag=20).sample(KEY, N))


@pytest.fixture(scope="module")
def order():
    return jax.tree.map(np.asarray, TemporalOrder(lag=100).sample(KEY, N // 4))


def test_the_best_constant_of_adding_scores_one_sixth(adding):
    task, outputs = Adding(lag=20), jnp.ones((N, 1))
    errors = (adding.targets - 1) ** 2
    assert abs(float(task.loss(outputs, adding.targets)) - 1 / 6) < 4 * errors.std() / np.sqrt(N)
    # P(|u + v - 1| < 0.04) = 1 - 0.96^2 = 0.0784
    assert abs(float(task.metric(outputs, adding.targets)) - 0.0784) < 4 * np.sqrt(0.0784 / N)


def test_who_knows_one_of_the_two_numbers_scores_one_twelfth(adding):
    first = adding.inputs[:10, :, 0][adding.inputs[:10, :, 1].T.astype(bool).T.nonzero()]
    known = np.where(adding.inputs[:10, :, 1] == 1, adding.inputs[:10, :, 0], 0).sum(axis=0)
    assert len(first) == N
    loss = float(Adding(lag=20).loss(jnp.asarray(known[:, None] + 0.5), adding.targets))
    assert abs(loss - Adding.partial) < 0.003


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


def test_the_oracle_of_adding_is_perfect(adding):
    oracle = (adding.inputs[..., 0] * adding.inputs[..., 1]).sum(axis=0)[:, None]
    task = Adding(lag=20)
    assert float(task.loss(oracle, adding.targets)) < 1e-12
    assert float(task.metric(oracle, adding.targets)) == 1


def test_the_best_constant_of_temporal_order_scores_log_four(order):
    task, outputs = TemporalOrder(lag=100), jnp.zeros((len(order.targets), 4))
    np.testing.assert_allclose(float(task.loss(outputs, order.targets)), TemporalOrder.baseline, rtol=1e-6)
    share = np.bincount(order.targets, minlength=4) / len(order.targets)
    np.testing.assert_allclose(share, 0.25, atol=4 * np.sqrt(0.1875 / len(order.targets)))
    assert abs(float(task.metric(outputs, order.targets)) - 0.25) < 0.03


def test_temporal_order_at_lag_100_is_experiment_6a(order):
    symbols, mask = order.inputs.argmax(axis=-1), order.mask
    start, sequences = mask.argmax(axis=0), range(mask.shape[1])
    assert set(110 - start) == set(range(100, 111))
    assert np.all(mask[-1]) and np.all(np.diff(mask.astype(int), axis=0) >= 0)  # padding, then the sequence
    assert np.all(order.inputs.sum(axis=-1) == mask)  # one-hot in the sequence, zero in the padding
    assert np.all(symbols[start, sequences] == 7) and np.all(symbols[-1] == 6)
    for b in sequences[:500]:
        t = np.flatnonzero(np.isin(symbols[:, b], [4, 5]) & mask[:, b])
        assert len(t) == 2 and np.sum(symbols[start[b] :, b] >= 4) == 4
        assert 10 <= t[0] - start[b] <= 20 and 50 <= t[1] - start[b] <= 60


def test_the_oracle_of_temporal_order_is_perfect(order):
    seen = order.inputs[..., 4:6]  # [T, B, 2]: X, Y
    first = np.take_along_axis(seen, seen.any(axis=-1).argmax(axis=0)[None, :, None], axis=0)[0, :, 1]
    second = seen[..., 1].sum(axis=0) - first
    outputs = jax.nn.one_hot((2 * first + second).astype(int), 4) * 100
    task = TemporalOrder(lag=100)
    assert float(task.metric(outputs, order.targets)) == 1
    assert float(task.loss(outputs, order.targets)) < 1e-6


@pytest.mark.parametrize("lag", [10, 17, 30])
@pytest.mark.parametrize("name", TASKS)
def test_every_lag_gives_whole_sequences_that_the_key_decides(name, lag):
    task = TASKS[name](lag)
    batch, again, other = task.sample(KEY, 64), task.sample(KEY, 64), task.sample(jax.random.key(12), 64)
    assert batch.inputs.shape[1:] == (64, *task.spatial_shape, task.input_size) and batch.inputs.dtype == jnp.float32
    assert bool(jnp.all(batch.inputs == again.inputs)) and bool(jnp.all(batch.targets == again.targets))
    assert not bool(jnp.all(batch.inputs == other.inputs))
    if name == "moving_pattern":
        assert batch.inputs.shape[0] == lag and bool(jnp.all(batch.inputs.sum(axis=(2, 3, 4)) <= 9))
    else:
        marked = batch.inputs[..., 1] if name == "adding" else batch.inputs[..., 4:6].sum(axis=-1)
        assert bool(jnp.all(marked.sum(axis=0) == 2))


@pytest.fixture(scope="module")
def moving():
    return jax.tree.map(np.asarray, MovingPattern(lag=10).sample(KEY, N // 4))


def test_the_best_constant_of_moving_pattern_scores_the_variance_of_a_pixel(moving):
    loss = float(MovingPattern(lag=10).loss(jnp.full((1, 8, 8, 1), MovingPattern.constant[0]), moving.targets))
    assert abs(loss - MovingPattern.baseline) < 4 * 1.5 / 64 / np.sqrt(N // 4)  # the number of ones has deviation 1.5


def test_who_knows_the_last_frame_but_not_the_directions_of_moving_pattern_scores_its_partial():
    patterns = np.array(list(itertools.product([0.0, 1.0], repeat=9))).reshape(-1, 3, 3)  # all of them
    way = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1]
    errors = []
    for x, y in itertools.product(range(10), repeat=2):  # all phases
        ahead = [{(x + 1) % 10, (11 - x) % 10}, {(y + 1) % 10, (11 - y) % 10}]  # with and against the way to and fro
        frames = np.zeros((len(ahead[0]) * len(ahead[1]), len(patterns), 8, 8))
        for frame, (i, j) in zip(frames, itertools.product(*ahead), strict=True):
            frame[:, way[i] : way[i] + 3, way[j] : way[j] + 3] = patterns
        errors.append(np.mean((frames - frames.mean(axis=0)) ** 2))
    np.testing.assert_allclose(np.mean(errors), MovingPattern.partial, rtol=1e-12)


def test_the_pattern_moves_by_one_pixel_along_both_axes_turns_at_the_edges_and_is_never_cut(moving):
    frames = np.concatenate([moving.inputs, moving.targets[None]])[..., 0]
    assert frames.shape == (11, N // 4, 8, 8) and set(np.unique(frames)) == {0, 1}
    assert np.all(frames.sum(axis=(2, 3)) == frames[0].sum(axis=(1, 2)))
    shifts = [np.roll(frames[:-1], way, axis=(2, 3)) for way in itertools.product([1, -1], repeat=2)]
    assert np.all(np.any([np.all(shift == frames[1:], axis=(2, 3)) for shift in shifts], axis=0))
    full = frames[:, frames[0].sum(axis=(1, 2)) >= 9]  # no pixel missing, so that the place of the pattern is seen
    rows = full.any(axis=3).argmax(axis=2)
    ways = np.diff(rows, axis=0)
    turned = ways[1:] != ways[:-1]
    assert np.all(np.isin(rows[1:-1][turned], [0, 5])) and turned.any()


def test_the_oracle_of_moving_pattern_is_perfect(moving):
    first = moving.inputs[0]  # the way to and fro takes ten steps
    task = MovingPattern(lag=10)
    assert float(task.loss(first, moving.targets)) == 0 and float(task.metric(first, moving.targets)) == 1
    assert float(task.metric(moving.inputs[-1], moving.targets)) < 0.1
