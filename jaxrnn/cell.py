"""The words of the library: arrays and shapes, the product `dot`, `gates`, dtypes,
and the base class of every cell.

Shapes are written `[T, B, I]`: T steps, B sequences, I input features, H hidden units, G gates.
`...` stands for any number of batch axes, none included.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

import jax
import jax.numpy as jnp

from jaxrnn.checks import check_features, check_key, fit_carry
from jaxrnn.structure import check_params, features_of, fit_params

Array = jax.Array
DType = Any  # anything that jnp.dtype accepts
Params = Any  # a NamedTuple of arrays
Carry = Any  # a NamedTuple of arrays, each [..., features]
Noise = Any  # a pytree of arrays, each [T or 1, ..., features]
Dot = Callable[..., Array]
Tree = TypeVar("Tree")


def dot(v: Array, w: Array, op: Callable[[Array, Array], Array] | None = None) -> Array:
    """The product of a vector and a weight: the last axis of `v` against the first of `w`.

    Every product with a weight inside `Cell.step` goes through the `dot` that `step` is given, of
    which this is the default. Any number in a row; inside a loop, branch or transform of the step's
    own it is correct too, but the cell loses its fast path.

    Args:
        v: [..., I], linear.
        w: [I, ...], linear.
        op: another bilinear operation of `v` and `w`, such as a convolution; None means the tensor
            product above.

    Returns:
        `v @ w`, [..., *w.shape[1:]].
    """
    return jnp.tensordot(v, w, 1) if op is None else op(v, w)


def dot_in(compute: DType) -> Dot:
    """The `dot` that multiplies in `compute` and accumulates in `carry_dtype(compute)`:
    the mixed precision of a 16-bit run.

    What an `op` gives is rounded to `compute` before it is widened, since its accumulation is its
    own.
    """
    wide = carry_dtype(compute)
    if wide == jnp.dtype(compute):
        return dot

    def mixed_dot(v: Array, w: Array, op: Callable[[Array, Array], Array] | None = None) -> Array:
        v = v.astype(compute)
        w = w.astype(compute)
        return (
            jnp.tensordot(v, w, 1, preferred_element_type=wide)
            if op is None
            else op(v, w).astype(wide)
        )

    return mixed_dot


def linear(x: Array, w: Array, b: Array | None) -> Array:
    """`dot(x, w) + b`, where `b=None` is no bias: [..., I], [I, G, H], [G * H] -> [..., G, H].

    Biases have one axis, gates side by side: so optimisers tell them from matrices.
    """
    meshless = not jax.sharding.get_abstract_mesh().explicit_axes
    if w.ndim > 2 and w.size > 0 and ((x.ndim == 2 and meshless) or (x.ndim > 2 and rows_in_one())):
        # One product of two matrices: XLA:CPU takes its gradient in w without copying the
        # cotangent, in half the time (1.2 ms instead of 2.3 at 1024 rows, I = H = 128, G = 4).
        rows = x.reshape(-1, x.shape[-1])
        y = plus(rows @ w.reshape(w.shape[0], -1), b)
        return y.reshape(x.shape[:-1] + w.shape[1:])
    return plus(dot(x, w), None if b is None else b.reshape(w.shape[1:]))


def rows_in_one() -> bool:
    """Whether axes of rows may be made one: not where they may be split over devices."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.explicit_axes:
        return False
    return bool(mesh.manual_axes) or jax.device_count() == 1


def plus(y: Array, b: Array | None) -> Array:
    """`y + b`, or `y` without one.

    The gradient of b is a sum over all rows: a wide one even in a 16-bit run, where it would stop
    growing.
    """
    wide = carry_dtype(y.dtype)
    return y if b is None else (y.astype(wide) + b.astype(wide)).astype(y.dtype)


def gates(a: Array) -> tuple[Array, ...]:
    """Splits the gate axis: [..., G, H] -> G arrays [..., H],
    in the order of the cell (`i f g o`, `r z n`).
    """
    return tuple(jnp.unstack(a, axis=-2))


def zeros(like: Array, *features: int, feature_axes: int = 1) -> Array:
    """Zeros with the batch axes, dtype, sharding and varying axes of `like`,
    and other features: what `init_carry` returns.

    Unlike `jnp.zeros(shape)` they may start a loop over sharded inputs, under `jax.shard_map` and
    on explicit meshes.

    Args:
        like: [..., *features], one step of the input. Its values do not count.
        features: the sizes of the new feature axes.
        feature_axes: how many trailing axes of `like` are not batch.
    """
    batch = jnp.zeros_like(jnp.sum(like, axis=tuple(range(-feature_axes, 0))))
    return jnp.broadcast_to(
        batch.reshape(batch.shape + (1,) * len(features)), batch.shape + features
    )


