"""What the regularisers share: rates, masks, and the noise of a cell inside.

All draws come from `noise`, made outside the loop from one key; without noise a cell runs as at
evaluation.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array, Cell, Params, zeros
from jaxrnn.wrappers.base import carry_shapes


class Around(NamedTuple):
    """The noise, and the projected input, of a cell around a cell that draws noise."""

    inner: Any
    keep: Any  # booleans; None at evaluation


def check_rates(cell: Cell, names: tuple[str, ...], *, one: bool = False) -> None:
    """Checks that fields of a cell are probabilities, below 1 unless `one`, and makes them
    Python's: NumPy's have a dtype.
    """
    for name in names:
        rate: Any = getattr(cell, name)
        number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
        if not number or not (0 <= rate < 1 or (one and rate == 1)):
            raise ValueError(
                f"{name} is a probability from 0 to {'' if one else 'below '}1, got {rate!r}."
            )
        object.__setattr__(cell, name, float(rate))


def where(keep: Array, yes: Array, no: Array) -> Array:
    """`jnp.where` with a mask that is first brought to the sharding of what it selects."""
    return jnp.where(keep | jnp.zeros_like(yes, jnp.bool_), yes, no)


def absorb_inside(cell: Cell, params: Params, noise: Around) -> tuple[Params, Around]:
    """`absorb` of the cell inside, where it has drawn anything."""
    params, inner = (params, None) if noise.inner is None else cell.absorb(params, noise.inner)
    return params, noise._replace(inner=inner)


def draw(
    cell: Cell, key: Array, probability: float, T: int, like: Array, field: str
) -> Array | None:
    """Booleans [T, *batch, ...] for a field of the carry, in the sharding of `like`;
    None without such a field.
    """
    shape = getattr(carry_shapes(cell, like.shape), field, None)
    if shape is None:
        return None
    here = zeros(
        like, *shape.shape[like.ndim - cell.feature_axes :], feature_axes=cell.feature_axes
    ).astype(jnp.bool_)
    return jax.random.bernoulli(key, probability, (T, *shape.shape)) | here
