"""The recurrent layers as Flax linen modules: they hold parameters and fix the layout,
and call the pure core for all else.

`RNN`, `LSTM` and `GRU` have the constructor arguments, shapes and return values of their namesakes
in `torch.nn`; `Recurrent` runs any cell or stack. The parameters are nested dicts under the entry
"cell": the fields of the core's parameters by name, and the layers and directions of a stack by
number ("0", "1", ...), as `flax.serialization` writes them. `jaxrnn.unroll` takes them too.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrnn.cell import (
    Array,
    Carry,
    Cell,
    Dot,
    DType,
    Noise,
    Params,
    carry_dtype,
    cast,
    check_cell_type,
    dot,
)
from jaxrnn.initializers import Chrono, Initializer
from jaxrnn.interop import from_torch, layers, to_torch
from jaxrnn.interop.layers import LSTMState, Options
from jaxrnn.running import initial_carry
from jaxrnn.running.method import Method, resolve
from jaxrnn.stack import Stack
from jaxrnn.structure import fit_params

__all__ = ["GRU", "LSTM", "RNN", "CellForRNN", "FromLinen", "LSTMState", "Recurrent"]


class _Module(nn.Module):
    """Parameters of a cell, and the key of a call."""

    def _key(self, cell: Cell, key: Array | None, deterministic: bool | None) -> Array | None:
        """The key of this call's noise; None where nothing is drawn."""
        if not layers.is_noisy(cell, self.input_size):
            return None
        random = key is not None or self.has_rng("dropout")
        if self._is_deterministic(key, deterministic) or (self.is_initializing() and not random):
            return None
        if not random:
            raise ValueError(
                "training with dropout needs randomness: pass key=, or "
                "rngs={'dropout': key} to apply."
            )
        return self.make_rng("dropout") if key is None else key

    def _is_deterministic(self, key: Array | None, deterministic: bool | None) -> bool:
        """What the call says, else the module; where neither does, a key means training."""
        chosen = self.deterministic if deterministic is None else deterministic
        if chosen is None:
            chosen = key is None and self.is_initializing()
            if key is None and not chosen:
                raise ValueError(
                    "a module with dropout needs deterministic=True or False, "
                    "in the call or when made."
                )
        return chosen

    def _params(self, cell: Cell) -> Params:
        """Those given, else new ones. (`self.param` would trace the initialiser again on every
        call, 10 ms and more.)
        """
        if self.has_variable("params", "cell"):
            found = nn.meta.unbox(self.get_variable("params", "cell"))
        else:
            found = nn.meta.unbox(self.param("cell", self._init, cell))
        return fit_params(cell, found, self.input_size)

    def _init(self, key: Array, cell: Cell) -> dict[str, Any]:
        return self._stored(cell.init(key, self.input_size, self.param_dtype))

    def _stored(self, params: Params) -> dict[str, Any]:
        """Parameters as they are kept, with their partition metadata where there is any."""
        if self.hidden_axis is not None:
            axes = layers.hidden_last(params, self.hidden_axis)
            params = jax.tree.map(nn.Partitioned, params, axes)
        return _as_dicts(params)

    def _options(self) -> Options:
        return Options(self.batch_first, self.dtype, self.method, self.remat)


def _as_dicts(params: Any) -> Any:
    """Tuples as dicts: fields by name, other entries by number; what is None is left out."""
    if not isinstance(params, tuple):
        return params
    names = getattr(params, "_fields", None) or map(str, range(len(params)))
    pairs = zip(names, params, strict=True)
    return {name: _as_dicts(part) for name, part in pairs if part is not None}


