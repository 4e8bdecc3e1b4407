"""The parameters of a cell as named arrays, under our names or torch's,
and what a file must hold to be them.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array, Cell, Params
from jaxrnn.interop import cell_config
from jaxrnn.interop.layouts import ConversionError
from jaxrnn.interop.safetensors_file import METADATA, Header
from jaxrnn.interop.strict_json import FileFormatError
from jaxrnn.interop.torch import from_torch, to_torch
from jaxrnn.stack import Stack

WIDE = ("float64", "int64", "uint64")


def write(
    cell: Cell, input_size: int, params: Params, names: str
) -> tuple[dict[str, np.ndarray], str]:
    """The named arrays of parameters, and the one dtype of all that are floating-point, or "mixed".

    Raises:
        TypeError: a leaf that is no array, or of another kind of dtype than the cell's own.
        ValueError: parameters that are not those of this cell; torch's names for a cell, or for
            dtypes, that torch has not.
    """
    leaves = named(params)
    own = _shapes(cell, input_size)
    if problems := _problems(params, own):
        raise ValueError(f"params are not those of {cell} with input_size={input_size}: {problems}")
    arrays = {name: _numpy(name, leaf) for name, leaf in leaves.items()}
    for name, leaf in named(own).items():
        _check_kind(name, arrays[name].dtype, leaf.dtype)
    floats = {str(a.dtype) for a in arrays.values() if jnp.issubdtype(a.dtype, jnp.floating)}
    dtype = floats.pop() if len(floats) == 1 else "mixed"
    if names == "torch":
        if dtype == "mixed":
            raise ValueError("torch's names need floating-point parameters of one dtype.")
        # float32 for bfloat16, which a file holds as it is
        wide = to_torch(_stack(cell), _entries(cell, params))
        arrays = {name: a.astype(jnp.dtype(dtype)) for name, a in wide.items()}
    return arrays, dtype


def _problems(params: Params, own: Params) -> str:
    """In what parameters differ from the cell's own; empty where in nothing."""
    given = {name: jnp.shape(a) for name, a in named(params).items()}
    problems = _differences(given, {name: a.shape for name, a in named(own).items()})
    if not problems and jax.tree.structure(params) != jax.tree.structure(own):
        return f"their structure is {jax.tree.structure(params)}."
    return problems


def check(cell: Cell, input_size: int, names: str, dtype: str, header: Header) -> None:
    """Compares a file's header with the parameters of the cell, of which nothing is made but a
    placeholder for torch's names.

    Raises:
        FileFormatError: what does not fit.
        ValueError: 64-bit parameters while jax makes none.
    """
    try:
        wanted = _wanted(cell, input_size, names, header.data)
    except FileFormatError:
        raise
    except (ConversionError, TypeError, ValueError, ArithmeticError) as e:
        raise FileFormatError(f"the cell of the configuration cannot be made: {e}") from e
    found = header.tensors
    shapes = {name: tensor.shape for name, tensor in found.items()}
    if problems := _differences(shapes, {name: shape for name, (shape, _) in wanted.items()}):
        raise FileFormatError(f"the tensors are not those of the cell: {problems}.")
    for name, (_, own_dtype) in wanted.items():
        _check_dtype(name, found[name].dtype, own_dtype, dtype)


def _wanted(cell: Cell, input_size: int, names: str, data: int) -> dict[str, tuple[Any, Any]]:
    """The shape and dtype of each tensor of the cell, which `data` bytes have to hold."""
    if cell_config.count(cell, _least) > data:  # before anything is traced
        raise FileFormatError(f"the data, {data} bytes, are too few for this cell.")
    own = named(_shapes(cell, input_size))
    if sum(math.prod(a.shape) for a in own.values()) > data:  # of at least a byte each
        raise FileFormatError(f"the data, {data} bytes, are too few for this cell.")
    if names != "torch":
        return {name: (a.shape, a.dtype) for name, a in own.items()}
    blank = jax.tree.map(lambda a: np.zeros(a.shape, np.float16), _shapes(cell, input_size))
    arrays = to_torch(_stack(cell_config.undrawn(cell)), _entries(cell, blank))
    return {name: (a.shape, np.dtype(np.float32)) for name, a in arrays.items()}


