"""Oracles of the cells that are linear in their state, and of their neighbours:
see `oracles.py`.
"""

import jax
import numpy as np
import scipy.linalg
from oracle_base import Oracle, bias, gate, plus, sigmoid, zero

from jaxrnn.cells import (
    CausalConvCarry,
    CausalConvCell,
    ComplexCarry,
    GRUCarry,
    HGRNCell,
    LMUCarry,
    LMUCell,
    LRUCell,
    LSTMCarry,
    MinGRUCell,
    MinLSTMCell,
    MLSTMCarry,
    MLSTMCell,
    ParaGRUCell,
    ParaLSTMCell,
    QRNNCarry,
    QRNNCell,
    RGLRUCell,
    RNNCarry,
    S5Cell,
    SLSTMCarry,
    SLSTMCell,
    SRUCarry,
    SRUCell,
)


def sums(p, x):
    """W_k x + b_k of every gate."""
    return [plus(x @ p.w_x[:, k], bias(p, k)) for k in range(p.w_x.shape[1])]


def positive(a):
    return np.where(a.real >= 0, a + 0.5, sigmoid(a))


def mingru_step(p, carry, x, noise):
    """Feng et al. 2024, arXiv:2410.01201; gates z n."""
    z, n = sums(p, x)
    h = carry.h + sigmoid(z) * (positive(n) - carry.h)
    return GRUCarry(h=h), h


def mingru_signed_step(p, carry, x, noise):
    """Grazzi et al. 2024, arXiv:2411.12537: 2 a - 1 for each factor a = 1 - sigmoid(z)."""
    z, n = sums(p, x)
    a = sigmoid(-z)
    h = (2 * a - 1) * carry.h + sigmoid(z) * positive(n)
    return GRUCarry(h=h), h


def minlstm_step(p, carry, x, noise):
    """The same; gates f i n, normalised to add up to one."""
    f, i, n = sums(p, x)
    f, i = sigmoid(f), sigmoid(i)
    h = f / (f + i) * carry.h + i / (f + i) * positive(n)
    return RNNCarry(h=h), h


def hgrn(lower):
    """Qin et al. 2023, arXiv:2311.04823, without the imaginary part."""

    def step(p, carry, x, noise):
        a, c = sums(p, x)
        f = lower + (1 - lower) * sigmoid(a)
        h = f * carry.h + (1 - f) * c * sigmoid(c)
        return RNNCarry(h=h), h

    return Oracle(zero(RNNCarry, "w_x"), step)


def rglru_step(p, carry, x, noise):
    """De et al. 2024, arXiv:2402.19427, eq. 1-4; their a is sigmoid(-decay)."""
    r, i, v = sums(p, x)
    a = sigmoid(-p.decay) ** (8 * sigmoid(r))
    h = a * carry.h + np.sqrt(1 - a**2) * sigmoid(i) * v
    return RNNCarry(h=h), h


def rglru_signed_step(p, carry, x, noise):
    r, i, v = sums(p, x)
    a = 2 * sigmoid(-p.decay) ** (8 * sigmoid(r)) - 1
    h = a * carry.h + np.sqrt(1 - a**2) * sigmoid(i) * v
    return RNNCarry(h=h), h


def complex_step(values, scales, twice):
    """s' = values * s + scales * (W x), y = Re(V s') + D x; written with 2 x 2 matrices, since a
    complex step is taken through it."""

    def step(p, carry, x, noise):
        (a, b), (c, d) = values(p), scales(p)
        in_re, in_im = x @ p.w_re, x @ p.w_im
        re = a * carry.re - b * carry.im + c * in_re - d * in_im
        im = b * carry.re + a * carry.im + d * in_re + c * in_im
        y = (2 if twice else 1) * (re @ p.w_yre - im @ p.w_yim) + x @ p.w_d
        return ComplexCarry(re=re, im=im), y

    return step


def lru_values(p):
    """Orvieto et al. 2023, arXiv:2303.06349."""
    size, angle = np.exp(-np.exp(p.nu)), np.exp(p.theta)
    return size * np.cos(angle), size * np.sin(angle)


def lru_scales(p):
    return np.exp(p.gamma), 0 * p.gamma


def s5_values(p):
    """Smith et al. 2023, arXiv:2208.04933."""
    dt = np.exp(p.dt)
    size = np.exp(-np.exp(p.rate) * dt)
    return size * np.cos(p.angle * dt), size * np.sin(p.angle * dt)


