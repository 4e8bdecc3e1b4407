"""Checks of options that cells of several files share."""

import dataclasses
import math
import numbers
from typing import Any

from jaxrnn import initializers
from jaxrnn.cells.activations import check_activations
from jaxrnn.checks import check_flag, check_number, check_size
from jaxrnn.initializers import Chrono


def check_draws(cell: Any, *inits: str) -> None:
    """Raises where `hidden_size`, `bias` or an initialiser, of which the fields are named, is
    wrong; None stands for the paper's initialiser.
    """
    check_size("hidden_size", cell.hidden_size)
    check_flag("bias", getattr(cell, "bias", True))
    for name in inits:
        if getattr(cell, name) is not None:
            initializers.resolve(getattr(cell, name), name)


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


def check_options(cell: Any, *biases: str) -> None:
    """Raises ValueError or TypeError where the options that most built-in cells share are wrong.

    Args:
        cell: has `hidden_size, input_init, recurrent_init, bias, init_scheme`, and perhaps
            activations.
        biases: the fields that are initial biases of gates.
    """
    check_size("hidden_size", cell.hidden_size)
    check_flag("bias", cell.bias)
    for name in ("input_init", "recurrent_init"):
        initializers.resolve(getattr(cell, name), name)
    named = ("nonlinearity", "activation", "recurrent_activation")
    check_activations(cell, *(name for name in named if hasattr(cell, name)))
    if cell.init_scheme not in ("jaxrnn", "torch"):
        raise ValueError(f"init_scheme must be 'jaxrnn' or 'torch', got {cell.init_scheme!r}.")
    check_gate_biases(cell, *biases)
    if cell.init_scheme == "torch":
        _check_nothing_else_draws(cell)


def check_gate_biases(cell: Any, *names: str) -> None:
    """Raises where the initial bias of a gate, a field of that name, is neither a number nor a
    chrono draw, or is one of a cell without biases.

    Raises:
        TypeError, ValueError: as said.
    """
    for name in names:
        b = getattr(cell, name)
        if isinstance(b, Chrono):
            if not cell.bias:
                raise ValueError(f"{name}=Chrono(...) needs bias=True.")
            continue
        if not isinstance(b, numbers.Real) or isinstance(b, bool):
            raise TypeError(f"{name} must be a number or Chrono(max_lag), got {b!r}.")
        check_number(name, b)


def check_ends(cell: Any, name: str) -> None:
    """Raises ValueError unless a field is a tuple of two numbers, between which units or heads are
    spread."""
    given = getattr(cell, name)
    if not isinstance(given, tuple) or len(given) != 2:
        raise ValueError(f"{name} must be a tuple of two numbers, got {given!r}.")
    for end in given:
        check_number(f"each of {name}", end)


def check_range(cell: Any, name: str, *, above: float, below: float) -> None:
    """Raises ValueError unless a field is a tuple of two numbers in order, between two others."""
    given = getattr(cell, name)
    pair = isinstance(given, tuple) and len(given) == 2
    if not pair or not all(isinstance(value, numbers.Real) for value in given):
        raise ValueError(f"{name} must be a tuple (low, high), got {given!r}.")
    if not above < given[0] <= given[1] < below:
        raise ValueError(f"{name} must be {above} < low <= high < {below}, got {given!r}.")


def check_share(cell: Any, name: str) -> None:
    """Makes a field a plain float, of 0 or more and below 1.

    Raises:
        ValueError: it is not.
    """
    make_float(cell, name, zero=True)
    if getattr(cell, name) >= 1:
        raise ValueError(f"{name} must be below 1, got {getattr(cell, name)!r}.")


def _check_nothing_else_draws(cell: Any) -> None:
    """Raises ValueError where a cell has options that the torch scheme would ignore."""
    names = ("recurrent_init", "input_init", "forget_bias", "update_bias")
    defaults = {field.name: field.default for field in dataclasses.fields(cell)}
    for name in names:
        if name in defaults and getattr(cell, name) != defaults[name]:
            raise ValueError(
                f"init_scheme='torch' draws every parameter, so {name}={getattr(cell, name)!r} "
                "would do nothing. Leave one of the two out."
            )
