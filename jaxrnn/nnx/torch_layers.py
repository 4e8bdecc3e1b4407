"""torch's layers as nnx modules."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrnn.cell import DType
from jaxrnn.cells.activations import Activation
from jaxrnn.initializers import Chrono, Initializer
from jaxrnn.interop import from_torch, to_torch
from jaxrnn.modules import layers
from jaxrnn.modules.arguments import (
    check_input_size,
    check_torch,
    told,
    warn_of_idle_dropout,
)
from jaxrnn.nnx.module import Fixed, Module, options_of
from jaxrnn.running.method import Method


class Torch(Module):
    """What the modules with torch's names share."""

    hidden_size = Fixed(lambda module: module.cell.cells[0].hidden_size)
    num_layers = Fixed(lambda module: len(module.cell.cells))
    bias = Fixed(lambda module: module.cell.cells[0].bias)
    dropout = Fixed(lambda module: module.cell.dropout)
    bidirectional = Fixed(lambda module: module.cell.bidirectional)
    proj_size = Fixed(lambda module: getattr(module.cell.cells[0], "proj_size", 0))
    merge = Fixed(lambda module: module.cell.merge)

    def load_torch(self, state_dict: Mapping[str, Any], *, prefix: str = "") -> None:
        """Takes the weights of the torch module of the same configuration, in place; dtype and
        sharding stay the module's own.

        Args:
            state_dict: `torch_module.state_dict()`, or NumPy arrays under the same names.
            prefix: what stands before each name, such as "encoder.lstm.".

        Raises:
            ValueError: missing, unexpected or misshapen entries, all of them listed; the module is
                unchanged.
        """
        self.load(from_torch(self.cell, self.input_size, state_dict, None, prefix=prefix))

    def to_torch(self, *, prefix: str = "") -> dict[str, np.ndarray]:
        """The weights under torch's names; `torch.as_tensor` makes each
        of them a tensor for `load_state_dict`.
        """
        return to_torch(self.cell, self.params, prefix=prefix)


class RNN(Torch):
    """A stack of Elman layers: `torch.nn.RNN` on JAX.

    Args:
        input_size, hidden_size, num_layers, nonlinearity: as in `torch.nn.RNN`.
        bias, batch_first, dropout, bidirectional: as in `torch.nn.RNN`.
        merge: how the outputs of both directions become one, as in `jaxrnn.Stack`.
        recurrent_init, input_init, init_scheme: as in `jaxrnn.RNNCell`; `init_scheme="torch"` draws
            as torch does.
        param_dtype: dtype of the parameters.
        dtype: dtype of the computation; None follows the input.
        method, remat: as in `jaxrnn.unroll`.
        hidden_axis: the axis of an Auto mesh over which hidden units are split: kernels on their
            last axis, and vectors as long, as partition metadata; biases of several gates stay
            whole. The module is then made within `jax.set_mesh(mesh)`. None means no metadata.
        rngs: makes the parameters, and gives a stream "dropout" where there is dropout.

    Raises:
        TypeError, ValueError: arguments that do not fit; the message says what was expected.
    """

    nonlinearity = Fixed(lambda module: module.cell.cells[0].nonlinearity)

    @told
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Activation = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        merge: str = "concat",
        recurrent_init: Initializer = "orthogonal",
        input_init: Initializer = "lecun_normal",
        init_scheme: str = "jaxrnn",
        param_dtype: DType = jnp.float32,
        dtype: DType | None = None,
        method: str | Method | None = None,
        remat: str = "none",
        hidden_axis: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_input_size(input_size)
        check_torch(
            first="nonlinearity",
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
        )
        warn_of_idle_dropout(dropout, num_layers)
        shape = (hidden_size, num_layers, nonlinearity, bias, dropout, bidirectional, merge)
        stack = layers.rnn(*shape, recurrent_init, input_init, init_scheme)
        options = options_of(batch_first, dtype, method, remat, torch=True)
        super().__init__(stack, input_size, param_dtype, options, hidden_axis, rngs)


