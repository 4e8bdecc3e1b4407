"""What holds of every task: its constants, its answers, its keys,
and that the answer does not stand in the last input.
"""

import dataclasses
import functools

import answers
import answers_formal
import answers_recall
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import needs

from experiments.tasks import TASKS

ANSWERS = answers.ANSWERS | answers_recall.ANSWERS | answers_formal.ANSWERS
# of the tests; otherwise 12
LAGS = {"associative_recall": 16, "modular_arithmetic": 13, "moving_pattern": 10}
LAGS |= {
    "linear_memory": 12,
    "digits": 64,
    "fashion_mnist": 28,
    "japanese_vowels": 29,
    "mnist": 196,
    "mnist_1d": 40,
    "lorenz": 30,
    "mackey_glass": 40,
    "santa_fe": 30,
    "text": 200,
}
# Tasks whose present input tells part of what follows, by their nature.
SEEN = {
    "perceptual_decision",
    "context_decision",
    "moving_pattern",
    "a_n_b_n",
    "a_n_b_n_c_n",
    "dyck",
    "flip_flop",
    "lorenz",
    "mackey_glass",
    "santa_fe",
    "digits",
    "fashion_mnist",
    "japanese_vowels",
    "mnist",
    "mnist_1d",
    "text",
}


def make(name, lag=12):
    needs(name)
    return TASKS[name](LAGS.get(name, lag))


@functools.partial(jax.jit, static_argnums=(0, 1))
def sample(task, size, key):
    return task.sample(jax.random.key(key), size)


@functools.cache
def drawn(task, size, key=11):
    """`size` sequences: the first of 4,000, so that a task is compiled once."""
    batch = sample(task, 4000, key)
    parts = zip(batch, batch.batch_axes, strict=True)
    kept = slice(size)
    return type(batch)(
        *(None if a is None else a[(slice(None),) * axis + (kept,)] for a, axis in parts)
    )


def shape(task, batch):
    """That of the outputs."""
    steps = batch.inputs.shape[1:2] if batch.scored is None else batch.inputs.shape[:2]
    return (*steps, *task.spatial_shape, task.score.output_size)


def each(score, outputs, batch):
    """`score` of every sequence, [B]."""

    def alone(outputs, batch):
        grow = lambda a, axis: None if a is None else jnp.expand_dims(a, axis)  # noqa: E731
        parts = [grow(part, axis) for part, axis in zip(batch, batch.batch_axes, strict=True)]
        return score(jnp.expand_dims(outputs, batch.batch_axes.targets), type(batch)(*parts))

    axes = type(batch)(
        *(
            None if part is None else axis
            for part, axis in zip(batch, batch.batch_axes, strict=True)
        )
    )
    return np.asarray(jax.jit(jax.vmap(alone, in_axes=(axes.targets, axes)))(outputs, batch))


@pytest.mark.parametrize("name", TASKS)
def test_the_constant_scores_the_baseline(name):
    task = make(name)
    batch = drawn(task, 4000)
    losses = each(task.score.loss, jnp.broadcast_to(task.constant, shape(task, batch)), batch)
    assert (
        abs(losses.mean() - task.levels.baseline) < 4 * losses.std() / np.sqrt(len(losses)) + 1e-5
    )


@pytest.mark.parametrize("name", TASKS)
def test_no_other_constant_scores_better(name):
    task = make(name)
    batch = drawn(task, 4000)

    def loss(constant):
        return task.score.loss(jnp.broadcast_to(constant, shape(task, batch)), batch)

    # it is a minimum, but for the luck of the draw
    assert float(jnp.max(jnp.abs(jax.grad(loss)(task.constant)))) < 0.05


@pytest.mark.parametrize("name", TASKS)
def test_who_knows_the_task_is_right_everywhere(name):
    task = make(name)
    batch = drawn(task, 500)
    outputs = ANSWERS[name](
        task, np.asarray(batch.inputs), None if batch.mask is None else np.asarray(batch.mask)
    )
    assert outputs.shape == shape(task, batch)
    assert float(task.score.metric(jnp.asarray(outputs), batch)) == 1
    assert float(task.score.loss(jnp.asarray(outputs), batch)) < task.levels.solved


@pytest.mark.parametrize("name", TASKS)
def test_the_key_decides_what_is_drawn(name):
    task = make(name)
    batch, other = (drawn(task, 500, key) for key in (11, 12))
    again = drawn.__wrapped__(task, 500, 11)
    assert all(
        bool(jnp.all(a == b))
        for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(again), strict=True)
    )
    assert not bool(jnp.all(batch.inputs == other.inputs))


@pytest.mark.parametrize("name", TASKS)
def test_the_last_step_is_never_padding_and_padding_is_zero(name):
    batch = drawn(make(name), 500)
    assert batch.inputs.dtype == jnp.float32 and bool(jnp.isfinite(batch.inputs).all())
    if batch.mask is not None:
        assert bool(batch.mask[-1].all()) and bool(
            jnp.all(jnp.diff(batch.mask.astype(int), axis=0) >= 0)
        )
        assert not bool(jnp.any(jnp.where(batch.mask[..., None], 0, batch.inputs)))
    for steps in (batch.scored, batch.judged):
        if steps is not None:
            assert bool(steps.any(axis=0).all()) and (
                batch.mask is None or bool(jnp.all(batch.mask | ~steps))
            )


@pytest.mark.parametrize("name", sorted(TASKS.keys() - SEEN))
def test_who_sees_only_the_present_input_knows_nothing(name):
    """The best linear guess of the targets from the inputs
    of the same step is no better than the constant.
    """
    task = make(name, 100)
    task = dataclasses.replace(task, shortest=task.lag) if hasattr(task, "shortest") else task
    batch = drawn(task, 4000)
    judged = batch.scored if batch.judged is None else batch.judged
    inputs = np.asarray(batch.inputs[-1] if judged is None else batch.inputs[judged])
    targets = np.asarray(batch.targets if judged is None else batch.targets[judged])
    targets = (
        targets.reshape(len(inputs), -1)
        if targets.dtype.kind == "f"
        else np.eye(task.score.output_size)[targets]
    )
    design = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    fit = design @ np.linalg.lstsq(design, targets, rcond=None)[0]
    explained = 1 - ((targets - fit) ** 2).sum() / ((targets - targets.mean(axis=0)) ** 2).sum()
    assert explained < 3 * design.shape[1] / len(inputs)  # what a fit to noise explains


@pytest.mark.parametrize("name", TASKS)
def test_a_lag_that_is_too_small_is_refused(name):
    with pytest.raises(ValueError, match="lag"):
        dataclasses.replace(make(name), lag=0)


@pytest.mark.parametrize(
    "name",
    [name for name in TASKS if hasattr(TASKS[name], "shortest") and not name.startswith("a_n")],
)
def test_longer_sequences_than_those_of_the_training_are_longer_than_all_of_them(name):
    task = make(name)
    trained, tested = drawn(task, 500), drawn(task.at_lag(20), 500)
    assert int(tested.mask.sum(axis=0).min()) > int(trained.mask.sum(axis=0).max())
