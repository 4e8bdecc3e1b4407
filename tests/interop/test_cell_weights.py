"""Weights of single cells: the same numbers in the other library, both ways,
and not a bit lost where none need be.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import PEERS, B, I, T, random

import jaxrnn

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.peers]


@pytest.fixture(scope="module", params=PEERS)
def peer(request):
    return PEERS[request.param]()


def problem(peer):
    """Inputs [T, B, ..., I] and the first carry, both random."""
    rng = np.random.RandomState(7)
    xs = rng.normal(size=(T, B, *peer.space, I)).astype(np.float32)
    carry = peer.cell.init_carry(None, jnp.zeros(xs.shape[1:]))
    return xs, jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), carry)


def ours(peer, params):
    carry, ys = jaxrnn.unroll(peer.cell, params, *problem(peer))
    return ys, tuple(carry)


def theirs(peer, arrays):
    xs, carry = problem(peer)
    return peer.run(arrays, xs, tuple(carry))


def our_params(peer):
    return peer.fit(random(peer.cell.init(jax.random.key(0), I)))


def assert_same(a, b, tolerance=1e-5):
    """Relative to the larger of 1 and the largest entry."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * max(1, np.abs(y).max()))


def assert_equal_bytes(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype and x.tobytes() == y.tobytes()


def test_with_their_weights_outputs_and_final_states_are_theirs(peer):
    arrays = random(peer.arrays)
    assert_same(ours(peer, peer.load(arrays)), theirs(peer, arrays))


def test_with_our_weights_their_outputs_and_final_states_are_ours(peer):
    params = our_params(peer)
    assert_same(theirs(peer, peer.store(params)), ours(peer, params))


def test_written_names_and_shapes_are_theirs(peer):
    arrays = peer.store(our_params(peer))
    plain = {k: dict(v) if isinstance(v, dict) else v for k, v in peer.arrays.items()}
    assert jax.tree.map(np.shape, arrays) == jax.tree.map(np.shape, plain)


def test_written_arrays_are_contiguous_copies_of_the_same_dtype(peer):
    dtype = jnp.float32 if "torch" in peer.store.func.__name__ else jnp.bfloat16
    params = jax.tree.map(lambda a: np.asarray(a, jnp.bfloat16), our_params(peer))
    for array in jax.tree.leaves(peer.store(params)):
        assert array.flags.c_contiguous and array.flags.writeable and array.dtype == dtype
        assert not any(np.shares_memory(array, p) for p in jax.tree.leaves(params))


def test_reading_what_was_written_gives_the_parameters_back(peer):
    params = our_params(peer)
    again = peer.load(peer.store(params))
    assert_same(again, params)
    if peer.ours_exact:
        assert_equal_bytes(again, jax.tree.map(jnp.asarray, params))


def test_writing_what_was_read_gives_the_function_back_and_where_it_can_the_bytes(peer):
    arrays = random(peer.arrays)
    again = peer.store(peer.load(arrays))
    assert_same(theirs(peer, again), theirs(peer, arrays))
    if peer.theirs_exact:
        assert_equal_bytes(jax.tree.map(np.asarray, again), jax.tree.map(np.asarray, dict(arrays)))


def test_missing_unexpected_and_misshapen_entries_are_all_listed(peer):
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): a
        for path, a in jax.tree.leaves_with_path(peer.arrays)
    }
    misshapen, missing = list(leaves)[-2:]
    wrong = {name: a for name, a in leaves.items() if name != missing} | {
        "odd": np.ones(2, np.float32)
    }
    wrong[misshapen] = np.zeros((1, *leaves[misshapen].shape), np.float32)
    with pytest.raises(ValueError, match=r"does not fit") as caught:
        peer.load(wrong)
    for text in (f"missing: {missing}; ", "unexpected: odd; ", f"misshapen: {misshapen} (1, "):
        assert text in str(caught.value)


def test_integers_are_refused(peer):
    with pytest.raises(TypeError, match="has dtype int32, expected floating point"):
        peer.load(jax.tree.map(lambda a: np.zeros(a.shape, np.int32), peer.arrays))


def test_parameters_of_another_shape_are_refused_before_they_are_written(peer):
    params = our_params(peer)
    with pytest.raises(ValueError, match=r"w_h .* expected"):
        peer.store(params._replace(w_h=params.w_h[1:]))


def test_the_dtype_asked_for_is_made_and_sixteen_bits_are_read(peer):
    arrays = jax.tree.map(lambda a: np.asarray(a, jnp.bfloat16), random(peer.arrays))
    assert {a.dtype for a in jax.tree.leaves(peer.load(arrays))} == {jnp.dtype(jnp.float32)}
    assert {a.dtype for a in jax.tree.leaves(peer.load(arrays, dtype=jnp.float16))} == {
        jnp.dtype(jnp.float16)
    }
