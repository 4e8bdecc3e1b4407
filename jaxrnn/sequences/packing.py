"""Sequences of many lengths as arrays: padded, packed several to a row, or in buckets; and the
resets that keep them apart.
"""

import bisect
import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array, DType
from jaxrnn.checks import as_array, axes_of, check_size
from jaxrnn.sequences.lengths import as_lengths


class Packed(NamedTuple):
    """Sequences one after another in the rows of one array: what `pack` makes.
    The arrays are NumPy's.
    """

    xs: np.ndarray  # [T, rows, *features], zero in the padding
    segment_ids: np.ndarray  # [T, rows] int32: 1 + the number of the sequence, 0 in the padding
    reset: np.ndarray  # [T, rows], True where a sequence begins
    mask: np.ndarray  # [T, rows], False in the padding
    fill: float  # the part of all steps that is not padding
    lengths: np.ndarray  # [sequences], of which those of length 0 stand in no row


def pack(sequences: Sequence[Any], length: int) -> Packed:
    """Lays sequences one after another in rows of `length` steps, each whole in one row,
    with as little padding as it can.

    The longest come first, each in the fullest row that has room (best fit decreasing). The layout
    follows from the lengths alone, so that inputs and targets of the same lengths are packed alike.

    Args:
        sequences: arrays [T_i, *features], of one dtype; `T_i` may be 0.
        length: T, the steps of a row.

    Returns:
        Packed: `unroll(cell, params, p.xs, mask=p.mask, reset=p.reset)` runs each sequence as if
        alone, in both directions, and `unpack(p, ys)` takes the outputs apart again. No reset is
        raised in the padding.

    Raises:
        ValueError: no sequence, one longer than a row, or features that differ.
        TypeError: dtypes that differ.

    Example:
        >>> import numpy as np, jaxrnn
        >>> each = [np.ones((length, 1)) for length in (3, 2, 1)]
        >>> packed = jaxrnn.sequences.pack(each, length=4)
        >>> packed.segment_ids.T.tolist(), packed.fill
        ([[1, 1, 1, 3], [2, 2, 0, 0]], 0.75)
    """
    check_size("length", length, least=0)
    arrays = _checked(sequences)
    lengths = np.array([len(a) for a in arrays])
    if length < 1 or lengths.max() > length:
        k = int(lengths.argmax())
        raise ValueError(
            f"length must be at least that of every sequence, got {length}; "
            f"sequence {k} has {lengths[k]} steps."
        )
    places, rows = _places(lengths, length)
    xs = np.zeros((length, rows, *arrays[0].shape[1:]), arrays[0].dtype)
    ids = np.zeros((length, rows), np.int32)
    reset = np.zeros((length, rows), bool)
    for k, (row, start) in places.items():
        span = slice(start, start + lengths[k])
        xs[span, row] = arrays[k]
        ids[span, row] = k + 1
        reset[start, row] = True
    return Packed(xs, ids, reset, ids > 0, float((ids > 0).mean()) if rows else 0.0, lengths)


def unpack(packed: Packed, ys: Array) -> list[Array]:
    """The inverse of `pack` for an array of the same rows: the outputs of each sequence,
    in the order they were given.

    Args:
        packed: what `pack` returned.
        ys: [T, rows, ...], the outputs.

    Returns:
        One [T_i, ...] for each sequence.

    Raises:
        TypeError: `packed` is not from `pack`, or `ys` no array.
        ValueError: other leading axes than those of the rows.
    """
    if not isinstance(packed, Packed):
        raise TypeError(f"packed must be what pack returned, got {type(packed).__name__}.")
    _check_packed(packed)
    ys = as_array("ys", ys)
    if ys.shape[:2] != packed.segment_ids.shape:
        raise ValueError(
            f"ys has shape {ys.shape}, expected {packed.segment_ids.shape} and features: "
            "(T, rows) of `packed`."
        )
    found = [ys[:0].reshape(0, *ys.shape[2:])] * len(packed.lengths)
    for start, row in np.argwhere(packed.reset):
        k = packed.segment_ids[start, row] - 1
        found[k] = ys[start : start + packed.lengths[k], row]
    return found


