"""The recurrent layer of agents, as an nnx module."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxrnn.cell import Cell, DType, Params
from jaxrnn.modules import scanned
from jaxrnn.modules.arguments import told
from jaxrnn.nnx.recurrent import Recurrent
from jaxrnn.running.method import Method


class ScannedRNN(nnx.Module):
    """A cell over a window of steps in which episodes begin and end, with the call of the
    `ScannedRNN` that JAX agents carry along: `carry, ys = rnn(carry, (xs, resets))`.

    Args:
        input_size: the number of input features.
        hidden_size: the number of units; None reads it from the cell.
        cell: a cell or stack, or the name of a cell: "gru", "lstm", "rnn", "mingru", ...
        param_dtype, dtype, method, remat, rngs: as in `Recurrent`, which it holds as `rnn`.

    Raises:
        TypeError, ValueError: arguments that do not fit; the message says what was expected.

    Source: the module of that name in PureJaxRL, JaxMARL, Stoix and Mava, which are in linen.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxrnn.nnx as rnn
        >>> module = rnn.ScannedRNN(10, 20, rngs=nnx.Rngs(0))
        >>> carry = rnn.ScannedRNN.initialize_carry(5, 20)
        >>> carry, ys = module(carry, (jnp.ones((15, 5, 10)), jnp.zeros((15, 5), bool)))
        >>> carry.shape, ys.shape
        ((5, 20), (15, 5, 20))
    """

    @told
    def __init__(
        self,
        input_size: int,
        hidden_size: int | None = None,
        cell: str | Cell = "gru",
        *,
        param_dtype: DType = jnp.float32,
        dtype: DType | None = None,
        method: str | Method | None = None,
        remat: str = "none",
        rngs: nnx.Rngs,
    ) -> None:
        chosen = scanned.cell_of(cell, hidden_size)
        options = dict(param_dtype=param_dtype, dtype=dtype, method=method, remat=remat)
        self.rnn = Recurrent(chosen, input_size, batch_first=False, rngs=rngs, **options)

    def __call__(self, carry: Any, inputs: tuple[Any, Any]) -> tuple[Any, Any]:
        """Runs over a window.

        Args:
            carry: what `initialize_carry` or the window before returned; None means the first. It
                is an array where the cell's carry has one leaf, as a GRU's, else that carry.
            inputs: `(xs, resets)`: xs [T, *batch, input_size], and resets [T, *batch], True where
                an episode begins with that step: the carry is then the first before it is used.

        Returns:
            (carry, ys): the carry after the last step, and every step's output.

        Raises:
            TypeError, ValueError: arguments that do not fit; the message says what to do.
        """
        xs, resets = inputs
        cell = self.rnn.cell
        state = scanned.whole(cell, carry, jnp.shape(resets)[1:], self.rnn.input_size)
        ys, after = self.rnn(xs, state, reset=scanned.flags(resets))
        return scanned.bare(after), ys

    initialize_carry = staticmethod(scanned.initialize_carry)

    def load(self, params: Params) -> None:
        """Takes parameters of any source, in place, as `Recurrent.load` does."""
        self.rnn.load(params)
