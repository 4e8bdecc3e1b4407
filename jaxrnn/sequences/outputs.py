"""Functions of the outputs of a sequence: the last valid one,
and the penalties of activation regularisation.
"""

import jax.numpy as jnp

from jaxrnn.cell import Array, carry_dtype


def last_output(ys: Array, mask: Array | None = None, *, bidirectional: bool = False) -> Array:
    """The output of each row's last valid step; of a second direction that of its last step,
    which is the first in time.

    Args:
        ys: [T, *batch, ..., H], from `unroll`.
        mask: [T, *batch], that of the run; None means that all steps are valid.
        bidirectional: whether the last axis holds both directions, forward first, as a
            bidirectional `Stack` gives by default.

    Returns:
        [*batch, ..., H]; zeros in rows without a valid step.

    Raises:
        ValueError: a mask of other leading axes than `ys`, or an odd number of features for two
            directions.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> ys = jnp.arange(6.0).reshape(3, 2, 1)
        >>> jaxrnn.sequences.last_output(ys, jaxrnn.lengths_to_mask([1, 3], T=3)).tolist()
        [[0.0], [5.0]]
    """
    mask = _mask(ys, mask)
    steps = jnp.arange(ys.shape[0]).reshape((-1,) + (1,) * (mask.ndim - 1))
    last = _at(ys, steps == jnp.max(jnp.where(mask, steps, -1), axis=0, initial=-1))
    if not bidirectional:
        return last
    if ys.shape[-1] % 2:
        raise ValueError(
            f"ys has {ys.shape[-1]} features, which are not two directions of the same size."
        )
    T = ys.shape[0]
    half = ys.shape[-1] // 2
    first = _at(ys, steps == jnp.min(jnp.where(mask, steps, T), axis=0, initial=T))
    return jnp.concatenate([last[..., :half], first[..., half:]], axis=-1)


def activation_regularization(ys: Array, mask: Array | None = None) -> Array:
    """AR: the mean square of the outputs, which keeps them small.
    A loss adds it with a weight (alpha, 2 in the source).

    Args:
        ys: [T, *batch, ..., H], the outputs of the last layer (in the source after its dropout).
        mask: [T, *batch], that of the run; None means that all steps are valid.

    Returns:
        A scalar, in float32 at least: the mean over valid steps; 0 where there is none.

    Source: Merity et al. 2017, arXiv:1708.01009, section 4.3.
    """
    return _mean(ys, _mask(ys, mask))


def temporal_activation_regularization(
    ys: Array, mask: Array | None = None, reset: Array | None = None
) -> Array:
    """TAR: the mean square of the change from step to step.
    A loss adds it with a weight (beta, 1 in the source).

    Args:
        ys: [T, *batch, ..., H], the outputs of the last layer (in the source before its dropout).
        mask: [T, *batch], that of the run; None means that all steps are valid.
        reset: [T, *batch], that of the run: no change is counted across the beginning of a
            sequence.

    Returns:
        A scalar, in float32 at least: the mean over pairs of valid steps; 0 where there is none.

    Source: Merity et al. 2017, arXiv:1708.01009, section 4.3.
    """
    mask = _mask(ys, mask)
    pairs = mask[1:] & mask[:-1]
    pairs = _spread(pairs, ys)
    if reset is not None:
        pairs = pairs & ~_spread(_mask(ys, reset)[1:], ys)
    wide = ys.astype(carry_dtype(ys.dtype))
    return _mean(wide[1:] - wide[:-1], pairs)


def _mask(ys: Array, mask: Array | None) -> Array:
    if mask is None:
        return jnp.ones(ys.shape[:1], jnp.bool_)
    mask = jnp.asarray(mask)
    if mask.shape != ys.shape[: mask.ndim] or mask.ndim == 0:
        raise ValueError(
            f"the mask has shape {mask.shape}, expected the leading axes (T, *batch) of ys, "
            f"whose shape is {ys.shape}."
        )
    return mask


def _spread(rows: Array, ys: Array) -> Array:
    return rows.reshape(rows.shape + (1,) * (ys.ndim - rows.ndim))


def _at(ys: Array, chosen: Array) -> Array:
    """The sum of the chosen steps, of which each row has one or none;
    what stands elsewhere (NaN too) does not count.
    """
    return jnp.sum(jnp.where(_spread(chosen, ys), ys, jnp.zeros_like(ys)), axis=0)


def _mean(ys: Array, mask: Array) -> Array:
    """The mean square over the valid steps."""
    wide = ys.astype(carry_dtype(ys.dtype))
    valid = jnp.broadcast_to(_spread(mask, ys), ys.shape)
    count = jnp.sum(valid).astype(wide.dtype)
    return jnp.sum(jnp.where(valid, wide, jnp.zeros_like(wide)) ** 2) / jnp.maximum(
        count, jnp.ones_like(count)
    )