def _check_packed(packed: Packed) -> None:
    """Raises where rows, resets and lengths are not those of one call of `pack`."""
    ids = packed.segment_ids
    reset = packed.reset
    lengths = packed.lengths
    for name, array, kind in (("segment_ids", ids, "i"), ("reset", reset, "b")):
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != kind:
            raise TypeError(f"packed.{name} must be an array [T, rows] as pack makes it.")
    if not isinstance(lengths, np.ndarray) or lengths.ndim != 1 or lengths.dtype.kind != "i":
        raise TypeError("packed.lengths must be an array [sequences] of integers.")
    begun = np.sort(ids[reset]) if reset.shape == ids.shape else None
    if begun is None or not np.array_equal(begun, 1 + np.flatnonzero(lengths)):
        raise ValueError(
            "packed must be what pack returned: segment_ids, reset and lengths do not agree."
        )


def pad(
    sequences: Sequence[Any],
    length: int | None = None,
    *,
    value: float = 0,
    batch_first: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences as one array, the same value behind each.

    Args:
        sequences: arrays [T_i, *features], of one dtype; `T_i` may be 0.
        length: T; None means that of the longest.
        value: what stands in the padding, such as the number of a symbol that no sequence has.
        batch_first: whether the sequences are the first axis.

    Returns:
        (xs, lengths): [T, sequences, *features], or [sequences, T, *features], and [sequences], for
        `lengths_to_mask` or a module's `lengths`.

    Raises:
        ValueError: no sequence, one longer than `length`, features that differ, or a value that the
            dtype does not hold.
        TypeError: dtypes that differ.

    Example:
        >>> import numpy as np, jaxrnn
        >>> each = [np.array([1, 2, 3]), np.array([4])]
        >>> xs, lengths = jaxrnn.sequences.pad(each, value=-1, batch_first=True)
        >>> xs.tolist(), [a.tolist() for a in jaxrnn.sequences.unpad(xs, lengths, batch_first=True)]
        ([[1, 2, 3], [4, -1, -1]], [[1, 2, 3], [4]])
    """
    arrays = _checked(sequences)
    lengths = np.array([len(a) for a in arrays])
    T = int(lengths.max()) if length is None else length
    check_size("length", T, least=0)
    if lengths.max() > T:
        raise ValueError(
            f"length is {T}, but sequence {int(lengths.argmax())} has {lengths.max()} steps."
        )
    dtype = arrays[0].dtype
    filled = np.array(value).astype(dtype)
    if dtype.kind in "iub" and filled != value:
        raise ValueError(f"value={value!r} is none of {dtype}.")
    xs = np.full((len(arrays), T, *arrays[0].shape[1:]), filled, dtype)
    for k, a in enumerate(arrays):
        xs[k, : len(a)] = a
    return xs if batch_first else np.ascontiguousarray(np.moveaxis(xs, 0, 1)), lengths


def unpad(xs: Array, lengths: Any, *, batch_first: bool = False) -> list[Array]:
    """The inverse of `pad`: each sequence without its padding.

    Args:
        xs: [T, sequences, ...], or [sequences, T, ...] with `batch_first`: inputs or outputs.
        lengths: [sequences] integers from 0 to T.
        batch_first: whether the sequences are the first axis.

    Returns:
        One [T_i, ...] for each sequence.

    Raises:
        TypeError: lengths that are not integers.
        ValueError: lengths of another number than the sequences, or beyond T.
    """
    xs = as_array("xs", xs)
    if xs.ndim < 2:
        raise ValueError(f"xs has shape {xs.shape}, expected time and sequences.")
    T, rows = xs.shape[1::-1] if batch_first else xs.shape[:2]
    lengths = np.asarray(as_lengths(lengths, T))
    if lengths.shape != (rows,):
        raise ValueError(
            f"lengths has shape {lengths.shape}, but xs of shape {xs.shape} has {rows} sequences."
        )
    if batch_first:
        return [xs[k, :n] for k, n in enumerate(lengths)]
    return [xs[:n, k] for k, n in enumerate(lengths)]


def bucket_sizes(lengths: Any, count: int) -> tuple[int, ...]:
    """The lengths to pad to, at most `count` of them,
    with which batches of these lengths have the least padding in all.

    A program is compiled once for each T. With every sequence padded to the smallest size that
    holds it (`bucket_size`), there are at most `count` compilations, and at most as many as sizes
    are returned.

    Args:
        lengths: [sequences] integers, those of a data set.
        count: how many compilations are affordable.

    Returns:
        The sizes in ascending order; the last is the longest length.

    Raises:
        TypeError: lengths that are not integers.
        ValueError: no lengths, a negative one, or a `count` that is no integer of at least 1.

    Example:
        >>> import jaxrnn
        >>> sizes = jaxrnn.sequences.bucket_sizes([3, 4, 4, 90, 100], count=2)
        >>> sizes, jaxrnn.sequences.bucket_size(50, sizes)
        ((4, 100), 100)
    """
    check_size("count", count)
    values, counts = np.unique(as_array("lengths", lengths), return_counts=True)
    if values.size == 0 or values[0] < 0:
        raise ValueError("lengths must be at least one length, none below 0.")
    if values.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, got dtype {values.dtype}.")
    total = np.concatenate([[0], np.cumsum(counts)])
    # cost[j]: steps for all lengths below values[j] with the sizes so far; last[k][j]: where the
    # last bucket before j begins
    cost = np.where(np.arange(len(total)) == 0, 0.0, np.inf)
    last = []
    for _ in range(min(count, len(values))):
        steps = cost[None, :-1] + values[:, None] * (total[1:, None] - total[None, :-1])
        steps = np.where(np.tri(len(values), dtype=bool), steps, np.inf)
        last.append(np.concatenate([[0], steps.argmin(1)]))
        cost = np.concatenate([[0.0], steps.min(1)])
    sizes = []
    end = len(values)
    for begins in reversed(last):
        if end:
            sizes.append(int(values[end - 1]))
            end = begins[end]
    return tuple(sorted(sizes))


def bucket_size(T: int, sizes: Sequence[int]) -> int:
    """The smallest of `sizes` that holds T steps.

    Raises:
        TypeError: `sizes` are no list.
        ValueError: T is beyond all of them, or one is no number of steps.
    """
    check_size("T", T, least=0)
    sizes = axes_of("sizes", sizes)
    fitting = [size for size in sizes if size >= T]
    if not fitting:
        raise ValueError(f"T={T} is beyond the largest bucket of {sizes}.")
    return min(fitting)


def resets_from_segment_ids(segment_ids: Array, before: Array | None = None) -> Array:
    """Where the sequences of packed rows begin: True where an id differs from that
    of the step before, and is not 0.

    Args:
        segment_ids: [T, *batch] integers, the same for all steps of a sequence, and 0 in the
            padding.
        before: [*batch], the ids of the step before the first, when this is a later window; None
            means that all sequences of the first step begin there.

    Returns:
        [T, *batch] booleans, for `unroll(..., reset=..., mask=segment_ids != 0)`.

    Raises:
        TypeError: not integers.
        ValueError: no time axis, integers that JAX would cut, or `before` does not have the batch
            axes of `segment_ids`.
    """
    ids, earlier = _timed("segment_ids", segment_ids, before, jnp.integer)
    # A narrow type would make 300 of `before` the 44 of an id.
    if earlier.dtype != ids.dtype:
        with jax.numpy_dtype_promotion("standard"):
            wide = jnp.promote_types(jnp.promote_types(ids.dtype, earlier.dtype), jnp.int32)
        ids = ids.astype(wide)
        earlier = earlier.astype(wide)
    return (ids != jnp.concatenate([earlier, ids[:-1]])[: ids.shape[0]]) & (ids != 0)


def resets_from_dones(dones: Array, before: Array | None = None) -> Array:
    """The resets of a recurrent agent: an episode that ended with step t means
    that a new one begins at t + 1.

    Args:
        dones: [T, *batch] booleans; `dones[t]` says that step t ended an episode.
        before: [*batch], the same of the step before the first, when this is a later window; None
            means False.

    Returns:
        [T, *batch] booleans: `reset[t + 1] = dones[t]`, and `reset[0] = before`.

    Raises:
        TypeError: not boolean.
        ValueError: no time axis, or `before` does not have the batch axes of `dones`.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> jaxrnn.sequences.resets_from_dones(jnp.array([False, True, False])).tolist()
        [False, False, True]
    """
    dones, first = _timed("dones", dones, before, jnp.bool_)
    return jnp.concatenate([first, dones])[: dones.shape[0]]


def _timed(name: str, rows: Any, before: Any, kind: DType) -> tuple[Array, Array]:
    """`rows` as an array, and what came before with a time axis, zeros for None."""
    rows = _of_kind(name, rows, kind)
    earlier = None if before is None else _of_kind("before", before, kind)
    if rows.ndim == 0 or (earlier is not None and earlier.shape != rows.shape[1:]):
        raise ValueError(
            f"{name} has shape {rows.shape}, expected (T, *batch), and `before` {rows.shape[1:]}."
        )
    return rows, jnp.zeros_like(rows[:1]) if earlier is None else earlier[None]


def _of_kind(name: str, given: Any, kind: DType) -> Array:
    given = as_array(name, given)
    if not jnp.issubdtype(given.dtype, kind):
        word = "boolean" if kind == jnp.bool_ else "integers"
        raise TypeError(f"{name} must be {word}, got dtype {given.dtype}.")
    array = jnp.asarray(given)
    # Without 64 bits JAX cuts integers, which would make two ids one.
    if not isinstance(given, jax.Array) and not np.array_equal(np.asarray(array), given):
        raise ValueError(
            f"{name} has integers beyond {array.dtype}: number the sequences, as "
            "np.unique(ids, return_inverse=True) does, or enable jax_enable_x64."
        )
    return array


def _checked(sequences: Sequence[Any]) -> list[np.ndarray]:
    if isinstance(sequences, Mapping | str) or not isinstance(sequences, Iterable):
        raise TypeError(f"sequences must be a list of arrays, got {type(sequences).__name__}.")
    arrays = [_on_host(as_array("each of sequences", a)) for a in sequences]
    if not arrays:
        raise ValueError("there must be at least one sequence.")
    shapes = {a.shape[1:] for a in arrays if a.ndim}
    dtypes = {str(a.dtype) for a in arrays}
    if len(shapes) != 1 or min(a.ndim for a in arrays) == 0:
        raise ValueError(
            "sequences must be arrays [T, *features] of the same features, "
            f"got shapes {[a.shape for a in arrays[:9]]}."
        )
    if len(dtypes) != 1:
        raise TypeError(f"sequences must have one dtype, got {sorted(dtypes)}.")
    return arrays


def _on_host(a: Any) -> np.ndarray:
    return np.asarray(jax.device_get(a) if isinstance(a, jax.Array) else a)


def _places(lengths: np.ndarray, length: int) -> tuple[dict[int, tuple[int, int]], int]:
    """(row, first step) of each sequence that has steps, and the number of rows."""
    room: dict[int, collections.deque[int]] = {}  # the rows with so many free steps
    counts: list[int] = []  # those numbers, in ascending order
    places = {}
    rows = 0
    for k in sorted(np.flatnonzero(lengths), key=lambda k: -lengths[k]):
        steps = int(lengths[k])
        place = bisect.bisect_left(counts, steps)
        if place == len(counts):
            free = length
            row = rows
            rows += 1
        else:
            free = counts[place]
            row = room[free].popleft()
            if not room[free]:
                del room[free], counts[place]
        places[int(k)] = (row, length - free)
        left = free - steps
        if left not in room:
            room[left] = collections.deque()
            bisect.insort(counts, left)
        room[left].append(row)
    return places, rows
