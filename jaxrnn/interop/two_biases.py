"""An optimiser that treats one bias as torch treats two."""

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


class TwoBiasesState(NamedTuple):
    inner: Any  # of the optimiser
    hh: tuple[Array, ...]  # the second of each two biases


def with_two_biases(optimizer: Any) -> Any:
    """The same optimiser, whose updates and norms are those of torch.

    torch has two biases where we have their sum. Each gets the same gradient, so that a step moves
    the sum twice as far, and a norm that is clipped counts it twice (not so `b_hn` of a GRU, which
    stands alone there too). Training with the same data and the same optimiser drifts apart
    otherwise. The biases of RNNCell, LSTMCell, LSTMPCell and GRUCell are found by the names of
    their fields, wherever they stand: as NamedTuples, in linen's dicts and in nnx states.

    Args:
        optimizer: an `optax.GradientTransformation`, or another pair of `init` and `update`: the
            whole, with what it is made of (`multi_transform`, `masked`) inside. It sees each of
            those biases as a `TwoBiases`, of which the second is zero at the start, as `to_torch`
            writes it.

    Returns:
        One of the same type.

    Raises:
        ValueError: from `init`, where no bias is found.

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
    if hasattr(optimizer, "gradient_transformation"):  # `optax.MultiSteps`
        optimizer = optimizer.gradient_transformation()

    def init(params: Any) -> TwoBiasesState:
        doubled = _doubled(jax.tree.leaves_with_path(params))
        if not doubled:
            raise ValueError(
                "there is no bias that torch has twice. Is this a part of the parameters? "
                "with_two_biases goes around the whole optimiser."
            )
        leaves = jax.tree.leaves(params)
        second = tuple(jnp.zeros_like(leaves[k][:count]) for k, count in doubled.items())
        return TwoBiasesState(optimizer.init(_apart(params, second)), second)

    def update(updates: Any, state: TwoBiasesState, params: Any = None, **extra: Any) -> Any:
        own = None if params is None else _apart(params, state.hh)
        found, inner = optimizer.update(_apart(updates, None), state.inner, own, **extra)
        moved = [leaf.hh for leaf in _leaves(found) if isinstance(leaf, TwoBiases)]
        hh = tuple(a + d for a, d in zip(state.hh, moved, strict=True))
        return _joined(updates, found), TwoBiasesState(inner, hh)

    return type(optimizer)(init, update)


def _apart(tree: Any, second: tuple[Array, ...] | None) -> Any:
    """A tree with each bias as two, of which `second` are the second ones; of gradients, where it
    is None, both are the same."""
    paths, structure = jax.tree.flatten_with_path(tree)
    leaves = [leaf for _, leaf in paths]
    for place, (k, count) in enumerate(_doubled(paths).items()):
        b = leaves[k]
        if second is None:
            leaves[k] = TwoBiases(b, b[:count])
        else:
            hh = second[place]
            leaves[k] = TwoBiases(b.at[:count].add(-hh), hh)
    return jax.tree.unflatten(structure, leaves)


def _joined(like: Any, tree: Any) -> Any:
    """The inverse of `_apart` for updates: a step of both is a step of their sum."""

    def join(leaf: Any) -> Any:
        if not isinstance(leaf, TwoBiases):
            return leaf
        return leaf.ih.at[: len(leaf.hh)].add(leaf.hh)

    return jax.tree.unflatten(jax.tree.structure(like), [join(leaf) for leaf in _leaves(tree)])


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda a: isinstance(a, TwoBiases))


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
