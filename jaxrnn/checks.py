"""What the public entries check, and what their errors teach."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Cell = Any  # a `jaxrnn.cell.Cell`: this file stands below it
Params = Any
Carry = Any


def check_features(cell: Cell, params: Params, xs: Array, axes: str) -> Array:
    """Returns `xs`, or raises where its dtype, rank or features do not fit the cell.

    Args:
        cell: the cell.
        params: its parameters.
        xs: [*axes, I].
        axes: how the error message writes the leading axes: "T, ...", "..., T" or "...".

    Raises:
        TypeError: `xs` is not floating-point.
        ValueError: `xs` has too few axes, or another number of features than `params` were made
            for.
    """
    xs = as_floating(xs)
    least = cell.feature_axes + ("T" in axes)
    features = ", ".join(["size"] * (cell.feature_axes - 1) + ["features"])
    if xs.ndim < least:
        raise ValueError(
            f"xs has shape {xs.shape}, expected ({axes}, {features}): at least {least} axes."
        )
    size = cell.input_size(params)
    if size is not None and xs.shape[-1] != size:
        first = "; is the time axis first?" if axes.startswith("T") else ""
        raise ValueError(
            f"xs has {xs.shape[-1]} features but these parameters were made for input_size={size}. "
            f"xs has shape {xs.shape}, expected ({axes}, "
            f"{features.replace('features', str(size))}){first}"
        )
    return xs


def as_array(name: str, given: Any, hint: str = "") -> Any:
    """What is given as an array: one of NumPy or JAX as it is, a tensor of torch, a number, and
    lists of them.

    NumPy's stay so, since JAX would look at all numbers of a copy under `jax_debug_nans`, also at
    those in the padding.

    Raises:
        TypeError: anything else; the message ends with `hint`.
    """
    if hasattr(given, "detach"):  # a tensor of torch
        given = given.detach().cpu()
        given = (given.float() if str(given.dtype) == "torch.bfloat16" else given).numpy()
    if isinstance(given, jax.ShapeDtypeStruct):
        raise TypeError(f"{name} must be an array, got a shape without numbers{hint}.")
    if not hasattr(given, "dtype") or not hasattr(given, "ndim"):
        leaves = _numbers(given)
        if leaves is None:
            raise TypeError(f"{name} must be an array, got {type(given).__name__}{hint}.")
        traced = any(isinstance(a, jax.core.Tracer) for a in leaves)
        given = jnp.asarray(given) if traced else np.asarray(given)
    if isinstance(given.dtype, np.dtype) and given.dtype.kind in "OSU":
        raise TypeError(f"{name} must be an array of numbers, got dtype {given.dtype}{hint}.")
    return given


def _numbers(given: Any) -> list[Any] | None:
    """The numbers and arrays of a list, or a number alone; None of anything else."""
    listed = isinstance(given, list | tuple) and not hasattr(given, "_fields")
    leaves = jax.tree.leaves(given, is_leaf=lambda a: a is None) if listed else [given]
    known = (isinstance(a, numbers.Number) or hasattr(a, "dtype") for a in leaves)
    return leaves if all(known) and not isinstance(given, type) else None


def as_arrays(name: str, tree: Any) -> Any:
    """A tree with each leaf as an array; raises TypeError where one is none."""
    return jax.tree.map(lambda leaf: as_array(f"each leaf of {name}", leaf), tree)


def as_floating(xs: Any) -> Any:
    """`xs` as an array; raises TypeError where it holds no real numbers: a cast would lose the
    imaginary part, and take indices for features.
    """
    xs = as_array("xs", xs, "; the order is (cell, params, xs)")
    if jnp.issubdtype(xs.dtype, jnp.complexfloating):
        raise TypeError(
            f"xs has dtype {xs.dtype}, expected floating point. "
            "Give real and imaginary parts as features of their own."
        )
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(
            f"xs has dtype {xs.dtype}, expected floating point. "
            "Embed or one-hot encode indices, or cast them."
        )
    return xs


def fit_carry(carry: Carry, first: Carry) -> Carry:
    """A given carry, checked against the cell's own and brought to its dtype,
    sharding and varying axes. Lists may stand for tuples, and dicts, by name, for their fields.

    Raises:
        ValueError: another structure or other shapes than the cell's own carry.
    """
    names = getattr(first, "_fields", ())
    carry = as_arrays("carry", _renamed(carry, first))
    _check_structure(carry, first, names)
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (carry, first)]
    crossed = shapes[0] == shapes[1][::-1] and names == ("h", "c")
    swapped = " Are h and c swapped?" if crossed else ""
    pairs = zip(jax.tree.leaves_with_path(carry), jax.tree.leaves(first), strict=True)
    for (path, given), own in pairs:
        if jnp.shape(given) != own.shape:
            name = jax.tree_util.keystr(path) or " "
            raise ValueError(
                f"carry{name} has shape {jnp.shape(given)}, "
                f"expected {own.shape} for these inputs.{swapped}"
            )
    return jax.tree.map(
        lambda given, own: jnp.zeros_like(own) + jnp.asarray(given).astype(own.dtype), carry, first
    )


def in_order(given: Any, names: Sequence[str]) -> Any:
    """A list, or a dict of these names, as a tuple in their order; all else as it is."""
    if isinstance(given, Mapping):
        given = {str(name): part for name, part in given.items()}
        return tuple(given[name] for name in names) if set(given) == set(names) else given
    return tuple(given) if isinstance(given, list) else given


def _renamed(given: Any, like: Any) -> Any:
    """The lists and dicts that files hold in the structure of `like`.

    What has several names is never made of what has none: libraries order h and c differently.
    """
    parts = _entries(given, like) if isinstance(like, tuple) else None
    if parts is None:
        return given
    rebuilt = [_renamed(part, own) for part, own in zip(parts, like, strict=True)]
    return type(like)(*rebuilt) if hasattr(like, "_fields") else tuple(rebuilt)


def _entries(given: Any, like: tuple[Any, ...]) -> Sequence[Any] | None:
    """What is given for each entry of `like`; None where it does not fit."""
    fields = getattr(like, "_fields", None)
    if isinstance(given, Mapping):
        given = in_order(given, fields or [str(k) for k in range(len(like))])
        return given if isinstance(given, tuple) else None
    unnamed = fields is None and isinstance(given, list)
    if type(given) is not type(like) and not unnamed:
        return None
    return given if len(given) == len(like) else None


def _check_structure(carry: Carry, first: Carry, names: tuple[str, ...]) -> None:
    given = jax.tree.structure(carry)
    expected = jax.tree.structure(first)
    if given != expected:
        fields = ", ".join(f"{name}=..." for name in names)
        hint = f" Make it by name: {type(first).__name__}({fields})." if names else ""
        raise ValueError(f"carry has structure {given}, expected {expected}.{hint}")


def check_flag(name: str, value: Any) -> None:
    """Raises TypeError unless `value` is a bool: "False" and 0.5 are true to Python."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def check_text(name: str, value: Any) -> None:
    """Raises TypeError unless `value` is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}.")


def check_number(
    name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf
) -> None:
    """Raises ValueError unless `value` is a finite number of at least `least` and above `above`."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or value < least or value <= above:
        bound = f" above {above:g}" if above > -math.inf else ""
        bound = f" of at least {least:g}" if least > -math.inf else bound
        raise ValueError(f"{name} must be a finite number{bound}, got {value!r}.")


