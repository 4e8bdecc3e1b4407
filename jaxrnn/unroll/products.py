"""The products of a step, recorded on the way forward and replayed on the way back, by the `dot` that is passed to `step`.

Products whose weight depends on the step (`Study.inside`) are neither recorded nor counted here.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.typing import Array, Dot
from jaxrnn.typing import dot as plain_dot

Handle = Callable[[int, Array, Array, Any], Array]  # (number of the product, v, w, op) -> its value


def handled(dot: Dot, inside: Sequence[bool], handle: Handle) -> Dot:
    """A `dot` that hands each product over to `handle`, but for those inside."""
    order, number = iter(inside), iter(range(len(inside)))

    def product(v: Array, w: Array, op: Any = None) -> Array:
        return dot(v, w, op) if next(order) else handle(next(number), v, w, op)

    return product


def weights(run: Callable[[Dot], Any], dot: Dot, inside: Sequence[bool]) -> list[Array]:
    """The weights, which are the same for all steps; `run` runs a step, of which nothing else is left after compilation."""
    found: list[Array] = []

    def note(number: int, v: Array, w: Array, op: Any) -> Array:
        found.append(w)
        return lax.stop_gradient(dot(v, w, op))

    run(handled(dot, inside, note))
    return found


def recording(dot: Dot, weights: list[Array], inside: Sequence[bool], products: list[Array]) -> Dot:
    """A `dot` that appends what it gives to `products`, and takes the weights from outside the loop."""

    def record(number: int, v: Array, w: Array, op: Any) -> Array:
        products.append(dot(v, weights[number], op))
        return products[-1]

    return handled(dot, inside, record)


def transposed(dot: Dot, weights: list[Array]) -> list[Array | None]:
    """The weights as [..., I] arrays, for the plain product; None in a 16-bit run, whose product is another.

    They stand behind a barrier: else the loop transposes them at each step (20 to 40 us of 100 at H = 128 on a CPU).
    """
    return [lax.optimization_barrier(jnp.moveaxis(w, 0, -1)) if dot is plain_dot else None for w in weights]


class Slot(NamedTuple):
    """Where the cotangents of a product are written down: `axis` of `buffer` is time, and `index` the step."""

    buffer: Array | None  # None: nowhere
    index: Array | None
    axis: int
    by_gate: bool  # gate for gate


NOWHERE = Slot(None, None, 0, False)


def replayed(dot: Dot, product: Array, w: Array, transposed: Array | None, slot: Slot, v: Array, op: Any) -> Array:
    """`product`, with the derivative of `dot(v, w, op)` in v. The cotangent of `slot.buffer` is that buffer, written."""
    rule = functools.partial(_pull, dot, op, slot.axis, slot.by_gate)
    return _replayed(rule, product, slot.buffer, slot.index, w, transposed if op is None else None, v)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _replayed(rule: Any, product: Array, *operands: Any) -> Array:
    return product


def _pull(dot: Dot, op: Any, axis: int, by_gate: bool, operands: tuple[Any, ...], d_product: Array) -> tuple[Any, ...]:
    buffer, index, w, transposed, v = operands
    if buffer is not None:
        buffer, d_product = _written(buffer, d_product, index, axis, by_gate)
    if transposed is None or v.dtype != d_product.dtype:
        (d_v,) = jax.vjp(lambda v: dot(v, w, op), v)[1](d_product)
    else:
        d_v = jnp.tensordot(d_product, transposed, transposed.ndim - 1)
    return None, buffer, None, None, None, d_v


def _written(buffer: Array, d_product: Array, index: Array, axis: int, by_gate: bool) -> tuple[Array, Array]:
    """The buffer with the cotangent of one step, and that cotangent."""
    if not by_gate:
        return _write(buffer, d_product, index, axis, None), d_product
    # A loop for each gate, and a copy of all: in one loop XLA:CPU would compute them entry by entry (40 us instead of 12).
    for g, part in enumerate(jnp.unstack(d_product, axis=-2)):
        buffer = _write(buffer, part[..., None, :], index, axis, g)
    return buffer, lax.dynamic_index_in_dim(buffer, index, axis, keepdims=False)


def _write(buffer: Array, part: Array, index: Array, axis: int, gate: int | None) -> Array:
    start = [jnp.zeros_like(index)] * buffer.ndim
    start[axis] = index
    if gate is not None:
        start[-2] = jnp.full_like(index, gate)
    return lax.dynamic_update_slice(buffer, jnp.expand_dims(part, axis), start)


_replayed.defvjp(lambda rule, product, *operands: (product, operands), lambda rule, operands, d: rule(operands, d))


def weight_gradient(dot: Dot, op: Any, v: Array, w: Array, d_product: Array) -> Array:
    """The gradient of a weight from all rows of `v` and of the cotangent of its product, as one matmul."""
    if (
        op is None and dot is plain_dot and v.ndim == 2 and w.dtype == d_product.dtype
    ):  # in this order XLA:CPU copies neither operand
        return jnp.tensordot(v, d_product, ((0,), (0,)))
    return jax.vjp(lambda w: dot(v, w, op), w)[1](d_product)[0]
