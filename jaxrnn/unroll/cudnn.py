"""`method="cudnn"`: LSTM layers as one call of cuDNN, through `jax.experimental.rnn`, on one NVIDIA GPU.

It multiplies in TF32, or in float32 where `jax.default_matmul_precision` is "highest". Where a mask is given, each sequence is
moved to the front of its row, cuDNN is told its length, and the outputs are moved back: any mask is right, not only padding at
the end. cuDNN refuses a length of 0; such a row runs one step, of which nothing is used.

It has no `vmap` (give the cell more batch axes), no forward mode, and no second derivatives.
"""

import math
from typing import Any

import jax
import jax.extend.backend
import jax.numpy as jnp

from jaxrnn.typing import Array, Carry, Cell, LSTMLayers, Params, lstm_layers
from jaxrnn.unroll.scan import Sequence
from jaxrnn.unroll.sequence import refusal, select


def cudnn(
    cell: Cell,
    params: Params,
    sequence: Sequence,
    carry: Carry,
    first: Carry,
    *,
    reverse: bool,
    remat: str,
    collect: bool = False,
) -> tuple[Carry, Any]:
    """Runs a cell, or a whole stack, over time; arguments and returns are those of `scan`, and `remat` is "none".

    Raises:
        ValueError: what is asked for is nothing that cuDNN computes, or there is no NVIDIA GPU.
    """
    reason = why_not(cell, params, sequence, collect)
    if reason is not None:
        raise ValueError(refusal("cudnn", cell, reason))
    layers, (leaves, tree) = cell.lstm_layers(params), jax.tree.flatten(carry)
    assert layers is not None
    T, *batch, I = sequence.xs.shape
    rows = math.prod(batch)
    xs, mask = sequence.xs.reshape(T, rows, I), None if sequence.mask is None else sequence.mask.reshape(T, rows)
    xs, mask = jax.tree.map(lambda a: jnp.flip(a, 0), (xs, mask)) if reverse else (xs, mask)
    h, c = (jnp.stack([leaf.reshape(rows, leaf.shape[-1]) for leaf in leaves[k::2]]) for k in (0, 1))
    h, c, ys = _packed(layers, xs, h, c, mask)
    ys = jnp.flip(ys, 0) if reverse else ys
    after = [leaf.reshape(*batch, leaf.shape[-1]) for pair in zip(h, c, strict=True) for leaf in pair]
    return jax.tree.unflatten(tree, after), ys.reshape(T, *batch, ys.shape[-1])


def why_not(cell: Cell, params: Params, sequence: Sequence, collect: bool = False) -> str | None:
    """What stands against it, as a sentence; None where nothing does."""
    if lstm_layers(cell, params) is None:
        return "it is no LSTM as cuDNN has it: layers of one hidden size, with the equations of LSTMCell."
    if sequence.xs.dtype != jnp.float32:
        return f"xs are {sequence.xs.dtype}, and it computes in float32 only."
    if sequence.reset is not None:
        return "reset begins a new sequence inside a row, which it cannot."
    if jax.tree.leaves(sequence.noise):
        return "noise acts inside its steps."
    if collect:
        return "it does not give the carries of all steps."
    if not all(isinstance(size, int) for size in sequence.xs.shape):
        return f"the sizes of xs must be known, got {sequence.xs.shape}."
    if not jax.sharding.get_abstract_mesh().empty:
        return "it runs on one device, and here is a mesh."
    if sequence.xs.size == 0:
        return f"xs of shape {sequence.xs.shape} have no entries."
    if not gpu():
        return "it needs an NVIDIA GPU, and this process has none."
    return None


def gpu() -> bool:
    """Whether this process has an NVIDIA GPU."""
    return "cuda" in jax.extend.backend.backends()


def _packed(layers: LSTMLayers, xs: Array, h: Array, c: Array, mask: Array | None) -> tuple[Array, Array, Array]:
    """(h, c, ys) of [T, B, I] inputs and [layers * directions, B, H] carries, in which a mask may have holes."""
    if mask is None:
        return _call(layers, xs, h, c, jnp.full(xs.shape[1], xs.shape[0], jnp.int32))
    order = jnp.argsort(~mask, axis=0, stable=True)  # the steps of each sequence first, in their order
    lengths = jnp.sum(mask, axis=0, dtype=jnp.int32)
    moved = jnp.take_along_axis(xs, order[..., None], axis=0)
    h_n, c_n, ys = _call(layers, moved, h, c, jnp.maximum(lengths, 1))
    ys = jnp.take_along_axis(ys, jnp.argsort(order, axis=0)[..., None], axis=0)
    some = jnp.broadcast_to(lengths > 0, h.shape[:2])
    return select(some, h_n, h), select(some, c_n, c), select(mask, ys, 0)


def _call(layers: LSTMLayers, xs: Array, h: Array, c: Array, lengths: Array) -> tuple[Array, Array, Array]:
    """(h, c, ys) of cuDNN, for time-major inputs whose sequences stand at the front."""
    from jax.experimental import rnn  # takes a while to import, and is for few

    directions = 2 if layers.bidirectional else 1
    sizes = xs.shape[-1], h.shape[-1], len(layers.weights) // directions
    options = (*sizes, 0.0, layers.bidirectional)  # no dropout
    ys, h, c = rnn.lstm(jnp.swapaxes(xs, 0, 1), h, c, flat_weights(layers), lengths, *options)
    return h, c, jnp.swapaxes(ys, 0, 1)


def flat_weights(layers: LSTMLayers) -> Array:
    """One vector of all kernels, [4 H, I] and [4 H, H] of each layer and direction, and after them all biases, two of each."""
    kernels = [w.reshape(w.shape[0], -1).T.ravel() for w_x, w_h, _ in layers.weights for w in (w_x, w_h)]
    biases = [jnp.zeros(w_h.shape[1:], w_h.dtype) if b is None else b for _, w_h, b in layers.weights]
    return jnp.concatenate([*kernels, *(a.ravel() for b in biases for a in (b, jnp.zeros_like(b)))])
