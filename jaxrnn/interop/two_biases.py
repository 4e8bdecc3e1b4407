"""An optimiser that treats one bias as torch treats two."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array

# The fields of the cells that torch has, with the number of gates; b_hn and w_p are no doubles.
_FIELDS = ({"w_x", "w_h", "b"}, {"w_x", "w_h", "b", "w_p"}, {"w_x", "w_h", "b", "b_hn"})


class TwoBiases(NamedTuple):
    """A bias as torch keeps it: their sum is ours."""

    ih: Array  # [G * H]
    hh: Array  # [G * H]; of a GRU [2 * H], since `b_hn` is its last part


def with_two_biases(optimizer: Any) -> Any:
    """The same optimiser, whose updates and norms are those of torch.

    torch has two biases where we have their sum. Each gets the same gradient, so that a step moves
    the sum twice as far, and a norm that is clipped counts it twice (not so `b_hn` of a GRU, which
    stands alone there too). Training with the same data and the same optimiser drifts apart
    otherwise. The biases of RNNCell, LSTMCell, LSTMPCell and GRUCell are found by the names of
    their fields, wherever they stand: as NamedTuples, in linen's dicts and in nnx states.

    Args:
        optimizer: an `optax.GradientTransformation`, or another pair of `init` and `update`. It
            sees each of those biases as a `TwoBiases`, of which the second is zero at the start.

    Returns:
        One of the same type.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn, optax
        >>> from jaxrnn.interop import with_two_biases
        >>> params = jaxrnn.LSTMCell(1).init(jax.random.key(0), input_size=1)
        >>> optimizer = with_two_biases(optax.sgd(0.5))
        >>> gradients = jax.tree.map(jnp.ones_like, params)
        >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        >>> updates.b.tolist(), updates.w_h.ravel().tolist()
        ([-1.0, -1.0, -1.0, -1.0], [-0.5, -0.5, -0.5, -0.5])
    """

    def init(params: Any) -> Any:
        return optimizer.init(_apart(params, jnp.zeros_like))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        own = None if params is None else _apart(params, jnp.zeros_like)
        found, state = optimizer.update(_apart(updates, lambda g: g), state, own, **extra)
        return _joined(updates, found), state

    return type(optimizer)(init, update)


def _apart(tree: Any, second: Callable[[Array], Array]) -> Any:
    """A tree with each bias as two; `second` makes the second, of the part that has one."""
    paths, structure = jax.tree.flatten_with_path(tree)
    doubled = _doubled(paths)
    leaves = [
        TwoBiases(a, second(a[: doubled[k]])) if k in doubled else a
        for k, (_, a) in enumerate(paths)
    ]
    return jax.tree.unflatten(structure, leaves)


def _joined(like: Any, tree: Any) -> Any:
    """The inverse of `_apart` for updates: a step of both is a step of their sum."""

    def join(leaf: Any) -> Any:
        if not isinstance(leaf, TwoBiases):
            return leaf
        return leaf.ih.at[: len(leaf.hh)].add(leaf.hh)

    leaves = jax.tree.leaves(tree, is_leaf=lambda a: isinstance(a, TwoBiases))
    return jax.tree.unflatten(jax.tree.structure(like), [join(leaf) for leaf in leaves])


def _doubled(paths: list[tuple[Any, Any]]) -> dict[int, int]:
    """For the place of each bias that torch has twice, of how many entries."""
    groups: dict[Any, dict[str, int]] = {}
    for place, (path, _) in enumerate(paths):
        *parent, name = _names(path)
        groups.setdefault(tuple(parent), {})[name] = place
    found = {}
    for group in groups.values():
        if set(group) in _FIELDS:
            b = paths[group["b"]][1]
            w_x, w_h = (paths[group[name]][1] for name in ("w_x", "w_h"))
            if w_x.ndim != 3 or w_h.ndim != 3:  # a convolution, or a kernel without gates
                continue
            gates = w_x.shape[1]
            if "b_hn" in group and gates == 3:
                found[group["b"]] = len(b) - len(paths[group["b_hn"]][1])
            elif "b_hn" not in group and gates in (1, 4):
                found[group["b"]] = len(b)
    return found


def _names(path: Any) -> list[str]:
    """The names on the way to a leaf, without that of the value in a variable of Flax."""
    keys = (getattr(k, "name", getattr(k, "key", getattr(k, "idx", k))) for k in path)
    names = [str(key) for key in keys]
    return names[:-1] if len(names) > 1 and names[-1] in ("value", "raw_value") else names