class Recurrent(_Module):
    """Any cell or stack as a module; its state is that cell's carry.

    Args:
        cell: the cell or stack.
        input_size: the number of input features.
        batch_first: whether `xs` is [*batch, T, features] (as in Flax) instead of
            [T, *batch, features] (as in torch). It has no default, since the habits differ.
        deterministic: True switches the cell's noise off, False on; None leaves it to the call.
        param_dtype, dtype, method, remat: as in `jaxrnn.nnx.Recurrent`.
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
    hidden_axis: str | None = None

    def __post_init__(self) -> None:
        check_cell_type(self.cell)
        layers.check_input_size(self.input_size)
        resolve(self.method, self.remat)
        super().__post_init__()

    def setup(self) -> None:
        self.params = self._params(self.cell)

    def __call__(
        self,
        xs: Array,
        state: Carry | None = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        key: Array | None = None,
        deterministic: bool | None = None,
    ) -> tuple[Array, Carry]:
        """Runs over a sequence; the arguments are those of `LSTM`,
        and `state` is the cell's carry.
        """
        key = self._key(self.cell, key, deterministic)
        sequence = dict(lengths=lengths, mask=mask, reset=reset, key=key)
        return layers.call(self.cell, self.params, xs, state, self._options(), **sequence)

    def step(self, x: Array, state: Carry | None = None) -> tuple[Array, Carry]:
        """One step without dropout, for streaming:
        `module.apply(variables, x, state, method="step")` is `(y, state)`.
        """
        return layers.step(self.cell, self.params, x, state, self._options())


class _Torch(_Module):
    """What the modules with torch's names share."""

    def stack(self) -> Stack:
        """The stack of cells that this module runs."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        layers.check_input_size(self.input_size)
        resolve(self.method, self.remat)
        self.stack()  # checks the other fields
        super().__post_init__()
        if self.scope is None:  # made by hand, not a copy that Flax makes for each call
            layers.warn_of_idle_dropout(self.dropout, self.num_layers)

    def setup(self) -> None:
        self.params = self._params(self.stack())

    def __call__(
        self,
        xs: Array,
        state: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        key: Array | None = None,
        deterministic: bool | None = None,
    ) -> tuple[Array, Any]:
        """Runs over a sequence: arguments, returns and errors are those of `jaxrnn.nnx.LSTM`,
        with these differences.

        Args:
            deterministic: True switches dropout off, False on; None follows the module's field.
                Where that is None too, a given `key` means training, `init` means none, and all
                else is an error.
            key: the random key of this call's dropout; it wins over `rngs={"dropout": ...}`.
        """
        stack = self.stack()
        sequence = dict(
            lengths=lengths, mask=mask, reset=reset, key=self._key(stack, key, deterministic)
        )
        return layers.torch_call(stack, self.params, xs, state, self._options(), **sequence)

    def step(self, x: Array, state: Any = None) -> tuple[Array, Any]:
        """One step without dropout, for streaming:
        `module.apply(variables, x, state, method="step")` is `(y, state)`.
        """
        return layers.torch_step(self.stack(), self.params, x, state, self._options())

    def from_torch(self, state_dict: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
        """The variables with the weights of the torch module of the same configuration,
        in this module's `param_dtype`.

        Args:
            state_dict: `torch_module.state_dict()`, or NumPy arrays under the same names.
            prefix: what stands before each name, such as "encoder.lstm.".

        Raises:
            ValueError: missing, unexpected or misshapen entries, all of them listed.
        """
        params = from_torch(
            self.stack(), self.input_size, state_dict, self.param_dtype, prefix=prefix
        )
        return {"params": {"cell": self._stored(params)}}

    def to_torch(self, variables: Mapping[str, Any], *, prefix: str = "") -> dict[str, np.ndarray]:
        """The weights under torch's names; `torch.as_tensor` makes each
        of them a tensor for `load_state_dict`.
        """
        params = nn.meta.unbox(variables["params"]["cell"])
        return to_torch(
            self.stack(), fit_params(self.stack(), params, self.input_size), prefix=prefix
        )


class RNN(_Torch):
    """A stack of Elman layers: `torch.nn.RNN` on JAX.

    Args:
        deterministic: True switches dropout off, False on; None leaves it to the call.
        hidden_axis: as in `Recurrent`.
        All others: as in `jaxrnn.nnx.RNN`.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    nonlinearity: str = "tanh"
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    _: dataclasses.KW_ONLY
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    init_scheme: str = "jaxrnn"
    deterministic: bool | None = None
    param_dtype: DType = jnp.float32
    dtype: DType | None = None
    method: str | Method | None = None
    remat: str = "none"
    hidden_axis: str | None = None

    def stack(self) -> Stack:
        shape = (
            self.hidden_size,
            self.num_layers,
            self.nonlinearity,
            self.bias,
            self.dropout,
            self.bidirectional,
        )
        return layers.rnn(*shape, self.recurrent_init, self.input_init, self.init_scheme)


class LSTM(_Torch):
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

    def stack(self) -> Stack:
        shape = (
            self.hidden_size,
            self.num_layers,
            self.bias,
            self.dropout,
            self.bidirectional,
            self.proj_size,
        )
        return layers.lstm(
            *shape, self.forget_bias, self.recurrent_init, self.input_init, self.init_scheme
        )


class GRU(_Torch):
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

    def stack(self) -> Stack:
        shape = (self.hidden_size, self.num_layers, self.bias, self.dropout, self.bidirectional)
        return layers.gru(
            *shape, self.update_bias, self.recurrent_init, self.input_init, self.init_scheme
        )


