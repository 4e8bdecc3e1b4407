"""Packing, padding, buckets and resets against runs of each sequence alone."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CELLS, assert_close, drive, parameters

import jaxrnn
from jaxrnn.sequences import (
    Packed,
    bucket_size,
    bucket_sizes,
    pack,
    pad,
    resets_from_dones,
    resets_from_segment_ids,
    unpack,
    unpad,
)

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
BY_NAME = {name: (cell, oracle) for name, cell, oracle in CELLS}
LENGTH, COUNT = 8, 5  # of a row, and how many sequences
LENGTHS = st.lists(st.integers(0, LENGTH), min_size=COUNT, max_size=COUNT)


def sequences(lengths, size=3, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(n, size)) for n in lengths]


@functools.lru_cache
def outputs_and_slopes(cell, reverse):
    """Outputs, and the gradients of parameters and inputs of their weighed sum;
    one compilation for all examples.
    """

    @jax.jit
    def run(p, xs, mask, reset, weigh):
        def loss(p, xs):
            ys = jaxrnn.unroll(cell, p, xs, mask=mask, reset=reset, reverse=reverse)[1]
            return (ys * weigh).sum(), ys

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(p, xs)

    return run


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["lstm", "learned_start"])
@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_packed_sequences_give_the_outputs_and_gradients_of_separate_ones(
    name, reverse, lengths, seed
):
    cell, oracle = BY_NAME[name]
    p, each = parameters(cell, seed=seed), sequences(lengths, seed=seed)
    packed = pack(each, LENGTH)
    packed = Packed(*(widen(a) for a in packed[:4]), *packed[4:])
    poison = np.where(packed.mask[..., None], packed.xs, [np.nan, np.inf, -np.inf])
    weights = sequences(lengths, 4, seed + 1)
    run = outputs_and_slopes(cell, reverse)
    (d_p, d_xs), ys = run(p, poison, packed.mask, packed.reset, widen(pack(weights, LENGTH).xs))
    for y, xs in zip(unpack(packed, ys), each, strict=True):
        if len(xs):
            assert_close(np.asarray(y), drive(oracle, p, xs, reverse=reverse)[1])
        assert y.shape == (len(xs), 4)
    padded, _ = pad(each, LENGTH)
    mask, reset = jaxrnn.lengths_to_mask(lengths, LENGTH), np.zeros((LENGTH, COUNT), bool)
    (e_p, e_xs), _ = run(p, padded, mask, reset, pad(weights, LENGTH)[0])
    assert_close(d_p, e_p)
    assert_close(
        unpack(packed, np.asarray(d_xs)),
        [np.asarray(e_xs)[:n, k] for k, n in enumerate(lengths)],
    )
    assert not np.asarray(d_xs)[~packed.mask].any()


def widen(a):
    """COUNT rows, whatever the packing took: the others are padding."""
    return np.concatenate(
        [a, np.zeros((a.shape[0], COUNT - a.shape[1], *a.shape[2:]), a.dtype)], axis=1
    )


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(lengths=st.lists(st.integers(0, 10), min_size=1, max_size=40))
def test_every_step_stands_once_and_rows_are_well_filled(lengths):
    each = sequences(lengths)
    packed = pack(each, 10)
    rows = packed.mask.shape[1]
    assert packed.fill == (sum(lengths) / (10 * rows) if rows else 0)
    # no two rows fit into one
    assert rows <= max(1, 2 * -(-sum(lengths) // 10)) and (sum(lengths) > 0) == (rows > 0)
    assert all(np.array_equal(a, b) for a, b in zip(unpack(packed, packed.xs), each, strict=True))
    assert (
        packed.reset.sum() == np.count_nonzero(lengths) and not (packed.reset & ~packed.mask).any()
    )
    assert np.array_equal(packed.mask, packed.segment_ids > 0)
    # one shape, and so one compilation, for all examples
    wide = np.pad(packed.segment_ids, ((0, 0), (0, 40 - rows)))
    assert np.array_equal(resets_from_segment_ids(wide)[:, :rows], packed.reset)


def test_best_fit_fills_what_first_come_would_not():
    assert pack(sequences([2, 3, 6, 5, 4, 10]), 10).fill == 1.0


def test_inputs_and_targets_of_the_same_lengths_are_packed_alike():
    lengths = [3, 0, 5, 2]
    a, b = (
        pack(sequences(lengths), 8),
        pack([np.arange(n) for n in lengths], 8),
    )
    assert (
        np.array_equal(a.segment_ids, b.segment_ids) and b.xs.dtype == int and b.xs.shape == (8, 2)
    )


def test_an_episode_that_ends_resets_the_next_step():
    dones = jnp.array([[0, 1], [1, 0], [0, 0], [1, 1]], bool)
    assert resets_from_dones(dones).tolist() == [
        [False, False],
        [False, True],
        [True, False],
        [False, False],
    ]
    later = resets_from_dones(dones, before=dones[-1])
    assert later[0].tolist() == [True, True] and jnp.array_equal(
        later[1:], resets_from_dones(dones)[1:]
    )
    assert resets_from_dones(dones[:0]).shape == (0, 2)


def test_a_later_window_goes_on_with_the_sequence_of_the_window_before():
    ids = np.array([[1, 1], [1, 2], [1, 0], [3, 0], [3, 4], [0, 4]])
    whole = resets_from_segment_ids(ids)
    windows = [
        resets_from_segment_ids(ids[:2]),
        resets_from_segment_ids(ids[2:], before=ids[1]),
    ]
    assert jnp.array_equal(jnp.concatenate(windows), whole)
    assert whole.tolist() == [[1, 1], [0, 1], [0, 0], [1, 0], [0, 1], [0, 0]]
    assert resets_from_segment_ids(ids[:0]).shape == (0, 2)


def test_packed_rows_and_single_steps_agree_on_where_a_sequence_begins():
    cell, each = jaxrnn.GRUCell(4), sequences([3, 4, 1])
    p, packed = parameters(cell), pack(each, 8)
    _, ys = jaxrnn.unroll(cell, p, packed.xs, mask=packed.mask, reset=packed.reset)
    for y, xs in zip(unpack(packed, ys), each, strict=True):
        carry, steps = None, []
        for x in xs:
            carry, out = cell(p, carry, x)
            steps.append(out)
        assert_close(y, jnp.stack(steps))


@pytest.mark.parametrize("lengths, count, sizes", [
    ([3, 4, 4, 90, 100], 2, (4, 100)), ([3, 4, 4, 90, 100], 1, (100,)), ([5, 5], 3, (5,)),
    ([0, 7], 2, (0, 7)), ([1, 10, 10, 10, 11], 2, (1, 11)),
])  # fmt: skip
def test_buckets_have_the_least_padding(lengths, count, sizes):
    assert bucket_sizes(lengths, count) == sizes


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=8), count=st.integers(1, 4)
)
def test_no_other_sizes_have_less_padding(lengths, count):
    def steps(sizes):
        return sum(bucket_size(n, sizes) for n in lengths)

    values = sorted(set(lengths))
    others = (
        c
        for k in range(1, count + 1)
        for c in itertools.combinations(values, k)
        if c[-1] == values[-1]
    )
    got = bucket_sizes(lengths, count)
    assert len(got) <= count and steps(got) == min(map(steps, others))


def test_a_bucket_is_compiled_once():
    cell, traced = jaxrnn.GRUCell(2), []
    p, lengths = parameters(cell), [1, 2, 2, 5, 9, 9, 4]
    sizes = bucket_sizes(lengths, 3)

    @jax.jit
    def run(xs, n):
        traced.append(xs.shape)
        return jaxrnn.unroll(cell, p, xs, mask=jaxrnn.lengths_to_mask(n, xs.shape[0]))[0].h

    for n, xs in zip(lengths, sequences(lengths), strict=True):
        padded, _ = pad([xs], bucket_size(n, sizes))
        assert_close(run(padded, jnp.array([n]))[0], jaxrnn.unroll(cell, p, xs)[0].h)
    assert len(traced) == len(sizes) == 3


A, B = np.zeros((3, 2)), np.zeros((2, 5))


@pytest.mark.parametrize("call, error, message", [
    (lambda: pack([], 4), ValueError, "at least one sequence"),
    (lambda: pack([A, A, A[:2]], 2), ValueError, "got 2; sequence 0 has 3 steps"),
    (lambda: pack([A, B], 4), ValueError,
     r"same features, got shapes \[\(3, 2\), \(2, 5\)\]"),
    (lambda: pack([A, 1.0], 4), ValueError, r"got shapes \[\(3, 2\), \(\)\]"),
    (lambda: pack([A, A.astype(np.float32)], 4), TypeError,
     r"one dtype, got \['float32', 'float64'\]"),
    (lambda: pad([A], 2), ValueError, "length is 2, but sequence 0 has 3 steps"),
    (lambda: unpack(pack([A], 4), np.zeros((3, 1, 2))), ValueError,
     r"shape \(3, 1, 2\), expected \(4, 1\)"),
    (lambda: bucket_sizes([], 2), ValueError, "at least one length, none below 0"),
    (lambda: bucket_sizes([3], 0), ValueError, "count must be an integer of at least 1, got 0"),
    (lambda: bucket_size(9, (4, 8)), ValueError,
     r"T=9 is beyond the largest bucket of \(4, 8\)"),
    (lambda: resets_from_segment_ids(A), TypeError, "must be integers, got dtype float64"),
    (lambda: resets_from_dones(A), TypeError, "dones must be boolean, got dtype float64"),
    (lambda: resets_from_dones(A > 0, A[0]), TypeError,
     "before must be boolean, got dtype float64"),
    (lambda: resets_from_dones(True), ValueError,
     r"dones has shape \(\), expected \(T, \*batch\)"),
    (lambda: resets_from_dones(A > 0, A[0, :1] > 0), ValueError,
     r"shape \(3, 2\), expected .* `before` \(2,\)"),
])  # fmt: skip
def test_a_mistake_is_told_with_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- padding, and types that are too narrow -------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("value", [0, -1, np.nan])
def test_unpad_is_the_inverse_of_pad(batch_first, value):
    each = [np.random.default_rng(n).normal(size=(n, 2)) for n in (3, 0, 5)]
    xs, lengths = pad(each, 6, value=value, batch_first=batch_first)
    assert xs.shape == ((3, 6, 2) if batch_first else (6, 3, 2))
    rows = xs if batch_first else np.moveaxis(xs, 0, 1)
    for k, n in enumerate(lengths):
        np.testing.assert_array_equal(rows[k, n:], np.full((6 - n, 2), value))
    for a, b in zip(unpad(xs, lengths, batch_first=batch_first), each, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_value_that_the_dtype_does_not_hold_is_refused():
    for dtype, value in ((np.uint8, -1), (np.int32, 0.5), (np.int8, 300)):
        with pytest.raises(ValueError, match=f"value={value} is none of {np.dtype(dtype)}"):
            pad([np.ones(3, dtype)], value=value)


def test_unpad_tells_what_does_not_fit():
    xs = np.zeros((5, 3, 2))
    with pytest.raises(ValueError, match=r"lengths has shape \(2,\), but xs .* has 3 sequences"):
        unpad(xs, [1, 2])
    with pytest.raises(ValueError, match="lengths must lie between 0 and T=5"):
        unpad(xs, [1, 2, 6])
    with pytest.raises(TypeError, match="lengths must be integers"):
        unpad(xs, [1.0, 2, 3])
    with pytest.raises(ValueError, match="expected time and sequences"):
        unpad(xs[0, 0], [1])


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16, np.int32])
def test_ids_are_compared_in_a_type_that_holds_both(kind):
    ids = np.array([[44], [44], [2]], kind)
    resets = resets_from_segment_ids(ids, before=np.array([300]))  # 300 is 44 in eight bits
    assert resets[:, 0].tolist() == [True, False, True]


@pytest.mark.usefixtures("x64")
def test_traced_lengths_beyond_32_bits_mean_all_steps():
    for kind, value in ((jnp.int64, 2**32 + 1), (jnp.uint32, 2**31 + 5), (jnp.int64, -(2**33) + 2)):
        mask = jax.jit(lambda n: jaxrnn.lengths_to_mask(n, T=4))(jnp.array([value], kind))
        assert mask.sum() == (4 if value > 0 else 0)
    narrow = jax.jit(lambda n: jaxrnn.lengths_to_mask(n, T=300))(jnp.array([200], jnp.uint8))
    assert narrow.sum() == 200
