"""Oracles of the long-memory and convolutional cells: see `oracles.py`."""

import itertools
from typing import Any

import numpy as np
from oracle_base import Oracle, bias, biases, plus, sigmoid, zero

from jaxrnn.cells import (
    AntisymmetricRNNCell,
    ConvGRUCell,
    ConvLSTMCell,
    CoRNNCarry,
    CoRNNCell,
    GatedAntisymmetricRNNCell,
    GRUCarry,
    LSTMCarry,
    RNNCarry,
    UnICORNNCarry,
    UnICORNNCell,
)


def cornn(dt, gamma, epsilon):
    """Rusch & Mishra 2021, arXiv:2010.00951: y'' = tanh(W y + W_z y' + V x + b) -
    gamma y - epsilon y', damped explicitly.
    """

    def step(p, carry, x, noise):
        force = np.tanh(plus(x @ p.w_x, p.b) + carry.y @ p.w_y + carry.z @ p.w_z)
        z = (1 - dt * epsilon) * carry.z + dt * force - dt * gamma * carry.y
        return CoRNNCarry(y=carry.y + dt * z, z=z), carry.y + dt * z

    return Oracle(zero(CoRNNCarry, "w_y", "w_y"), step)


def unicornn(dt, alpha):
    """Rusch & Mishra 2021, arXiv:2103.05487, with its 0.5 + 0.5 tanh(c / 2)
    for the sigmoid of c.
    """

    def step(p, carry, x, noise):
        pace = dt * (0.5 + 0.5 * np.tanh(p.c / 2))
        z = carry.z - pace * np.tanh(p.w * carry.y + plus(x @ p.w_x, p.b)) - pace * alpha * carry.y
        return UnICORNNCarry(y=carry.y + pace * z, z=z), carry.y + pace * z

    return Oracle(zero(UnICORNNCarry, "w", "w"), step)


def antisymmetric(epsilon, gamma, gated):
    """Chang et al. 2019, arXiv:1902.09689; the gate shares the matrix of the candidate."""

    def step(p, carry, x, noise):
        a = np.stack([plus(x @ p.w_x[:, k], bias(p, k)) for k in range(p.w_x.shape[1])])
        a = a + carry.h @ p.w_h - carry.h @ p.w_h.T - gamma * carry.h
        h = carry.h + epsilon * (sigmoid(a[0]) if gated else 1) * np.tanh(a[-1])
        return RNNCarry(h=h), h

    return Oracle(zero(RNNCarry, "w_h"), step)


def around(v, w, cell=None):
    """The convolution, pixel by pixel: v [..., *space, C], w [*kernel, C, G, D];
    without a cell as the recurrent one.
    """
    kernel, dims = w.shape[:-3], w.ndim - 3
    strides, dilation = ((1,) * dims,) * 2 if cell is None else (cell.strides, cell.dilation)
    same = cell is None or cell.padding == "same"
    space, reach = (
        v.shape[-dims - 1 : -1],
        [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)],
    )
    after = [-(-(n if same else n - r) // s) for n, r, s in zip(space, reach, strides, strict=True)]
    lost = [
        max((m - 1) * s + r + 1 - n, 0)
        for m, s, r, n in zip(after, strides, reach, space, strict=True)
    ]
    padded = np.pad(
        v, [(0, 0)] * (v.ndim - dims - 1) + [(n // 2, n - n // 2) for n in lost] + [(0, 0)]
    )
    out = np.zeros((*v.shape[: -dims - 1], *after, *w.shape[-2:]), np.result_type(v, w))
    for pixel in itertools.product(*map(range, after)):
        for tap in itertools.product(*map(range, kernel)):
            at = tuple(
                p * s + t * d for p, s, t, d in zip(pixel, strides, tap, dilation, strict=True)
            )
            out[(..., *pixel, slice(None), slice(None))] += np.einsum(
                "...c,cgd->...gd", padded[(..., *at, slice(None))], w[tap]
            )
    return out


def conv_first(cell, carry):
    """Zeros of the space that the input convolution leaves."""

    def first(p, shape):
        blank = around(np.zeros(shape), p.w_x, cell)[..., 0, :]
        return carry(*(np.zeros_like(blank) for _ in carry._fields))

    return first


def conv_lstm(cell):
    """Shi et al. 2015, arXiv:1506.04214, eq. 3, without peepholes."""

    def step(p, carry, x, noise):
        i, f, g, o = np.moveaxis(
            plus(around(x, p.w_x, cell) + around(carry.h, p.w_h), biases(p)), -2, 0
        )
        c = sigmoid(f) * carry.c + sigmoid(i) * np.tanh(g)
        return LSTMCarry(h=sigmoid(o) * np.tanh(c), c=c), sigmoid(o) * np.tanh(c)

    return Oracle(conv_first(cell, LSTMCarry), step)


def conv_gru(cell):
    """Ballas et al. 2016, arXiv:1511.06432, with z for its 1 - z."""

    def step(p, carry, x, noise):
        u = plus(around(x, p.w_x, cell), biases(p))
        a = around(carry.h, p.w_h)
        r, z = (sigmoid(u[..., k, :] + a[..., k, :]) for k in (0, 1))
        n = np.tanh(u[..., 2, :] + around(r * carry.h, p.w_h)[..., 2, :])
        h = z * carry.h + n - z * n
        return GRUCarry(h=h), h

    return Oracle(conv_first(cell, GRUCarry), step)


STRIDED = ConvLSTMCell(2, (3,), strides=2)
DILATED = ConvLSTMCell(2, (2, 3), padding="valid", dilation=(2, 1), bias=False)
CUBIC = ConvGRUCell(2, 2, dims=3, padding="valid", strides=(1, 2, 1))
GRU_2D = ConvGRUCell(2, (3, 2))

MEMORY: list[Any] = [
    ("cornn", CoRNNCell(4, dt=0.3, gamma=1.2, epsilon=0.7), cornn(0.3, 1.2, 0.7)),
    ("unicornn", UnICORNNCell(4, dt=0.7, alpha=1.5), unicornn(0.7, 1.5)),
    (
        "antisymmetric",
        AntisymmetricRNNCell(4, 0.4, 0.2),
        antisymmetric(0.4, 0.2, False),
    ),
    (
        "antisymmetric_gated",
        GatedAntisymmetricRNNCell(4, 0.4, 0.2),
        antisymmetric(0.4, 0.2, True),
    ),
    ("conv_strided", STRIDED, conv_lstm(STRIDED)),
    ("conv_valid_dilated", DILATED, conv_lstm(DILATED)),
    ("conv_gru", GRU_2D, conv_gru(GRU_2D)),
    ("conv_gru_3d", CUBIC, conv_gru(CUBIC)),
]
