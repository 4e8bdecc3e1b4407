"""What the public entries check, and what their errors teach."""

import functools
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Cell = Any  # a `jaxrnn.cell.Cell`: this file stands below it
Params = Any
Carry = Any


def check_features(cell: Cell, params: Params, xs: Array, axes: str) -> Array:
    """Returns `xs` as an array, or raises where its dtype, rank or features do not fit the cell.

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
    xs = jnp.asarray(xs)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(
            f"xs has dtype {xs.dtype}, expected floating point. "
            "Embed or one-hot encode indices, or cast them."
        )
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


def check_params(cell: Cell, params: Params) -> Params:
    """Returns `params`, or raises where they are not what `cell.init` makes.

    Raises:
        ValueError: another structure or other shapes; the message lists what does not fit.
    """
    params = fit_params(cell, params)
    size = cell.input_size(params)
    expected = None if size is None else _expected_params(cell, int(size))
    if expected is None:
        return params
    if jax.tree.structure(params) != jax.tree.structure(expected):
        raise ValueError(
            f"params have structure {jax.tree.structure(params)}, "
            f"but {cell} makes {jax.tree.structure(expected)}."
        )
    pairs = zip(jax.tree.leaves_with_path(params), jax.tree.leaves(expected), strict=True)
    wrong = [
        (jax.tree_util.keystr(path), a.shape, e.shape)
        for (path, a), e in pairs
        if a.shape != e.shape
    ]
    if wrong:
        text = ", ".join(f"params{name} {got}, expected {want}" for name, got, want in wrong)
        raise ValueError(f"params do not fit {cell}: {text}.")
    return params


def fit_params(cell: Cell, params: Params, input_size: int = 1) -> Params:
    """Parameters in the structure that `cell.init` makes, if need be from the dicts, tuples and
    lists that files and Flax hold: dicts with the names of fields, or for an entry of a tuple its
    number as a string.

    Args:
        cell: the cell.
        params: its parameters.
        input_size: for which a cell makes parameters of the same structure.

    Raises:
        ValueError: names or numbers of entries that do not fit; the message has those wanted.
    """
    like = _structure(cell, _told_size(cell, params, input_size)) if _is_raw(params) else None
    if like is None or jax.tree.structure(params) == jax.tree.structure(like):
        return params
    return _rebuilt(cell, like, params, "params")


def features_of(xs: Any) -> int:
    """The number of features of inputs, 1 where they have no axis."""
    return (jnp.shape(xs) or (1,))[-1]


def _told_size(cell: Cell, params: Params, otherwise: int) -> int:
    """The number of features, where raw parameters tell it: a cell asks names of its own, and here
    the first kernel of the input says it."""
    try:
        size = cell.input_size(params)
    except Exception:
        size = None
    return next(_input_sizes(params), otherwise) if size is None else int(size)


def _input_sizes(params: Any) -> Iterator[int]:
    """The number of features of each cell in raw parameters, the first first."""
    if hasattr(params, "_asdict"):
        params = params._asdict()
    if isinstance(params, Mapping) and hasattr(params.get("w_x"), "shape"):
        shape = params["w_x"].shape
        yield shape[-3] if len(shape) > 2 else shape[0]
    elif isinstance(params, Mapping | tuple | list):
        for part in params.values() if isinstance(params, Mapping) else params:
            yield from _input_sizes(part)


def _is_raw(params: Any) -> bool:
    """Whether a structure may be another than it should be: it holds what has no names of its own,
    a dict, a list or a plain tuple."""
    if hasattr(params, "_fields"):
        return any(map(_is_raw, params))
    return isinstance(params, Mapping | list | tuple)


@functools.lru_cache(maxsize=1024)
def _structure(cell: Cell, input_size: int) -> Params | None:
    """What `cell.init` makes; None where it cannot be told."""
    try:
        return _expected_params(cell, input_size)
    except Exception:  # a cell that cannot be made for any number of features
        return None


def _rebuilt(cell: Cell, like: Params, given: Any, path: str) -> Any:
    """`given` in the structure of `like`; what is no raw container is left to other checks."""
    if not isinstance(like, tuple) or not isinstance(given, Mapping | tuple | list):
        return given
    if hasattr(given, "_fields") and type(given) is not type(like):
        return given  # of another cell, in an order of its own
    names = getattr(like, "_fields", None) or tuple(str(k) for k in range(len(like)))
    parts = _entries(like, names, given)
    if parts is None:
        got = f"{len(given)} entries"
        if isinstance(given, Mapping):
            got = f"a dict of {', '.join(map(str, given))}"
        raise ValueError(
            f"{path} of {type(cell).__name__} must have the entries {', '.join(names)}, got {got}."
        )
    triples = zip(names, like, parts, strict=True)
    rebuilt = [_rebuilt(cell, part, own, f"{path}.{name}") for name, part, own in triples]
    return type(like)(*rebuilt) if hasattr(like, "_fields") else tuple(rebuilt)


def _entries(like: Any, names: tuple[str, ...], given: Any) -> list[Any] | None:
    """What is given for each entry of `like`; None where it does not fit."""
    if not isinstance(given, Mapping):
        return list(given) if len(given) == len(names) else None
    given = {str(name): part for name, part in given.items()}  # nnx counts entries by integers
    absent = {name for name, part in zip(names, like, strict=True) if part is None}
    if not set(names) - absent <= set(given) <= set(names):
        return None
    return [given.get(name) for name in names]


@functools.lru_cache(maxsize=1024)
def _expected_params(cell: Cell, input_size: int) -> Params | None:
    """The shapes that `cell.init` makes; None for a cell that does not define it."""
    try:
        return jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))
    except NotImplementedError:
        return None


def fit_carry(carry: Carry, first: Carry) -> Carry:
    """A given carry, checked against the cell's own and brought to its dtype,
    sharding and varying axes.

    Raises:
        ValueError: another structure or other shapes than the cell's own carry.
    """
    names = getattr(first, "_fields", ())
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


def _check_structure(carry: Carry, first: Carry, names: tuple[str, ...]) -> None:
    given = jax.tree.structure(carry)
    expected = jax.tree.structure(first)
    if given != expected:
        fields = ", ".join(f"{name}=..." for name in names)
        hint = f" Make it by name: {type(first).__name__}({fields})." if names else ""
        raise ValueError(f"carry has structure {given}, expected {expected}.{hint}")


def check_size(name: str, value: Any, least: int = 1) -> None:
    """Raises ValueError unless `value` is an integer of at least `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")


def fit_rows(name: str, rows: Any, xs: Array, feature_axes: int) -> Array:
    """A mask or reset, checked and brought to the sharding of `xs`.

    Raises:
        ValueError: not of shape [T, *batch].
        TypeError: not boolean.
    """
    shape = xs.shape[: xs.ndim - feature_axes]
    rows = jnp.asarray(rows)
    if rows.shape != shape:
        hint = " Is the time axis first?" if rows.shape == (*shape[1:], shape[0]) else ""
        raise ValueError(
            f"{name} has shape {rows.shape}, expected {shape}: "
            f"(T, *batch) of xs, whose shape is {xs.shape}.{hint}"
        )
    if rows.dtype != jnp.bool_:
        raise TypeError(f"{name} must be boolean, got dtype {rows.dtype}; {name} != 0 makes one.")
    return rows | jnp.zeros_like(jnp.sum(xs, axis=tuple(range(-feature_axes, 0))), dtype=jnp.bool_)


def check_noise(cell: Cell, noise: Any, xs: Array) -> None:
    """Raises ValueError unless noise is what `cell.noise` would draw for these inputs [T, ...]."""
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
    if shapes != wanted:
        raise ValueError(
            f"noise does not fit {type(cell).__name__} and xs of shape {xs.shape}: "
            f"its leaves have shapes {shapes}, expected "
            f"{wanted}. cell.noise(key, T, like) draws it, with one step of these inputs as `like`."
        )


def fit_noise(noise: Any, T: int) -> Any:
    """The noise with T steps: what is held over time (leading axis 1) is repeated.

    Raises:
        ValueError: a leading axis that is neither T nor 1.
    """
    for leaf in jax.tree.leaves(noise):
        if leaf.shape[:1] not in ((T,), (1,)):
            raise ValueError(
                f"noise has a leaf of shape {leaf.shape}, whose first axis must be T={T} or 1."
            )
    return jax.tree.map(lambda n: jnp.broadcast_to(n, (T, *n.shape[1:])), noise)
