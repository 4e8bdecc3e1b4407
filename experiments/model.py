"""The model of every experiment: a cell over the sequence, and a linear readout of the last state."""

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
        cell: any cell whose carry has a field `h`.
        output_size: the number of outputs.
    """

    cell: jaxrnn.Cell
    output_size: int

    def init(self, key: Array, input_size: int) -> ModelParams:
        key_cell, key_y = jax.random.split(key)
        params = self.cell.init(key_cell, input_size)
        h = jaxrnn.initial_carry(self.cell, params).h
        w_y = LecunNormal()(key_y, (*h.shape, self.output_size), h.dtype)
        return ModelParams(cell=params, w_y=w_y, b_y=jnp.zeros(self.output_size, h.dtype))

    def __call__(self, params: ModelParams, batch: Batch) -> Array:
        """The outputs [B, output_size] at the last step."""
        carry, _ = jaxrnn.unroll(self.cell, params.cell, batch.inputs, mask=batch.mask)
        return self.readout(params, carry)

    def readout(self, params: ModelParams, carry: Any) -> Array:
        """The outputs [..., output_size] of a carry."""
        return carry.h @ params.w_y + params.b_y
