"""What every diagnostic is given, checked and brought to one dtype as `unroll` does."""

from typing import Any

import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Cell, Params, as_cell, carry_dtype, cast
from jaxrnn.checks import as_floating, check_features, fit_carry
from jaxrnn.running import initial_carry
from jaxrnn.structure import check_params, features_of, fit_params


def checked(
    cell: Cell, params: Params, xs: Array, carry: Carry, *, one: bool = True
) -> tuple[Cell, Params, Array, Carry]:
    """The cell, its parameters in the carry's dtype, the inputs, and the carry before the first
    step.

    Args:
        cell, params, xs, carry: as in `unroll`.
        one: whether `xs` must be one sequence, without batch axes.

    Raises:
        TypeError, ValueError: as `unroll`.
    """
    cell = as_cell(cell)
    xs = jnp.asarray(as_floating(xs))
    params = fit_params(cell, params, features_of(xs))
    xs = check_features(cell, params, xs, axes="T, ...")
    batch = xs.shape[1 : xs.ndim - cell.feature_axes]
    if one and batch:
        raise ValueError(f"xs must be one sequence, got the batch axes {batch}: use jax.vmap.")
    if not cell.causal:
        raise ValueError("a cell that runs in both directions has no state that goes on in time.")
    params = cast(check_params(cell, params), carry_dtype(xs.dtype))
    spatial = xs.shape[xs.ndim - cell.feature_axes : -1]
    first = initial_carry(cell, params, batch, xs.dtype, spatial_shape=spatial)
    return cell, params, xs, first if carry is None else fit_carry(carry, first)


def projected(cell: Cell, params: Params, xs: Array) -> tuple[Params, Any]:
    """Prepared parameters, and the projected inputs of all steps."""
    params = cell.prepare(params)
    us = cell.project(cast(params, xs.dtype), xs)
    return params, cast(us, carry_dtype(xs.dtype))
