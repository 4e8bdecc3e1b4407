"""The functions that a cell applies to its sums, by name or as they are."""

import difflib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array

Activation = str | Callable[[Array], Array]


def linear(a: Array) -> Array:
    """`a` itself."""
    return a


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_tanh": jax.nn.hard_tanh,
    "linear": linear,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
}


def function(activation: Activation) -> Callable[[Array], Array]:
    """The function of a name, or a function itself."""
    return ACTIVATIONS[activation] if isinstance(activation, str) else activation


def functions(cell: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """What stands for sigmoid and for tanh in the equations of a gated cell."""
    return function(cell.recurrent_activation), function(cell.activation)


def check_activations(cell: Any, *fields: str) -> None:
    """Raises unless these fields are names of activations, or functions; of one that has a name it
    keeps the name, so that equal cells are equal.

    Raises:
        ValueError: an unknown name; the message has the nearest known one.
        TypeError: neither a name nor a function, or a function that has no hash.
    """
    for field in fields:
        value = getattr(cell, field)
        if not isinstance(value, str) and not callable(value):
            slip = " input_size goes to init(key, input_size)." if isinstance(value, int) else ""
            raise TypeError(
                f"{field} must be the name of a function or a function, got {value!r}.{slip}"
            )
        if isinstance(value, str) and value not in ACTIVATIONS:
            near = difflib.get_close_matches(value, ACTIVATIONS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"{field}={value!r} is unknown.{hint} Known: {known}; or a function.")
        hash(value)
        for name, known in ACTIVATIONS.items():
            if value is known:
                object.__setattr__(cell, field, name)
