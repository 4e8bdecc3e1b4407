"""Training: pure, with all learning rates and seeds of a cell in one program.

On a CPU with several devices they are trained one after another, each with its batches split over
the devices; elsewhere side by side by vmap, as a GPU needs. Measured on two cores (H = 32, T = 200,
batch 64, 3 seeds; jax 0.10.2 and 0.12), in times the speed of vmapped seeds on one device:

    for                                      LSTM         GRU          RNN
    one after another, batches split         1.9, 2.2     1.6, 2.1     1.2, 1.6
    seeds over the devices                   1.6, 2.1     1.6, 1.6     1.5, 1.8
    vmapped, batches split                   1.6, -       1.5, -       1.4, -
    one after another on one device          1.0, 1.4     1.1, 1.2     1.0, 1.2
"""

import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxrnn
from experiments.cells import CELLS
from experiments.config import CHUNK, Config, UsageError
from experiments.tasks import Batch, Task, evaluation_batch, held_out_batch
from experiments.training.model import Model, ModelParams, units

LEAST_SHARE = 16  # sequences
AT_ONCE = 2**20  # steps of all sequences together that are evaluated at once
NOISE = 2  # folded into the key of a seed, whose halves are of its parameters and its data


@dataclasses.dataclass(frozen=True)
class Job:
    """What a training step is compiled for."""

    task: Task
    model: Model
    batch_size: int
    clip: float
    devices: int = 1  # over how many each batch is split
    decay: int = 0  # after how many updates the learning rate is zero; 0 keeps it

    def compiled(self) -> "Job":
        """The same with the initialisation that its cell has by default, so that cells that differ
        in nothing else are compiled once; itself where that would compute something else.
        """
        plain = dataclasses.replace(self.model, cell=_plain(self.model.cell))
        if plain == self.model or _program(self.task, plain) != _program(self.task, self.model):
            return self
        return dataclasses.replace(self, model=plain)


def _plain(cell: Any) -> Any:
    """The cell with the default of each option that is named like one of initialisation."""
    if isinstance(cell, jaxrnn.Stack):
        return dataclasses.replace(cell, cells=tuple(map(_plain, cell.cells)))
    defaults = {
        f.name: f.default
        for f in dataclasses.fields(cell)
        if f.name.endswith(("_init", "_bias")) and f.default is not dataclasses.MISSING
    }
    return dataclasses.replace(cell, **defaults)


@functools.lru_cache(maxsize=256)
def _program(task: Task, model: Model) -> tuple[Any, str]:
    """What a model computes from its parameters and one sequence of a task: their shapes, and the
    program before it is compiled, with every constant."""
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), task.input_size))
    batch = jax.eval_shape(lambda: task.sample(jax.random.key(0), 1))

    def run(params: ModelParams, batch: Batch) -> Array:
        return model(params, batch)

    shapes = jax.tree.map(lambda a: (a.shape, str(a.dtype)), params)
    return shapes, jax.jit(run).lower(params, batch).as_text()


class State(NamedTuple):
    """Of every pair of a learning rate and a seed, in the order of `rows`:
    every leaf [rows, ...].
    """

    params: ModelParams
    optimizer: optax.OptState
    best: ModelParams  # at the check with the lowest held-out loss so far
    best_loss: Array  # [rows], that loss


class Rows(NamedTuple):
    """What differs between the trainings of one program:
    every pair of a learning rate and a seed, rate by rate.
    """

    keys: Any  # [rows, ...], the data of a random key each
    rates: Any  # [rows]


class Progress(NamedTuple):
    """After CHUNK more updates."""

    state: State  # NumPy arrays
    losses: np.ndarray  # [rows], means over these updates; NaN where a row was not active
    lost: np.ndarray  # [rows], the number of the first update whose loss was not finite, or 0
    seconds: float  # that these updates took, with compilation where it came first
    norms: np.ndarray  # [rows], means over these updates of the gradient's norm before clipping
    held_out: np.ndarray  # [2, rows], loss and metric of the sequences held out, after them


