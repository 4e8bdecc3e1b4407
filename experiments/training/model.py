"""The model of every experiment: a cell over the sequence, and a linear readout of what it puts
out, last or at every step.
"""

import bisect
import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn
from experiments.config import UsageError
from experiments.tasks import Batch
from jaxrnn.initializers import LecunNormal


class ModelParams(NamedTuple):
    cell: Any
    w_y: Array  # [H, output_size]
    b_y: Array  # [output_size]


@dataclasses.dataclass(frozen=True)
class Model:
    """outputs = h W_y + b_y, where h is what the cell puts out, at its last step or at all;
    frozen and hashable as a cell is.

    Args:
        cell: any cell, or a Stack; a convolutional cell is read out pixel by pixel.
        output_size: the number of outputs.
    """

    cell: jaxrnn.Cell
    output_size: int

    def init(self, key: Array, input_size: int) -> ModelParams:
        key_cell, key_y = jax.random.split(key)
        params = self.cell.init(key_cell, input_size)
        x = jnp.zeros((1, *(9,) * (self.cell.feature_axes - 1), input_size))
        y = jax.eval_shape(lambda: jaxrnn.unroll(self.cell, params, x)[1])
        w_y = LecunNormal()(key_y, (y.shape[-1], self.output_size), y.dtype)
        return ModelParams(cell=params, w_y=w_y, b_y=jnp.zeros(self.output_size, y.dtype))

    def __call__(self, params: ModelParams, batch: Batch, key: Array | None = None) -> Array:
        """The outputs [B, *spatial_shape, output_size] at the last step; [T, B, ...] where the
        batch says which are scored. With a key, the noise of the cell is drawn from it.
        """
        xs = batch.inputs
        noise = None if key is None else self.cell.noise(key, len(xs), xs[0])
        carry, ys = jaxrnn.unroll(self.cell, params.cell, xs, mask=batch.mask, noise=noise)
        if batch.scored is not None:
            return ys @ params.w_y + params.b_y
        state = put_out(carry)
        return (ys[-1] if state is None else state) @ params.w_y + params.b_y

    def readout(self, params: ModelParams, carry: Any) -> Array:
        """The outputs [B, ..., output_size] of a carry; where a cell puts out something else, as if
        it put out the smallest field that has as many units.
        """
        state = put_out(carry)
        if state is None:
            H = len(params.w_y)
            fields = [leaf for leaf in jax.tree.leaves(_last(carry)) if leaf.shape[-1] == H]
            state = min(fields, key=lambda leaf: leaf.ndim).reshape(-1, H)
        return state @ params.w_y + params.b_y


def put_out(carry: Any) -> Array | None:
    """The state that a cell puts out, h, or y where the paper's equations call it so, of a Stack
    that of its last layer; None where a cell puts out something else.
    """
    carry = _last(carry)
    return getattr(carry, "h", getattr(carry, "y", None))


def _last(carry: Any) -> Any:
    return carry[-1] if type(carry) is tuple else carry


def units(make: Callable[[int], Model], input_size: int, parameters: int) -> int:
    """The hidden size, from 1 to 4,096, with which a model has nearest to so many parameters.

    Raises:
        UsageError: more than the largest has.
    """

    def count(size: int) -> int:
        shapes = jax.eval_shape(lambda key: make(size).init(key, input_size), jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    def legal(size: int) -> bool:
        with contextlib.suppress(ValueError):  # a cell with heads takes multiples of their number
            return bool(make(size))
        return False

    # Making each of them would take minutes where a wrapper looks into its cell.
    least, second = itertools.islice(filter(legal, itertools.count(1)), 2)
    sizes = range(least, 4097, second - least)
    k = bisect.bisect_left(sizes, parameters, key=count)
    if k == len(sizes):
        raise UsageError(
            f"parameters={parameters:,} is more than hidden size {sizes[-1]:,}, the largest, has "
            "with this cell and task."
        )
    return min(sizes[max(k - 1, 0) : k + 1], key=lambda size: abs(count(size) - parameters))
