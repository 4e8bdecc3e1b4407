"""Claims about the Flax modules that hold for nnx and linen alike."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from modules import APIS, Linen, Nnx, compilations, random_weights

import jaxrnn
from jaxrnn.cells import LSTMCarry

pytestmark = pytest.mark.usefixtures("quick_compilation")
both = pytest.mark.parametrize("api", APIS, ids=lambda a: a.name)
T, B, I, H = 6, 4, 3, 5
RNG = np.random.RandomState(7)
XS = RNG.normal(size=(T, B, I)).astype(np.float32)


def close(a, b, tolerance=1e-5):
    chex.assert_trees_all_close(
        jax.tree.map(np.asarray, a), jax.tree.map(np.asarray, b), atol=tolerance, rtol=0
    )


def batch_major(a):
    return np.moveaxis(a, 0, 1)


@both
def test_the_lines_of_the_readme_run_as_they_stand(api):
    lstm = api("LSTM", 10, 20, num_layers=2, batch_first=True)
    x = jax.random.normal(jax.random.key(1), (5, 15, 10))
    h_0, c_0 = jnp.zeros((2, 5, 20)), jnp.zeros((2, 5, 20))
    output, state = lstm(x, (h_0, c_0))
    h_n, c_n = state
    assert (output.shape, h_n.shape, c_n.shape) == ((5, 15, 20), (2, 5, 20), (2, 5, 20))
    close(lstm(x), (output, state))
    gru = api("GRU", 10, 20, num_layers=2, batch_first=True)
    output, h_n = gru(x, h_0)
    close(h_n[1], output[:, -1])
    assert h_n.shape == (2, 5, 20)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_nnx_and_linen_give_the_same_numbers_from_the_same_weights(name):
    one = random_weights(Nnx(name, I, H, 2, bidirectional=True))
    two = Linen(name, I, H, 2, bidirectional=True)
    two.load_torch(one.to_torch())
    (output_1, state_1), (output_2, state_2) = (
        one(XS, lengths=[6, 0, 2, 3]),
        two(XS, lengths=[6, 0, 2, 3]),
    )
    close((output_1, tuple(state_1)), (output_2, tuple(state_2)), 0)


@both
def test_positional_arguments_are_in_the_order_of_torch(api):
    assert set(api("RNN", I, H, 2, "relu", False, True, 0.0, True).to_torch()) == {
        f"weight_{k}_l{n}{r}" for k in ("ih", "hh") for n in (0, 1) for r in ("", "_reverse")
    }
    weights = api("LSTM", I, H, 1, True, False, 0.0, False, 2).to_torch()
    assert weights["weight_hr_l0"].shape == (2, H)


@both
def test_batch_first_only_swaps_the_axes_of_what_has_a_time_axis(api):
    major, minor = (
        random_weights(api("LSTM", I, H, 2, batch_first=True)),
        random_weights(api("LSTM", I, H, 2)),
    )
    mask, reset = RNG.rand(T, B) < 0.7, RNG.rand(T, B) < 0.3
    state = tuple(RNG.normal(size=(2, 2, B, H)).astype(np.float32))
    output, final = minor(XS, state, mask=mask, reset=reset)
    other, last = major(batch_major(XS), state, mask=batch_major(mask), reset=batch_major(reset))
    close((batch_major(output), final), (other, last), 0)


@both
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_unbatched_sequence_is_a_batch_of_one(api, batch_first):
    module = random_weights(api("GRU", I, H, 2, batch_first=batch_first, bidirectional=True))
    h_0 = RNG.normal(size=(4, H)).astype(np.float32)
    output, h_n = module(XS[:, 0], h_0, lengths=4)
    xs = XS[:, :1]
    batched, last = module(batch_major(xs) if batch_first else xs, h_0[:, None], lengths=[4])
    close((output, h_n), (batched[0] if batch_first else batched[:, 0], last[:, 0]))


@both
def test_lengths_and_mask_together_mean_both(api):
    module, mask = random_weights(api("LSTM", I, H)), RNG.rand(T, B) < 0.7
    lengths = [6, 0, 2, 3]
    both_masks = mask & (np.arange(T)[:, None] < np.array(lengths))
    close(module(XS, lengths=lengths, mask=mask), module(XS, mask=both_masks), 0)


@both
def test_a_sequence_of_length_zero_keeps_its_state_and_puts_out_zeros(api):
    module, h_0 = random_weights(api("GRU", I, H)), RNG.normal(size=(1, B, H)).astype(np.float32)
    xs = XS.copy()
    xs[:, 1] = np.nan
    output, h_n = module(xs, h_0, lengths=[6, 0, 2, 3])
    close((h_n[:, 1], output[:, 1]), (h_0[:, 1], np.zeros((T, H), np.float32)), 0)


@both
def test_a_reset_returns_to_zero_and_never_to_the_given_state(api):
    module, h_0 = random_weights(api("GRU", I, H)), np.ones((1, B, H), np.float32)
    reset = np.zeros((T, B), bool)
    reset[2] = True
    output, h_n = module(XS, h_0, reset=reset)
    after, last = module(XS[2:])
    close((output[2:], h_n), (after, last))


@both
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_a_loop_of_steps_equals_the_sequence(api, name):
    module, state, ys = random_weights(api(name, I, H, 2)), None, []
    for x in XS:
        y, state = module.step(x, state)
        ys.append(y)
    output, final = module(XS)
    close((np.stack(ys), tuple(state)), (output, tuple(final)))


@both
def test_the_final_state_of_the_reverse_direction_is_its_first_output(api):
    output, (h_n, _) = random_weights(api("LSTM", I, H, 2, bidirectional=True))(XS)
    close((h_n[2], h_n[3]), (output[-1, :, :H], output[0, :, H:]), 0)


@both
def test_a_module_works_inside_jit_grad_and_vmap(api):
    module = random_weights(api("LSTM", I, H, 2))

    def loss(weights, xs):
        output, (_, c_n) = module(xs, weights=weights, lengths=[6, 1, 2, 3])
        return (output**2).sum() + c_n.sum()

    value, grads = jax.jit(jax.value_and_grad(loss))(module.weights, XS)
    close(value, loss(module.weights, XS), 1e-3)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))
    many = jax.vmap(loss, in_axes=(None, 0))(module.weights, np.stack([XS, 2 * XS]))
    close(many, np.stack([value, loss(module.weights, 2 * XS)]), 1e-3)


@both
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=lambda a: a.name)
def test_a_batch_sharded_input_gives_the_same_numbers_on_a_mesh(api, axis_type):
    module = random_weights(api("LSTM", I, H, 2, bidirectional=True))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,))
    state = tuple(RNG.normal(size=(2, 4, B, H)).astype(np.float32))
    mask = np.arange(T)[:, None] < np.array([6, 0, 2, 3])

    def loss(weights, xs, state):
        output, (h_n, c_n) = module(xs, state, weights=weights, mask=mask)
        return (output**2).sum() + (h_n * c_n).sum()

    expected = jax.value_and_grad(loss)(module.weights, XS, state)
    with jax.set_mesh(mesh):
        place = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))  # noqa: E731
        weights = jax.tree.map(lambda a: place(a, P()), module.weights)
        xs, sharded = place(XS, P(None, "data")), tuple(place(s, P(None, "data")) for s in state)
        value = jax.jit(jax.value_and_grad(loss))(weights, xs, sharded)
        close(jax.tree.leaves(value), jax.tree.leaves(expected), 1e-4)
        default, _ = jax.jit(lambda w, x: module(x, weights=w))(weights, xs)
    close(default, module(XS)[0])


@both
def test_hidden_units_are_split_by_the_partition_metadata_of_the_parameters(api):
    mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Auto,))
    plain = random_weights(api("LSTM", I, 6, 2))
    with jax.set_mesh(mesh):
        module = api("LSTM", I, 6, 2, hidden_axis="model")
        specs = (
            nnx.get_partition_spec(nnx.state(module.weights))
            if api is Nnx
            else nn.get_partition_spec(module.weights)
        )
        leaves = jax.tree.leaves(specs, is_leaf=lambda s: isinstance(s, P))
        # kernels by their last axis; biases of several gates side by side are whole
        assert {(len(spec), spec[-1]) for spec in leaves} == {(3, "model"), (1, None)}
        module.load_torch(plain.to_torch())
        # as they are made
        value = jax.jit(jax.value_and_grad(lambda w: (module(XS, weights=w)[0] ** 2).sum()))(
            module.weights
        )
        assert jax.tree.structure(value[1]) == jax.tree.structure(module.weights)
        split = lambda a: jax.device_put(a, NamedSharding(mesh, P(*[None] * (a.ndim - 1), "model")))  # noqa: E731
        weights = jax.tree.map(split, module.weights)
        placed = jax.jit(jax.value_and_grad(lambda w: (module(XS, weights=w)[0] ** 2).sum()))(
            weights
        )
    want = jax.value_and_grad(lambda w: (plain(XS, weights=w)[0] ** 2).sum())(plain.weights)
    close(jax.tree.leaves(value), jax.tree.leaves(want), 1e-4)
    close(jax.tree.leaves(placed), jax.tree.leaves(want), 1e-4)


@both
def test_a_module_runs_under_shard_map(api):
    module = random_weights(api("GRU", I, H, 2))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))

    def loss(weights, xs):
        return jax.lax.psum((module(xs, weights=weights)[0] ** 2).sum(), "data")

    split = jax.shard_map(loss, mesh=mesh, in_specs=(P(), P(None, "data")), out_specs=P())
    value, grads = jax.jit(jax.value_and_grad(split))(module.weights, XS)
    alone = jax.value_and_grad(lambda w: (module(XS, weights=w)[0] ** 2).sum())(module.weights)
    close(jax.tree.leaves((value, grads)), jax.tree.leaves(alone), 1e-4)


@both
def test_the_second_eager_call_of_an_equal_module_compiles_nothing(api):
    one, two = (
        random_weights(api("LSTM", I, H, 2, bidirectional=True, batch_first=True), s)
        for s in (0, 1)
    )
    xs = batch_major(XS)
    one(xs, lengths=[6, 1, 2, 3])
    with compilations() as compiled:
        one(xs, lengths=[1, 2, 3, 4])
        two(xs, lengths=[1, 2, 3, 4])
    assert compiled == []
    with compilations() as compiled:
        one(xs[:, : 2 + (api is Nnx)])  # the two APIs share their programs
    assert compiled  # the count does count


@both
def test_a_module_without_dropout_works_in_closures_of_plain_transformations(api):
    module = random_weights(api("LSTM", I, H, 2))
    output, _ = module(XS)
    close(jax.jit(lambda xs: module(xs)[0])(XS), output)
    close(jax.vmap(lambda xs: module(xs)[0], in_axes=1, out_axes=1)(XS), output)
    assert np.isfinite(jax.grad(lambda xs: module(xs)[0].sum())(XS)).all()


@both
def test_two_training_steps_under_plain_jit_use_two_masks_with_two_keys(api):
    module = api("GRU", I, H, 2, dropout=0.5)
    train = jax.jit(lambda w, key: module(XS, weights=w, key=key, deterministic=False)[0])
    one, two = (train(module.weights, jax.random.key(k)) for k in (1, 2))
    assert (one != two).mean() > 0.9
    close(one, train(module.weights, jax.random.key(1)), 0)


@both
def test_dropout_acts_between_layers_only_and_not_at_evaluation(api):
    module = random_weights(api("GRU", I, H, 2, dropout=0.5))
    plain = api("GRU", I, H, 2)
    plain.load_torch(module.to_torch())
    close(module(XS, deterministic=True), plain(XS))
    dropped, h_n = module(XS, key=jax.random.key(0), deterministic=False)
    close(h_n[0], plain(XS)[1][0])  # the first layer sees no dropout
    assert (dropped != plain(XS)[0]).all() and (dropped != 0).all()  # nor does the output


@both
def test_dropout_of_everything_leaves_the_second_layer_its_biases(api):
    module = random_weights(api("GRU", I, H, 2, dropout=1.0))
    one, _ = module(XS, key=jax.random.key(0), deterministic=False)
    two, _ = module(2 * XS, key=jax.random.key(1), deterministic=False)
    close(one, two)


@both
def test_dropout_on_a_single_layer_warns_as_torch_does(api):
    with pytest.warns(UserWarning, match="does nothing with num_layers=1"):
        api("GRU", I, H, dropout=0.5)


@both
def test_bfloat16_computation_keeps_the_state_in_float32(api):
    module = random_weights(api("LSTM", I, H, 2))
    half = api("LSTM", I, H, 2, dtype=jnp.bfloat16)
    half.load_torch(module.to_torch())
    output, (h_n, c_n) = half(XS)
    assert (output.dtype, h_n.dtype, c_n.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    close((output.astype(jnp.float32), h_n), (module(XS)[0], module(XS)[1].h_n), 2e-2)
    assert half.to_torch()["weight_ih_l0"].dtype == np.float32


@both
def test_param_dtype_bfloat16_initialises_and_runs(api):
    module = api("GRU", I, H, param_dtype=jnp.bfloat16)
    kernel = module.to_torch()["weight_hh_l0"].reshape(3, H, H)
    assert (kernel == kernel.astype(jnp.bfloat16).astype(np.float32)).all()
    # orthogonal, gate by gate
    close(np.einsum("ghi,gji->ghj", kernel, kernel), np.stack([np.eye(H)] * 3), 2e-2)
    assert np.isfinite(module(XS)[0]).all()


@both
def test_recurrent_runs_any_cell_with_its_own_carry(api):
    module = api("Recurrent", jaxrnn.LSTMCell(H), I, batch_first=True)
    output, carry = module(batch_major(XS))
    assert isinstance(carry, LSTMCarry)
    close(output[:, -1], carry.h, 0)
    again, last = module(batch_major(XS), carry)
    close(last.h, again[:, -1], 0)
    y, _ = module.step(XS[0], carry)
    close(y, again[:, 0])


@both
def test_recurrent_takes_several_batch_axes_with_time_before_the_features(api):
    module = api(
        "Recurrent",
        jaxrnn.Stack((jaxrnn.GRUCell(H), jaxrnn.RNNCell(2)), bidirectional=True),
        I,
        batch_first=True,
    )
    xs = RNG.normal(size=(2, 3, T, I)).astype(np.float32)
    lengths = np.array([[6, 0, 1], [2, 3, 4]])
    output, carry = module(xs, lengths=lengths)
    assert output.shape == (2, 3, T, 4)
    for i, j in np.ndindex(2, 3):
        alone, last = module(xs[i, j], lengths=lengths[i, j])
        close((output[i, j], jax.tree.map(lambda c, i=i, j=j: c[i, j], carry)), (alone, last))


ERRORS = [
    (lambda m, k: m("RNN", jaxrnn.RNNCell(3), 4), TypeError, r"for a cell use Recurrent\(cell\)"),
    (
        lambda m, k: m("LSTM", I, H, proj_size=H),
        ValueError,
        "proj_size=5 must be below hidden_size=5",
    ),
    (
        lambda m, k: m("LSTM", I, 0),
        ValueError,
        "hidden_size must be an integer of at least 1, got 0",
    ),
    (
        lambda m, k: m("GRU", I, H, 0),
        ValueError,
        "num_layers must be an integer of at least 1, got 0",
    ),
    (
        lambda m, k: m("RNN", I, H, nonlinearity="tan"),
        ValueError,
        "nonlinearity='tan' is unknown. Did you mean 'tanh'",
    ),
    (
        lambda m, k: m("GRU", I, H, recurrent_init="ortogonal"),
        ValueError,
        "Did you mean 'orthogonal'",
    ),
    (
        lambda m, k: m("GRU", I, H, 2, dropout=1.5),
        ValueError,
        "dropout is a probability between 0 and 1, got 1.5",
    ),
    (lambda m, k: k(XS[0, 0]), ValueError, r"xs has shape \(3,\), expected \(T, batch, features\)"),
    (
        lambda m, k: k(XS[..., :2]),
        ValueError,
        "xs has 2 features but these parameters were made for input_size=3",
    ),
    (lambda m, k: k(XS.astype(np.int32)), TypeError, "Embed or one-hot encode"),
    (lambda m, k: k(XS, XS), TypeError, r"the state of this module is the pair \(h_0, c_0\)"),
    (
        lambda m, k: k(XS, (XS, XS)),
        ValueError,
        r"h_0 has shape \(6, 4, 3\), expected \(1, 4, 5\).*whatever batch_first",
    ),
    (
        lambda m, k: k(XS, lengths=[1, 2]),
        ValueError,
        r"lengths has shape \(2,\), expected the batch axes of xs, \(4,\)",
    ),
    (
        lambda m, k: k(XS, lengths=[1, 2, 3, 7]),
        ValueError,
        "lengths must lie between 0 and T=6, got 1 to 7",
    ),
    (lambda m, k: k(XS, lengths=[1.0, 2, 3, 4]), TypeError, "lengths must be integers"),
    (
        lambda m, k: k(XS, mask=np.ones((B, T), bool)),
        ValueError,
        r"mask has shape \(4, 6\), expected \(6, 4\)",
    ),
    (
        lambda m, k: m("Recurrent", jaxrnn.Stack(jaxrnn.GRUCell(3)), I, batch_first=True),
        ValueError,
        "needs a tuple with one",
    ),
    (lambda m, k: k(XS, reset=np.ones((T, B))), TypeError, "reset must be boolean"),
    (lambda m, k: m("LSTM", I, H, bidirectional=True).step(XS[0]), ValueError, "no single step"),
    (
        lambda m, k: m("LSTM", I, H, method="fast")(XS),
        ValueError,
        r"method must be one of .*'scan', 'affine', 'fused'.*, got 'fast'",
    ),
]


@both
@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_a_wrong_argument_is_told_what_was_expected(api, number):
    wrong, kind, message = ERRORS[number]
    with pytest.raises(kind, match=message):
        wrong(api, api("LSTM", I, H))


@both
def test_errors_speak_of_the_layout_that_was_passed(api):
    module, xs = api("LSTM", I, H, batch_first=True), batch_major(XS)
    with pytest.raises(ValueError, match=r"mask has shape \(6, 4\), expected \(4, 6\)"):
        module(xs, mask=np.ones((T, B), bool))
    with pytest.raises(
        ValueError,
        match=r"xs has shape \(4, 6, 2\), expected \(\.\.\., T, 3\)(?!; is the time axis)",
    ):
        module(xs[..., :2])


@both
def test_wrong_options_are_refused_when_the_module_is_made(api):
    with pytest.raises(ValueError, match="method must be one of"):
        api("LSTM", I, H, method="fastest")
    with pytest.raises(
        TypeError, match=r"forget_bias must be a number or Chrono\(max_lag\), got 'chrono'"
    ):
        api("LSTM", I, H, forget_bias="chrono")
    assert api("LSTM", I, np.int64(H)).to_torch()["weight_hh_l0"].shape == (4 * H, H)


@both
def test_the_second_eager_call_traces_nothing_of_the_cell(api):
    traced = []

    class Traced(jaxrnn.GRUCell):
        def init(self, key, input_size, dtype=jnp.float32):
            traced.append("init")
            return super().init(key, input_size, dtype)

        def step(self, *args, **kwargs):
            traced.append("step")
            return super().step(*args, **kwargs)

    module = api("Recurrent", Traced(H), I, batch_first=False)
    module(XS)
    traced.clear()
    module(XS)
    assert traced == []


def test_a_state_given_as_a_pair_to_a_gru_is_refused():
    with pytest.raises(TypeError, match="the state of this module is the array h_0, got tuple"):
        Nnx("GRU", I, H)(XS, (np.zeros((1, B, H)), np.zeros((1, B, H))))


@both
def test_the_optimiser_of_flax_trains_a_module(api):
    import optax

    module, target = api("LSTM", I, H), RNG.normal(size=(T, B, H)).astype(np.float32) / 3

    def loss(weights):
        return ((module(XS, weights=weights)[0] - target) ** 2).mean()

    weights, before = module.weights, loss(module.weights)
    if api is Nnx:
        optimizer = nnx.Optimizer(weights, optax.adam(3e-2), wrt=nnx.Param)
        step = nnx.jit(lambda m, o: o.update(m, nnx.grad(loss)(m)))
        with jax.numpy_dtype_promotion("standard"):  # optax needs it
            for _ in range(30):
                step(weights, optimizer)
    else:
        optimizer = optax.adam(3e-2)
        step = jax.jit(lambda w, s: optimizer.update(jax.grad(loss)(w), s))
        state = optimizer.init(weights)
        with jax.numpy_dtype_promotion("standard"):
            for _ in range(30):
                updates, state = step(weights, state)
                weights = optax.apply_updates(weights, updates)
    assert loss(weights) < 0.7 * before