def make_job(config: Config, name: str) -> Job:
    """The job of the cell `name`."""
    task = config.make_task()

    def make(size: int) -> Model:
        cell = CELLS[name].make(size, config.lag)
        return Model(
            jaxrnn.Stack((cell,) * config.layers) if config.layers > 1 else cell,
            task.score.output_size,
        )

    size = (
        units(make, task.input_size, config.parameters) if config.parameters else config.hidden_size
    )
    decay = config.steps if config.schedule == "cosine" else 0
    return Job(task, make(size), config.batch_size, config.clip, devices(config.batch_size), decay)


def devices(batch_size: int) -> int:
    """As many devices as divide the batch into shares of at least 16;
    all of them in a run of several processes.

    Raises:
        UsageError: the devices of several processes do not divide the batch.
    """
    there = jax.device_count()
    if jax.process_count() == 1:
        return max(
            n
            for n in range(1, there + 1)
            if n == 1 or (batch_size % n == 0 and batch_size // n >= LEAST_SHARE)
        )
    if batch_size % there:
        raise UsageError(
            f"batch_size must be a multiple of the {there} devices of all processes, "
            f"got {batch_size}."
        )
    return there


def rows(config: Config) -> Rows:
    """The rows of a run."""
    keys = [
        np.asarray(jax.random.key_data(jax.random.key(config.seed + s)))
        for s in range(config.seeds)
    ]
    rates = np.repeat(np.array(config.learning_rates, np.float32), config.seeds)
    return Rows(np.stack(keys * len(config.learning_rates)), rates)


def optimizer(job: Job, learning_rate: float | Array) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(job.clip), optax.adam(learning_rate))


def rate(job: Job, first: Array, step: Array) -> Array:
    """The learning rate of an update that has so many before it."""
    if not job.decay:
        return first
    return jnp.asarray(optax.cosine_decay_schedule(first, job.decay)(step))


def start(job: Job, rows: Rows) -> State:
    """The state before the first update."""
    return jax.device_get(_init(job, rows.keys))


def like(job: Job, rows: Rows) -> State:
    """Zeros with the shapes of a state."""
    return jax.tree.map(
        lambda a: np.zeros(a.shape, a.dtype),
        jax.eval_shape(functools.partial(_init, job), rows.keys),
    )


def advance(job: Job, state: State, rows: Rows, active: np.ndarray, step: int) -> Progress:
    """Makes CHUNK updates of the rows that are `active` [rows]; `step` have been made before.

    Seed s draws everything from `jax.random.key(s)`, and the batch of an update from the key folded
    with its number: the same configuration gives the same numbers on the same number of devices,
    wherever a run was cut and resumed. Another number of devices adds up the same terms in another
    order, which changes the last digits, and over many updates those before them; and a cell with
    noise draws other numbers there.
    """
    began = time.perf_counter()
    job = job.compiled()
    held_out = jax.device_get(held_out_batch(job.task))
    state, losses, norms, scores = jax.device_get(
        _updates(job, state, rows, active, np.int32(step), held_out)
    )
    bad = ~np.isfinite(losses) & active[:, None]
    lost = np.where(bad.any(axis=1), step + 1 + bad.argmax(axis=1), 0)
    # On the host: every call, and whoever reads, finds the state as at first, and compiles once.
    seconds = time.perf_counter() - began
    return Progress(state, losses.mean(axis=1), lost, seconds, norms.mean(axis=1), np.stack(scores))


@functools.partial(jax.jit, static_argnums=0)
def _init(job: Job, keys: Array) -> State:
    def one_row(key: Array) -> State:
        params = job.model.init(
            jax.random.split(jax.random.wrap_key_data(key))[0], job.task.input_size
        )
        return State(params, optimizer(job, 0.0).init(params), params, jnp.float32(jnp.inf))

    return jax.vmap(one_row)(keys)


