"""torch's layers as linen modules."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrnn.cell import DType
from jaxrnn.cells.activations import Activation
from jaxrnn.initializers import Chrono, Initializer
from jaxrnn.interop import from_torch, to_torch
from jaxrnn.linen.module import Module, with_hints
from jaxrnn.modules import layers
from jaxrnn.modules.arguments import (
    check_dtypes,
    check_input_size,
    check_torch,
    warn_of_idle_dropout,
)
from jaxrnn.modules.call import Options
from jaxrnn.running.method import Method, resolve
from jaxrnn.stack import Stack
from jaxrnn.structure import fit_params

_CHECKED = (
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "proj_size",
)


class Torch(Module):
    """What the modules with torch's names share."""

    _first = None

    @property
    def cell(self) -> Stack:
        """The stack of cells that this module runs."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        check_input_size(self.input_size)
        values = {name: getattr(self, name) for name in _CHECKED if hasattr(self, name)}
        check_torch(self._first, **values)
        check_dtypes(self.param_dtype, self.dtype)
        resolve(self.method, self.remat)
        _ = self.cell  # checks the other fields
        super().__post_init__()
        if self.scope is None:  # made by hand, not a copy that Flax makes for each call
            warn_of_idle_dropout(self.dropout, self.num_layers)

    @nn.nowrap
    def _options(self) -> Options:
        return super()._options()._replace(torch=True)

    @nn.nowrap
    def from_torch(self, state_dict: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
        """The variables with the weights of the torch module of the same configuration,
        in this module's `param_dtype`.

        Args:
            state_dict: `torch_module.state_dict()`, or NumPy arrays under the same names.
            prefix: what stands before each name, such as "encoder.lstm.".

        Raises:
            ValueError: missing, unexpected or misshapen entries, all of them listed.
        """
        dtype = self.param_dtype
        return self.load(from_torch(self.cell, self.input_size, state_dict, dtype, prefix=prefix))

    @nn.nowrap
    def to_torch(self, variables: Mapping[str, Any], *, prefix: str = "") -> dict[str, np.ndarray]:
        """The weights under torch's names; `torch.as_tensor` makes each
        of them a tensor for `load_state_dict`.
        """
        params = fit_params(self.cell, variables, self.input_size)
        return to_torch(self.cell, params, prefix=prefix)


@with_hints
class RNN(Torch):
    """A stack of Elman layers: `torch.nn.RNN` on JAX.

    Args:
        deterministic: True switches dropout off, False on; None leaves it to the call.
        hidden_axis: as in `Recurrent`.
        All others: as in `jaxrnn.nnx.RNN`.
    """

    _first = "nonlinearity"

    input_size: int
    hidden_size: int
    num_layers: int = 1
    nonlinearity: Activation = "tanh"
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    _: dataclasses.KW_ONLY
    merge: str = "concat"
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    init_scheme: str = "jaxrnn"
    deterministic: bool | None = None
    param_dtype: DType = jnp.float32
    dtype: DType | None = None
    method: str | Method | None = None
    remat: str = "none"
    hidden_axis: str | None = None

    @property
    def cell(self) -> Stack:
        shape = (
            self.hidden_size,
            self.num_layers,
            self.nonlinearity,
            self.bias,
            self.dropout,
            self.bidirectional,
            self.merge,
        )
        return layers.rnn(*shape, self.recurrent_init, self.input_init, self.init_scheme)


@with_hints
class LSTM(Torch):
    """A stack of LSTM layers: `torch.nn.LSTM` on JAX.

    Args:
        deterministic: True switches dropout off, False on; None leaves it to the call.
        hidden_axis: as in `Recurrent`.
        All others: as in `jaxrnn.nnx.LSTM`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxrnn.linen as rnn
        >>> lstm = rnn.LSTM(10, 20, num_layers=2, batch_first=True)
        >>> xs = jnp.ones((5, 15, 10))
        >>> variables = lstm.init(jax.random.key(0), xs)
        >>> output, (h_n, c_n) = lstm.apply(variables, xs)
        >>> output.shape, h_n.shape
        ((5, 15, 20), (2, 5, 20))
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0
    _: dataclasses.KW_ONLY
    merge: str = "concat"
    forget_bias: float | Chrono = 1.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    init_scheme: str = "jaxrnn"
    deterministic: bool | None = None
    param_dtype: DType = jnp.float32
    dtype: DType | None = None
    method: str | Method | None = None
    remat: str = "none"
    hidden_axis: str | None = None

    @property
    def cell(self) -> Stack:
        shape = (
            self.hidden_size,
            self.num_layers,
            self.bias,
            self.dropout,
            self.bidirectional,
            self.proj_size,
            self.merge,
        )
        return layers.lstm(
            *shape, self.forget_bias, self.recurrent_init, self.input_init, self.init_scheme
        )


@with_hints
class GRU(Torch):
    """A stack of GRU layers: `torch.nn.GRU` on JAX.

    Args:
        deterministic: True switches dropout off, False on; None leaves it to the call.
        hidden_axis: as in `Recurrent`.
        All others: as in `jaxrnn.nnx.GRU`.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    _: dataclasses.KW_ONLY
    merge: str = "concat"
    update_bias: float | Chrono = 0.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    init_scheme: str = "jaxrnn"
    deterministic: bool | None = None
    param_dtype: DType = jnp.float32
    dtype: DType | None = None
    method: str | Method | None = None
    remat: str = "none"
    hidden_axis: str | None = None

    @property
    def cell(self) -> Stack:
        shape = (
            self.hidden_size,
            self.num_layers,
            self.bias,
            self.dropout,
            self.bidirectional,
            self.merge,
        )
        return layers.gru(
            *shape, self.update_bias, self.recurrent_init, self.input_init, self.init_scheme
        )
