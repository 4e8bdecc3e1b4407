"""Unbiased online recurrent optimisation: a trace of rank one, right on average."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Params
from jaxrnn.checks import check_size
from jaxrnn.online.learner import Layer, Learner, by_rows, sum_of_rows


class RankOne(NamedTuple):
    """The derivative of a carry in the parameters, as the outer product of two."""

    carry: list[Array]  # as leaves of the carry
    params: list[Array]  # as leaves of the parameters, for each row
    key: Array


@dataclasses.dataclass(frozen=True)
class UORO(Learner):
    """Unbiased online recurrent optimisation: gradients of any cell or stack in the memory of its
    parameters, right on average over random signs, and noisy.

    The noise grows with the number of units and with the reach of the gradient; a batch averages
    it.

    Args:
        cell: the cell, a stack, or a Flax module of ours.
        seed: of the random signs.

    Raises:
        ValueError: a cell that runs in both directions, or has spatial axes.

    Source: Tallec & Ollivier 2018, arXiv:1702.05043.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> learner = jaxrnn.online.UORO(jaxrnn.GRUCell(4))
        >>> params = learner.cell.init(jax.random.key(0), input_size=3)
        >>> state = learner.init(params, jnp.ones((2, 3)))
        >>> state, y, moment = learner.step(params, state, jnp.ones((2, 3)))
        >>> learner.gradients(params, moment, dy=2 * y).w_h.shape
        (4, 3, 4)
    """

    seed: int = 0
    layered: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("seed", self.seed, least=0)

    def _begin(
        self, layer: Layer, x: Array, traces: RankOne | None = None
    ) -> tuple[Carry, RankOne]:
        leaves, tree = jax.tree.flatten(layer.params)

        def row(leaves: list[Array], x: Array, key: Array) -> RankOne:
            key, own = jax.random.split(key)
            made, pull = jax.vjp(
                lambda p: jax.tree.leaves(layer.first(tree.unflatten(p), x)), leaves
            )
            signs = _signs(own, made)
            # copies: what comes back may be the signs themselves, which no jit could take twice
            return RankOne(signs, jax.tree.map(jnp.copy, pull(signs)[0]), key)

        first_keys = jax.random.split(jax.random.key(self.seed), x.shape[:-1])
        keys = first_keys if traces is None else traces.key
        first = layer.first(layer.begin, x)
        return first, by_rows(row, x.ndim - 1, fixed=1)(leaves, x, keys)

    def _advance(
        self, layer: Layer, carry: Carry, traces: RankOne, x: Array
    ) -> tuple[Carry, Array, RankOne]:
        leaves, tree = jax.tree.flatten(layer.params)
        states, shape = jax.tree.flatten(carry)

        def row(
            leaves: list[Array], states: list[Array], x: Array, noise: Any, old: RankOne
        ) -> Any:
            def run(leaves: list[Array], states: list[Array]) -> Any:
                own = layer._replace(noise=noise)
                after, y = own.run(tree.unflatten(leaves), shape.unflatten(states), x)
                return jax.tree.leaves(after), y

            _, pushed = jax.jvp(lambda s: run(leaves, s)[0], (states,), (old.carry,))
            after, pull, y = jax.vjp(lambda p: run(p, states), leaves, has_aux=True)
            key, own = jax.random.split(old.key)
            signs = _signs(own, after)
            (pulled,) = pull(signs)
            # any two positive numbers are right on average; these make the noise least
            first = jnp.sqrt(_ratio(old.params, pushed))
            second = jnp.sqrt(_ratio(pulled, signs))
            moved = [first * a + second * b for a, b in zip(pushed, signs, strict=True)]
            params = [a / first + b / second for a, b in zip(old.params, pulled, strict=True)]
            return after, y, RankOne(moved, params, key)

        rows = by_rows(row, x.ndim - 1, fixed=1)
        after, y, moved = rows(leaves, states, x, layer.noise, traces)
        return shape.unflatten(after), y, moved

    def _through(self, layer: Layer, x: Array, traces: RankOne, dcarry: Carry) -> Params:
        tree = jax.tree.structure(layer.params)

        def row(directions: list[Array], traces: RankOne) -> list[Array]:
            pairs = zip(directions, traces.carry, strict=True)
            factor = sum(jnp.vdot(a, b) for a, b in pairs)
            return [factor * a for a in traces.params]

        return tree.unflatten(sum_of_rows(row, x.shape[:-1], jax.tree.leaves(dcarry), traces))

    def _forgotten(self, traces: RankOne) -> RankOne:
        return traces._replace(params=jax.tree.map(jnp.zeros_like, traces.params))


def _signs(key: Array, like: list[Array]) -> list[Array]:
    keys = jax.random.split(key, len(like))
    return [jax.random.rademacher(k, a.shape, a.dtype) for k, a in zip(keys, like, strict=True)]


def _ratio(above: list[Array], below: list[Array]) -> Array:
    """Of two norms, neither of them 0."""
    return (_norm(above) + 1e-7) / (_norm(below) + 1e-7)


def _norm(leaves: list[Array]) -> Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(a)) for a in leaves))