class CellForRNN(nn.RNNCellBase):
    """A cell as a Flax linen cell, for `flax.linen.RNN` and `flax.linen.Bidirectional`,
    without its noise.

    Where nothing in Flax is needed around it, `Recurrent` does the same faster: it takes all
    inputs' products at once.

    Args:
        cell: the cell or stack; one direction, since Flax runs it step by step.
        param_dtype: dtype of the parameters.
        dtype: dtype of the computation; None means `param_dtype`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from flax import linen as nn
        >>> import jaxrnn.linen as rnn
        >>> module = nn.RNN(rnn.CellForRNN(jaxrnn.LSTMCell(20)), return_carry=True)
        >>> xs = jnp.ones((5, 15, 10))
        >>> variables = module.init(jax.random.key(0), xs)
        >>> carry, ys = module.apply(variables, xs, seq_lengths=jnp.array([15, 7, 1, 2, 3]))
        >>> ys.shape, carry.c.shape
        ((5, 15, 20), (5, 20))
    """

    cell: Cell
    param_dtype: DType = jnp.float32
    dtype: DType | None = None

    def __post_init__(self) -> None:
        check_cell_type(self.cell)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """One step: `inputs` [*batch, features] to `(carry, y)`."""
        if self.has_variable("params", "cell"):
            params = nn.meta.unbox(self.get_variable("params", "cell"))
        else:
            params = self.param("cell", self._init, inputs.shape[-1])
        params = fit_params(self.cell, params, inputs.shape[-1])
        return self.cell(params, carry, jnp.asarray(inputs, self.dtype or self.param_dtype))

    def _init(self, key: Array, input_size: int) -> dict[str, Any]:
        return _as_dicts(self.cell.init(key, input_size, self.param_dtype))

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Carry:
        """The carry before the first step, for inputs of one step's shape, [*batch, features];
        learned where the cell's is.
        """
        if self.scope is not None and self.has_variable("params", "cell"):
            params = nn.meta.unbox(self.get_variable("params", "cell"))
            params = fit_params(self.cell, params, input_shape[-1])
        else:
            params = self.cell.init(rng, input_shape[-1], self.param_dtype)
        axes = len(input_shape) - self.cell.feature_axes
        return initial_carry(
            self.cell,
            params,
            input_shape[:axes],
            self.dtype or self.param_dtype,
            spatial_shape=input_shape[axes:-1],
        )

    @property
    def num_feature_axes(self) -> int:
        return self.cell.feature_axes


@dataclasses.dataclass(frozen=True)
class FromLinen(Cell):
    """A Flax linen cell as a cell, for `jaxrnn.unroll` and all else:
    its parameters are the module's variables.

    Its products do not go through `dot`, so that it is right, but not as fast as a cell of ours. It
    must need no random stream.

    Args:
        module: the cell, a `flax.linen.RNNCellBase`. Its `param_dtype` gives way to the dtype that
            `init` is asked for.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from flax import linen as nn
        >>> import jaxrnn.linen as rnn
        >>> cell = rnn.FromLinen(nn.LSTMCell(20))
        >>> params = cell.init(jax.random.key(0), input_size=10)
        >>> (c, h), ys = jaxrnn.unroll(cell, params, jnp.ones((15, 5, 10)))
        >>> ys.shape
        (15, 5, 20)
    """

    module: nn.RNNCellBase
    elementwise = False  # its products are out of reach

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.RNNCellBase):
            raise TypeError(
                f"module must be a cell of flax.linen, an RNNCellBase, got {self.module!r}."
            )

    @property
    def feature_axes(self) -> int:  # pyrefly: ignore[bad-override]
        return self.module.num_feature_axes

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> Params:
        x = jnp.zeros((1,) * (self.feature_axes - 1) + (input_size,), carry_dtype(dtype))
        module = self.module
        if hasattr(module, "param_dtype"):  # drawn wide, since QR has no 16-bit form
            module = module.clone(param_dtype=x.dtype)
        return cast(module.init(key, module.initialize_carry(key, x.shape), x), dtype)

    def init_carry(self, params: Params, like: Array) -> Carry:
        first = self.module.initialize_carry(jax.random.key(0), like.shape)
        return layers.like_inputs(first, like, self.feature_axes)

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Array:
        return xs

    def step(self, params: Params, carry: Carry, u: Array, dot: Dot = dot) -> tuple[Carry, Array]:
        after: Any = self.module.apply(params, carry, u)
        carry, y = cast(after, u.dtype)
        return carry, y

    def __deepcopy__(self, memo: dict[int, Any]) -> "FromLinen":
        return self  # nothing of it changes, and a copied Flax module does not equal its original
