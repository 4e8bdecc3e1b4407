"""What every cell around a cell shares: it is in all else the cell inside."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Cell, Dot, DType, Noise, Params, check_cell_type, dot, linear

Run = Callable[..., tuple[Carry, Array]]  # how `unroll` runs a cell inside `unroll_layers`


@dataclasses.dataclass(frozen=True)
class Wrapper(Cell):
    """A cell that is in everything the cell inside, `self.cell`,
    but for what a subclass says otherwise.

    A subclass is a frozen dataclass, whose first field is `cell`; one with a `__post_init__` of its
    own calls that of its base. Its parameters and carry are
    those of the cell inside. Around a `Stack` it runs step by step, not layer by layer, and in one
    direction; inside a `Stack` it is as fast as its cell.
    """

    cell: Cell

    def __post_init__(self) -> None:
        check_cell_type(self.cell)

    @property
    def inside(self) -> Cell:
        """What it is in all else: the cell, or what a subclass makes of it."""
        return self.cell

    @property
    def feature_axes(self) -> int:  # pyrefly: ignore[bad-override]
        return self.inside.feature_axes

    @property
    def elementwise(self) -> bool:  # pyrefly: ignore[bad-override]
        return self.inside.elementwise

    @property
    def causal(self) -> bool:  # pyrefly: ignore[bad-override]
        return self.inside.causal

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> Params:
        return self.inside.init(key, input_size, dtype)

    def input_size(self, params: Params) -> int | None:
        return self.inside.input_size(params)

    def prepare(self, params: Params) -> Params:
        return self.inside.prepare(params)

    def absorb(self, params: Params, noise: Noise) -> tuple[Params, Noise]:
        return self.inside.absorb(params, noise)

    def init_carry(self, params: Params, like: Array) -> Carry:
        return self.inside.init_carry(params, like)

    def noise(self, key: Array, T: int, like: Array) -> Noise:
        return self.inside.noise(key, T, like)

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Any:
        return self.inside.project(params, xs, noise)

    def step(self, params: Params, carry: Carry, u: Any, dot: Dot = dot) -> tuple[Carry, Array]:
        return self.inside.step(params, carry, u, dot)


def check_names(wrapper: Any) -> None:
    """Makes the field `names` a tuple of strings."""
    names = wrapper.names
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must be a tuple of strings, got {names!r}.")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"names must be different names, one at the least, got {names!r}.")
    object.__setattr__(wrapper, "names", tuple(names))


@functools.lru_cache(maxsize=1024)
def output_size(cell: Cell, input_size: int) -> int:
    """How many features a cell puts out, found without computing."""

    def one() -> Array:
        x = jnp.zeros(input_size, jnp.float32)
        params = cell.prepare(cell.init(jax.random.key(0), input_size, jnp.float32))
        return cell.step(params, cell.init_carry(params, x), cell.project(params, x))[1]

    return jax.eval_shape(one).shape[-1]


def projects_by_w_x(cell: Cell, params: Any) -> bool:
    """Whether the projection of a cell is `linear(x, w_x, b)`, which is read from its equations:
    then a part of the input that is known in the step alone goes through the `dot` of the step,
    which is fast.
    """
    if getattr(params, "w_x", None) is None or not hasattr(params, "b"):
        return False
    x = jax.ShapeDtypeStruct((params.w_x.shape[0],), params.w_x.dtype)
    shapes = jax.eval_shape(lambda p: p, params)
    theirs = jax.make_jaxpr(lambda p, x: cell.project(p, x))(shapes, x)
    ours = jax.make_jaxpr(lambda p, x: linear(x, p.w_x, p.b))(shapes, x)
    return str(theirs) == str(ours)


def carry_shapes(cell: Cell, shape: tuple[int, ...]) -> Any:
    """The shapes of the carry of a cell for one step's input of that shape,
    found without computing.
    """

    def make() -> Carry:
        params = cell.prepare(cell.init(jax.random.key(0), shape[-1], jnp.float32))
        return cell.init_carry(params, jnp.zeros(shape, jnp.float32))

    return jax.eval_shape(make)


def own(cell: Cell, params: Params, kind: type) -> Any:
    """Returns `params`, or raises ValueError where they are not of a wrapper's own kind."""
    if not isinstance(params, kind):
        name = type(cell).__name__
        raise ValueError(
            f"params of {name} are {kind.__name__}(inner=..., ...), got {type(params).__name__}."
        )
    return params
