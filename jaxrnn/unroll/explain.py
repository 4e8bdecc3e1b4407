"""Which method `unroll` runs a cell by, and why: asked of the methods themselves, with shapes instead of arrays."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.typing import Carry, Cell, DType, Params, check_cell_type, check_features
from jaxrnn.unroll import cudnn, fused, joined
from jaxrnn.unroll.form import Form, forms_of
from jaxrnn.unroll.persistent import why_not
from jaxrnn.unroll.run import check_method, run
from jaxrnn.unroll.scan import Sequence, scan
from jaxrnn.unroll.sequence import refusal
from jaxrnn.unroll.study import Study


class Explanation(NamedTuple):
    """How one cell is run over one direction; `print` it."""

    cell: Cell
    method: str  # "fused", "scan", "cudnn" or "persistent": what runs
    why: str  # the reason, as a sentence
    details: tuple[str, ...]  # what the method does with this cell and these shapes
    refused: dict[str, str]  # for each other method that cannot run this, the reason

    def __str__(self) -> str:
        lines = [f"{_short(self.cell)}: {self.method}, since {self.why}", *self.details]
        return "\n  ".join([*lines, *(f"{method} cannot run it: {reason}" for method, reason in self.refused.items())])


def explain(
    cell: Cell,
    shape: tuple[int, ...],
    dtype: DType = jnp.float32,
    *,
    params: Params = None,
    mask: bool = False,
    reset: bool = False,
    noise: bool = False,
    method: str | None = None,
    remat: str = "none",
) -> tuple[Explanation, ...]:
    """Says by which method `unroll` would run a cell over inputs of a shape, and why. Nothing is computed.

    Args:
        cell: the cell or stack.
        shape: that of the inputs, (T, *batch, I).
        dtype: theirs.
        params: the parameters, of which only shapes count; None means those that `cell.init` makes.
        mask, reset, noise: whether there will be one.
        method, remat: as in `unroll`.

    Returns:
        One `Explanation` for each cell that runs, in order: `layer * directions + direction` for a stack.

    Raises:
        TypeError, ValueError: as `unroll` with these arguments.

    Example:
        >>> import jaxrnn
        >>> print(jaxrnn.explain(jaxrnn.IndRNNCell(64), (100, 32, 16))[0])
        IndRNNCell(hidden_size=64): scan, since its step has no product.
          cudnn cannot run it: it is no LSTM as cuDNN has it: layers of one hidden size, with the equations of LSTMCell.
          persistent cannot run it: its step has 0 products with a weight, expected one.
    """
    check_cell_type(cell)
    check_method(method, remat)
    found: list[Explanation] = []

    def traced(params: Params, xs: Any) -> Any:
        xs = check_features(cell, params, xs, axes="T, ...")
        T, *batch = shape[: len(shape) - cell.feature_axes]
        rows = jnp.ones((T, *batch), jnp.bool_)
        drawn = cell.noise(jax.random.key(0), T, jnp.zeros(xs.shape[1:], xs.dtype)) if noise else None
        options = {"mask": rows if mask else None, "reset": rows if reset else None, "noise": drawn, "reverse": False}
        noting = functools.partial(_note, found, method)
        return run(cell, params, xs, None, **options, method=noting, remat=remat)

    features = shape[-1] if shape else 1  # no shape at all is refused where the others are
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), features)) if params is None else params
    jax.eval_shape(traced, params, jax.ShapeDtypeStruct(shape, dtype))
    return tuple(found)


def _short(cell: Any) -> str:
    """A cell with those of its options that are not the default."""
    if not isinstance(cell, Cell) or not dataclasses.is_dataclass(cell):
        return repr(cell)
    options = [(f, getattr(cell, f.name)) for f in dataclasses.fields(cell)]
    return f"{type(cell).__name__}({', '.join(f'{f.name}={_short(value)}' for f, value in options if value != f.default)})"


def _note(
    found: list[Explanation],
    method: str | None,
    cell: Cell,
    params: Params,
    sequence: Sequence,
    carry: Carry,
    first: Carry,
    **how: Any,
) -> tuple[Carry, Any]:
    """A method that notes what another would do, and gives the shapes of its results."""
    against = {"cudnn": cudnn.why_not(cell, params, sequence), "persistent": why_not(cell, params, sequence, first)}
    refused = {name: reason for name, reason in against.items() if reason is not None}
    if method in refused:
        raise ValueError(refusal(method, cell, refused[method]))
    examined = fused.examine(cell, params, sequence, first, "none")  # so does each chunk of "sqrt" run
    if method in against or method == "scan":
        note = Explanation(cell, method, "it was asked for.", (), refused)
    elif isinstance(examined, str):
        note = Explanation(cell, "scan", examined, (), refused)
    else:
        why = "its step has products, which it takes apart." if method is None else "it was asked for."
        note = Explanation(cell, "fused", why, _details(cell, params, sequence, how["remat"], *examined), refused)
    found.append(note)
    return scan(cell, params, sequence, carry, first, reverse=how["reverse"], remat="none")


def _details(cell: Cell, params: Params, sequence: Sequence, remat: str, study: Study, weights: Any) -> tuple[str, ...]:
    """What the fused method does with this cell and these shapes."""
    if remat == "sqrt":  # each chunk runs as a sequence of its own
        sequence = jax.tree.map(lambda a: a[: math.isqrt(a.shape[0])], sequence)
    cpu, other = forms_of(study, remat, sequence, weights)
    names = [jax.tree_util.keystr(path).strip(".") for path, _ in jax.tree.leaves_with_path(params)]
    used = ", ".join(name for name, used in zip(names, study.elementwise, strict=True) if used)
    plain = sum(study.inside)
    together = cpu.joined and joined.join(cell, params, study, weights, sequence) is not None
    lines = [
        f"products per step with a matmul of their own, forward and backward: {len(study.products)}",
        f"products per step that are differentiated as any other operation: {plain}" if plain else "",
        f"parameters that act elementwise: {used}" if used else "",
        SAVED[remat] + (" (input and product as their sum)" if study.sums and remat == "none" else ""),
        f"on a CPU: {_form(cpu, together)}",
        f"elsewhere: {_form(other, False)}",
    ]
    return tuple(line for line in lines if line)


SAVED = {
    "none": "saved for the backward pass: the carry and the products of each step",
    "carry": "saved for the backward pass: the carry of each step; the rest is computed again",
    "sqrt": "saved for the backward pass: the carry before each of about sqrt(T) chunks; the rest is computed again",
}


def _form(form: Form, together: bool) -> str:
    """The form of the loops, in words."""
    how = "in the loop" if form.project_inside else "all at once"
    joint = ", in one product with the state" if together else ""
    turned = ", the batch last in memory" if form.columns else ""
    return f"inputs projected {how}{joint}{turned}; weight gradients from chunks of {form.chunk} steps"