def carry_dtype(compute: DType) -> jnp.dtype:
    """The dtype inside `step`: float32 when the compute dtype has 16 bits or fewer,
    else the compute dtype.
    """
    compute = jnp.dtype(compute)
    return jnp.dtype(jnp.float32) if compute.itemsize <= 2 else compute


def cast(tree: Tree, dtype: DType) -> Tree:
    """Casts the floating-point leaves of a tree; the others (masks, indices, None) stay."""
    return jax.tree.map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )


# the methods of a cell in which parameters meet rows
EQUATIONS = ("init", "prepare", "absorb", "noise", "init_carry", "project", "step", "unroll_layers")


class Cell:
    """The base of every recurrent cell: a frozen, hashable dataclass of hyper-parameters
    with pure methods, and no arrays.

    A cell defines `init`, `project`, `step` and `init_carry`; all else follows from them.

    Optional: `prepare`, `noise`, `absorb`, `input_size`, `unroll_layers`, and the three class
    attributes. `jaxrnn.testing.check_cell` checks a cell.
    """

    # how many trailing axes of the input are not batch: 1, or spatial axes + 1
    feature_axes: ClassVar[int] = 1
    # False where hidden units are mixed outside `dot` (layer norm)
    elementwise: ClassVar[bool] = True
    # False where outputs depend on later inputs (both directions): there is no single step
    causal: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in EQUATIONS:
            if name in vars(cls):
                setattr(cls, name, _broadcasting(vars(cls)[name]))
        if "init" in vars(cls):
            cls.init = _with_key(cls.init)

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if dataclasses.is_dataclass(cls):
            _check_places(cls, args, options)
        return super().__new__(cls)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> Params:
        """Draws the parameters.

        Args:
            key: of `jax.random.key`.
            input_size: I, the number of input features.
            dtype: of the parameters.

        Returns:
            A NamedTuple of arrays.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define init(key, input_size, dtype)."
        )

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Any:
        """Everything that needs only the input, for any number of steps at once.

        Args:
            params: what `init` drew, after `prepare` and `absorb`.
            xs: [..., I].
            noise: what `noise` drew, and `absorb` left.

        Returns:
            An array or a pytree with the leading axes of `xs`: the `u` of each step.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define project(params, xs, noise)."
        )

    def step(self, params: Params, carry: Carry, u: Any, dot: Dot = dot) -> tuple[Carry, Array]:
        """One step of the recurrence.

        Leading axes are never mixed, and sizes are those of the arrays, never `hidden_size`.

        Args:
            params: as in `project`.
            carry: the state before the step.
            u: the projection of one step's input.
            dot: every product with a weight goes through it.

        Returns:
            The carry after the step, and the output `y` [..., features]: an array, or a pytree of
            them where no layer follows.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define step(params, carry, u, dot)."
        )

    def init_carry(self, params: Params, like: Array) -> Carry:
        """The carry before the first step, and after each reset.

        Args:
            params: as in `project`.
            like: one step's input, [..., I], of which only shape, dtype, sharding and varying axes
                count; `jaxrnn.zeros(like, size)` makes zeros that fit.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define init_carry(params, like)."
        )

    def prepare(self, params: Params) -> Params:
        """What is computed from the parameters once per sequence, before all else, in the carry
        dtype (expm has no 16-bit form).

        The default changes nothing.
        """
        return params

    def absorb(self, params: Params, noise: Noise) -> tuple[Params, Noise]:
        """Parameters with the draws that act on them (dropped weights),
        and the noise that is left for `project`.

        It is called once per sequence where there is noise, with prepared parameters. The default
        changes nothing.
        """
        return params, noise

    def noise(self, key: Array, T: int, like: Array) -> Noise:
        """The random draws of a sequence, [T or 1, ...] each,
        or None (the default) for a cell without randomness.
        """
        return None

    def input_size(self, params: Params) -> int | None:
        """The number of input features that `params` were made for;
        None where that cannot be told.
        """
        w_x = getattr(params, "w_x", None)
        return None if w_x is None else w_x.shape[0]

    @property
    def num_feature_axes(self) -> int:
        """What Flax asks its own cells first."""
        raise AttributeError(
            f"{type(self).__name__} is a cell of jaxrnn, not of Flax. nnx.RNN takes "
            "jaxrnn.nnx.CellForRNN(cell, input_size, rngs=rngs) around it, linen.RNN takes "
            "jaxrnn.linen.CellForRNN(cell); jaxrnn's Recurrent runs it by itself, and faster."
        )

    def __call__(self, params: Params, carry: Carry, x: Array) -> tuple[Carry, Array]:
        """One step, for streaming: `x` [..., I] -> `(carry, y)`, with the dtypes of
        `jaxrnn.unroll`.

        None is the first carry. It checks and prepares `params` each time: in a loop of your own
        take `jaxrnn.stepper(cell, params)`, which does so once.
        """
        params = fit_params(self, params, features_of(x))
        x = jnp.asarray(check_features(self, params, x, axes="..."))
        params = self.prepare(cast(check_params(self, params), carry_dtype(x.dtype)))
        return single_step(self, params, carry, x)


