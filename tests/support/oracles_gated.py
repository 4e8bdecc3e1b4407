"""Oracles of the gated variants: see `oracles.py`."""

import itertools

import numpy as np
import scipy.linalg
from oracle_base import Oracle, bias, gate, plus, sigmoid, zero

import jaxrnn
from jaxrnn.cells import (
    BlockGRUCell,
    CIFGCell,
    GRUCarry,
    IndRNNCell,
    JANETCell,
    LayerNormGRUCell,
    LayerNormRNNCell,
    LiGRUCell,
    LSTMCarry,
    MGUCell,
    MGUResetAfterCell,
    RNNCarry,
    UGRNNCell,
)
from jaxrnn.wrappers import MultiHead


def standard(a):
    """(a - mean) / sqrt(variance + 1e-5) over the last axis."""
    mean = a.mean(-1, keepdims=True)
    return (a - mean) / np.sqrt(((a - mean) ** 2).mean(-1, keepdims=True) + 1e-5)


def layer_norm_rnn_step(p, carry, x, noise):
    """Ba et al. 2016, arXiv:1607.06450, eq. 4."""
    h = np.tanh(
        plus(
            p.scale * standard(x @ p.w_x[:, 0] + carry.h @ p.w_h[:, 0]),
            p.b,
        )
    )
    return RNNCarry(h=h), h


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

    b = np.zeros((3, width)) if p.b is None else p.b.reshape(3, -1)
    x_r, x_z, x_n = norms(x, p.w_x, p.scale_x.reshape(3, -1))
    h_r, h_z, h_n = norms(carry.h, p.w_h, (p.scale_hr, p.scale_hz, p.scale_hn))
    r, z = sigmoid(x_r + h_r + b[0]), sigmoid(x_z + h_z + b[1])
    n = np.tanh(x_n + b[2] + r * plus(h_n, p.b_hn))
    h = n - z * n + z * carry.h
    return GRUCarry(h=h), h


def cifg_step(p, carry, x, noise):
    """Greff et al. 2017, arXiv:1503.04069, without peepholes; gates f g o."""
    f, o = (sigmoid(gate(p, x, carry.h, k)) for k in (0, 2))
    g = np.tanh(gate(p, x, carry.h, 1))
    c = g + f * (carry.c - g)
    h = o * np.tanh(c)
    return LSTMCarry(h=h, c=c), h


def janet_step(p, carry, x, noise):
    """van der Westhuizen & Lasenby 2018, arXiv:1804.04849, with beta = 1."""
    s, c = gate(p, x, carry.h, 0), np.tanh(gate(p, x, carry.h, 1))
    h = sigmoid(s) * carry.h + sigmoid(1 - s) * c
    return RNNCarry(h=h), h


def mgu_step(p, carry, x, noise):
    """Zhou et al. 2016, arXiv:1603.09420."""
    f = sigmoid(gate(p, x, carry.h, 0))
    n = np.tanh(gate(p, x, f * carry.h, 1))
    h = carry.h - f * carry.h + f * n
    return GRUCarry(h=h), h


def mgu_reset_after_step(p, carry, x, noise):
    """`flax.linen.MGUCell`: f acts on (U_n h + b_hn), and keeps the old state."""
    f = sigmoid(gate(p, x, carry.h, 0))
    recurrent = plus(carry.h @ p.w_h[:, 1], p.b_hn)
    n = np.tanh(plus(x @ p.w_x[:, 1], bias(p, 1)) + f * recurrent)
    h = n + f * (carry.h - n)
    return GRUCarry(h=h), h


def ugrnn_step(p, carry, x, noise):
    """Collins et al. 2017, arXiv:1611.09913; gates g c."""
    g, c = sigmoid(gate(p, x, carry.h, 0)), np.tanh(gate(p, x, carry.h, 1))
    h = c + g * (carry.h - c)
    return RNNCarry(h=h), h


def ligru_step(p, carry, x, noise):
    """Ravanelli et al. 2018, arXiv:1803.10225, without batch norm; gates z n."""
    z, a = sigmoid(gate(p, x, carry.h, 0)), gate(p, x, carry.h, 1)
    h = z * carry.h + (1 - z) * np.where(a.real > 0, a, 0)
    return GRUCarry(h=h), h


def indrnn_step(p, carry, x, noise):
    """Li et al. 2018, arXiv:1803.04831, as a product with a diagonal matrix."""
    a = plus(x @ p.w_x[:, 0] + carry.h @ np.diag(p.w_h), bias(p, 0))
    h = np.where(a.real > 0, a, 0)
    return RNNCarry(h=h), h


def indrnn_clipped_step(p, carry, x, noise):
    held = np.where(abs(p.w_h.real) > 0.3, 0.3 * np.sign(p.w_h.real), p.w_h)
    return indrnn_step(p._replace(w_h=held), carry, x, noise)