def check_key(key: Any) -> None:
    """Raises unless `key` is one key of `jax.random`."""
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and dtype != jnp.uint32:  # keys of jax.random.PRNGKey are numbers
        raise TypeError(f"key must be one of jax.random.key, got {key!r}.")
    if np.ndim(key) != (0 if typed else 1):
        raise ValueError(f"key must be one key, got an array {np.shape(key)} of them.")


def check_float(name: str, dtype: Any) -> None:
    """Raises TypeError unless a dtype is one of floating point."""
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        known = None
    if known is None or not jnp.issubdtype(known, jnp.floating):
        raise TypeError(f"{name} must be a dtype of floating point, got {dtype!r}.")


def check_size(name: str, value: Any, least: int = 1) -> None:
    """Raises ValueError unless `value` is an integer of at least `least`, or a symbol of
    `jax.export`."""
    if jax.export.is_symbolic_dim(value):
        return
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")


def fit_rows(name: str, rows: Any, xs: Array, feature_axes: int) -> Array:
    """A mask or reset, checked and brought to the sharding of `xs`.

    Raises:
        ValueError: not of shape [T, *batch].
        TypeError: not boolean.
    """
    shape = xs.shape[: xs.ndim - feature_axes]
    rows = jnp.asarray(as_array(name, rows))
    if rows.shape != shape:
        hint = " Is the time axis first?" if rows.shape == (*shape[1:], shape[0]) else ""
        raise ValueError(
            f"{name} has shape {rows.shape}, expected {shape}: "
            f"(T, *batch) of xs, whose shape is {xs.shape}.{hint}"
        )
    check_boolean(name, rows)
    return rows | jnp.zeros_like(jnp.sum(xs, axis=tuple(range(-feature_axes, 0))), dtype=jnp.bool_)


