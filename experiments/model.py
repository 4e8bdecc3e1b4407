"""The model of every experiment: a cell over the sequence, and a linear readout of the state that it puts out last."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn
from experiments.tasks import Batch
from jaxrnn.initializers import LecunNormal


class ModelParams(NamedTuple):
    cell: Any
    w_y: Array  # [H, output_size]
    b_y: Array  # [output_size]


@dataclasses.dataclass(frozen=True)
class Model:
    """outputs = h_T W_y + b_y, where h_T is the last state of the cell; frozen and hashable as a cell is.

    Args:
        cell: any cell that puts out the field `h` of its carry, or `y` where there is no `h`; a convolutional cell is read out
            pixel by pixel.
        output_size: the number of outputs.
    """

    cell: jaxrnn.Cell
    output_size: int

    def init(self, key: Array, input_size: int) -> ModelParams:
        key_cell, key_y = jax.random.split(key)
        params = self.cell.init(key_cell, input_size)
        h = put_out(jaxrnn.initial_carry(self.cell, params, spatial_shape=(9,) * (self.cell.feature_axes - 1)))
        w_y = LecunNormal()(key_y, (h.shape[-1], self.output_size), h.dtype)
        return ModelParams(cell=params, w_y=w_y, b_y=jnp.zeros(self.output_size, h.dtype))

    def __call__(self, params: ModelParams, batch: Batch) -> Array:
        """The outputs [B, *spatial_shape, output_size] at the last step."""
        carry, _ = jaxrnn.unroll(self.cell, params.cell, batch.inputs, mask=batch.mask)
        return self.readout(params, carry)

    def readout(self, params: ModelParams, carry: Any) -> Array:
        """The outputs [..., output_size] of a carry."""
        return put_out(carry) @ params.w_y + params.b_y


def put_out(carry: Any) -> Array:
    """The state that a cell puts out: y where the paper's equations call it so."""
    return carry.h if hasattr(carry, "h") else carry.y
