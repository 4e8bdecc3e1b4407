"""Parameters in the structure that a cell makes, also from the dicts, tuples and lists that files
and Flax hold.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Cell = Any  # a `jaxrnn.cell.Cell`: this file stands below it
Params = Any


def check_params(cell: Cell, params: Params) -> Params:
    """Returns `params`, or raises where they are not what `cell.init` makes.

    Raises:
        ValueError: another structure or other shapes; the message lists what does not fit.
        TypeError: no arrays, or none of floating point where the cell makes them.
    """
    params = fit_params(cell, params)
    _check_numbers(params)
    size = _size(cell, params)
    if size is None:
        # A cell that tells the features of what it makes itself has made other parameters.
        expected = _structure(cell, 1)
        if expected is None or cell.input_size(expected) is None:
            return params
    else:
        expected = expected_params(cell, int(size))
    if expected is None:
        return params
    _check_structure(cell, params, expected)
    pairs = zip(jax.tree.leaves_with_path(params), jax.tree.leaves(expected), strict=True)
    wrong = []
    for (path, a), e in pairs:
        name = jax.tree_util.keystr(path)
        if jnp.issubdtype(e.dtype, jnp.floating) and not jnp.issubdtype(a.dtype, jnp.floating):
            raise TypeError(f"params{name} has dtype {a.dtype}, expected floating point.")
        if a.shape != e.shape:
            wrong.append((name, a.shape, e.shape))
    if wrong:
        text = ", ".join(f"params{name} {got}, expected {want}" for name, got, want in wrong)
        raise ValueError(f"params do not fit {cell}: {text}.")
    return params


def _size(cell: Cell, params: Params) -> int | None:
    """What a cell says of the features of its inputs, with parameters that may be none of its."""
    try:
        return cell.input_size(params)
    except (AttributeError, IndexError):
        like = _structure(cell, 1)
        if like is not None:
            _check_structure(cell, params, like)
        raise


def _check_numbers(params: Params) -> None:
    """Raises TypeError where a leaf is the shape of an array alone."""
    for path, leaf in jax.tree.leaves_with_path(params):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            name = f"params{jax.tree_util.keystr(path)}"
            raise TypeError(f"{name} must be an array, got a shape without numbers.")


def _check_structure(cell: Cell, params: Params, expected: Params) -> None:
    if jax.tree.structure(params) != jax.tree.structure(expected):
        raise ValueError(
            f"params have structure {jax.tree.structure(params)}, "
            f"but {cell} makes {jax.tree.structure(expected)}."
        )


def fit_params(cell: Cell, params: Params, input_size: int = 1) -> Params:
    """Parameters in the structure that `cell.init` makes, if need be from the dicts, tuples and
    lists that files and Flax hold: dicts with the names of fields, or for an entry of a tuple its
    number as a string; also the variables of Flax, and the collection that a module of ours has.

    Args:
        cell: the cell.
        params: its parameters.
        input_size: for which a cell makes parameters of the same structure.

    Raises:
        ValueError: names or numbers of entries that do not fit; the message has those wanted.
        TypeError: what is no array.
    """
    inner = _inside(params)
    if inner is not params and not _fits(cell, unboxed(params), input_size):
        params = inner
    params = unboxed(params)
    if not isinstance(params, tuple | Mapping | list):
        _check_kind(cell, params, input_size)
    like = _structure(cell, _told_size(cell, params, input_size)) if _is_raw(params) else None
    if like is not None and jax.tree.structure(params) != jax.tree.structure(like):
        params = _rebuilt(cell, like, params, "params")
    _check_arrays(params)
    return params


def unboxed(params: Params) -> Params:
    """Parameters without the variables of nnx and the boxes of linen around their arrays."""
    if not _is_box(_first_leaf(params)):
        return params
    return jax.tree.map(_content, params, is_leaf=_is_box)


def _check_arrays(params: Params) -> None:
    """Raises TypeError where a leaf is no array of numbers (or the shape of one)."""
    if all(map(_is_array, jax.tree.leaves(params))):
        return
    for path, leaf in jax.tree.leaves_with_path(params):
        if not _is_array(leaf):
            kind = type(leaf).__name__
            raise TypeError(f"params{jax.tree_util.keystr(path)} must be an array, got {kind}.")


def _is_array(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not hasattr(leaf, "shape"):
        return False
    return not (isinstance(dtype, np.dtype) and dtype.kind in "OSU")


def _check_kind(cell: Cell, params: Any, input_size: int) -> None:
    """Raises ValueError where a cell makes a tuple of arrays, and `params` is no container."""
    like = _structure(cell, input_size)
    if isinstance(like, tuple):
        names = ", ".join(getattr(like, "_fields", map(str, range(len(like)))))
        raise ValueError(
            f"params of {type(cell).__name__} must have the entries {names}, "
            f"got {type(params).__name__}."
        )


def _is_box(leaf: Any) -> bool:
    return hasattr(type(leaf), "get_value") or hasattr(type(leaf), "unbox")


def _content(leaf: Any) -> Any:
    if hasattr(type(leaf), "get_value"):
        return leaf.get_value()
    return leaf.unbox() if hasattr(type(leaf), "unbox") else leaf


def _inside(params: Params) -> Params:
    """What stands in the collections of a module: {"params": {"cell": ...}}, {"weights": ...}."""
    if isinstance(params, Mapping) and _only(params.get("params"), "cell"):
        return params["params"]["cell"]
    if isinstance(params, Mapping) and "weights" in params and set(params) <= {"weights", "rngs"}:
        return params["weights"]
    return params["cell"] if _only(params, "cell") else params


def _fits(cell: Cell, params: Params, input_size: int) -> bool:
    """Whether a cell makes parameters of this structure itself."""
    own = _structure(cell, input_size)
    if isinstance(own, Mapping) and isinstance(params, Mapping):
        return set(own) == set(params)  # of whichever class: linen freezes dicts
    return own is not None and jax.tree.structure(own) == jax.tree.structure(params)


def _only(params: Any, name: str) -> bool:
    return isinstance(params, Mapping) and len(params) == 1 and name in params


def _first_leaf(params: Any) -> Any:
    """The first array of a tree, or what stands around it."""
    while isinstance(params, Mapping | tuple | list) and not _is_box(params):
        parts = params.values() if isinstance(params, Mapping) else params
        params = next((part for part in parts if part is not None), None)
    return params


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
        return expected_params(cell, input_size)
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
def expected_params(cell: Cell, input_size: int) -> Params | None:
    """The shapes that `cell.init` makes; None for a cell that does not define it."""
    try:
        return jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))
    except NotImplementedError:
        return None
