"""What cells and tasks of one's own must have, checked before the first is trained."""

from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn
from experiments.cells import CELLS
from experiments.config import Config, RunError
from experiments.own import OwnCell
from experiments.tasks import TASKS, Batch, Task


def check(config: Config) -> None:
    """Checks cells and tasks of one's own, before the first is trained.

    Raises:
        RunError: something that every cell or task has is missing; the message says what.
    """
    if TASKS[config.task].__module__.split(".")[0] != "experiments":
        _check_task(config.task, config.make_task())
    for name in config.cells:
        if isinstance(found := CELLS[name], OwnCell):
            _check_cell(name, found.make(config.hidden_size, config.lag))


def _check_cell(name: str, cell: jaxrnn.Cell) -> None:
    """Raises RunError where a step does not give what training reads."""
    xs = jax.ShapeDtypeStruct((3, 2, *(9,) * (cell.feature_axes - 1), 5), jnp.float32)

    def run(key: jax.Array, xs: jax.Array) -> Any:
        return jaxrnn.unroll(cell, cell.init(key, 5), xs)

    try:
        _, ys = jax.eval_shape(run, jax.eval_shape(lambda: jax.random.key(0)), xs)
    except Exception as error:  # of equations that nobody has seen before
        said = " ".join(str(error).split())[:300]
        raise RunError(f"cell {name!r} does not run: {type(error).__name__}: {said}") from None
    if not isinstance(ys, jax.ShapeDtypeStruct) or ys.ndim < 3:
        raise RunError(f"cell {name!r}: y must be one array [*batch, H], to be read out.")


def _check_task(name: str, task: Task) -> None:
    """Raises RunError where something is missing."""
    for part in ("score", "levels", "constant"):
        try:
            getattr(task, part)
        except NotImplementedError:
            raise RunError(f"task {name!r} needs the property {part}.") from None
    try:
        batch = jax.eval_shape(lambda key: task.sample(key, 4), jax.random.key(0))
    except NotImplementedError:
        raise RunError(f"task {name!r} needs sample(key, batch_size).") from None
    if not isinstance(batch, Batch) or batch.inputs.ndim < 3 or batch.inputs.shape[1] != 4:
        raise RunError(
            f"task {name!r}: sample(key, 4) must give a Batch whose inputs are [T, 4, features]."
        )
    steps = batch.inputs.shape[:2] if batch.scored is not None else batch.inputs.shape[1:2]
    given = batch.targets.shape[: len(steps)]
    if given != steps:
        raise RunError(
            f"task {name!r}: targets are {given}, expected {steps}: [B, ...] of the last step, or "
            "where the batch says which steps are scored of all, [T, B, ...]."
        )
    constant = jnp.shape(task.constant)
    if constant[-1:] != (task.score.output_size,):
        raise RunError(
            f"task {name!r}: constant is {list(constant)}, expected [..., "
            f"{task.score.output_size}], as many as the score has outputs."
        )
    _check_baseline(name, task)


def _check_baseline(name: str, task: Task) -> None:
    """Raises RunError where the best constant does not score the baseline, as far as can be told
    from the evaluation batch."""
    try:
        found = task.evaluation_baseline()
    except Exception as error:  # of a task that nobody has seen before
        said = " ".join(str(error).split())[:300]
        raise RunError(
            f"task {name!r}: the loss of `constant`, [outputs], or [T, 1, outputs] if it differs "
            f"by step, does not run: {type(error).__name__}: {said}"
        ) from None
    told = task.levels.baseline
    if not abs(found - told) <= 0.1 * abs(told):
        raise RunError(
            f"task {name!r}: its `constant` scores {found:.4g} on the evaluation batch, and "
            f"levels.baseline says {told:.4g}. `constant` must be the best outputs that do not "
            "depend on the inputs, and the baseline their loss."
        )