def s5_scales(p):
    """The integral of exp(lambda t) from 0 to dt, by the inverse of lambda as a 2 x 2 matrix."""
    re, im = s5_values(p)
    a, b = -np.exp(p.rate), p.angle
    size = a * a + b * b
    return ((re - 1) * a + im * b) / size, (im * a - (re - 1) * b) / size


def sru(alpha):
    """Lei et al. 2018, arXiv:1709.02755; gates f r and the candidate."""

    def step(p, carry, x, noise):
        f, r, candidate = sums(p, x)
        f = sigmoid(f if p.v_f is None else f + p.v_f * carry.c)
        r = sigmoid(r if p.v_r is None else r + p.v_r * carry.c)
        c = f * carry.c + (1 - f) * candidate
        past = x if p.w_s is None else x @ p.w_s
        return SRUCarry(c=c), r * c + (1 - r) * alpha * past

    return Oracle(zero(SRUCarry, "w_x"), step)


def paragru_step(p, carry, x, noise):
    """Danieli et al. 2025, arXiv:2510.21450; gates z r c."""
    z, r, c = sums(p, x)
    z, r = sigmoid(z + p.a_z * carry.h), sigmoid(r + p.a_r * carry.h)
    h = carry.h + z * (np.tanh(c + p.a_c * r * carry.h) - carry.h)
    return GRUCarry(h=h), h


def paralstm_step(p, carry, x, noise):
    """The same; gates f o c."""
    f, o, g = sums(p, x)
    f = sigmoid(f + p.a_f * carry.h + p.p_f * carry.c)
    c = f * carry.c + (1 - f) * np.tanh(g + p.a_c * carry.h)
    h = sigmoid(o + p.a_o * carry.h + p.p_o * c) * np.tanh(c)
    return LSTMCarry(h=h, c=c), h


def slstm_step(p, carry, x, noise):
    """Beck et al. 2024, arXiv:2405.04517, eq. 8-17; gates i f z o."""
    i, f, z, o = (gate(p, x, carry.h, k) for k in range(4))
    kept = np.where(carry.n == 0, i, np.log(sigmoid(f)) + carry.m)
    m = np.where(kept.real > i.real, kept, i)
    c = np.exp(kept - m) * carry.c + np.exp(i - m) * np.tanh(z)
    n = np.exp(kept - m) * carry.n + np.exp(i - m)
    h = sigmoid(o) * c / n
    return SLSTMCarry(h=h, c=c, n=n, m=m), h


def mlstm(heads):
    """The same, eq. 19-27, one head after the other; in units of exp(m) as the authors have it."""

    def first(p, shape):
        size = p.w_x.shape[-1] // heads
        leaves = ((heads, size, size), (heads, size), (heads,))
        return MLSTMCarry(*(np.zeros((*shape[:-1], *leaf)) for leaf in leaves))

    def step(p, carry, x, noise):
        q, k, v, o = sums(p, x)
        b_g = np.zeros(2 * heads) if p.b_g is None else p.b_g
        size = q.shape[-1] // heads
        kind = np.result_type(*jax.tree.leaves((p, x, carry)))
        c, n, m, h = (np.zeros(a.shape, kind) for a in (*carry, o))
        for j in range(heads):
            own = slice(j * size, (j + 1) * size)
            i = x @ p.w_g[:, 0, j] + b_g[j]
            f = np.log(sigmoid(x @ p.w_g[:, 1, j] + b_g[heads + j])) + carry.m[..., j]
            m[..., j] = np.where(f.real > i.real, f, i)
            keep, write = (np.exp(a - m[..., j])[..., None] for a in (f, i))
            key = k[..., own] / np.sqrt(size)
            stored = np.einsum("...i,...j->...ij", v[..., own], key)
            c[..., j, :, :] = keep[..., None] * carry.c[..., j, :, :] + write[..., None] * stored
            n[..., j, :] = keep * carry.n[..., j, :] + write * key
            seen = np.sum(n[..., j, :] * q[..., own], -1)
            seen = np.where(seen.real > 0, seen, -seen)
            least = np.exp(-m[..., j])
            norm = np.where(seen.real > least.real, seen, least)
            read = np.einsum("...ij,...j->...i", c[..., j, :, :], q[..., own])
            h[..., own] = sigmoid(o[..., own]) * read / norm[..., None]
        return MLSTMCarry(c=c, n=n, m=m), h

    return Oracle(first, step)


