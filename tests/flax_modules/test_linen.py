"""What only the linen modules do: variables, streams, the deterministic field."""

import jax
import numpy as np
import pytest
from flax import linen as nn

import jaxrnn
import jaxrnn.linen as rnn

XS = np.random.RandomState(3).normal(size=(6, 4, 3)).astype(np.float32)


def test_the_parameters_are_those_of_the_core():
    module = rnn.LSTM(3, 5, 2, bidirectional=True)
    params = module.init(jax.random.key(0), XS)["params"]["cell"]
    assert [params[str(k)]["w_x"].shape for k in range(4)] == [(3, 4, 5)] * 2 + [(10, 4, 5)] * 2
    stack = module.cell
    _, ys = jaxrnn.unroll(stack, params, XS)  # the core takes the dicts, and linen the core's own
    core = stack.init(jax.random.key(0), 3)
    for given in (params, core):
        output, _ = module.apply({"params": {"cell": given}}, XS)
        assert output.shape == ys.shape
    np.testing.assert_array_equal(module.apply({"params": {"cell": params}}, XS)[0], ys)


def test_dropout_without_a_decision_is_an_error_that_says_so():
    module = rnn.GRU(3, 5, 2, dropout=0.5)
    variables = module.init(jax.random.key(0), XS)
    with pytest.raises(ValueError, match="needs deterministic=True or False"):
        module.apply(variables, XS)


def test_training_without_randomness_is_an_error_that_says_so():
    module = rnn.GRU(3, 5, 2, dropout=0.5, deterministic=False)
    variables = module.init(jax.random.key(0), XS, deterministic=True)
    with pytest.raises(ValueError, match=r"pass key=, or rngs=\{'dropout': key\}"):
        module.apply(variables, XS)


def test_training_mode_can_be_initialised_with_one_key():
    variables = rnn.GRU(3, 5, 2, dropout=0.5).init(jax.random.key(0), XS, deterministic=False)
    assert variables["params"]["cell"]["0"]["w_x"].shape == (3, 3, 5)


def test_idle_dropout_warns_once_and_not_at_every_call():
    with pytest.warns(UserWarning, match="does nothing") as caught:
        module = rnn.GRU(3, 5, dropout=0.5)
        module.apply(module.init(jax.random.key(0), XS, deterministic=True), XS, deterministic=True)
    assert len(caught) == 1


def test_parameters_of_another_shape_are_listed():
    variables = rnn.GRU(3, 5).init(jax.random.key(0), XS)
    with pytest.raises(ValueError, match=r"params\.w_h \(5, 3, 5\), expected \(6, 3, 6\)"):
        rnn.GRU(3, 6).apply(variables, XS)


def test_the_dropout_stream_and_a_given_key_both_make_masks():
    module = rnn.GRU(3, 5, 2, dropout=0.5, deterministic=False)
    variables = module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, XS)
    key = jax.random.key(1)
    first, second = (
        module.apply(variables, XS, rngs={"dropout": jax.random.key(k)})[0] for k in (1, 2)
    )
    given = module.apply(variables, XS, key=key, rngs={"dropout": jax.random.key(2)})[0]
    assert (first != second).any() and (given != second).any()
    np.testing.assert_array_equal(given, module.apply(variables, XS, key=key)[0])


def test_it_is_a_part_of_larger_modules():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, xs):
            output, _ = rnn.GRU(3, 5, batch_first=True)(xs)
            return nn.Dense(2)(output[:, -1])

    variables = Model().init(jax.random.key(0), XS)
    assert set(variables["params"]) == {"GRU_0", "Dense_0"}
    assert Model().apply(variables, XS).shape == (6, 2)
