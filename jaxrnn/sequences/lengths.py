"""Lengths of padded sequences, as masks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from jaxrnn.cell import Array
from jaxrnn.checks import as_array, check_size


def lengths_to_mask(lengths: Any, T: int) -> Array:
    """The mask of right-padded sequences: True at the first `lengths` steps of each.

    Args:
        lengths: [*batch] integers from 0 to T. While tracing, where they cannot be checked, a value
            beyond T means T and one below 0 means 0; `check_lengths` checks them at run time.
        T: the number of steps.

    Returns:
        [T, *batch] booleans.

    Raises:
        TypeError: lengths are not integers.
        ValueError: a length is negative or beyond T, or T is no number of steps.

    Example:
        >>> import jaxrnn
        >>> jaxrnn.lengths_to_mask([2, 0], T=3).astype(int).tolist()
        [[1, 0], [1, 0], [0, 0]]
    """
    check_size("T", T, least=0)
    lengths = as_lengths(lengths, T)
    return jnp.arange(T, dtype=jnp.int32).reshape((T,) + (1,) * lengths.ndim) < lengths[None]


def as_lengths(lengths: Any, T: int) -> Array:
    """Lengths as an array of int32, checked where they are known.

    Raises:
        TypeError: lengths are not integers.
        ValueError: a length is negative or beyond T.
    """
    traced = isinstance(lengths, jax.core.Tracer)
    lengths = lengths if traced else np.asarray(as_array("lengths", lengths))
    # an empty list is one of floats to NumPy
    lengths = lengths if traced or lengths.size else lengths.astype(np.int32)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}.")
    if not traced and lengths.size and (lengths.min() < 0 or lengths.max() > T):
        raise ValueError(
            f"lengths must lie between 0 and T={T}, got {lengths.min()} to {lengths.max()}."
        )
    lengths = jnp.asarray(lengths)
    if jnp.iinfo(lengths.dtype).max > jnp.iinfo(jnp.int32).max:
        lengths = jnp.clip(lengths, 0, T)  # before the cast, which would wrap
    return lengths.astype(jnp.int32)


def check_lengths(lengths: Array, T: int) -> None:
    """A switch for debugging: checks lengths at run time, inside `jax.jit`, of a function that
    `checkify` has transformed.

    Elsewhere it does nothing. It is a call of its own since a program with checks, done or not,
    starts more slowly and cannot be exported.

    Args:
        lengths: [*batch] integers, traced or not.
        T: the number of steps.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jax.experimental import checkify
        >>> check = jax.jit(lambda n: jaxrnn.sequences.check_lengths(n, T=5))
        >>> checked = checkify.checkify(check, errors=checkify.user_checks)
        >>> error, _ = checked(jnp.array([3, 9]))
        >>> error.get().splitlines()[0].split(" (")[0]
        'lengths must lie between 0 and T=5, got [3 9].'
    """
    lengths = jnp.asarray(lengths)
    inside = jnp.all((lengths >= 0) & (lengths <= T))
    checkify.debug_check(
        inside, f"lengths must lie between 0 and T={T}, got {{lengths}}.", lengths=lengths
    )
