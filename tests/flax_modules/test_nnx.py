"""What only the nnx modules do: random streams, modes, graph modes."""

import jax
import numpy as np
import pytest
from flax import nnx

import jaxrnn.nnx as rnn

XS = np.random.RandomState(3).normal(size=(6, 4, 3)).astype(np.float32)


def test_a_module_without_dropout_holds_no_random_stream():
    module = rnn.LSTM(3, 5, 2, rngs=nnx.Rngs(0))
    assert not jax.tree.leaves(nnx.state(module, nnx.RngState))
    assert jax.tree.leaves(
        nnx.state(rnn.LSTM(3, 5, 2, dropout=0.5, rngs=nnx.Rngs(0)), nnx.RngState)
    )


def test_it_trains_by_default_and_eval_switches_dropout_off():
    module = rnn.GRU(3, 5, 2, dropout=0.5, rngs=nnx.Rngs(0))
    assert (module(XS)[0] != module(XS)[0]).any()
    module.eval()
    np.testing.assert_array_equal(module(XS)[0], module(XS)[0])
    module.train()
    assert (module(XS)[0] != module(XS)[0]).any()


def test_nnx_jit_advances_the_stream_where_plain_jit_repeats_one_mask():
    module = rnn.GRU(3, 5, 2, dropout=0.5, rngs=nnx.Rngs(0))
    call = nnx.jit(lambda m: m(XS)[0])
    assert (call(module) != call(module)).any()
    plain = jax.jit(lambda m: m(XS)[0])  # hence the `key` argument
    np.testing.assert_array_equal(plain(module), plain(module))


def test_a_given_key_wins_over_the_stream_and_leaves_it_alone():
    module = rnn.GRU(3, 5, 2, dropout=0.5, rngs=nnx.Rngs(0))
    key = jax.random.key(5)
    np.testing.assert_array_equal(module(XS, key=key)[0], module(XS, key=key)[0])
    assert module.rngs.count[...] == 0


def test_training_without_randomness_is_an_error_that_says_so():
    module = rnn.GRU(3, 5, 2, dropout=0.5, rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match="training with dropout needs randomness: pass key="):
        module(XS)
    assert np.isfinite(module(XS, deterministic=True)[0]).all()


def test_rngs_must_be_rngs():
    with pytest.raises(
        TypeError, match=r"rngs must be an nnx.Rngs with a stream .*such as nnx.Rngs\(0\), got 0"
    ):
        rnn.GRU(3, 5, rngs=0)


def test_split_and_merge_give_the_same_module():
    module = rnn.LSTM(3, 5, 2, bidirectional=True, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(nnx.merge(*nnx.split(module))(XS)[0], module(XS)[0])


def test_it_works_with_modules_as_plain_trees():
    with nnx.set_graph_mode(False), nnx.set_graph_updates(False):
        module = rnn.LSTM(3, 5, 2, rngs=nnx.Rngs(0))
        grads = nnx.grad(lambda m: (m(XS)[0] ** 2).sum())(module)
        output = nnx.jit(lambda m: m(XS)[0])(module)
    np.testing.assert_allclose(output, module(XS)[0], atol=1e-5)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_a_vmapped_constructor_makes_an_ensemble():
    make = nnx.vmap(lambda rngs: rnn.GRU(3, 5, rngs=rngs))
    ensemble = make(nnx.Rngs(0).split(3))
    outputs = nnx.vmap(lambda m, xs: m(xs)[0], in_axes=(0, None))(ensemble, XS)
    assert outputs.shape == (3, 6, 4, 5)
    assert (outputs[0] != outputs[1]).any()
