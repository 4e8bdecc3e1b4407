"""Parameters as modules store them: nested dicts of plain names, in both APIs alike."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cell import Cell, DType, Params
from jaxrnn.interop.torch_states import without_torch
from jaxrnn.structure import check_params, expected_params, fit_params


def as_dicts(params: Any) -> Any:
    """Tuples as dicts: fields by name, other entries by number; what is None is left out."""
    if not isinstance(params, tuple):
        return params
    names = getattr(params, "_fields", None) or map(str, range(len(params)))
    pairs = zip(names, params, strict=True)
    return {name: as_dicts(part) for name, part in pairs if part is not None}


def loaded(cell: Cell, params: Any, input_size: int, dtype: DType | None) -> Params:
    """Parameters of any source in the structure of the core, checked, as copies in `dtype`.

    Args:
        cell: the cell of the module.
        params: the core's own, those of another module or of its variables, or the dicts, tuples
            and lists of a file.
        input_size: the number of features that the module was made for.
        dtype: theirs; None keeps each one's own.

    Raises:
        ValueError: another structure or other shapes, all of them listed.
        TypeError: a leaf that is no array of floating point.
    """
    if not hasattr(params, "_fields") and hasattr(params, "weights"):
        params = params.weights
    params = without_torch(fit_params(cell, params, input_size))
    for path, leaf in jax.tree.leaves_with_path(params):
        if not jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.floating):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} must be an array of floating point, "
                f"got {type(leaf).__name__}."
            )
    size = cell.input_size(check_params(cell, params))
    if size is not None and size != input_size:
        raise ValueError(f"params are for input_size={size}, this module has {input_size}.")
    own = expected_params(cell, input_size)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (params, own)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"params of {cell} have shapes {shapes[0]}, expected {shapes[1]}.")
    return jax.tree.map(lambda a: jnp.array(a, dtype), params)