def axes_of(name: str, shape: Any) -> tuple[Any, ...]:
    """A shape as a tuple; one number is that of one axis.

    Raises:
        TypeError: neither a number nor numbers.
        ValueError: a negative size.
    """
    number = isinstance(shape, numbers.Integral) and not isinstance(shape, bool)
    if number or jax.export.is_symbolic_dim(shape):
        shape = (shape,)
    if not isinstance(shape, tuple | list):
        raise TypeError(f"{name} must be a tuple of sizes, got {shape!r}.")
    for size in shape:
        check_size(f"each of {name}", size, least=0)
    return tuple(shape)


def check_boolean(name: str, rows: Array) -> None:
    """Raises TypeError unless a mask or reset is boolean."""
    if rows.dtype != jnp.bool_:
        raise TypeError(f"{name} must be boolean, got dtype {rows.dtype}; {name} != 0 makes one.")


def check_noise(cell: Cell, noise: Any, xs: Array) -> None:
    """Raises ValueError unless noise is what `cell.noise` would draw for these inputs [T, ...],
    or that of one step for all of them."""
    like = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    want = jax.eval_shape(lambda like: cell.noise(jax.random.key(0), xs.shape[0], like), like)
    if not jax.tree.leaves(want):
        if jax.tree.leaves(noise):
            raise ValueError(
                f"noise was given, but {type(cell).__name__} draws none: noise must be None."
            )
        return
    shapes, wanted = (
        jax.tree.map(lambda a: ("T or 1", *jnp.shape(a)[1:]), tree) for tree in (noise, want)
    )
    # A NamedTuple equals the tuple of its parts.
    if shapes != wanted or jax.tree.structure(noise) != jax.tree.structure(want):
        raise ValueError(
            f"noise does not fit {type(cell).__name__} and xs of shape {xs.shape}: "
            f"its leaves have shapes {shapes}, expected "
            f"{wanted}. cell.noise(key, T, like) draws it, with one step of these inputs as `like`."
        )
    T = xs.shape[0]
    for given, own in zip(jax.tree.leaves(noise), jax.tree.leaves(want), strict=True):
        if own.dtype == jnp.bool_:
            check_boolean("noise", given)
        if given.shape[:1] not in ((T,), (1,)):
            raise ValueError(
                f"noise has a leaf of shape {given.shape}, whose first axis must be T={T} or 1."
            )


def fit_noise(noise: Any, T: int) -> Any:
    """The noise with T steps: what is held over time (leading axis 1) is repeated."""
    return jax.tree.map(lambda n: jnp.broadcast_to(n, (T, *n.shape[1:])), noise)
