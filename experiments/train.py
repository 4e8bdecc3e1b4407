"""Training: pure, with all seeds of a cell in one program.

With several CPU devices the seeds are trained one after another, each with its batches split over the devices; with one device,
side by side by vmap, as a GPU needs. Measured on two cores (H = 32, T = 200, batch 64, 3 seeds; jax 0.10.2 and 0.12), in times
the speed of vmapped seeds on one device:

    for                                      LSTM         GRU          RNN
    one after another, batches split         1.9, 2.2     1.6, 2.1     1.2, 1.6
    seeds over the devices                   1.6, 2.1     1.6, 1.6     1.5, 1.8
    vmapped, batches split                   1.6, -       1.5, -       1.4, -
    one after another on one device          1.0, 1.4     1.1, 1.2     1.0, 1.2
"""

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

import jaxrnn
from experiments.cells import CELLS
from experiments.config import CHUNK, Config
from experiments.model import Model, ModelParams
from experiments.tasks import TASKS, Batch, Task

LEAST_SHARE = 16  # sequences
EVALUATION = 1024  # sequences of the fixed evaluation batch


@dataclasses.dataclass(frozen=True)
class Job:
    """What a training step is compiled for."""

    task: Task
    model: Model
    batch_size: int
    clip: float
    devices: int = 1  # over how many each batch is split

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
    state: State  # every leaf [seeds, ...], a NumPy array


def make_job(config: Config, name: str) -> Job:
    """The job of the cell `name`."""
    task = TASKS[config.task](config.lag)
    model = Model(CELLS[name].make(config.hidden_size, config.lag), task.output_size)
    return Job(task, model, config.batch_size, config.clip, devices(config.batch_size))


def devices(batch_size: int) -> int:
    """As many of the CPU devices as divide the batch into shares of at least 16; 1 on a GPU, which no such batch fills."""
    there = len(jax.local_devices()) if jax.default_backend() == "cpu" else 1
    return max(n for n in range(1, there + 1) if n == 1 or (batch_size % n == 0 and batch_size // n >= LEAST_SHARE))


def train(config: Config, name: str, learning_rate: float) -> Iterator[Progress]:
    """Trains one cell at one learning rate, and yields after every 50 updates of all seeds.

    Seed s draws everything from `jax.random.key(s)`, and the batch of an update from the key folded with its number: the same
    configuration gives the same numbers on the same number of devices. Another number of devices adds up the same terms in
    another order, which changes the last digits, and over many updates those before them.

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
        state = jax.device_get(state)  # off the devices: every call, and whoever reads, finds it as at first, and compiles once
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

    def loss(params: ModelParams, *batch: Any) -> Array:
        return job.task.loss(job.model(params, Batch(*batch)), Batch(*batch).targets)

    inputs, targets, mask = 1, 0, 1  # their batch axes
    split = jaxrnn.split_batch(loss, (None, inputs, targets, mask), jax.local_devices()[: job.devices])

    def one_seed(state: State, key: Array) -> tuple[State, Array]:
        data = jax.random.split(key)[1]

        def update(state: State, step: Array) -> tuple[State, Array]:
            batch = job.task.sample(jax.random.fold_in(data, step), job.batch_size)
            value, grads = jax.value_and_grad(split)(state.params, *batch)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to its int32 count, which "strict" refuses
                changes, moments = optimizer(job, learning_rate).update(grads, state.optimizer)
            params: Any = optax.apply_updates(state.params, changes)
            return State(params, moments), value

        state, losses = jax.lax.scan(update, state, first + jnp.arange(CHUNK))
        return state, jnp.mean(losses)

    over_seeds = jax.vmap(one_seed) if job.devices == 1 else lambda *args: jax.lax.map(lambda a: one_seed(*a), args)
    return over_seeds(state, keys)


def evaluation_batch(task: Task) -> Batch:
    return task.sample(jax.random.key(2**31 - 1), EVALUATION)  # a key that no seed uses


def evaluate_constant(task: Task) -> float:
    """What the best constant scores on the evaluation batch: the baseline, but for the luck of the draw."""
    outputs = jnp.broadcast_to(jnp.array(task.constant), (EVALUATION, *task.spatial_shape, task.output_size))
    return float(task.loss(outputs, evaluation_batch(task).targets))


@functools.partial(jax.jit, static_argnums=0)
def evaluate(job: Job, params: ModelParams) -> tuple[Array, Array]:
    """Loss and metric of every seed, [seeds] each, on the same 1,024 sequences whatever the run."""
    batch = evaluation_batch(job.task)

    def one_seed(params: ModelParams) -> tuple[Array, Array]:
        outputs = job.model(params, batch)
        return job.task.loss(outputs, batch.targets), job.task.metric(outputs, batch.targets)

    return jax.vmap(one_seed)(params)
