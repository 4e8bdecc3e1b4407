"""What cells and tasks of one's own must have, checked before the first is trained."""

import math
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn
from experiments.cells import CELLS
from experiments.config import Config, RunError
from experiments.own import OwnCell
from experiments.tasks import TASKS, Batch, Task
from experiments.tasks.scores import CrossEntropy, Sets, SquaredError

PACKAGES = (Path(__file__).parent, Path(jaxrnn.__file__).parent)


def check(config: Config) -> None:
    """Checks cells and tasks of one's own, before the first is trained.

    Raises:
        RunError: something that every cell or task has is missing; the message says what.
    """
    if TASKS[config.task].__module__.split(".")[0] != "experiments":
        task = config.make_task()
        _check_task(config.task, task)
        for lag in config.test_lags:
            _check_sizes(config.task, task, task.at_lag(lag))
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
        more = "`jaxrnn.testing.check_cell(cell)` says more"
        raise RunError(f"cell {name!r} does not run: {_said(error)} ({more}).") from None
    if not isinstance(ys, jax.ShapeDtypeStruct) or ys.ndim < 3:
        raise RunError(f"cell {name!r}: y must be one array [*batch, H], to be read out.")


def _check_task(name: str, task: Task) -> None:
    """Raises RunError where something is missing."""
    for part in ("score", "levels", "constant"):
        _check_property(name, task, part)
    try:
        batch = jax.eval_shape(lambda key: task.sample(key, 4), jax.random.key(0))
    except NotImplementedError:
        raise RunError(f"task {name!r} needs sample(key, batch_size).") from None
    except Exception as error:  # of code that nobody has seen before
        raise RunError(f"task {name!r}: sample(key, 4) failed: {_said(error)}") from None
    if not isinstance(batch, Batch) or batch.inputs.ndim < 3 or batch.inputs.shape[1] != 4:
        raise RunError(
            f"task {name!r}: sample(key, 4) must give a Batch whose inputs are [T, 4, features]."
        )
    if not jnp.issubdtype(batch.inputs.dtype, jnp.floating):
        raise RunError(
            f"task {name!r}: inputs are {batch.inputs.dtype}, expected floats; what is one of "
            "several goes in one-hot."
        )
    _check_targets(name, task, batch)
    constant = jnp.shape(task.constant)
    if constant[-1:] != (task.score.output_size,):
        raise RunError(
            f"task {name!r}: constant is {list(constant)}, expected [..., "
            f"{task.score.output_size}], as many as the score has outputs."
        )
    _check_baseline(name, task)


def _check_property(name: str, task: Task, part: str) -> None:
    try:
        value = getattr(task, part)
    except NotImplementedError:
        raise RunError(f"task {name!r} needs the property {part}.") from None
    except Exception as error:  # of code that nobody has seen before
        raise RunError(f"task {name!r}: {part} failed: {_said(error)}") from None
    if callable(value) and not hasattr(value, "loss"):
        raise RunError(f"task {name!r}: {part} must be a property: @property stands above it.")


def _check_targets(name: str, task: Task, batch: Batch) -> None:
    """Raises RunError where targets do not lie beside outputs: NumPy's rules would spread them."""
    steps = batch.inputs.shape[:2] if batch.scored is not None else batch.inputs.shape[1:2]
    given = batch.targets.shape
    if given[: len(steps)] != steps:
        raise RunError(
            f"task {name!r}: targets are {given[: len(steps)]}, expected {steps}: [B, ...] of the "
            "last step, or where the batch says which steps are scored of all, [T, B, ...]."
        )
    rows = (*steps, *task.spatial_shape)
    score = task.score
    outputs = (*rows, score.output_size)
    known = isinstance(score, CrossEntropy | SquaredError | Sets)
    expected = rows if isinstance(score, CrossEntropy) else outputs
    if known and given != expected:
        raise RunError(
            f"task {name!r}: targets are {list(given)}, expected {list(expected)} by "
            f"{type(score).__name__} of {score.output_size} outputs."
        )
    if isinstance(score, CrossEntropy) and not jnp.issubdtype(batch.targets.dtype, jnp.integer):
        raise RunError(
            f"task {name!r}: targets are {batch.targets.dtype}, expected integers: classes."
        )


def _check_sizes(name: str, task: Task, other: Task) -> None:
    """Raises RunError where another lag has inputs or outputs of another size."""
    sizes = [(one.input_size, one.score.output_size) for one in (task, other)]
    if sizes[0] != sizes[1]:
        raise RunError(
            f"task {name!r} has inputs and outputs of {sizes[0]} at lag {task.lag} and of "
            f"{sizes[1]} at lag {other.lag}: no test_lags, and `sized_by_lag = True` says so."
        )


def _check_baseline(name: str, task: Task) -> None:
    """Raises RunError where the best constant does not score the baseline, as far as can be told
    from the evaluation batch."""
    try:
        found = task.evaluation_baseline()
    except Exception as error:  # of a task that nobody has seen before
        raise RunError(
            f"task {name!r}: the loss of `constant`, [outputs], or [T, 1, outputs] if it differs "
            f"by step, does not run: {_said(error)}"
        ) from None
    if not math.isfinite(found):
        raise RunError(
            f"task {name!r}: the loss of `constant` is {found} on the evaluation batch. Inputs and "
            "targets must be finite, and classes from 0 to output_size - 1."
        )
    told = task.levels.baseline
    if not abs(found - told) <= 0.1 * abs(told):
        raise RunError(
            f"task {name!r}: its `constant` scores {found:.4g} on the evaluation batch, and "
            f"levels.baseline says {told:.4g}. `constant` must be the best outputs that do not "
            "depend on the inputs, and the baseline their loss."
        )


def _said(error: Exception) -> str:
    """An error in one line, with the last line of one's own that it went through."""
    text = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(Path(frame.filename))]
    place = f"{Path(own[-1].filename).name}, line {own[-1].lineno}: " if own else ""
    return f"{place}{type(error).__name__}: {text}"


def _is_own(file: Path) -> bool:
    """Whether a file is none of a package that is installed, nor of this one."""
    inside = any(file.is_relative_to(package) for package in PACKAGES)
    return not inside and "site-packages" not in file.parts and file.exists()
