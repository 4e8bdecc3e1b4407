"""Single steps with parameters that are prepared once: agents, decoding, closed loops."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cell import (
    Array,
    Carry,
    Cell,
    DType,
    Noise,
    Params,
    as_cell,
    carry_dtype,
    cast,
    single_step,
)
from jaxrnn.checks import (
    as_array,
    as_arrays,
    axes_of,
    check_boolean,
    check_features,
    check_float,
    check_noise,
)
from jaxrnn.structure import check_params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)  # hashable, as a function that scan takes
class Stepper:
    """A cell with prepared parameters, from `jaxrnn.stepper`: `carry, y = stepper(carry, x)`.

    It is a pytree of its parameters: an argument of `jax.jit`, `jax.grad` and `lax.scan`.
    """

    params: Params  # prepared, in the carry dtype
    cell: Cell = dataclasses.field(metadata={"static": True})

    def __call__(
        self, carry: Carry, x: Array, *, reset: Array | None = None, noise: Noise = None
    ) -> tuple[Carry, Array]:
        """One step.

        Args:
            carry: the carry before it; None is the first.
            x: [*batch, I], in a dtype whose `carry_dtype` is that of the parameters.
            reset: [*batch] booleans. Where True a new sequence begins with this step.
            noise: one step of what `cell.noise` draws, from `noise_at`; None at evaluation.

        Returns:
            (carry, y): what `jaxrnn.unroll` gives for a sequence of this one step.

        Raises:
            TypeError: `x` has another dtype than the stepper was made for, or reset is not boolean.
            ValueError: shapes that do not fit.
        """
        x = jnp.asarray(check_features(self.cell, self.params, x, axes="..."))
        wide = _float_dtype(self.params)
        if wide is not None and carry_dtype(x.dtype) != wide:
            raise TypeError(
                f"x is {x.dtype}, but this stepper was made for a carry of {wide}; "
                f"stepper(cell, params, dtype={x.dtype}) makes one for it."
            )
        batch = x.shape[: x.ndim - self.cell.feature_axes]
        if reset is not None:
            reset = _fit_reset(reset, batch)
        absorbed = None
        if noise is not None:
            whole = jax.tree.map(lambda n: n[None], as_arrays("noise", noise))
            check_noise(self.cell, whole, x[None])
            absorbed, whole = self.cell.absorb(self.params, whole)
            noise = jax.tree.map(lambda n: n[0], whole)
        return single_step(self.cell, self.params, carry, x, reset, noise, absorbed)

    def first(
        self,
        batch_shape: tuple[int, ...] = (),
        *,
        spatial_shape: tuple[int, ...] = (),
    ) -> Carry:
        """The carry before the first step, as `jaxrnn.initial_carry`."""
        cell = self.cell
        batch_shape = axes_of("batch_shape", batch_shape)
        spatial_shape = axes_of("spatial_shape", spatial_shape)
        if len(spatial_shape) != cell.feature_axes - 1:
            raise ValueError(
                f"{type(cell).__name__} needs {cell.feature_axes - 1} spatial axes, got "
                f"spatial_shape={spatial_shape}."
            )
        features = cell.input_size(self.params)
        shape = (*batch_shape, *spatial_shape, 1 if features is None else features)
        return cell.init_carry(self.params, jnp.zeros(shape, _float_dtype(self.params)))

    @staticmethod
    def noise_at(noise: Noise, t: Any) -> Noise:
        """Step `t` of the noise of a sequence; what is held over time is the same at each."""
        return jax.tree.map(lambda n: n[jnp.minimum(t, n.shape[0] - 1)], noise)


def stepper(cell: Cell, params: Params, dtype: DType = None) -> Stepper:
    """A cell for single steps, its parameters checked, cast and prepared once.

    `cell(params, carry, x)` does so at each step, and differentiates it at each step. A loop that
    knows all its inputs before it begins is `jaxrnn.unroll`, which is faster.

    Args:
        cell: the cell or stack, in one direction.
        params: its parameters, from `cell.init`.
        dtype: the compute dtype, that of the inputs to come; None means that of the parameters.

    Returns:
        A `Stepper`. `stepper.first(batch_shape)` is the first carry.

    Raises:
        TypeError: `cell` is no cell.
        ValueError: `params` do not fit the cell, or it runs in both directions.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.GRUCell(4)
        >>> step = jaxrnn.stepper(cell, cell.init(jax.random.key(0), input_size=4))
        >>> def closed(carry, _):
        ...     carry, y = step(carry, carry.h)  # its output is its next input
        ...     return carry, y
        >>> carry, ys = jax.lax.scan(closed, step.first((2,)), length=10)
        >>> ys.shape
        (10, 2, 4)
    """
    cell = as_cell(cell)
    if dtype is not None:
        check_float("dtype", dtype)
    if not cell.causal:
        raise ValueError("a cell that runs in both directions has no single step; use unroll.")
    params = check_params(cell, params)
    given = _float_dtype(params) if dtype is None else dtype
    if given is not None:
        params = cast(params, carry_dtype(given))
    return Stepper(params=cell.prepare(params), cell=cell)


def initial_carry(
    cell: Cell,
    params: Params,
    batch_shape: tuple[int, ...] = (),
    dtype: DType = None,
    *,
    spatial_shape: tuple[int, ...] = (),
) -> Carry:
    """The carry before the first step, where no input exists yet.

    `unroll(..., carry=None)` starts from the same.

    Args:
        cell: the cell or stack.
        params: its parameters.
        batch_shape: the batch axes, or their only size.
        dtype: the compute dtype, that of the inputs to come; None means that of the parameters.
        spatial_shape: the spatial axes of the inputs of a convolutional cell.

    Returns:
        The cell's carry, each leaf [*batch_shape, ...], in `carry_dtype(dtype)`.

    Raises:
        ValueError: `spatial_shape` does not fit the cell.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.LSTMCell(4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> jaxrnn.initial_carry(cell, params, (2,)).c.shape
        (2, 4)
    """
    cell = as_cell(cell)
    if dtype is not None:
        check_float("dtype", dtype)
    params = check_params(cell, params)
    wide = carry_dtype(_float_dtype(params) if dtype is None else dtype)
    prepared = Stepper(params=cell.prepare(cast(params, wide)), cell=cell)
    return prepared.first(batch_shape, spatial_shape=spatial_shape)


def _float_dtype(params: Params) -> Any:
    """The dtype of the floating-point parameters; None where there are none."""
    leaves = jax.tree.leaves(params)
    floats = [a.dtype for a in leaves if jnp.issubdtype(a.dtype, jnp.floating)]
    return jnp.result_type(*floats) if floats else None


def _fit_reset(reset: Any, batch: tuple[int, ...]) -> Array:
    reset = jnp.asarray(as_array("reset", reset))
    check_boolean("reset", reset)
    if reset.shape != batch:
        raise ValueError(f"reset has shape {reset.shape}, expected {batch}: the batch axes of x.")
    return reset
