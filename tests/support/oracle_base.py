"""What every oracle is made of; `oracles.py` says what an oracle is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Oracle(NamedTuple):
    first: Callable[..., Any]
    step: Callable[..., Any]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def zero(carry, *names):
    """first() of a carry whose fields are zeros of as many units as that parameter's last axis."""
    return lambda p, shape: carry(
        *(np.zeros((*shape[:-1], getattr(p, name).shape[-1])) for name in names)
    )


def plus(a, b):
    return a if b is None else a + b


def biases(p):
    """b as [G, H]; None without biases."""
    return None if p.b is None else p.b.reshape(p.w_x.shape[-2:])


def bias(p, k):
    """b_k, [H]; None without biases."""
    return None if p.b is None else biases(p)[k]


def gate(p, x, h, k):
    """W_k x + U_k h + b_k."""
    return plus(x @ p.w_x[:, k] + h @ p.w_h[:, k], bias(p, k))
