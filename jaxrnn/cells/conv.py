"""Recurrent networks whose products are convolutions, over 1 to 3 spatial axes;
channels stand last.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates
from jaxrnn.cells.activations import Activation, functions
from jaxrnn.cells.convolution import ConvParams, conv, draw, fit_window, project_input, start
from jaxrnn.cells.gru import GRUCarry
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.cells.options import check_options
from jaxrnn.initializers import Chrono, Initializer


@dataclasses.dataclass(frozen=True)
class ConvLSTMCell(Cell):
    """The LSTM with convolutions, written *, for products; y = h'.

        i, f, g, o = W_x * x + W_h * h + b
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')

    Inputs are [T, *batch, *space, I], carries and outputs [..., *space, H]: their space is that of
    the input convolution, which `strides`, `padding` and `dilation` shape. The recurrent
    convolution has stride 1, no dilation, and pads with zeros to keep the space as it is.

    Args:
        hidden_size: H, the number of hidden channels.
        kernel_size: of both convolutions, for all spatial axes or one for each.
        dims: the number of spatial axes, 1 to 3. None: as many as `kernel_size` has entries, or 2.
        strides: of the input convolution, for all spatial axes or one for each.
        padding: of the input convolution: "same" pads with zeros, "valid" does not and loses the
            margins.
        dilation: of the input kernel, for all spatial axes or one for each.
        forget_bias: the initial bias of the forget gate, as in `LSTMCell`.
        recurrent_init: initialiser of each gate's block of `w_h`, drawn as one matrix
            [pixels of the kernel * H, H].
        input_init: initialiser of each gate's block of `w_x`, drawn as one matrix
            [pixels of the kernel * I, H].
        bias: False leaves the biases out, and `forget_bias` with them.
        activation, recurrent_activation: as in `LSTMCell`.

    Source: Shi et al. 2015, arXiv:1506.04214, eq. 3; Keras' `ConvLSTM1D` to `3D`, whose `padding`
    is "valid" by default. Differs: without the paper's peepholes, as in Keras, which tie the
    parameters to one image size.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.ConvLSTMCell(hidden_size=4, kernel_size=(3, 5), strides=2)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> xs = jax.numpy.ones((5, 2, 8, 6, 3))  # time, batch, height, width, channels
        >>> carry, ys = jaxrnn.unroll(cell, params, xs)
        >>> ys.shape, carry.c.shape
        ((5, 2, 4, 3, 4), (2, 4, 3, 4))
    """

    hidden_size: int
    kernel_size: int | tuple[int, ...] = 3
    _: dataclasses.KW_ONLY
    dims: int | None = None
    strides: int | tuple[int, ...] = 1
    padding: str = "same"
    dilation: int | tuple[int, ...] = 1
    forget_bias: float | Chrono = 1.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    init_scheme: ClassVar[str] = "jaxrnn"  # what `initializers.parameters` reads

    def __post_init__(self) -> None:
        check_options(self, "forget_bias")
        fit_window(self)

    @property
    def feature_axes(self) -> int:  # pyrefly: ignore[bad-override]
        return len(self.kernel_size) + 1  # pyrefly: ignore[bad-argument-type]

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> ConvParams:
        key, key_f = jax.random.split(key)
        params = draw(self, key, input_size, 4, dtype)
        b = initializers.gate_bias(self, key_f, params.b, 1, self.forget_bias, opposite=0)
        return params._replace(b=b)

    def input_size(self, params: ConvParams) -> int:
        return params.w_x.shape[-3]

    def init_carry(self, params: ConvParams, like: Array) -> LSTMCarry:
        return LSTMCarry(h=start(self, like), c=start(self, like))

    def project(self, params: ConvParams, xs: Array, noise: Any = None) -> Array:
        return project_input(self, params, xs)  # [..., *space, 4, H]

    def step(
        self, params: ConvParams, carry: LSTMCarry, u: Array, dot: Dot = dot
    ) -> tuple[LSTMCarry, Array]:
        sigmoid, tanh = functions(self)
        i, f, g, o = gates(u + dot(carry.h, params.w_h, op=conv))
        c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return LSTMCarry(h=h, c=c), h


@dataclasses.dataclass(frozen=True)
class ConvGRUCell(Cell):
    """The GRU with convolutions, written *, for products, and the reset before the product; y = h'.

        r = sigmoid(W_xr * x + W_hr * h + b_r)
        z = sigmoid(W_xz * x + W_hz * h + b_z)
        n = tanh(W_xn * x + W_hn * (r h) + b_n)
        h' = (1 - z) n + z h

    Args:
        hidden_size, kernel_size, dims, strides, padding, dilation: as in `ConvLSTMCell`.
        update_bias: the initial bias of the update gate z, as in `GRUCell`.
        recurrent_init, input_init, bias, activation, recurrent_activation: as in `ConvLSTMCell`.

    Source: Ballas et al. 2016, arXiv:1511.06432. Differs: its z is 1 - z here.
    """

    hidden_size: int
    kernel_size: int | tuple[int, ...] = 3
    _: dataclasses.KW_ONLY
    dims: int | None = None
    strides: int | tuple[int, ...] = 1
    padding: str = "same"
    dilation: int | tuple[int, ...] = 1
    update_bias: float | Chrono = 0.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    init_scheme: ClassVar[str] = "jaxrnn"  # what `initializers.parameters` reads

    def __post_init__(self) -> None:
        check_options(self, "update_bias")
        fit_window(self)

    @property
    def feature_axes(self) -> int:  # pyrefly: ignore[bad-override]
        return len(self.kernel_size) + 1  # pyrefly: ignore[bad-argument-type]

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> ConvParams:
        key, key_z = jax.random.split(key)
        params = draw(self, key, input_size, 3, dtype)
        b = initializers.gate_bias(self, key_z, params.b, 1, self.update_bias)
        return params._replace(b=b)

    def input_size(self, params: ConvParams) -> int:
        return params.w_x.shape[-3]

    def init_carry(self, params: ConvParams, like: Array) -> GRUCarry:
        return GRUCarry(h=start(self, like))

    def project(self, params: ConvParams, xs: Array, noise: Any = None) -> Array:
        return project_input(self, params, xs)  # [..., *space, 3, H]

    def step(
        self, params: ConvParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        sigmoid, tanh = functions(self)
        u_r, u_z, u_n = gates(u)
        a_r, a_z = gates(dot(carry.h, params.w_h[..., :2, :], op=conv))
        r = sigmoid(u_r + a_r)
        z = sigmoid(u_z + a_z)
        (a_n,) = gates(dot(r * carry.h, params.w_h[..., 2:, :], op=conv))
        n = tanh(u_n + a_n)
        h = (1 - z) * n + z * carry.h
        return GRUCarry(h=h), h