def read(
    cell: Cell, input_size: int, names: str, dtype: str, arrays: dict[str, np.ndarray]
) -> Params:
    """The parameters of arrays that `check` has accepted."""
    if names == "torch":
        params = from_torch(_stack(cell), input_size, arrays, dtype)
        return params if isinstance(cell, Stack) else params[0]
    own = _shapes(cell, input_size)
    return jax.tree.unflatten(
        jax.tree.structure(own), [jnp.array(arrays[name]) for name in named(own)]
    )


def named(params: Params) -> dict[str, Array]:
    """The leaves of a tree by where they stand, as in "0.w_x".

    Raises:
        ValueError: two leaves of one name.
    """
    pairs = jax.tree.leaves_with_path(params)
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator=".") or "params": leaf
        for path, leaf in pairs
    }
    if len(leaves) < len(pairs) or METADATA in leaves:
        raise ValueError(f"the names of these parameters are not unique: {', '.join(leaves)}.")
    return leaves


def _numpy(name: str, leaf: Any) -> np.ndarray:
    if not hasattr(leaf, "dtype") or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        kind = getattr(leaf, "dtype", type(leaf).__name__)
        raise TypeError(
            f"{name} is {kind}, which a file cannot hold. "
            "Save jax.random.key_data(key) in place of a random key."
        )
    return np.asarray(leaf)


def _shapes(cell: Cell, input_size: int) -> Params:
    cheap = cell_config.undrawn(cell)
    return jax.eval_shape(lambda: cheap.init(jax.random.key(0), input_size))


def _least(cell: Cell) -> int:
    """A number of bytes that the parameters of one cell of this library need at least."""
    return math.prod(cell_config.option(cell, "kernel_size", ())) * cell_config.option(
        cell, "hidden_size", 0
    )


def _differences(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> str:
    missing = [n for n in wanted if n not in found]
    unexpected = [repr(n[:80]) for n in found if n not in wanted]
    misshapen = [
        f"{n} {found[n]}, expected {shape}"
        for n, shape in wanted.items()
        if n in found and found[n] != shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    return "; ".join(f"{kind}: {', '.join(names[:8])}" for kind, names in problems.items() if names)


def _check_kind(name: str, given: np.dtype, own: np.dtype) -> None:
    """Raises TypeError unless both dtypes are floating-point, or equal:
    `_check_dtype` takes no others back.
    """
    if given != own and not (
        jnp.issubdtype(given, jnp.floating) and jnp.issubdtype(own, jnp.floating)
    ):
        expected = "floating point" if jnp.issubdtype(own, jnp.floating) else own
        raise TypeError(f"{name} has dtype {given}, expected {expected}.")


def _check_dtype(name: str, found: np.dtype, own: np.dtype, dtype: str) -> None:
    floating = jnp.issubdtype(own, jnp.floating)
    expected = dtype if floating else str(own)
    if floating and dtype == "mixed":
        fits = jnp.issubdtype(found, jnp.floating)
    else:
        fits = str(found) == expected
    if not fits:
        raise FileFormatError(f"the tensor {name} is {found}, expected {expected}.")
    if str(found) in WIDE and not jax.config.jax_enable_x64:  # pyrefly: ignore[missing-attribute]
        raise ValueError(
            f"the tensor {name} is {found}: call jax.config.update('jax_enable_x64', True) first."
        )


def _stack(cell: Cell) -> Stack:
    return cell if isinstance(cell, Stack) else Stack((cell,))


def _entries(cell: Cell, params: Params) -> tuple[Params, ...]:
    return params if isinstance(cell, Stack) else (params,)
