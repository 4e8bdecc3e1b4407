"""The recurrent layers as Flax nnx modules: they hold parameters and fix the layout,
and call the pure core for all else.

`RNN`, `LSTM` and `GRU` have the constructor arguments, shapes and return values of their namesakes
in `torch.nn`; `Recurrent` runs any cell or stack. Modules train by default, as in torch:
`module.eval()` and `module.train()` switch dropout.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrnn.cell import Array, Carry, Cell, Dot, DType, Noise, Params, cast, check_cell_type, dot
from jaxrnn.initializers import Chrono, Initializer
from jaxrnn.interop import from_torch, layers, to_torch
from jaxrnn.interop.layers import LSTMState, Options
from jaxrnn.running import initial_carry
from jaxrnn.running.method import Method, resolve

__all__ = ["GRU", "LSTM", "RNN", "CellForRNN", "FromNnx", "LSTMState", "Recurrent"]


class _Module(nnx.Module):
    """Parameters of a cell, and a random stream only where the cell draws something."""

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        param_dtype: DType,
        options: Options,
        hidden_axis: str | None,
        rngs: nnx.Rngs,
    ) -> None:
        layers.check_input_size(input_size)
        resolve(options.method, options.remat)
        if not isinstance(rngs, nnx.Rngs) or not ("params" in rngs or "default" in rngs):
            raise TypeError(
                "rngs must be an nnx.Rngs with a stream for the parameters, such as "
                f"nnx.Rngs(0), got {rngs!r}."
            )
        self.input_size = input_size
        self.options = options
        self.cell: Any = cell
        params = cell.init(rngs.params(), input_size, param_dtype)
        self.params = nnx.data(_variables(params, hidden_axis))
        self.deterministic = False
        noisy = layers.is_noisy(cell, input_size) and ("dropout" in rngs or "default" in rngs)
        self.rngs: Any = nnx.data(rngs.dropout.fork() if noisy else None)

    def _params(self) -> Params:
        return jax.tree.map(lambda p: p[...], self.params, is_leaf=_is_variable)

    def _key(self, key: Array | None, deterministic: bool | None) -> Array | None:
        """The key of this call's noise; None where nothing is drawn."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic or not layers.is_noisy(self.cell, self.input_size):
            return None
        if key is None and self.rngs is None:
            raise ValueError(
                "training with dropout needs randomness: pass key=, or rngs with a 'dropout' or "
                "default stream when making the module; or call eval(), or pass deterministic=True."
            )
        return self.rngs() if key is None else key