@functools.partial(jax.jit, static_argnums=0)
def _updates(
    job: Job, state: State, rows: Rows, active: Array, first: Array, held_out: Batch
) -> tuple[State, Array, Array, tuple[Array, Array]]:
    """CHUNK updates of every active row, the first of them number `first`; their losses and the
    norms of their gradients [rows, CHUNK], and loss and metric of `held_out` after them, [rows].
    """

    def loss(params: ModelParams, batch: Batch, keys: Array) -> Array:
        key = jax.random.wrap_key_data(keys[0])
        return job.task.score.loss(job.model(params, batch, key), batch)

    def one_row(state: State, row: Rows) -> tuple[State, Array, Array, tuple[Array, Array]]:
        seed = jax.random.wrap_key_data(row.keys)
        data = jax.random.split(seed)[1]
        noise = jax.random.fold_in(seed, NOISE)

        def update(at: tuple[ModelParams, optax.OptState], step: Array) -> tuple[Any, Any]:
            batch = job.task.sample(jax.random.fold_in(data, step), job.batch_size)
            axes = (None, batch.batch_axes, 0)
            split = jaxrnn.split_batch(loss, axes, jax.devices()[: job.devices])
            # each device draws the noise of a cell from the first key of its share
            keys = jax.random.split(jax.random.fold_in(noise, step), job.batch_size)
            value, grads = jax.value_and_grad(split)(at[0], batch, jax.random.key_data(keys))
            # optax raises a float to its int32 count, which "strict" refuses
            with jax.numpy_dtype_promotion("standard"):
                now = optimizer(job, rate(job, row.rates, step))
                changes, moments = now.update(grads, at[1])
            return (optax.apply_updates(at[0], changes), moments), (value, optax.tree.norm(grads))

        (params, moments), (losses, norms) = jax.lax.scan(
            update, (state.params, state.optimizer), first + jnp.arange(CHUNK)
        )
        sound = jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()
        # the next loss would be lost: no checkpoint of this
        losses = losses.at[-1].set(jnp.where(sound, losses[-1], jnp.nan))
        scores = _scores(job, params, held_out)
        best = jax.tree.map(
            lambda new, old: jnp.where(scores[0] < state.best_loss, new, old), params, state.best
        )
        state = State(params, moments, best, jnp.fmin(scores[0], state.best_loss))
        return state, losses, norms, scores

    def as_it_is(state: State, row: Rows) -> tuple[State, Array, Array, tuple[Array, Array]]:
        unknown = jnp.full(CHUNK, jnp.nan)
        return state, unknown, unknown, (unknown[0], unknown[0])

    def if_active(row: tuple[State, Rows, Array]) -> Any:
        return jax.lax.cond(row[2], one_row, as_it_is, *row[:2])

    one_by_one = job.devices > 1 and jax.default_backend() == "cpu"
    return (functools.partial(jax.lax.map, if_active) if one_by_one else jax.vmap(if_active))(
        (state, rows, active)
    )


def evaluate(job: Job, params: ModelParams) -> tuple[Array, Array]:
    """Loss and metric of every row, [rows] each, on the same sequences whatever the run."""
    return _evaluate(job, params, evaluation_batch(job.task))


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(job: Job, params: ModelParams, batch: Batch) -> tuple[Array, Array]:
    """In parts of equal size, whose mean is that of all: of many long sequences the states would
    not fit into memory."""
    T, B = batch.inputs.shape[:2]
    least = -(-T * B // AT_ONCE)
    count = next((n for n in range(least, B) if B % n == 0), B)
    if count == 1:
        return jax.vmap(lambda params: _scores(job, params, batch))(params)

    def cut(a: Array, axis: int) -> Array:
        parts = a.reshape(*a.shape[:axis], count, -1, *a.shape[axis + 1 :])
        return jnp.moveaxis(parts, axis, 0)

    axes: Any = batch.batch_axes
    held = [None if a is None else cut(a, axis) for a, axis in zip(batch, axes, strict=True)]
    parts = Batch(*held)  # pyrefly: ignore[bad-argument-type]
    found = jax.lax.map(
        lambda part: jax.vmap(lambda params: _scores(job, params, part))(params), parts
    )
    return jax.tree.map(lambda a: jnp.mean(a, axis=0), found)


def _scores(job: Job, params: ModelParams, batch: Batch) -> tuple[Array, Array]:
    """Loss and metric of a batch."""
    outputs = job.model(params, batch)
    return job.task.score.loss(outputs, batch), job.task.score.metric(outputs, batch)
