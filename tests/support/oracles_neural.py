"""Oracles of the cells that model neurons: see `oracles.py`. Steps of Euler, written as the
differential equations have them: h + dt * (change per time).
"""

import numpy as np
from oracle_base import Oracle, bias, plus, zero

from jaxrnn.cells import LeakyRNNCell, LowRankRNNCell, RNNCarry
from jaxrnn.wrappers import DaleLaw, Sparse


def softplus(a):
    return np.log1p(np.exp(a))


def leaky(f, tau, dt, rates=False, potentials_out=False):
    """Song et al. 2016, eq. 1-7, and for rates Yang et al. 2019."""

    def step(p, carry, x, noise):
        h = carry.h
        current = plus(x @ p.w_x[:, 0], bias(p, 0))
        current = current if noise is None else current + noise
        recurrent = p.w_h[:, 0]
        drive = f(current + h @ recurrent) if rates else current + f(h) @ recurrent
        h = h + dt * (drive - h) / tau
        return RNNCarry(h=h), h if rates or potentials_out else f(h)

    return Oracle(zero(RNNCarry, "w_h"), step)


def low_rank(f, tau, dt):
    """Mastrogiuseppe and Ostojic 2018, arXiv:1711.09672, eq. 1-3, with the whole matrix."""

    def step(p, carry, x, noise):
        J = p.w_n @ p.w_m / p.w_n.shape[0]
        current = plus(x @ p.w_x, p.b)
        current = current if noise is None else current + noise
        v = carry.h + dt * (f(carry.h) @ J + current - carry.h) / tau
        return RNNCarry(h=v), f(v)

    return Oracle(zero(RNNCarry, "w_x"), step)


def constrained(inner, change):
    """A cell whose recurrent kernel is changed before it is used."""

    def step(p, carry, x, noise):
        return inner.step(p._replace(w_h=change(p.w_h)), carry, x, noise)

    return Oracle(inner.first, step)


def dale(w):
    """Three units excite and one inhibits: sizes |w|, as w / sign(w), which is analytic."""
    return w * np.sign(w.real) * np.array([1, 1, 1, -1])[:, None, None]


RING = ((0, 1, 0, 0), (0, 1, 1, 0), (0, 0, 0, 1), (1, 0, 0, 1))


def ring(w):
    """A ring of four units, of which none sees itself."""
    return w * (np.array(RING) * (1 - np.eye(4)))[:, None]


# (name, cell, oracle)
NEURAL = [
    (
        "leaky",
        LeakyRNNCell(4, "softplus", tau=3.0, dt=0.9, noise_std=0.3),
        leaky(softplus, 3.0, 0.9),
    ),
    (
        "leaky_potentials",
        LeakyRNNCell(4, "tanh", tau=2.0, dt=1.0, output="potentials", bias=False),
        leaky(np.tanh, 2.0, 1.0, potentials_out=True),
    ),
    (
        "leaky_rates",
        LeakyRNNCell(4, "tanh", tau=2.0, dt=0.5, state="rates", noise_std=0.2),
        leaky(np.tanh, 2.0, 0.5, rates=True),
    ),
    (
        "low_rank",
        LowRankRNNCell(5, 2, tau=2.0, dt=0.5, noise_std=0.1, bias=True),
        low_rank(np.tanh, 2.0, 0.5),
    ),
    (
        "dale",
        DaleLaw(LeakyRNNCell(4, "softplus", tau=2.0, dt=1.0), 0.8),
        constrained(leaky(softplus, 2.0, 1.0), dale),
    ),
    (
        "sparse",
        Sparse(LeakyRNNCell(4, "tanh", tau=2.0, dt=1.0), RING, self_connections=False),
        constrained(leaky(np.tanh, 2.0, 1.0), ring),
    ),
]
