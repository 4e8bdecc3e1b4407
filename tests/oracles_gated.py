"""Oracles of the gated variants: see `oracles.py`."""

import numpy as np
import scipy.linalg
from oracle_base import Oracle, gate, plus, sigmoid, zero

import jaxrnn


def standard(a):
    """(a - mean) / sqrt(variance + 1e-5) over the last axis."""
    mean = a.mean(-1, keepdims=True)
    return (a - mean) / np.sqrt(((a - mean) ** 2).mean(-1, keepdims=True) + 1e-5)


def layer_norm_rnn_step(p, carry, x, noise):
    """Ba et al. 2016, arXiv:1607.06450, eq. 4."""
    h = np.tanh(
        plus(
            p.scale[0] * standard(x @ p.w_x[:, 0] + carry.h @ p.w_h[:, 0]),
            None if p.b is None else p.b[0],
        )
    )
    return jaxrnn.RNNCarry(h=h), h


def layer_norm_gru_step(p, carry, x, noise):
    """Ba et al. 2016, supplementary material: two gates side by side in one norm,
    the candidate in another.
    """
    width = carry.h.shape[-1]

    def norms(v, w, scale):
        gates = standard(np.concatenate([v @ w[:, 0], v @ w[:, 1]], -1))
        return (
            scale[0] * gates[..., :width],
            scale[1] * gates[..., width:],
            scale[2] * standard(v @ w[:, 2]),
        )

    b = np.zeros((3, width)) if p.b is None else p.b
    (x_r, x_z, x_n), (h_r, h_z, h_n) = norms(x, p.w_x, p.scale_x), norms(carry.h, p.w_h, p.scale_h)
    r, z = sigmoid(x_r + h_r + b[0]), sigmoid(x_z + h_z + b[1])
    n = np.tanh(x_n + b[2] + r * plus(h_n, p.b_hn))
    h = n - z * n + z * carry.h
    return jaxrnn.GRUCarry(h=h), h


def cifg_step(p, carry, x, noise):
    """Greff et al. 2017, arXiv:1503.04069, without peepholes; gates f g o."""
    f, o = (sigmoid(gate(p, x, carry.h, k)) for k in (0, 2))
    g = np.tanh(gate(p, x, carry.h, 1))
    c = g + f * (carry.c - g)
    h = o * np.tanh(c)
    return jaxrnn.LSTMCarry(h=h, c=c), h


def janet_step(p, carry, x, noise):
    """van der Westhuizen & Lasenby 2018, arXiv:1804.04849, with beta = 1."""
    s, c = gate(p, x, carry.h, 0), np.tanh(gate(p, x, carry.h, 1))
    h = sigmoid(s) * carry.h + sigmoid(1 - s) * c
    return jaxrnn.RNNCarry(h=h), h


def mgu_step(p, carry, x, noise):
    """Zhou et al. 2016, arXiv:1603.09420."""
    f = sigmoid(gate(p, x, carry.h, 0))
    n = np.tanh(gate(p, x, f * carry.h, 1))
    h = carry.h - f * carry.h + f * n
    return jaxrnn.GRUCarry(h=h), h


def mgu_reset_after_step(p, carry, x, noise):
    """`flax.linen.MGUCell`: f acts on (U_n h + b_hn), and keeps the old state."""
    f = sigmoid(gate(p, x, carry.h, 0))
    recurrent = plus(carry.h @ p.w_h[:, 1], p.b_hn)
    n = np.tanh(plus(x @ p.w_x[:, 1], None if p.b is None else p.b[1]) + f * recurrent)
    h = n + f * (carry.h - n)
    return jaxrnn.GRUCarry(h=h), h


def ugrnn_step(p, carry, x, noise):
    """Collins et al. 2017, arXiv:1611.09913; gates g c."""
    g, c = sigmoid(gate(p, x, carry.h, 0)), np.tanh(gate(p, x, carry.h, 1))
    h = c + g * (carry.h - c)
    return jaxrnn.RNNCarry(h=h), h


def ligru_step(p, carry, x, noise):
    """Ravanelli et al. 2018, arXiv:1803.10225, without batch norm; gates z n."""
    z, a = sigmoid(gate(p, x, carry.h, 0)), gate(p, x, carry.h, 1)
    h = z * carry.h + (1 - z) * np.where(a.real > 0, a, 0)
    return jaxrnn.GRUCarry(h=h), h


def indrnn_step(p, carry, x, noise):
    """Li et al. 2018, arXiv:1803.04831, as a product with a diagonal matrix."""
    a = plus(x @ p.w_x[:, 0] + carry.h @ np.diag(p.w_h), None if p.b is None else p.b[0])
    h = np.where(a.real > 0, a, 0)
    return jaxrnn.RNNCarry(h=h), h


def dense(p):
    """The parameters with the blocks of each gate in one matrix."""
    return p._replace(
        w_h=np.stack(
            [scipy.linalg.block_diag(*p.w_h[:, :, k]) for k in range(p.w_h.shape[2])], axis=1
        )
    )


def heads_rnn_step(p, carry, x, noise):
    h = np.tanh(gate(dense(p), x, carry.h, 0))
    return jaxrnn.RNNCarry(h=h), h


def heads_gru_step(p, carry, x, noise):
    p = dense(p)
    r, z = (sigmoid(gate(p, x, carry.h, k)) for k in (0, 1))
    n = np.tanh(
        plus(x @ p.w_x[:, 2], None if p.b is None else p.b[2])
        + r * plus(carry.h @ p.w_h[:, 2], p.b_hn)
    )
    h = n + z * (carry.h - n)
    return jaxrnn.GRUCarry(h=h), h


RNN = zero(jaxrnn.RNNCarry, "w_x")
GRU = zero(jaxrnn.GRUCarry, "w_x")

# (name, cell, oracle); the layer-norm, peephole and multi-head LSTM stand in `oracles.py`
GATED = [
    ("layer_norm_rnn", jaxrnn.LayerNormRNNCell(4), Oracle(RNN, layer_norm_rnn_step)),
    ("layer_norm_gru", jaxrnn.LayerNormGRUCell(4), Oracle(GRU, layer_norm_gru_step)),
    ("cifg", jaxrnn.CIFGCell(4), Oracle(zero(jaxrnn.LSTMCarry, "w_x", "w_x"), cifg_step)),
    ("janet", jaxrnn.JANETCell(4), Oracle(RNN, janet_step)),
    ("mgu", jaxrnn.MGUCell(4), Oracle(GRU, mgu_step)),
    ("mgu_reset_after", jaxrnn.MGUResetAfterCell(4), Oracle(GRU, mgu_reset_after_step)),
    ("ugrnn", jaxrnn.UGRNNCell(4), Oracle(RNN, ugrnn_step)),
    ("ligru", jaxrnn.LiGRUCell(4), Oracle(GRU, ligru_step)),
    ("indrnn", jaxrnn.IndRNNCell(4), Oracle(RNN, indrnn_step)),
    ("heads_rnn", jaxrnn.MultiHeadRNNCell(4, heads=2), Oracle(RNN, heads_rnn_step)),
    ("heads_gru", jaxrnn.MultiHeadGRUCell(4, heads=2), Oracle(GRU, heads_gru_step)),
]