class Recurrent(_Module):
    """Any cell or stack as a module; its state is that cell's carry.

    Args:
        cell: the cell or stack.
        input_size: the number of input features.
        batch_first: whether `xs` is [*batch, T, features] (as in Flax) instead of
            [T, *batch, features] (as in torch). It has no default, since the habits differ.
        param_dtype: dtype of the parameters.
        dtype: dtype of the computation; None follows the input.
        method, remat: as in `jaxrnn.unroll`.
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
        hidden_axis: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_cell_type(cell)
        options = Options(batch_first, dtype, method, remat)
        super().__init__(cell, input_size, param_dtype, options, hidden_axis, rngs)

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
        key = self._key(key, deterministic)
        sequence = dict(lengths=lengths, mask=mask, reset=reset, key=key)
        return layers.call(self.cell, self._params(), xs, state, self.options, **sequence)

    def step(self, x: Array, state: Carry | None = None) -> tuple[Array, Carry]:
        """One step without dropout, for streaming: `x` [*batch, features] to `(y, state)`."""
        return layers.step(self.cell, self._params(), x, state, self.options)


class _Torch(_Module):
    """What the modules with torch's names share."""

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
        """Runs over a sequence.

        Args:
            xs: [T, batch, input_size], or [batch, T, input_size] with `batch_first`, or
                [T, input_size] without batch.
            state: `h_0`, for an LSTM `(h_0, c_0)`, each [num_layers * num_directions, batch, size]
                whatever `batch_first`; None means zeros.
            lengths: [batch] integers: the valid steps of each right-padded sequence, zero included.
                Outputs beyond are zero.
            mask: booleans of the leading axes of `xs`; False is padding, anywhere. `lengths` and
                `mask` together mean both.
            reset: booleans of the leading axes of `xs`; True begins a new sequence, from the zero
                state, at that step.
            key: the random key of this call's dropout; it wins over the module's own stream.
                Training under plain `jax.jit` needs it, since a stream captured there would repeat
                one mask.
            deterministic: True switches dropout off, False on; None follows `eval()` and `train()`,
                the initial mode.

        Returns:
            (output, state): the last layer's outputs at every step, laid out as `xs`, and the state
            after the last valid step: `h_n`, for an LSTM the named pair `(h_n, c_n)`.

        Raises:
            TypeError, ValueError: arguments that do not fit, or dropout without randomness; the
                message says what to do.
        """
        key = self._key(key, deterministic)
        sequence = dict(lengths=lengths, mask=mask, reset=reset, key=key)
        return layers.torch_call(self.cell, self._params(), xs, state, self.options, **sequence)

    def step(self, x: Array, state: Any = None) -> tuple[Array, Any]:
        """One step without dropout, for streaming: `x` [batch, input_size]
        or [input_size] to `(y, state)`.
        """
        return layers.torch_step(self.cell, self._params(), x, state, self.options)

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
        variables = jax.tree.leaves(self.params, is_leaf=_is_variable)
        dtype = variables[0][...].dtype
        loaded = jax.tree.leaves(
            from_torch(self.cell, self.input_size, state_dict, dtype, prefix=prefix)
        )
        for variable, array in zip(variables, loaded, strict=True):
            old = variable[...]
            variable[...] = jax.device_put(array, old.sharding) if old.committed else array

    def to_torch(self, *, prefix: str = "") -> dict[str, np.ndarray]:
        """The weights under torch's names; `torch.as_tensor` makes each
        of them a tensor for `load_state_dict`.
        """
        return to_torch(self.cell, self._params(), prefix=prefix)


class RNN(_Torch):
    """A stack of Elman layers: `torch.nn.RNN` on JAX.

    Args:
        input_size, hidden_size, num_layers, nonlinearity: as in `torch.nn.RNN`.
        bias, batch_first, dropout, bidirectional: as in `torch.nn.RNN`.
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

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
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
        layers.check_input_size(input_size)
        layers.warn_of_idle_dropout(dropout, num_layers)
        shape = (hidden_size, num_layers, nonlinearity, bias, dropout, bidirectional)
        stack = layers.rnn(*shape, recurrent_init, input_init, init_scheme)
        options = Options(batch_first, dtype, method, remat)
        super().__init__(stack, input_size, param_dtype, options, hidden_axis, rngs)


class LSTM(_Torch):
    """A stack of LSTM layers: `torch.nn.LSTM` on JAX.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size:
            as in `torch.nn.LSTM`.
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
        layers.check_input_size(input_size)
        layers.warn_of_idle_dropout(dropout, num_layers)
        shape = (hidden_size, num_layers, bias, dropout, bidirectional, proj_size)
        stack = layers.lstm(*shape, forget_bias, recurrent_init, input_init, init_scheme)
        options = Options(batch_first, dtype, method, remat)
        super().__init__(stack, input_size, param_dtype, options, hidden_axis, rngs)


