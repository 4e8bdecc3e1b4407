"""The recurrent layer of agents, as a linen module."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxrnn.cell import Cell, DType, Params
from jaxrnn.linen.module import with_hints
from jaxrnn.linen.recurrent import Recurrent
from jaxrnn.modules import scanned
from jaxrnn.modules.arguments import check_dtypes
from jaxrnn.running.method import Method, resolve


@with_hints
class ScannedRNN(nn.Module):
    """A cell over a window of steps in which episodes begin and end, with the call of the
    `ScannedRNN` that JAX agents carry along: `carry, ys = rnn(carry, (xs, resets))`.

    Args:
        hidden_size: the number of units; None reads it from the cell, or from the last axis of the
            carry.
        cell: a cell or stack, or the name of a cell: "gru", "lstm", "rnn", "mingru", ...
        deterministic, param_dtype, dtype, method, remat: as in `Recurrent`.

    Its parameters stand under "rnn", as those of a `Recurrent`; `load` makes them of others.

    Source: the module of that name in PureJaxRL, JaxMARL, Stoix and Mava.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxrnn.linen as rnn
        >>> module = rnn.ScannedRNN()
        >>> carry = rnn.ScannedRNN.initialize_carry(5, 20)
        >>> xs, resets = jnp.ones((15, 5, 10)), jnp.zeros((15, 5), bool)
        >>> variables = module.init(jax.random.key(0), carry, (xs, resets))
        >>> carry, ys = module.apply(variables, carry, (xs, resets))
        >>> carry.shape, ys.shape
        ((5, 20), (15, 5, 20))
    """

    hidden_size: int | None = None
    cell: str | Cell = "gru"
    _: dataclasses.KW_ONLY
    deterministic: bool | None = None
    param_dtype: DType = jnp.float32
    dtype: DType | None = None
    method: str | Method | None = None
    remat: str = "none"

    def __post_init__(self) -> None:
        if self.hidden_size is not None or not isinstance(self.cell, str):
            scanned.cell_of(self.cell, self.hidden_size)
        check_dtypes(self.param_dtype, self.dtype)
        resolve(self.method, self.remat)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Any, inputs: tuple[Any, Any]) -> tuple[Any, Any]:
        """Runs over a window.

        Args:
            carry: what `initialize_carry` or the window before returned; None means the first,
                where the number of units is known. It is an array where the cell's carry has one
                leaf, as a GRU's, else that carry.
            inputs: `(xs, resets)`: xs [T, *batch, features], and resets [T, *batch], True where an
                episode begins with that step: the carry is then the first before it is used.

        Returns:
            (carry, ys): the carry after the last step, and every step's output.

        Raises:
            TypeError, ValueError: arguments that do not fit; the message says what to do.
        """
        xs, resets = inputs
        cell = scanned.cell_of(self.cell, self.hidden_size, carry)
        names = ("deterministic", "param_dtype", "dtype", "method", "remat")
        options = {name: getattr(self, name) for name in names}
        size = jnp.shape(xs)[-1]
        module = Recurrent(cell, size, batch_first=False, name="rnn", **options)
        state = scanned.whole(cell, carry, jnp.shape(resets)[1:], size)
        ys, after = module(xs, state, reset=scanned.flags(resets))
        return scanned.bare(after), ys

    initialize_carry = staticmethod(scanned.initialize_carry)

    @nn.nowrap
    def load(self, params: Params) -> dict[str, Any]:
        """The variables with parameters of the core, as the converters of `jaxrnn.interop` give
        them: `module.load(from_linen(jaxrnn.GRUCell(64), theirs["GRUCell_0"]))`.

        Raises:
            TypeError, ValueError: what does not fit, or a number of units that is not known.
        """
        cell = scanned.cell_of(self.cell, self.hidden_size)
        size = scanned.input_size_of(cell, params)
        module = Recurrent(cell, size, batch_first=False, param_dtype=self.param_dtype)
        return {"params": {"rnn": module.load(params)["params"]}}
