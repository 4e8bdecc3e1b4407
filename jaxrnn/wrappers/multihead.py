"""A cell whose recurrent kernels are block-diagonal: hidden units see those of their own head."""

import dataclasses
import functools
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Cell, Dot, DType, Params, dot
from jaxrnn.cells.blocks import block_diagonal
from jaxrnn.checks import check_size
from jaxrnn.initializers import Identity
from jaxrnn.wrappers.base import Wrapper


@dataclasses.dataclass(frozen=True)
class MultiHead(Wrapper):
    """A cell whose recurrent kernels are block-diagonal: its H hidden units are `heads` heads of
    P = H / heads, and no product takes a unit to another head. (A layer norm in the cell
    still spans all units.)

    Inputs and biases are those of the cell. Its recurrent kernels [H, ..., H] become [P, ..., H]:
    on the last axis stands head by head what they are in a cell of P units, as which they are
    drawn.

    Args:
        cell: a cell whose products in `step` go from all H units to H units or gates of them, such
            as an RNN, LSTM or GRU, with the reset before the product or after it. Other wrappers
            go around this one.
        heads: how many; `cell.hidden_size` is a multiple of it.

    Raises:
        TypeError: another cell, such as one with a projection or without products.
        ValueError: heads that do not divide the hidden size.

    Source: Beck et al. 2024, arXiv:2405.04517, section 2.2 (the heads of the sLSTM).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.wrappers.MultiHead(jaxrnn.GRUCell(8), heads=2)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> params.w_h.shape, ys.shape
        ((4, 3, 8), (5, 2, 8))
    """

    heads: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("heads", self.heads)
        _kernels(self.cell)
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of heads={self.heads}."
            )

    @property
    def hidden_size(self) -> int:
        return self.cell.hidden_size  # pyrefly: ignore[missing-attribute]

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> Params:
        key, key_h = jax.random.split(key)
        head = dataclasses.replace(self.cell, hidden_size=self.hidden_size // self.heads)  # pyrefly: ignore
        heads = [head.init(k, input_size, dtype) for k in jax.random.split(key_h, self.heads)]
        params = _without_draws(self.cell).init(key, input_size, dtype)
        kernels = {
            name: jnp.concatenate([getattr(one, name) for one in heads], axis=-1)
            for name in _kernels(self.cell)
        }
        return params._replace(**kernels)

    def step(self, params: Params, carry: Carry, u: Any, dot: Dot = dot) -> tuple[Carry, Array]:
        return self.cell.step(params, carry, u, functools.partial(dot, op=block_diagonal))


def _without_draws(cell: Any) -> Cell:
    """The cell with recurrent kernels that cost nothing to draw, since they are replaced."""
    if getattr(cell, "init_scheme", "jaxrnn") == "torch" or not hasattr(cell, "recurrent_init"):
        return cell
    return dataclasses.replace(cell, recurrent_init=Identity())


@functools.cache
def _kernels(cell: Any) -> tuple[str, ...]:
    """The names of the parameters that meet the state in a product.

    Raises:
        TypeError: a product that is not one of all H units with a kernel [H, ..., H].
    """
    name = type(cell).__name__
    H = getattr(cell, "hidden_size", None)
    if H is None or type(cell).prepare is not Cell.prepare or cell.feature_axes != 1:
        raise TypeError(
            "MultiHead takes a cell with a hidden_size and kernels as they are trained, got "
            f"{name}; other wrappers go around it."
        )
    shapes: list[tuple[Any, Any]] = []
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 1, jnp.float32))
    program = jax.make_jaxpr(functools.partial(_weights, cell, shapes))(params)
    if not shapes or any(v != (H,) or w[0] != H or w[-1] != H for v, w in shapes):
        raise TypeError(
            f"MultiHead needs products that go from all {H} hidden units to as many; those of "
            f"{name} are {[f'{v} by {w}' for v, w in shapes] or 'none'}."
        )
    return _used(program, params)


def _weights(cell: Cell, shapes: list[tuple[Any, Any]], params: Params) -> list[Array]:
    """The weights of the products of a step; to `shapes` those of each product's two are added."""
    found: list[Array] = []

    def recording(v: Array, w: Array, op: Any = None) -> Array:
        shapes.append((v.shape, w.shape if op is None else ("op",)))
        found.append(w)
        return dot(v, w, op)

    x = jnp.zeros(1, jnp.float32)
    cell.step(params, cell.init_carry(params, x), cell.project(params, x), recording)
    return found


def _used(program: Any, params: Any) -> tuple[str, ...]:
    """The fields of parameters on which the outputs of a program depend."""
    needed = set(program.jaxpr.outvars)
    for equation in reversed(program.jaxpr.eqns):
        if needed & set(equation.outvars):
            needed |= {v for v in equation.invars if isinstance(v, jax.extend.core.Var)}
    names = [name for name in params._fields if getattr(params, name) is not None]
    pairs = zip(names, program.jaxpr.invars, strict=True)
    return tuple(name for name, v in pairs if v in needed)