class GRU(_Torch):
    """A stack of GRU layers: `torch.nn.GRU` on JAX.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as in
            `torch.nn.GRU`.
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
        layers.check_input_size(input_size)
        layers.warn_of_idle_dropout(dropout, num_layers)
        shape = (hidden_size, num_layers, bias, dropout, bidirectional)
        stack = layers.gru(*shape, update_bias, recurrent_init, input_init, init_scheme)
        options = Options(batch_first, dtype, method, remat)
        super().__init__(stack, input_size, param_dtype, options, hidden_axis, rngs)


def _variables(params: Params, hidden_axis: str | None) -> Params:
    """Parameters as variables, with their partition metadata where there is any."""
    if hidden_axis is None:
        return jax.tree.map(nnx.Param, params)
    axes = layers.hidden_last(params, hidden_axis)
    return jax.tree.map(lambda a, names: nnx.Param(a, out_sharding=names), params, axes)


def _is_variable(x: Any) -> bool:
    return isinstance(x, nnx.Variable)


class CellForRNN(nnx.RNNCellBase):
    """A cell as a Flax nnx cell, for `flax.nnx.RNN` and `flax.nnx.Bidirectional`,
    without its noise.

    Where nothing in Flax is needed around it, `Recurrent` does the same faster: it takes all
    inputs' products at once.

    Args:
        cell: the cell or stack; one direction, since Flax runs it step by step.
        input_size: the number of input features.
        param_dtype: dtype of the parameters.
        dtype: dtype of the computation; None means `param_dtype`.
        rngs: makes the parameters.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> from flax import nnx
        >>> import jaxrnn.nnx as rnn
        >>> cell = rnn.CellForRNN(jaxrnn.LSTMCell(20), 10, rngs=nnx.Rngs(0))
        >>> module = nnx.RNN(cell, return_carry=True)
        >>> carry, ys = module(jnp.ones((5, 15, 10)), seq_lengths=jnp.array([15, 7, 1, 2, 3]))
        >>> ys.shape, carry.c.shape
        ((5, 15, 20), (5, 20))
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        *,
        param_dtype: DType = jnp.float32,
        dtype: DType | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_cell_type(cell)
        layers.check_input_size(input_size)
        self.cell: Any = cell
        self.dtype = dtype or param_dtype
        self.params = nnx.data(
            jax.tree.map(nnx.Param, cell.init(rngs.params(), input_size, param_dtype))
        )

    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:  # pyrefly: ignore[bad-override]
        """One step: `inputs` [*batch, features] to `(carry, y)`."""
        return self.cell(self._params(), carry, jnp.asarray(inputs, self.dtype))

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Carry:
        """The carry before the first step, for inputs of one step's shape, [*batch, features];
        it needs no random stream.
        """
        axes = len(input_shape) - self.cell.feature_axes
        batch = input_shape[:axes]
        space = input_shape[axes:-1]
        return initial_carry(self.cell, self._params(), batch, self.dtype, spatial_shape=space)

    @property
    def num_feature_axes(self) -> int:
        return self.cell.feature_axes

    def _params(self) -> Params:
        return jax.tree.map(lambda p: p[...], self.params, is_leaf=_is_variable)


@dataclasses.dataclass(frozen=True)
class FromNnx(Cell):
    """A Flax nnx cell as a cell, for `jaxrnn.unroll` and all else:
    its parameters are the module's state.

    Its products do not go through `dot`, so that it is right, but not as fast as a cell of ours. It
    must need no random stream. It has no `init`, since the parameters are made with the module:
    `graph, params = nnx.split(module)`. Its inputs have one feature axis.

    Args:
        graph: the `nnx.GraphDef` of the cell, an `nnx.RNNCellBase`.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> from flax import nnx
        >>> import jaxrnn.nnx as rnn
        >>> graph, params = nnx.split(nnx.LSTMCell(10, 20, rngs=nnx.Rngs(0)))
        >>> (c, h), ys = jaxrnn.unroll(rnn.FromNnx(graph), params, jnp.ones((15, 5, 10)))
        >>> ys.shape
        (15, 5, 20)
    """

    graph: nnx.GraphDef
    feature_axes = 1  # of every cell that Flax nnx has
    elementwise = False  # its products are out of reach

    def __post_init__(self) -> None:
        if not isinstance(self.graph, nnx.GraphDef):
            raise TypeError(
                "FromNnx takes the first part of nnx.split(module), "
                f"got {type(self.graph).__name__}."
            )

    def init_carry(self, params: Params, like: Array) -> Carry:
        first = nnx.merge(self.graph, params).initialize_carry(like.shape, rngs=nnx.Rngs(0))
        return layers.like_inputs(first, like, self.feature_axes)

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Array:
        return xs

    def step(self, params: Params, carry: Carry, u: Array, dot: Dot = dot) -> tuple[Carry, Array]:
        carry, y = cast(nnx.merge(self.graph, params)(carry, u), u.dtype)
        return carry, y
