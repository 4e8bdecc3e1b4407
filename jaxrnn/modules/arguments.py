"""What is wrong with the arguments of a module, and what was meant by them."""

import functools
import inspect
import numbers
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from jaxrnn.cell import Cell, check_cell_type
from jaxrnn.checks import check_flag, check_float, check_size

P = ParamSpec("P")
R = TypeVar("R")

# What other libraries call it, and what it is here.
_WORDS = {
    "training": "dropout is switched by eval() and train(), or by deterministic=not training",
    "train": "dropout is switched by eval() and train(), or by deterministic=not train",
    "dropout_rate": "it is dropout here",
    "recurrent_dropout": "it is a wrapper, as in Recurrent(RecurrentDropout(cell, rate), ...)",
    "return_sequences": "a module always returns (output, state), output at every step",
    "return_state": "a module always returns (output, state)",
    "return_carry": "a module always returns (output, state)",
    "time_major": "batch_first=False, torch's default, is time-major",
    "go_backwards": "it is reverse=True of Recurrent",
    "unroll": "how a module runs is method= when it is made",
    "activation": "it is an option of the cell, as in Recurrent(LSTMCell(20, activation=...), ...)",
    "recurrent_activation": "it is an option of the cell, in Recurrent(LSTMCell(20, ...), ...)",
    "device": "put the parameters there by jax.device_put",
    "rng": "the randomness of one call is key=",
    "rngs": "the randomness of one call is key=",
} | {
    theirs: f"it is {ours}= here"
    for ours, names in {
        "state": "hx h0 h_0 hidden carry initial_state initial_carry",
        "lengths": "seq_lengths seq_len sequence_length sequence_lengths length",
        "reset": "resets done dones starts is_first",
        "hidden_size": "units num_units features hidden_features hidden_dim",
        "input_size": "in_features input_dim",
        "num_layers": "layers n_layers",
        "bias": "use_bias",
        "merge": "merge_mode merge_fn",
        "mask": "segmentation_mask padding_mask",
    }.items()
    for theirs in names.split()
}
_ORDER = ("hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
_FLAGS = ("bias", "batch_first", "bidirectional")
_SIZES = ("hidden_size", "num_layers", "proj_size")
_WANTED = {
    **dict.fromkeys(_FLAGS, "True or False"),
    **dict.fromkeys(_SIZES, "an integer"),
    "dropout": "a number between 0 and 1",
}


def told(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which for an unknown argument of a known name says what was meant."""
    own = set(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **options: P.kwargs) -> R:
        for name in options.keys() - own:
            if name in _WORDS:
                raise TypeError(f"unexpected argument {name!r}: {_WORDS[name]}.")
        return function(*args, **options)

    return checked


def check_input_size(input_size: Any) -> None:
    """Raises unless `input_size` is a size; a cell there is a mistake of its own."""
    is_class = isinstance(input_size, type) and issubclass(input_size, Cell)
    if is_class or isinstance(input_size, Cell):
        raise TypeError(
            f"the first argument is input_size, got {input_size!r}; for a cell use Recurrent(cell)."
        )
    check_size("input_size", input_size)


def check_dtypes(param_dtype: Any, dtype: Any) -> None:
    """Raises TypeError unless the dtypes of a module are of floating point."""
    check_float("param_dtype", param_dtype)
    if dtype is not None:
        check_float("dtype", dtype)


def check_recurrent(cell: Any, input_size: Any, batch_first: Any, reverse: Any) -> None:
    """Raises where the arguments of `Recurrent` are wrong."""
    if isinstance(input_size, Cell):
        raise TypeError("the arguments of Recurrent are (cell, input_size), in this order.")
    check_cell_type(cell)
    check_input_size(input_size)
    check_flag("batch_first", batch_first)
    check_flag("reverse", reverse)
    if reverse and not cell.causal:
        raise ValueError("a cell that runs in both directions has no reverse=True.")


def check_torch(first: str | None = None, **values: Any) -> None:
    """Raises where an argument of a torch-like module has another's type, as where one before it
    was left out.

    Args:
        first: what the order has before `bias`, beside the sizes.
        values: the arguments by name.
    """
    order = ["input_size", *_ORDER]
    if first is not None:
        order.insert(3, first)
    if "proj_size" in values:
        order.append("proj_size")
    for name, value in values.items():
        if name in _WANTED and not _is_of_its_type(name, value):
            raise TypeError(
                f"{name} must be {_WANTED[name]}, got {value!r}. "
                f"The order is torch's: {', '.join(order)}."
            )


def _is_of_its_type(name: str, value: Any) -> bool:
    flag = isinstance(value, bool | np.bool_)
    if name in _FLAGS:
        return flag
    return not flag and isinstance(value, numbers.Integral if name in _SIZES else numbers.Real)


def warn_of_idle_dropout(dropout: float, num_layers: int) -> None:
    """Warns, as torch does, where dropout is asked for and has no place."""
    if dropout and num_layers == 1:
        text = (
            f"dropout={dropout} acts on the output of every layer but the last, "
            "so it does nothing with num_layers=1."
        )
        warnings.warn(text, stacklevel=4)
