"""Checks of options that cells of several files share."""

import math
import numbers
from typing import Any

from jaxrnn import initializers
from jaxrnn.checks import check_size


def check_draws(hidden_size: Any, *inits: initializers.Initializer | None) -> None:
    """Raises ValueError where the size or an initialiser is wrong;
    None stands for the paper's initialiser.
    """
    check_size("hidden_size", hidden_size)
    for init in inits:
        if init is not None:
            initializers.resolve(init)


def make_float(cell: Any, name: str, *, zero: bool) -> None:
    """Makes a field a plain float, since a NumPy scalar is not weakly typed.

    Args:
        cell: the cell, which is being made.
        name: of the field.
        zero: whether 0 is allowed.

    Raises:
        ValueError: no finite number, or not above 0 (below 0, where 0 is allowed).
    """
    value = getattr(cell, name)
    least = "at least 0" if zero else "above 0"
    real = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not real or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} must be a number {least}, got {value!r}.")
    object.__setattr__(cell, name, float(value))