def dense(p):
    """The parameters with the blocks of each gate, heads side by side, on the diagonal of one."""
    P, gates, H = p.w_h.shape
    blocks = p.w_h.reshape(P, gates, H // P, P)
    full = [
        scipy.linalg.block_diag(*(blocks[:, k, head] for head in range(H // P)))
        for k in range(gates)
    ]
    return p._replace(w_h=np.stack(full, axis=1))


def heads_rnn_step(p, carry, x, noise):
    h = np.tanh(gate(dense(p), x, carry.h, 0))
    return RNNCarry(h=h), h


def heads_gru_step(p, carry, x, noise):
    p = dense(p)
    r, z = (sigmoid(gate(p, x, carry.h, k)) for k in (0, 1))
    n = np.tanh(plus(x @ p.w_x[:, 2], bias(p, 2)) + r * plus(carry.h @ p.w_h[:, 2], p.b_hn))
    h = n + z * (carry.h - n)
    return GRUCarry(h=h), h


def unit(a):
    """a / sqrt(mean square + 1e-4) over the last axis."""
    return a / np.sqrt((a**2).mean(-1, keepdims=True) + 1e-4)


def silu(a):
    return a * sigmoid(a)


def block_gru(*parts):
    """Hafner et al. 2023, arXiv:2301.04104: as the authors' code has it, what every block sees is
    put together before one product; gates r n z."""

    def step(p, carry, x, noise):
        blocks = carry.h.shape[-1] // p.w_b.shape[0]
        ends = np.cumsum((0, *(parts or x.shape[-1:])))
        seen = []
        for k, (start, end) in enumerate(itertools.pairwise(ends)):
            own = slice(k * p.w_x.shape[1], (k + 1) * p.w_x.shape[1])
            a = plus(x[..., start:end] @ p.w_x[start:end], None if p.b_x is None else p.b_x[own])
            seen.append(silu(p.scale_x[own] * unit(a)))
        seen.append(silu(p.scale_h * unit(plus(carry.h @ p.w_h, p.b_h))))
        sums = []
        for own in np.split(np.arange(carry.h.shape[-1]), blocks):
            weights = np.concatenate([p.w_b[:, own], p.w_u[:, own], p.w_v[:, own]])
            sums.append(np.concatenate([carry.h[..., own], *seen], -1) @ weights)
        s = silu(p.scale_s * unit(plus(np.concatenate(sums, -1), p.b_s)))
        gates = []
        for k in range(3):
            of_blocks = zip(np.split(s, blocks, -1), np.split(p.w_g[:, k], blocks, -1), strict=True)
            gates.append(np.concatenate([own @ w for own, w in of_blocks], -1))
            gates[k] = gates[k] if p.b_g is None else gates[k] + p.b_g.reshape(3, -1)[k]
        z = sigmoid(gates[2] - 1)
        h = z * np.tanh(sigmoid(gates[0]) * gates[1]) + (1 - z) * carry.h
        return GRUCarry(h=h), h

    return Oracle(zero(GRUCarry, "w_b"), step)


RNN = zero(RNNCarry, "w_x")
GRU = zero(GRUCarry, "w_x")

# (name, cell, oracle); the layer-norm, peephole and multi-head LSTM stand in `oracles.py`
GATED = [
    ("layer_norm_rnn", LayerNormRNNCell(4), Oracle(RNN, layer_norm_rnn_step)),
    ("layer_norm_gru", LayerNormGRUCell(4), Oracle(GRU, layer_norm_gru_step)),
    (
        "cifg",
        CIFGCell(4),
        Oracle(zero(LSTMCarry, "w_x", "w_x"), cifg_step),
    ),
    ("janet", JANETCell(4), Oracle(RNN, janet_step)),
    ("mgu", MGUCell(4), Oracle(GRU, mgu_step)),
    ("mgu_reset_after", MGUResetAfterCell(4), Oracle(GRU, mgu_reset_after_step)),
    ("ugrnn", UGRNNCell(4), Oracle(RNN, ugrnn_step)),
    ("ligru", LiGRUCell(4), Oracle(GRU, ligru_step)),
    ("indrnn", IndRNNCell(4), Oracle(RNN, indrnn_step)),
    ("indrnn_clipped", IndRNNCell(4, max_recurrent=0.3), Oracle(RNN, indrnn_clipped_step)),
    ("block_gru", BlockGRUCell(4, blocks=2, inner_size=3), block_gru()),
    ("block_gru_parts", BlockGRUCell(6, 3, inner_size=2, parts=(1, 2)), block_gru(1, 2)),
    ("block_gru_no_bias", BlockGRUCell(8, 2, bias=False), block_gru()),
    (
        "heads_rnn",
        MultiHead(jaxrnn.RNNCell(4), heads=2),
        Oracle(RNN, heads_rnn_step),
    ),
    (
        "heads_gru",
        MultiHead(jaxrnn.GRUCell(4), heads=2),
        Oracle(GRU, heads_gru_step),
    ),
]
