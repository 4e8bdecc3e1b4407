"""Any cell or stack as a linen module."""

import dataclasses

import jax.numpy as jnp

from jaxrnn.cell import Cell, DType
from jaxrnn.linen.module import Module, with_hints
from jaxrnn.modules.arguments import check_dtypes, check_recurrent
from jaxrnn.running.method import Method, resolve


@with_hints
class Recurrent(Module):
    """Any cell or stack as a module; its state is that cell's carry.

    Args:
        cell: the cell or stack.
        input_size: the number of input features.
        batch_first: whether `xs` is [*batch, T, features] (as in Flax) instead of
            [T, *batch, features] (as in torch). It has no default, since the habits differ.
        deterministic: True switches the cell's noise off, False on; None leaves it to the call.
        param_dtype, dtype, method, remat, reverse: as in `jaxrnn.nnx.Recurrent`.
        hidden_axis: the axis of an Auto mesh over which hidden units are split: kernels on their
            last axis, and vectors as long; biases of several gates stay whole. `init` boxes them as
            `nn.Partitioned`. None means no metadata.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> import jaxrnn.linen as rnn
        >>> module = rnn.Recurrent(jaxrnn.LSTMCell(20), 10, batch_first=True)
        >>> xs = jnp.ones((5, 15, 10))
        >>> output, carry = module.apply(module.init(jax.random.key(0), xs), xs)
        >>> output.shape, carry.c.shape
        ((5, 15, 20), (5, 20))
    """

    cell: Cell
    input_size: int
    _: dataclasses.KW_ONLY
    batch_first: bool
    deterministic: bool | None = None
    param_dtype: DType = jnp.float32
    dtype: DType | None = None
    method: str | Method | None = None
    remat: str = "none"
    reverse: bool = False
    hidden_axis: str | None = None

    def __post_init__(self) -> None:
        check_recurrent(self.cell, self.input_size, self.batch_first, self.reverse)
        check_dtypes(self.param_dtype, self.dtype)
        resolve(self.method, self.remat)
        super().__post_init__()
