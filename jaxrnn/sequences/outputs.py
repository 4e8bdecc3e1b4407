"""Functions of the outputs of a sequence: the last valid one,
and the penalties of activation regularisation.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array, carry_dtype
from jaxrnn.checks import as_array, check_boolean, check_flag, check_float


def last_output(
    ys: Array,
    mask: Array | None = None,
    *,
    bidirectional: bool = False,
    merge: str = "concat",
    reverse: bool = False,
    batch_first: bool = False,
) -> Array:
    """The output of each row's last valid step; of a second direction that of its last step,
    which is the first in time.

    Args:
        ys: [T, *batch, ..., H], from `unroll`, or [*batch, T, H] with `batch_first`.
        mask: [T, *batch], that of the run, or [*batch, T]; None means that all steps are valid.
        bidirectional: whether `ys` holds both directions, as a bidirectional `Stack` gives them.
        merge: how they are joined: "concat", forward first on the last axis, or "apart",
            [..., 2, H]. Once they are added or multiplied, the last step of each is in no entry.
        reverse: whether the run was one with `reverse=True`, whose last step is the first in time.
        batch_first: whether time comes behind the batch axes, as in modules made so.

    Returns:
        [*batch, ..., H]; zeros in rows without a valid step.

    Raises:
        TypeError: a mask that is not boolean.
        ValueError: a mask of other leading axes than `ys`, or padded along the batch; an odd number
            of features for two directions; a `merge` that they cannot be told apart in.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> ys = jnp.arange(6.0).reshape(3, 2, 1)
        >>> jaxrnn.sequences.last_output(ys, jaxrnn.lengths_to_mask([1, 3], T=3)).tolist()
        [[0.0], [5.0]]
    """
    for name, flag in (("bidirectional", bidirectional), ("reverse", reverse)):
        check_flag(name, flag)
    if merge not in ("concat", "apart"):
        raise ValueError(
            f"merge={merge!r} leaves no output of one direction alone: take the last states from "
            'the carry, or merge="apart".'
        )
    ys, mask = _time_first(ys, mask, batch_first, features=1 + (merge == "apart"))
    steps = jnp.arange(ys.shape[0]).reshape((-1,) + (1,) * (mask.ndim - 1))
    T = ys.shape[0]
    ends = jnp.max(jnp.where(mask, steps, -1), axis=0, initial=-1, keepdims=True)
    last = _at(ys, steps == ends)
    if not bidirectional and not reverse:
        return last
    begins = jnp.min(jnp.where(mask, steps, T), axis=0, initial=T, keepdims=True)
    first = _at(ys, steps == begins)
    if not bidirectional:
        return first
    there, back = (first, last) if reverse else (last, first)
    if merge == "apart":
        if ys.shape[-2] != 2:
            raise ValueError(f'merge="apart" has an axis of 2 before the last, got {ys.shape}.')
        return jnp.stack([there[..., 0, :], back[..., 1, :]], axis=-2)
    if ys.shape[-1] % 2:
        raise ValueError(
            f"ys has {ys.shape[-1]} features, which are not two directions of the same size."
        )
    half = ys.shape[-1] // 2
    return jnp.concatenate([there[..., :half], back[..., half:]], axis=-1)


def activation_regularization(
    ys: Array, mask: Array | None = None, *, batch_first: bool = False
) -> Array:
    """AR: the mean square of the outputs, which keeps them small.
    A loss adds it with a weight (alpha, 2 in the source).

    Args:
        ys: [T, *batch, ..., H], the outputs of the last layer (in the source after its dropout), or
            [*batch, T, H] with `batch_first`.
        mask: [T, *batch], that of the run, or [*batch, T]; None means that all steps are valid.
        batch_first: whether time comes behind the batch axes.

    Returns:
        A scalar, in float32 at least: the mean over valid steps; 0 where there is none.

    Raises:
        TypeError: outputs that are not floating point.
        TypeError, ValueError: as `last_output`, of the mask.

    Source: Merity et al. 2017, arXiv:1708.01009, section 4.3.
    """
    ys = as_array("ys", ys)
    check_float("the dtype of ys", ys.dtype)
    return _mean(*_time_first(ys, mask, batch_first))


def temporal_activation_regularization(
    ys: Array,
    mask: Array | None = None,
    reset: Array | None = None,
    *,
    batch_first: bool = False,
) -> Array:
    """TAR: the mean square of the change from step to step.
    A loss adds it with a weight (beta, 1 in the source).

    Args:
        ys: [T, *batch, ..., H], the outputs of the last layer (in the source before its dropout),
            or [*batch, T, H] with `batch_first`.
        mask: [T, *batch], that of the run, or [*batch, T]; None means that all steps are valid.
        reset: [T, *batch], that of the run, or [*batch, T]: no change is counted across the
            beginning of a sequence.
        batch_first: whether time comes behind the batch axes.

    Returns:
        A scalar, in float32 at least: the mean over pairs of valid steps; 0 where there is none.

    Raises:
        TypeError: outputs that are not floating point.
        TypeError, ValueError: as `last_output`, of mask and reset.

    Source: Merity et al. 2017, arXiv:1708.01009, section 4.3.
    """
    ys = as_array("ys", ys)
    check_float("the dtype of ys", ys.dtype)
    begins = None
    if reset is not None:
        _, begins = _time_first(ys, reset, batch_first, name="reset")
    ys, mask = _time_first(ys, mask, batch_first)
    pairs = _spread(mask[1:] & mask[:-1], ys)
    if begins is not None:
        pairs = pairs & ~_spread(begins[1:], ys)
    wide = ys.astype(carry_dtype(ys.dtype))
    return _mean(wide[1:] - wide[:-1], pairs)


def _time_first(
    ys: Array, rows: Any, batch_first: bool, *, features: int = 1, name: str = "mask"
) -> tuple[Array, Array]:
    """Outputs and a mask of theirs with time as first axis; a mask of all steps for None.

    Args:
        ys: the outputs.
        rows: the mask, which also tells the number of batch axes.
        batch_first: whether time comes behind the batch axes.
        features: the axes behind the batch where no mask tells them.
        name: what `rows` is called.
    """
    check_flag("batch_first", batch_first)
    ys = jnp.asarray(as_array("ys", ys))
    if rows is None:
        axis = ys.ndim - 1 - features if batch_first else 0
        ys = jnp.moveaxis(ys, axis, 0)
        return ys, jnp.ones(ys.shape[:1], jnp.bool_)
    rows = jnp.asarray(as_array(name, rows))
    if rows.shape != ys.shape[: rows.ndim] or rows.ndim == 0:
        axes = "(*batch, T)" if batch_first else "(T, *batch)"
        raise ValueError(
            f"the {name} has shape {rows.shape}, expected the leading axes {axes} of ys, "
            f"whose shape is {ys.shape}."
        )
    check_boolean(name, rows)
    axis = rows.ndim - 1 if batch_first else 0
    if name == "mask":
        _check_padding(rows, axis, batch_first)
    return jnp.moveaxis(ys, axis, 0), jnp.moveaxis(rows, axis, 0)


def _check_padding(mask: Array, axis: int, batch_first: bool) -> None:
    """Raises ValueError where a mask is one of right-padded sequences with time and batch swapped,
    as far as its values are known: where both are as long, its shape does not tell."""
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1] or isinstance(mask, jax.core.Tracer):
        return
    rows = np.moveaxis(np.asarray(mask), axis, 0)
    if not _is_padded(rows) and _is_padded(rows.T):
        raise ValueError(
            f"the mask is padded along the batch, not along time: is it laid out otherwise? "
            f"batch_first={not batch_first} says so."
        )


def _is_padded(rows: np.ndarray) -> bool:
    """Whether no step is valid behind one that is not, [T, batch]."""
    return not (rows[1:] & ~rows[:-1]).any()


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
