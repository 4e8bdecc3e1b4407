"""Cells that strain the contract of `jaxrnn.Cell`, written as a user would write them: with the public names only."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import sigmoid
from jax.numpy import tanh

import jaxrnn
from jaxrnn import LSTMCarry, RNNCarry


def draw(key, fan_in, *shape, dtype):
    """N(0, 1 / fan_in), drawn in float32 at least."""
    return (jax.random.normal(key, shape, jaxrnn.carry_dtype(dtype)) / math.sqrt(fan_in)).astype(dtype)


# --- hidden units mixed outside dot ---------------------------------------------------------------------------------------------


class LayerNormLSTMParams(NamedTuple):
    w_x: Any  # [I, 4, H], gates i f g o
    w_h: Any  # [H, 4, H]
    b: Any  # [4, H]
    scale_x: Any  # [4, H]
    scale_h: Any  # [4, H]
    scale_c: Any  # [H]
    b_c: Any  # [H]


def normalise(a, axes):
    centred = a - jnp.mean(a, axes, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, axes, keepdims=True) + 1e-5)


@dataclasses.dataclass(frozen=True)
class LayerNormLSTM(jaxrnn.Cell):
    """Ba et al. 2016, arXiv:1607.06450, eq. 20-22: the carry holds c un-normalised."""

    hidden_size: int
    elementwise = False

    def init(self, key, input_size, dtype=jnp.float32):
        w_x, w_h, b = jaxrnn.LSTMCell(self.hidden_size).init(key, input_size, dtype)
        one = jnp.ones((4, self.hidden_size), dtype)
        return LayerNormLSTMParams(w_x, w_h, b, scale_x=one, scale_h=one, scale_c=one[0], b_c=jnp.zeros_like(one[0]))

    def init_carry(self, params, like):
        return LSTMCarry(h=jaxrnn.zeros(like, self.hidden_size), c=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params, xs, noise=None):
        return params.scale_x * normalise(jaxrnn.dot(xs, params.w_x), (-2, -1)) + params.b

    def step(self, params, carry, u, dot=jaxrnn.dot):
        i, f, g, o = jaxrnn.gates(u + params.scale_h * normalise(dot(carry.h, params.w_h), (-2, -1)))
        c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(params.scale_c * normalise(c, -1) + params.b_c)
        return LSTMCarry(h=h, c=c), h


# --- parameters used elementwise in the step ------------------------------------------------------------------------------------


class PeepholeParams(NamedTuple):
    w_x: Any  # [I, 4, H], gates i f g o
    w_h: Any  # [H, 4, H]
    b: Any  # [4, H]
    w_c: Any  # [3, H], the peepholes of i f o


@dataclasses.dataclass(frozen=True)
class PeepholeLSTM(jaxrnn.Cell):
    """Graves 2013, arXiv:1308.0850, eq. 7-11: the gates see the cell, o the new one."""

    hidden_size: int

    def init(self, key, input_size, dtype=jnp.float32):
        lstm = jaxrnn.LSTMCell(self.hidden_size).init(key, input_size, dtype)
        return PeepholeParams(*lstm, w_c=jnp.zeros((3, self.hidden_size), dtype))

    def init_carry(self, params, like):
        return LSTMCarry(h=jaxrnn.zeros(like, self.hidden_size), c=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params, xs, noise=None):
        return jaxrnn.affine(xs, params.w_x, params.b)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        w_ci, w_cf, w_co = params.w_c
        i, f, g, o = jaxrnn.gates(u + dot(carry.h, params.w_h))
        c = sigmoid(f + w_cf * carry.c) * carry.c + sigmoid(i + w_ci * carry.c) * tanh(g)
        h = sigmoid(o + w_co * c) * tanh(c)
        return LSTMCarry(h=h, c=c), h


# --- two products in a row, a carry with names of its own -----------------------------------------------------------------------


class LEMParams(NamedTuple):
    w_x: Any  # [I, 4, H], gates delta delta_bar z y
    w_y: Any  # [H, 3, H], gates delta delta_bar z
    w_z: Any  # [H, H]
    b: Any  # [4, H]


class LEMCarry(NamedTuple):
    y: Any  # [..., H]
    z: Any  # [..., H]


@dataclasses.dataclass(frozen=True)
class LEM(jaxrnn.Cell):
    """Rusch et al. 2022, arXiv:2110.04744, eq. 4: long expressive memory."""

    hidden_size: int
    dt: float = 1.0

    def init(self, key, input_size, dtype=jnp.float32):
        (k_x, k_y, k_z), H = jax.random.split(key, 3), self.hidden_size
        w_x, w_y = draw(k_x, input_size, input_size, 4, H, dtype=dtype), draw(k_y, H, H, 3, H, dtype=dtype)
        return LEMParams(w_x, w_y, w_z=draw(k_z, H, H, H, dtype=dtype), b=jnp.zeros((4, H), dtype))

    def init_carry(self, params, like):
        return LEMCarry(y=jaxrnn.zeros(like, self.hidden_size), z=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params, xs, noise=None):
        return jaxrnn.affine(xs, params.w_x, params.b)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        u_d, u_e, u_z, u_y = jaxrnn.gates(u)
        a_d, a_e, a_z = jaxrnn.gates(dot(carry.y, params.w_y))
        d, e = self.dt * sigmoid(u_d + a_d), self.dt * sigmoid(u_e + a_e)
        z = (1 - d) * carry.z + d * tanh(u_z + a_z)
        y = (1 - e) * carry.y + e * tanh(u_y + dot(z, params.w_z))
        return LEMCarry(y=y, z=z), y


# --- products that are no matrix products ---------------------------------------------------------------------------------------


def heads(v, w):
    """Block-diagonal: v [..., N*P], w [N, P, G, P] -> [..., G, N*P]."""
    n, p, _, q = w.shape
    a = jnp.einsum("...np,npgq->...gnq", v.reshape(*v.shape[:-1], n, p), w)
    return a.reshape(*a.shape[:-2], n * q)


@dataclasses.dataclass(frozen=True)
class MultiHeadLSTM(jaxrnn.Cell):
    """An LSTM whose recurrent kernel is block-diagonal, as the heads of sLSTM (Beck et al. 2024, arXiv:2405.04517)."""

    hidden_size: int
    heads: int

    def init(self, key, input_size, dtype=jnp.float32):
        (k_x, k_h), P = jax.random.split(key), self.hidden_size // self.heads
        w_h = draw(k_h, P, self.heads, P, 4, P, dtype=dtype)
        return jaxrnn.LSTMCell(self.hidden_size).init(k_x, input_size, dtype)._replace(w_h=w_h)

    def init_carry(self, params, like):
        return LSTMCarry(h=jaxrnn.zeros(like, self.hidden_size), c=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params, xs, noise=None):
        return jaxrnn.affine(xs, params.w_x, params.b)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        i, f, g, o = jaxrnn.gates(u + dot(carry.h, params.w_h, op=heads))
        c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return LSTMCarry(h=h, c=c), h


def conv(v, w):
    """v [..., X, Y, C], w [K, K, C, G, D] -> [..., X, Y, G, D], zero-padded."""
    *batch, x, y, channels = v.shape
    flat = (v.reshape(-1, x, y, channels), w.reshape(*w.shape[:3], -1))
    a = lax.conv_general_dilated(*flat, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return a.reshape(*batch, x, y, *w.shape[3:])


@dataclasses.dataclass(frozen=True)
class ConvLSTM(jaxrnn.Cell):
    """Shi et al. 2015, arXiv:1506.04214, eq. 3, without peepholes; the spatial sizes are those of the input."""

    hidden_size: int
    width: int = 3
    feature_axes = 3

    def init(self, key, input_size, dtype=jnp.float32):
        (k_x, k_h), K, H = jax.random.split(key), self.width, self.hidden_size
        w_x = draw(k_x, K * K * input_size, K, K, input_size, 4, H, dtype=dtype)
        w_h = draw(k_h, K * K * H, K, K, H, 4, H, dtype=dtype)
        return jaxrnn.LSTMParams(w_x=w_x, w_h=w_h, b=jnp.zeros((4, H), dtype))

    def input_size(self, params):
        return params.w_x.shape[2]

    def init_carry(self, params, like):
        zero = jaxrnn.zeros(like, *like.shape[-3:-1], self.hidden_size, feature_axes=3)
        return LSTMCarry(h=zero, c=zero)

    def project(self, params, xs, noise=None):
        return jaxrnn.dot(xs, params.w_x, op=conv) + params.b

    def step(self, params, carry, u, dot=jaxrnn.dot):
        i, f, g, o = jaxrnn.gates(u + dot(carry.h, params.w_h, op=conv))
        c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return LSTMCarry(h=h, c=c), h


# --- prepared parameters --------------------------------------------------------------------------------------------------------


class OrthogonalParams(NamedTuple):
    w_x: Any  # [I, H]
    a: Any  # [H, H], whose skew part counts
    b: Any  # [H]


class PreparedParams(NamedTuple):
    w_x: Any  # [I, H]
    w_h: Any  # [H, H], orthogonal
    b: Any  # [H]


@dataclasses.dataclass(frozen=True)
class OrthogonalRNN(jaxrnn.Cell):
    """Lezcano-Casado & Martinez-Rubio 2019, arXiv:1901.08428 (expRNN): h' = modReLU(W x + exp(A - A^T) h)."""

    hidden_size: int

    def init(self, key, input_size, dtype=jnp.float32):
        (k_x, k_a), H = jax.random.split(key), self.hidden_size
        w_x, a = draw(k_x, input_size, input_size, H, dtype=dtype), draw(k_a, H, H, H, dtype=dtype)
        return OrthogonalParams(w_x=w_x, a=a, b=jnp.zeros(H, dtype))

    def prepare(self, params):
        return PreparedParams(w_x=params.w_x, w_h=jax.scipy.linalg.expm(params.a - params.a.T), b=params.b)

    def init_carry(self, params, like):
        return RNNCarry(h=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params, xs, noise=None):
        return jaxrnn.dot(xs, params.w_x)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        a = u + dot(carry.h, params.w_h)
        h = jnp.sign(a) * jax.nn.relu(jnp.abs(a) + params.b)
        return RNNCarry(h=h), h


# --- no product at all ----------------------------------------------------------------------------------------------------------


class DiagonalParams(NamedTuple):
    w_x: Any  # [I, H]
    w_h: Any  # [H]


@dataclasses.dataclass(frozen=True)
class LinearDiagonal(jaxrnn.Cell):
    """h' = w_h * h + W_x x."""

    hidden_size: int

    def init(self, key, input_size, dtype=jnp.float32):
        k_x, k_h = jax.random.split(key)
        w_x = draw(k_x, input_size, input_size, self.hidden_size, dtype=dtype)
        return DiagonalParams(w_x=w_x, w_h=jnp.tanh(draw(k_h, 1, self.hidden_size, dtype=dtype)))

    def init_carry(self, params, like):
        return RNNCarry(h=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params, xs, noise=None):
        return jaxrnn.dot(xs, params.w_x)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = params.w_h * carry.h + u
        return RNNCarry(h=h), h
