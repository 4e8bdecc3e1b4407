"""`method="cudnn"`: LSTM layers as one call of cuDNN, through `jax.experimental.rnn`, on one NVIDIA
GPU.

It multiplies in TF32, or in float32 where `jax.default_matmul_precision` is "highest". Where a mask
is given, each sequence is moved to the front of its row, cuDNN is told its length, and the outputs
are moved back: any mask is right, not only padding at the end. cuDNN refuses a length of 0; such a
row runs one step, of which nothing is used.

It has no `vmap` (give the cell more batch axes), no forward mode, and no second derivatives.
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.extend.backend
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from jaxrnn.cell import Array, Carry, select
from jaxrnn.hardware.lstm_layers import LSTMLayers, lstm_layers
from jaxrnn.running.method import Method, Refusal
from jaxrnn.running.problem import Problem


@dataclasses.dataclass(frozen=True)
class CuDNN(Method):
    """cuDNN's LSTM: a cell, or a whole stack, in one call, on one NVIDIA GPU."""

    name: ClassVar[str] = "cudnn"
    takes_stacks: ClassVar[bool] = True

    def plan(self, problem: Problem) -> Refusal | None:
        steps = problem.steps
        if lstm_layers(problem.cell, problem.params) is None:
            return Refusal(
                "it is no LSTM as cuDNN has it: layers of one hidden size, "
                "with the equations of LSTMCell."
            )
        if steps.xs.dtype != jnp.float32:
            return Refusal(f"xs are {steps.xs.dtype}, and it computes in float32 only.")
        if steps.reset is not None:
            return Refusal("reset begins a new sequence inside a row, which it cannot.")
        if jax.tree.leaves(steps.noise):
            return Refusal("noise acts inside its steps.")
        if problem.collect:
            return Refusal("it does not give the carries of all steps.")
        if not all(isinstance(size, int) for size in steps.xs.shape):
            return Refusal(f"the sizes of xs must be known, got {steps.xs.shape}.")
        if not jax.sharding.get_abstract_mesh().empty:
            return Refusal("it runs on one device, and here is a mesh.")
        if not gpu():
            return Refusal("it needs an NVIDIA GPU, and this process has none.")
        return None

    def run(self, plan: None, problem: Problem) -> tuple[Carry, Any]:
        layers = lstm_layers(problem.cell, problem.params)
        assert layers is not None
        leaves, tree = jax.tree.flatten(problem.carry)
        xs = problem.steps.xs
        mask = problem.steps.mask
        T, *batch, I = xs.shape
        rows = math.prod(batch)
        xs = xs.reshape(T, rows, I)
        mask = None if mask is None else mask.reshape(T, rows)
        if problem.reverse:
            xs, mask = jax.tree.map(lambda a: jnp.flip(a, 0), (xs, mask))
        # h and c of each layer and direction in turn, as the weights are ordered.
        flat = [leaf.reshape(rows, leaf.shape[-1]) for leaf in leaves]
        h = jnp.stack(flat[0::2])
        c = jnp.stack(flat[1::2])
        h, c, ys = _packed(layers, xs, h, c, mask)
        ys = jnp.flip(ys, 0) if problem.reverse else ys
        pairs = zip(h, c, strict=True)
        after = [leaf.reshape(*batch, leaf.shape[-1]) for pair in pairs for leaf in pair]
        return jax.tree.unflatten(tree, after), ys.reshape(T, *batch, ys.shape[-1])


def gpu() -> bool:
    """Whether this process has an NVIDIA GPU."""
    return "cuda" in jax.extend.backend.backends()


def _packed(
    layers: LSTMLayers, xs: Array, h: Array, c: Array, mask: Array | None
) -> tuple[Array, Array, Array]:
    """(h, c, ys) of [T, B, I] inputs and [layers * directions, B, H] carries, in which a mask may
    have holes."""
    if mask is None:
        return _call(layers, xs, h, c, jnp.full(xs.shape[1], xs.shape[0], jnp.int32))
    # The steps of each sequence first, in their order.
    order = jnp.argsort(~mask, axis=0, stable=True)
    lengths = jnp.sum(mask, axis=0, dtype=jnp.int32)
    moved = jnp.take_along_axis(xs, order[..., None], axis=0)
    h_n, c_n, ys = _call(layers, moved, h, c, jnp.maximum(lengths, 1))
    ys = jnp.take_along_axis(ys, jnp.argsort(order, axis=0)[..., None], axis=0)
    some = jnp.broadcast_to(lengths > 0, h.shape[:2])
    return select(some, h_n, h), select(some, c_n, c), select(mask, ys, 0)


def _call(
    layers: LSTMLayers, xs: Array, h: Array, c: Array, lengths: Array
) -> tuple[Array, Array, Array]:
    """(h, c, ys) of cuDNN, for time-major inputs whose sequences stand at the front."""
    from jax.experimental import rnn  # takes a while to import, and is for few

    directions = 2 if layers.bidirectional else 1
    sizes = xs.shape[-1], h.shape[-1], len(layers.weights) // directions
    options = (*sizes, 0.0, layers.bidirectional)  # no dropout
    xs, h, c = map(_row_major, (jnp.swapaxes(xs, 0, 1), h, c))
    ys, h, c = map(_row_major, rnn.lstm(xs, h, c, flat_weights(layers), lengths, *options))
    return h, c, jnp.swapaxes(ys, 0, 1)


def _row_major(a: Array) -> Array:
    """The same array, whose last axis is the innermost in memory, and so its cotangent.

    The call of cuDNN takes memory as it comes and says nothing of its order, so that XLA leaves out
    a transposition before or after it and hands it the batch where it expects time (jax#19177).
    """
    return with_layout_constraint(a, Layout(tuple(range(a.ndim))))


def flat_weights(layers: LSTMLayers) -> Array:
    """One vector of all kernels, [4 H, I] and [4 H, H] of each layer and direction, and after them
    all biases, two of each."""
    kernels = [
        w.reshape(w.shape[0], -1).T.ravel() for w_x, w_h, _ in layers.weights for w in (w_x, w_h)
    ]
    biases = [
        jnp.zeros(w_h.shape[1:], w_h.dtype) if b is None else b for _, w_h, b in layers.weights
    ]
    return jnp.concatenate([*kernels, *(a.ravel() for b in biases for a in (b, jnp.zeros_like(b)))])
