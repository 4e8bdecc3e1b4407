"""Exact real-time recurrent learning of any small cell: the truth that others are held against."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Params
from jaxrnn.online.learner import Layer, Learner, by_rows, sum_of_rows

LARGEST = 64  # numbers in a carry


@dataclasses.dataclass(frozen=True)
class DenseRTRL(Learner):
    """Exact real-time recurrent learning of any cell or stack of at most 64 numbers of state.

    A trace is kept of every number of the carry in every parameter: memory n |p| and time n^2 |p|
    a step, for n numbers and |p| parameters, for each sequence of the batch.

    Args:
        cell: the cell, a stack, or a Flax module of ours.

    Raises:
        ValueError: a cell that runs in both directions, or has spatial axes; at `init`, a larger
            carry.

    Source: Williams & Zipser 1989, Neural Computation 1, 270-280.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> learner = jaxrnn.online.DenseRTRL(jaxrnn.GRUCell(4))
        >>> params = learner.cell.init(jax.random.key(0), input_size=3)
        >>> state = learner.init(params, jnp.ones((2, 3)))
        >>> state, y, moment = learner.step(params, state, jnp.ones((2, 3)))
        >>> learner.gradients(params, moment, dy=2 * y).w_h.shape
        (4, 3, 4)
    """

    layered: ClassVar[bool] = False

    def _begin(self, layer: Layer, x: Array, traces: Any = None) -> tuple[Carry, list[Array]]:
        leaves, tree = jax.tree.flatten(layer.params)

        def row(leaves: list[Array], x: Array) -> list[Array]:
            return jax.jacrev(lambda p: _flat(layer.first(tree.unflatten(p), x)))(leaves)

        first = layer.first(layer.begin, x)
        batch = x.ndim - 1
        size = sum(math.prod(leaf.shape[batch:]) for leaf in jax.tree.leaves(first))
        if size > LARGEST:
            raise ValueError(
                f"DenseRTRL is for carries of at most {LARGEST} numbers, this one has {size}: RTRL "
                "takes cells whose units keep to themselves, SnAp1 and UORO others."
            )
        return first, by_rows(row, batch, fixed=1)(leaves, x)

    def _advance(
        self, layer: Layer, carry: Carry, traces: list[Array], x: Array
    ) -> tuple[Carry, Array, list[Array]]:
        leaves, tree = jax.tree.flatten(layer.params)

        def row(leaves: list[Array], carry: Carry, x: Array, noise: Any, traces: Any) -> Any:
            def run(leaves: list[Array], carry: Carry) -> Any:
                own = layer._replace(noise=noise)
                after, y = own.run(tree.unflatten(leaves), carry, x)
                return _flat(after), (after, y)

            jacobians = jax.jacrev(run, argnums=(0, 1), has_aux=True)
            (direct, inner), (after, y) = jacobians(leaves, carry)
            size = _flat(carry).size
            # [n, n]: each leaf of the carry has its columns
            columns = [a.reshape(size, -1) for a in jax.tree.leaves(inner)]
            matrix = jnp.concatenate(columns or [jnp.zeros((0, 0))], 1)
            moved = [d + jnp.tensordot(matrix, t, 1) for d, t in zip(direct, traces, strict=True)]
            return after, y, moved

        return by_rows(row, x.ndim - 1, fixed=1)(leaves, carry, x, layer.noise, traces)

    def _through(self, layer: Layer, x: Array, traces: list[Array], dcarry: Carry) -> Params:
        tree = jax.tree.structure(layer.params)

        def row(dcarry: Carry, traces: list[Array]) -> list[Array]:
            return [jnp.tensordot(_flat(dcarry), trace, 1) for trace in traces]

        return tree.unflatten(sum_of_rows(row, x.shape[:-1], dcarry, traces))


def _flat(tree: Any) -> Array:
    leaves = [a.reshape(-1) for a in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)