def qrnn(width):
    """Bradbury et al. 2016, arXiv:1611.01576; gates z f o."""

    def first(p, shape):
        return QRNNCarry((np.zeros(shape),) * (width - 1), zero(SRUCarry, "w_x")(p, shape).c)

    def step(p, carry, x, noise):
        z, f, o = sums(p, np.concatenate([x, *carry.before], -1))
        c = sigmoid(f) * carry.c + sigmoid(-f) * np.tanh(z)
        return QRNNCarry((x, *carry.before)[:-1], c), sigmoid(o) * c

    return Oracle(first, step)


def before(width):
    return lambda p, shape: CausalConvCarry((np.zeros(shape),) * (width - 1))


def causal_conv_step(p, carry, x, noise):
    seen = np.stack([x, *carry.before])
    return CausalConvCarry((x, *carry.before[:-1])), plus(
        np.einsum("k...i,ki->...i", seen, p.w), p.b
    )


def lmu(order, theta):
    """Voelker et al. 2019, with its matrices exact over one step."""
    a = np.zeros((order, order))
    b = np.zeros(order)
    for i in range(order):
        b[i] = (2 * i + 1) * (-1) ** i
        for j in range(order):
            a[i, j] = (2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1))
    keep = scipy.linalg.expm(a / theta)
    write = np.linalg.solve(a, (keep - np.eye(order)) @ b)

    def first(p, shape):
        return LMUCarry(*(np.zeros((*shape[:-1], size)) for size in (len(p.w_h), order)))

    def step(p, carry, x, noise):
        u = x @ p.w_ux + carry.h @ p.w_uh + carry.m @ p.w_um
        m = carry.m @ keep.T + u * write
        h = np.tanh(x @ p.w_x + carry.h @ p.w_h + m @ p.w_m)
        return LMUCarry(h=h, m=m), h

    return Oracle(first, step)


RNN = zero(RNNCarry, "w_x")
GRU = zero(GRUCarry, "w_x")
COMPLEX = zero(ComplexCarry, "w_re", "w_re")

LINEAR = [  # (name, cell, oracle)
    ("mingru", MinGRUCell(4), Oracle(GRU, mingru_step)),
    ("mingru_signed", MinGRUCell(4, signed=True), Oracle(GRU, mingru_signed_step)),
    ("minlstm", MinLSTMCell(4), Oracle(RNN, minlstm_step)),
    ("hgrn", HGRNCell(4, lower=0.3), hgrn(0.3)),
    ("rglru", RGLRUCell(4), Oracle(RNN, rglru_step)),
    ("rglru_signed", RGLRUCell(4, signed=True), Oracle(RNN, rglru_signed_step)),
    ("lru", LRUCell(4, 5), Oracle(COMPLEX, complex_step(lru_values, lru_scales, False))),
    ("s5", S5Cell(4, 3), Oracle(COMPLEX, complex_step(s5_values, s5_scales, True))),
    ("sru_linear", SRUCell(4, peepholes=False), sru(np.sqrt(3))),
]
BESIDE = [
    ("sru", SRUCell(4), sru(np.sqrt(3))),
    ("sru_past", SRUCell(3), sru(np.sqrt(3))),
    ("sru_highway", SRUCell(4, highway_bias=1.0), sru(np.sqrt(1 + 2 * np.e))),
    ("sru_no_bias", SRUCell(4, highway_bias=3.0, bias=False), sru(np.sqrt(3))),
    ("paragru", ParaGRUCell(4), Oracle(GRU, paragru_step)),
    ("paralstm", ParaLSTMCell(4), Oracle(zero(LSTMCarry, "w_x", "w_x"), paralstm_step)),
    ("slstm", SLSTMCell(4), Oracle(zero(SLSTMCarry, *["w_h"] * 4), slstm_step)),
    ("mlstm", MLSTMCell(6, 2), mlstm(2)),
    ("qrnn", QRNNCell(4, width=3), qrnn(3)),
    ("qrnn_no_bias", QRNNCell(4, bias=False), qrnn(2)),
    ("causal_conv", CausalConvCell(4), Oracle(before(4), causal_conv_step)),
    ("lmu", LMUCell(4, 5, 8.0), lmu(5, 8.0)),
]