class LSTM(Torch):
    """A stack of LSTM layers: `torch.nn.LSTM` on JAX.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size:
            as in `torch.nn.LSTM`.
        merge: how the outputs of both directions become one, as in `jaxrnn.Stack`.
        forget_bias, recurrent_init, input_init, init_scheme: as in `jaxrnn.LSTMCell`;
            `init_scheme="torch"` draws as torch does.
        param_dtype: dtype of the parameters.
        dtype: dtype of the computation; None follows the input.
        method, remat: as in `jaxrnn.unroll`.
        hidden_axis: the axis of an Auto mesh over which hidden units are split: kernels on their
            last axis, and vectors as long, as partition metadata; biases of several gates stay
            whole. The module is then made within `jax.set_mesh(mesh)`. None means no metadata.
        rngs: makes the parameters, and gives a stream "dropout" where there is dropout.

    Raises:
        TypeError, ValueError: arguments that do not fit; the message says what was expected.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import jaxrnn.nnx as rnn
        >>> lstm = rnn.LSTM(10, 20, num_layers=2, batch_first=True, rngs=nnx.Rngs(0))
        >>> output, (h_n, c_n) = lstm(jnp.ones((5, 15, 10)), lengths=[15, 7, 0, 1, 3])
        >>> output.shape, h_n.shape
        ((5, 15, 20), (2, 5, 20))
    """

    @told
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        merge: str = "concat",
        forget_bias: float | Chrono = 1.0,
        recurrent_init: Initializer = "orthogonal",
        input_init: Initializer = "lecun_normal",
        init_scheme: str = "jaxrnn",
        param_dtype: DType = jnp.float32,
        dtype: DType | None = None,
        method: str | Method | None = None,
        remat: str = "none",
        hidden_axis: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_input_size(input_size)
        check_torch(
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
        )
        warn_of_idle_dropout(dropout, num_layers)
        shape = (hidden_size, num_layers, bias, dropout, bidirectional, proj_size, merge)
        stack = layers.lstm(*shape, forget_bias, recurrent_init, input_init, init_scheme)
        options = options_of(batch_first, dtype, method, remat, torch=True)
        super().__init__(stack, input_size, param_dtype, options, hidden_axis, rngs)


class GRU(Torch):
    """A stack of GRU layers: `torch.nn.GRU` on JAX.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as in
            `torch.nn.GRU`.
        merge: how the outputs of both directions become one, as in `jaxrnn.Stack`.
        update_bias, recurrent_init, input_init, init_scheme: as in `jaxrnn.GRUCell`;
            `init_scheme="torch"` draws as torch does.
        param_dtype: dtype of the parameters.
        dtype: dtype of the computation; None follows the input.
        method, remat: as in `jaxrnn.unroll`.
        hidden_axis: the axis of an Auto mesh over which hidden units are split: kernels on their
            last axis, and vectors as long, as partition metadata; biases of several gates stay
            whole. The module is then made within `jax.set_mesh(mesh)`. None means no metadata.
        rngs: makes the parameters, and gives a stream "dropout" where there is dropout.

    Raises:
        TypeError, ValueError: arguments that do not fit; the message says what was expected.
    """

    @told
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        merge: str = "concat",
        update_bias: float | Chrono = 0.0,
        recurrent_init: Initializer = "orthogonal",
        input_init: Initializer = "lecun_normal",
        init_scheme: str = "jaxrnn",
        param_dtype: DType = jnp.float32,
        dtype: DType | None = None,
        method: str | Method | None = None,
        remat: str = "none",
        hidden_axis: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_input_size(input_size)
        check_torch(
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
        )
        warn_of_idle_dropout(dropout, num_layers)
        shape = (hidden_size, num_layers, bias, dropout, bidirectional, merge)
        stack = layers.gru(*shape, update_bias, recurrent_init, input_init, init_scheme)
        options = options_of(batch_first, dtype, method, remat, torch=True)
        super().__init__(stack, input_size, param_dtype, options, hidden_axis, rngs)
