"""Which method `unroll` runs a cell by, and why: asked of the methods themselves, with shapes
instead of arrays."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Cell, DType, Params, as_cell
from jaxrnn.checks import axes_of, check_features, check_flag, check_float
from jaxrnn.running.method import NAMES, Choice, Method, Refusal, name_of, named, resolve
from jaxrnn.running.problem import Problem
from jaxrnn.running.run import Run
from jaxrnn.structure import fit_params


class Explanation(NamedTuple):
    """How one cell is run over one direction; `print` it."""

    cell: Cell
    method: str  # what runs: "fused", "scan", "cudnn", "persistent", or the name of one's own
    why: str  # the reason, as a sentence
    details: tuple[str, ...]  # what the method does with this cell and these shapes
    refused: dict[str, str]  # for each other method that cannot run this, the reason

    def __str__(self) -> str:
        lines = [f"{_short(self.cell)}: {self.method}, since {self.why}", *self.details]
        lines += [f"{name} cannot run it: {reason}" for name, reason in self.refused.items()]
        return "\n  ".join(lines)


def explain(
    cell: Cell,
    shape: tuple[int, ...],
    dtype: DType = jnp.float32,
    *,
    params: Params = None,
    mask: bool = False,
    reset: bool = False,
    noise: bool = False,
    method: str | Method | None = None,
    remat: str = "none",
) -> tuple[Explanation, ...]:
    """Says by which method `unroll` would run a cell over inputs of a shape, and why.

    Nothing is computed.

    Args:
        cell: the cell or stack, or a Flax module of one, which is run by its own method.
        shape: that of the inputs, (T, *batch, I), also where a module has the batch first.
        dtype: theirs.
        params: the parameters, of which only shapes count; None means those that `cell.init` makes.
        mask, reset, noise: whether there will be one.
        method, remat: as in `unroll`.

    Returns:
        One `Explanation` for each cell that runs, in order: `layer * directions + direction` for a
        stack, of which a layer that is made of parts has one for each of them.

    Raises:
        TypeError, ValueError: as `unroll` with these arguments.

    Example:
        >>> import jaxrnn
        >>> (found,) = jaxrnn.explain(jaxrnn.cells.IndRNNCell(64), (100, 32, 16))
        >>> found.method, found.why
        ('scan', 'its step has no product.')
        >>> found.refused["persistent"]
        'its step has 0 products with a weight, expected one.'
    """
    if not isinstance(cell, Cell):
        method = getattr(cell, "method", None) if method is None else method
        remat = getattr(cell, "remat", remat) if remat == "none" else remat
        own: Any = getattr(cell, "cell", cell)  # in whichever direction it runs
        cell = own
    cell = as_cell(cell)
    shape = axes_of("shape", shape)
    resolved = resolve(method, remat)
    found: list[Explanation] = []

    def note(problem: Problem, choice: Choice) -> None:
        found.append(_explanation(problem, choice))

    def traced(params: Params, xs: Any) -> Any:
        xs = check_features(cell, params, xs, axes="T, ...")
        T, *batch = shape[: len(shape) - cell.feature_axes]
        rows = jnp.ones((T, *batch), jnp.bool_)
        like = jnp.zeros(xs.shape[1:], xs.dtype)
        drawn = cell.noise(jax.random.key(0), T, like) if noise else None
        run = Run(
            mask=rows if mask else None,
            reset=rows if reset else None,
            method=resolved,
            remat=remat,
            note=note,
        )
        return run(cell, params, xs, None, noise=drawn, reverse=False)

    check_float("dtype", dtype)
    for name, flag in (("mask", mask), ("reset", reset), ("noise", noise)):
        check_flag(name, flag)
    features = shape[-1] if shape else 1  # no shape at all is refused where the others are
    if params is not None:
        params = fit_params(cell, params, features)
    else:
        params = jax.eval_shape(lambda: cell.init(jax.random.key(0), features))
    jax.eval_shape(traced, params, jax.ShapeDtypeStruct(shape, dtype))
    return tuple(found)


def _explanation(problem: Problem, choice: Choice) -> Explanation:
    name = name_of(choice.method)
    refused = {}
    for other in map(named, NAMES):
        asked = problem.trace is not None or other.takes_stacks  # else there is no single step
        if asked and name_of(other) != name and problem.steps.xs.size:
            plan = other.plan(problem)
            if isinstance(plan, Refusal):
                refused[name_of(other)] = plan.reason
    details = choice.method.describe(choice.plan)
    return Explanation(problem.cell, name, choice.why, details, refused)


def _short(cell: Any) -> str:
    """A cell with those of its options that are not the default."""
    if not isinstance(cell, Cell) or not dataclasses.is_dataclass(cell):
        return repr(cell)
    options = [(f, getattr(cell, f.name)) for f in dataclasses.fields(cell)]
    told = [f"{f.name}={_short(value)}" for f, value in options if value != f.default]
    return f"{type(cell).__name__}({', '.join(told)})"
