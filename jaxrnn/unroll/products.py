"""The products of a step, recorded on the way forward and replayed on the way back, by the `dot` that is passed to `step`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.typing import Array, Dot
from jaxrnn.typing import dot as plain_dot


class Weight(NamedTuple):
    """The second operand of a product, which is the same for all steps."""

    w: Array  # [I, ...]
    transposed: Array | None  # [..., I]; None where the product is not the plain one
    op: Any


def weights(run: Callable[[Dot], Any], dot: Dot) -> list[Weight]:
    """The weights of all products of a step; `run` runs it, and all else that it computes is dropped."""
    found: list[Weight] = []

    def note(v: Array, w: Array, op: Any = None) -> Array:
        plain = op is None and dot is plain_dot
        # Behind a barrier: else the loop transposes it at each step (20 to 40 us of 100 at H = 128).
        found.append(Weight(w, lax.optimization_barrier(jnp.moveaxis(w, 0, -1)) if plain else None, op))
        return dot(v, w, op)

    run(note)
    return found


def recording(dot: Dot, weights: list[Weight], inside: tuple[bool, ...], products: list[Array]) -> Dot:
    """A `dot` that appends what it gives to `products`, but for those `inside`. It takes its weights from outside the loop."""
    count = iter(range(len(weights)))

    def record(v: Array, w: Array, op: Any = None) -> Array:
        k = next(count)
        if inside[k]:
            return dot(v, w, op)
        products.append(dot(v, weights[k].w, op))
        return products[-1]

    return record


def replaying(
    dot: Dot, weights: list[Weight], inside: tuple[bool, ...], products: list[Array], replay: Callable[..., Array]
) -> Dot:
    """A `dot` that gives the recorded products in order: `replay(k, product, weight, v)`, k counting those not `inside`."""
    count, recorded = iter(range(len(weights))), iter(range(len(products)))

    def again(v: Array, w: Array, op: Any = None) -> Array:
        index = next(count)
        if inside[index]:
            return dot(v, w, op)
        k = next(recorded)
        return replay(k, products[k], weights[index], v)

    return again


class Slot(NamedTuple):
    """Where the cotangents of a product are written down: `axis` of `buffer` is time, and `index` the step."""

    buffer: Array
    index: Array
    axis: int
    by_gate: bool  # gate for gate


def recorded(dot: Dot, product: Array, weight: Weight, slot: Slot, v: Array) -> Array:
    """`product`, with the derivative of `dot(v, w)` in v. The cotangent of `slot.buffer` is that buffer, written."""
    rule = functools.partial(_pull, dot, weight.op, slot.axis, slot.by_gate)
    return _recorded(rule, product, slot.buffer, slot.index, weight.w, weight.transposed, v)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recorded(rule: Any, product: Array, *operands: Any) -> Array:
    return product


def _pull(dot: Dot, op: Any, axis: int, by_gate: bool, operands: tuple[Any, ...], d_product: Array) -> tuple[Any, ...]:
    buffer, index, w, transposed, v = operands
    if by_gate:
        # A loop for each gate, and a copy of all: in one loop XLA:CPU would compute them entry by entry (40 us for 12).
        for g, part in enumerate(jnp.unstack(d_product, axis=-2)):
            buffer = _write(buffer, part[..., None, :], index, axis, g)
        d_product = lax.dynamic_index_in_dim(buffer, index, axis, keepdims=False)
    else:
        buffer = _write(buffer, d_product, index, axis, None)
    if transposed is not None:
        d_v = jnp.tensordot(d_product, transposed, transposed.ndim - 1)
    else:
        (d_v,) = jax.vjp(lambda v: dot(v, w, op), v)[1](d_product)
    return None, buffer, None, None, None, d_v


def _write(buffer: Array, part: Array, index: Array, axis: int, gate: int | None) -> Array:
    start = [jnp.zeros_like(index)] * buffer.ndim
    start[axis] = index
    if gate is not None:
        start[-2] = jnp.full_like(index, gate)
    return lax.dynamic_update_slice(buffer, jnp.expand_dims(part, axis), start)


_recorded.defvjp(lambda rule, product, *operands: (product, operands), lambda rule, operands, d: rule(operands, d))


def weight_gradient(dot: Dot, weight: Weight, v: Array, d_product: Array) -> Array:
    """The gradient of a weight from all rows of `v` and of the cotangent of its product, as one matmul."""
    if weight.transposed is not None and v.ndim == 2:  # in this order XLA:CPU copies neither operand
        return jnp.tensordot(v, d_product, ((0,), (0,)))
    return jax.vjp(lambda w: dot(v, w, weight.op), weight.w)[1](d_product)[0]
