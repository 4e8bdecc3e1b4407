"""Any cell or stack as an nnx module."""

import jax.numpy as jnp
from flax import nnx

from jaxrnn.cell import Cell, DType
from jaxrnn.modules.arguments import check_recurrent, told
from jaxrnn.nnx.module import Fixed, Module, options_of
from jaxrnn.running.method import Method


class Recurrent(Module):
    """Any cell or stack as a module; its state is that cell's carry.

    Args:
        cell: the cell or stack.
        input_size: the number of input features.
        batch_first: whether `xs` is [*batch, T, features] (as in Flax) instead of
            [T, *batch, features] (as in torch). It has no default, since the habits differ.
        param_dtype: dtype of the parameters.
        dtype: dtype of the computation; None follows the input.
        method, remat: as in `jaxrnn.unroll`.
        reverse: whether time runs from the last step to the first; outputs stay aligned with the
            inputs. Padding on the right is then passed first, and holds the state.
        hidden_axis: the axis of an Auto mesh over which hidden units are split: kernels on their
            last axis, and vectors as long, as partition metadata; biases of several gates stay
            whole. The module is then made within `jax.set_mesh(mesh)`. None means no metadata.
        rngs: makes the parameters, and gives a stream "dropout" where the cell draws noise.

    Raises:
        TypeError, ValueError: arguments that do not fit; the message says what was expected.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> from flax import nnx
        >>> import jaxrnn.nnx as rnn
        >>> module = rnn.Recurrent(jaxrnn.LSTMCell(20), 10, batch_first=True, rngs=nnx.Rngs(0))
        >>> output, carry = module(jnp.ones((5, 15, 10)))
        >>> output.shape, carry.c.shape
        ((5, 15, 20), (5, 20))
    """

    reverse = Fixed(lambda module: module.options.reverse)

    @told
    def __init__(
        self,
        cell: Cell,
        input_size: int,
        *,
        batch_first: bool,
        param_dtype: DType = jnp.float32,
        dtype: DType | None = None,
        method: str | Method | None = None,
        remat: str = "none",
        reverse: bool = False,
        hidden_axis: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_recurrent(cell, input_size, batch_first, reverse)
        options = options_of(batch_first, dtype, method, remat, reverse=reverse)
        super().__init__(cell, input_size, param_dtype, options, hidden_axis, rngs)
