"""Training: pure, with all seeds of a cell side by side."""

import dataclasses
import functools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.cells import CELLS
from experiments.config import CHUNK, Config
from experiments.model import Model, ModelParams
from experiments.tasks import TASKS, Batch, Task

EVALUATION = 1024  # sequences of the fixed evaluation batch


@dataclasses.dataclass(frozen=True)
class Job:
    """What a training step is compiled for."""

    task: Task
    model: Model
    batch_size: int
    clip: float

    def compiled(self) -> "Job":
        """The same without the initialisation, so that cells that differ in nothing else are compiled once."""
        cell: Any = self.model.cell
        defaults = {f.name: f.default for f in dataclasses.fields(cell) if f.name.endswith(("_init", "_bias"))}
        return dataclasses.replace(self, model=dataclasses.replace(self.model, cell=dataclasses.replace(cell, **defaults)))


class State(NamedTuple):
    params: ModelParams
    optimizer: optax.OptState


class Progress(NamedTuple):
    step: int  # updates made
    losses: np.ndarray  # [seeds], means over the last CHUNK updates
    seconds: float  # that these updates took, with compilation where it came first
    state: State  # every leaf [seeds, ...]


def make_job(config: Config, name: str) -> Job:
    """The job of the cell `name`."""
    task = TASKS[config.task](config.lag)
    model = Model(CELLS[name].make(config.hidden_size, config.lag), task.output_size)
    return Job(task, model, config.batch_size, config.clip)


def train(config: Config, name: str, learning_rate: float) -> Iterator[Progress]:
    """Trains one cell at one learning rate, and yields after every 50 updates of all seeds.

    Seed s draws everything from `jax.random.key(s)`, and the batch of an update from the key folded with its number: the same
    configuration gives the same numbers.

    Args:
        config: the run.
        name: a key of `CELLS`.
        learning_rate: of Adam.

    Yields:
        Until `config.steps` updates are made; whoever reads may stop before.
    """
    job, keys = make_job(config, name), seed_keys(config)
    state = init(job, keys)
    for step in range(0, config.steps, CHUNK):
        start = time.perf_counter()
        state, losses = _updates(job.compiled(), state, keys, jnp.float32(learning_rate), jnp.int32(step))
        yield Progress(step + CHUNK, np.asarray(losses), time.perf_counter() - start, state)


def seed_keys(config: Config) -> Array:
    """One key per seed, [seeds]."""
    return jnp.stack([jax.random.key(config.seed + s) for s in range(config.seeds)])


def optimizer(job: Job, learning_rate: float | Array) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(job.clip), optax.adam(learning_rate))


@functools.partial(jax.jit, static_argnums=0)
def init(job: Job, keys: Array) -> State:
    """The state before the first update, every leaf [seeds, ...]."""

    def one_seed(key: Array) -> State:
        params = job.model.init(jax.random.split(key)[0], job.task.input_size)
        return State(params, optimizer(job, 0.0).init(params))

    return jax.vmap(one_seed)(keys)


@functools.partial(jax.jit, static_argnums=0)
def _updates(job: Job, state: State, keys: Array, learning_rate: Array, first: Array) -> tuple[State, Array]:
    """CHUNK updates of every seed, the first of them number `first`, and the mean loss of each seed."""

    def loss(params: ModelParams, key: Array) -> Array:
        batch = job.task.sample(key, job.batch_size)
        return job.task.loss(job.model(params, batch), batch.targets)

    def one_seed(state: State, key: Array) -> tuple[State, Array]:
        data = jax.random.split(key)[1]

        def update(state: State, step: Array) -> tuple[State, Array]:
            value, grads = jax.value_and_grad(loss)(state.params, jax.random.fold_in(data, step))
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to its int32 count, which "strict" refuses
                changes, moments = optimizer(job, learning_rate).update(grads, state.optimizer)
            params: Any = optax.apply_updates(state.params, changes)
            return State(params, moments), value

        state, losses = jax.lax.scan(update, state, first + jnp.arange(CHUNK))
        return state, jnp.mean(losses)

    return jax.vmap(one_seed)(state, keys)


def evaluation_batch(task: Task) -> Batch:
    return task.sample(jax.random.key(2**31 - 1), EVALUATION)  # a key that no seed uses


def evaluate_constant(task: Task) -> float:
    """What the best constant scores on the evaluation batch: the baseline, but for the luck of the draw."""
    return float(task.loss(jnp.tile(jnp.array(task.constant), (EVALUATION, 1)), evaluation_batch(task).targets))


@functools.partial(jax.jit, static_argnums=0)
def evaluate(job: Job, params: ModelParams) -> tuple[Array, Array]:
    """Loss and metric of every seed, [seeds] each, on the same 1,024 sequences whatever the run."""
    batch = evaluation_batch(job.task)

    def one_seed(params: ModelParams) -> tuple[Array, Array]:
        outputs = job.model(params, batch)
        return job.task.loss(outputs, batch.targets), job.task.metric(outputs, batch.targets)

    return jax.vmap(one_seed)(params)
