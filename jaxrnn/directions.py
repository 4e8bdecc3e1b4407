"""How the outputs of both directions become one."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

MERGES: dict[str, Callable[[list[Any]], Any]] = {
    "concat": lambda ys: jnp.concatenate(ys, axis=-1),
    "sum": lambda ys: functools.reduce(operator.add, ys),
    "mean": lambda ys: functools.reduce(operator.add, ys) / len(ys),
    "mul": lambda ys: functools.reduce(operator.mul, ys),
    "apart": lambda ys: jnp.stack(ys, axis=-2),
}  # of the outputs of one layer, one for each direction


def merged(merge: str, outputs: list[Any]) -> Any:
    """The outputs of a layer, arrays or trees of them, as one; that of one direction as it is."""
    if len(outputs) == 1:
        return outputs[0]
    return jax.tree.map(lambda *ys: MERGES[merge](list(ys)), *outputs)