def _broadcasting(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose equations add [H] to [..., H], also for users to whom that is an error in
    lines of their own (`jax_numpy_rank_promotion="raise"`)."""

    @functools.wraps(method)
    def wrapper(*args: Any, **options: Any) -> Any:
        with jax.numpy_rank_promotion("allow"):
            return method(*args, **options)

    return wrapper


def _with_key(init: Callable[..., Any]) -> Callable[..., Any]:
    """`init`, which tells what is no key before JAX does."""

    @functools.wraps(init)
    def wrapper(self: Any, key: Array, *args: Any, **options: Any) -> Any:
        check_key(key)
        return init(self, key, *args, **options)

    return wrapper


def _check_places(kind: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Raises TypeError where a dataclass gets more arguments by position than it has places, as by
    torch's habit of giving input_size first."""
    places = [f.name for f in dataclasses.fields(kind) if f.init and not f.kw_only]
    if len(args) <= len(places):
        return
    try:
        inspect.signature(kind.__init__).bind(None, *args, **options)
    except TypeError:
        raise TypeError(
            f"{kind.__name__} takes {', '.join(places)} by position, got {len(args)} arguments. "
            "Options go by name, and the number of input features to cell.init(key, input_size)."
        ) from None


def single_step(
    cell: Cell,
    params: Params,
    carry: Carry,
    x: Array,
    reset: Array | None = None,
    noise: Noise = None,
    absorbed: Params = None,
    dot: Dot | None = None,
) -> tuple[Carry, Array]:
    """One step outside a sequence, `(carry, y)`.

    Args:
        cell: the cell.
        params: prepared, in the carry dtype.
        carry: None is the first.
        x: [*batch, I].
        reset: [*batch] booleans; where True the carry is the first before this step.
        noise: what `project` takes of this step.
        absorbed: the parameters with noise; the first carry is made of those without.
        dot: the product in `step`; None is that of the dtype of `x`.
    """
    wide = carry_dtype(x.dtype)
    first = cell.init_carry(params, jnp.zeros_like(x, wide))
    params = params if absorbed is None else absorbed
    carry = first if carry is None else fit_carry(carry, first)
    if reset is not None:
        carry = select(reset, first, carry)
    u = cast(cell.project(cast(params, x.dtype), x, cast(noise, x.dtype)), wide)
    carry, y = cell.step(params, carry, u, dot_in(x.dtype) if dot is None else dot)
    return carry, cast(y, x.dtype)


def select(rows: Array, yes: Tree, no: Tree | int) -> Tree:
    """`where` by row: `rows` has the leading axes of every leaf. `no` may be a number."""

    def where(a: Array, b: Any) -> Array:
        return jnp.where(rows.reshape(rows.shape + (1,) * (a.ndim - rows.ndim)), a, b)

    if isinstance(no, int | float):
        return jax.tree.map(lambda a: where(a, jnp.asarray(no, a.dtype)), yes)
    return jax.tree.map(where, yes, no)


def drop(a: Array, keep: Array | None, rate: float) -> Array:
    """Dropout: `a` where it is kept, scaled so that its mean stays, and 0 elsewhere; all of it
    without a mask.

    What is dropped is 0 before it is divided, and the divisor never rounds to 0, so that a rate of
    1 has gradients of 0 in any dtype.
    """
    if keep is None:
        return a
    keep = keep | jnp.zeros_like(a, jnp.bool_)  # brought to the sharding of a
    share = max(1 - rate, float(jnp.finfo(a.dtype).tiny))
    return jnp.where(keep, a, jnp.zeros_like(a)) / share


def as_cell(cell: Any) -> Cell:
    """A hashable `Cell`, or that of a Flax module of ours.

    Raises:
        TypeError: neither of them.
        ValueError: a module that runs backwards in time, which its cell alone does not say.
    """
    if not isinstance(cell, Cell) and isinstance(getattr(cell, "cell", None), Cell):
        if getattr(cell, "reverse", False):
            raise ValueError(
                "this module has reverse=True, which its cell does not: pass module.cell, and "
                "reverse=True to unroll."
            )
        cell = cell.cell
    check_cell_type(cell)
    return cell


def check_cell_type(cell: Any) -> None:
    """Raises TypeError unless `cell` is a hashable `Cell` instance."""
    if not isinstance(cell, Cell):
        hint = "; make one, as in LSTMCell(hidden_size=20)" if isinstance(cell, type) else ""
        raise TypeError(f"cell must be a jaxrnn.Cell, got {cell!r}{hint}.")
    try:
        hash(cell)
    except TypeError as e:
        raise TypeError(
            f"{type(cell).__name__} is not hashable ({e}); "
            "a cell is a frozen dataclass of plain values."
        ) from e
