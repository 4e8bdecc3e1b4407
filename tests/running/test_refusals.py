"""What must not pass in silence: each is refused with words that say what was wrong."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from flax import nnx
from modules import APIS, Nnx

import jaxrnn
from jaxrnn import cells, wrappers
from jaxrnn.diagnostics import (
    carry_gradients,
    carry_jacobians,
    effective_memory,
    largest_lyapunov_exponent,
    memory_capacity,
)
from jaxrnn.initializers import Chrono, Identity, Normal, Orthogonal
from jaxrnn.interop import from_keras, from_torch, to_torch
from jaxrnn.sequences import last_output, pack
from jaxrnn.wrappers import Bidirectional, LayerNormInput, Residual, Skip, Zoneout

pytestmark = pytest.mark.usefixtures("quick_compilation")
T, B, I, H = 6, 4, 3, 5
XS = np.random.default_rng(0).normal(size=(T, B, I)).astype(np.float32)
GRU = jaxrnn.GRUCell(H)
PARAMS = GRU.init(jax.random.key(0), I)


def refused(message, attempt, kinds=(TypeError, ValueError)):
    with pytest.raises(kinds, match=message):
        attempt()


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, True, "1", None, 1j])
def test_numbers_of_cells_wrappers_and_initialisers_must_be_finite(wrong):
    message = "finite number|must be a number|probability|above"
    for make in (
        lambda: jaxrnn.LSTMCell(H, forget_bias=wrong),
        lambda: jaxrnn.GRUCell(H, update_bias=wrong),
        lambda: cells.LayerNormLSTMCell(H, forget_bias=wrong),
        lambda: cells.LayerNormLSTMCell(H, epsilon=wrong),
        lambda: cells.CIFGCell(H, forget_bias=wrong),
        lambda: LayerNormInput(GRU, epsilon=wrong),
        lambda: wrappers.RMSNormInput(GRU, epsilon=wrong),
        lambda: Zoneout(GRU, h=wrong),
        lambda: wrappers.DropConnect(GRU, rate=wrong),
        lambda: wrappers.VariationalDropout(GRU, recurrent=wrong),
        lambda: wrappers.RecurrentDropout(GRU, rate=wrong),
        lambda: jaxrnn.Stack((GRU, GRU), dropout=wrong),
        lambda: Chrono(wrong),
        lambda: Orthogonal(wrong),
        lambda: Identity(wrong),
        lambda: Normal(wrong),
    ):
        refused(message, make)


def test_options_of_blocks_and_of_windows_of_inputs():

    def block(*sizes, **options):
        return wrappers.Block(GRU, *sizes, **options)

    for wrong in (0, -1, 2.0, "3"):
        refused("inner_size must be an integer", lambda wrong=wrong: block(wrong))
        refused("conv must be an integer", lambda wrong=wrong: block(conv=wrong))
        refused("mlp must be an integer", lambda wrong=wrong: block(mlp=wrong))
        refused("width must be an integer", lambda wrong=wrong: cells.QRNNCell(H, wrong))
        refused("width must be an integer", lambda wrong=wrong: cells.CausalConvCell(wrong))
        refused("heads must be an integer", lambda wrong=wrong: cells.MLSTMCell(H, wrong))
    refused("norm must be one of", lambda: block(norm="batch"))
    refused("gate must be True or False", lambda: block(gate=1))
    refused("is no known initializer", lambda: block(input_init="orthogonel"))
    refused("heads must divide hidden_size=6, got 4", lambda: cells.MLSTMCell(6, 4))
    refused("two numbers", lambda: cells.MLSTMCell(H, 1, forget_bias=3.0))
    for around in (wrappers.Block, wrappers.Mixer):
        refused("vectors that runs in one direction", lambda a=around: a(Bidirectional(GRU)))
        refused("vectors that runs in one direction", lambda a=around: a(cells.ConvGRUCell(2)))
        refused("must be a jaxrnn.Cell", lambda a=around: a("gru"))


@pytest.mark.parametrize("wrong", [-1, 0])
def test_an_epsilon_must_be_above_zero(wrong):
    refused("epsilon must be", lambda: LayerNormInput(GRU, epsilon=wrong))
    refused("epsilon must be", lambda: cells.LayerNormGRUCell(H, epsilon=wrong))
    refused("stddev must be a finite number of at least 0", lambda: Normal(-0.1))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "rate", slow.some([1.0, 1 - 1e-12, 0.5], (1.0).__eq__, "rates that leave something")
)
@pytest.mark.usefixtures("x64")
def test_dropout_up_to_one_has_finite_gradients_in_every_dtype(rate, dtype):
    stack = jaxrnn.Stack((GRU, jaxrnn.LSTMCell(H)), dropout=rate)
    params = stack.init(jax.random.key(0), I, dtype)
    xs = jnp.asarray(XS, dtype)
    noise = stack.noise(jax.random.key(1), T, xs[0])

    def loss(params, xs):
        ys = jaxrnn.unroll(stack, params, xs, noise=noise)[1]
        return (ys.astype(jnp.float32) ** 2).sum()

    gradients = jax.grad(loss, (0, 1))(params, xs)
    assert all(np.isfinite(g.astype(np.float64)).all() for g in jax.tree.leaves(gradients))
    if rate == 1:
        assert not np.any(gradients[1])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize(
    "make",
    [
        lambda rate: wrappers.DropConnect(GRU, rate),
        lambda rate: wrappers.RecurrentDropout(GRU, rate),
        lambda rate: wrappers.VariationalDropout(GRU, input=rate, recurrent=rate, output=rate),
    ],
)
def test_rates_that_nearly_drop_all_have_finite_gradients_in_16_bits(make, dtype):
    cell = make(1 - 1e-9)
    params = jax.tree.map(lambda a: a.astype(dtype), PARAMS)
    xs = jnp.asarray(XS, dtype)
    noise = cell.noise(jax.random.key(1), T, xs[0])
    gradient = jax.grad(lambda p: jaxrnn.unroll(cell, p, xs, noise=noise)[1].sum())(params)
    assert all(np.isfinite(g.astype(np.float32)).all() for g in jax.tree.leaves(gradient))


# --- flags, dtypes --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["no", 0, 1, 0.5])
def test_flags_are_bool_wherever_they_are_taken(wrong):
    for attempt in (
        lambda: jaxrnn.unroll(GRU, PARAMS, XS, reverse=wrong),
        lambda: jaxrnn.unroll_carries(GRU, PARAMS, XS, reverse=wrong),
        lambda: last_output(XS, bidirectional=wrong),
        lambda: last_output(XS, reverse=wrong),
        lambda: last_output(XS, batch_first=wrong),
        lambda: jaxrnn.Stack((GRU,), bidirectional=wrong),
    ):
        refused("must be True or False", attempt)


@pytest.mark.parametrize("api", APIS, ids=lambda a: a.name)
def test_deterministic_is_bool_or_none(api):
    module = api("GRU", I, H, 2, dropout=0.5)
    for wrong in ("no", 0, 1):
        refused("deterministic must be True or False", lambda w=wrong: module(XS, deterministic=w))
    module(XS, deterministic=np.bool_(True))


@pytest.mark.parametrize("wrong", [bool, int, jnp.int8, jnp.complex64, "float23", "x"])
def test_dtypes_are_of_floating_point(wrong):
    stack = jaxrnn.Stack((GRU,))
    weights = to_torch(stack, (PARAMS,))
    keras = [np.ones((I, 3 * H)), np.ones((H, 3 * H)), np.ones((2, 3 * H))]
    for attempt in (
        lambda: GRU.init(jax.random.key(0), I, wrong),
        lambda: stack.init(jax.random.key(0), I, wrong),
        lambda: from_torch(stack, I, weights, wrong),
        lambda: from_keras(GRU, keras, wrong),
        lambda: jaxrnn.stepper(GRU, PARAMS, wrong),
        lambda: jaxrnn.initial_carry(GRU, PARAMS, (), wrong),
        *(lambda api=api: api("LSTM", I, H, param_dtype=wrong) for api in APIS),
        *(lambda api=api: api("LSTM", I, H, dtype=wrong) for api in APIS),
        *(lambda a=a: a("Recurrent", GRU, I, batch_first=True, dtype=wrong) for a in APIS),
        lambda: jaxrnn.nnx.CellForRNN(GRU, I, param_dtype=wrong, rngs=nnx.Rngs(0)),
        lambda: jaxrnn.linen.CellForRNN(GRU, dtype=wrong),
    ):
        refused("dtype must be a dtype of floating point", attempt)


# --- layouts, structures --------------------------------------------------------------------------


def test_directions_that_stay_apart_reach_no_next_layer_by_any_way():
    apart = jaxrnn.Stack((GRU,), bidirectional=True, merge="apart")
    for first in (
        apart,
        LayerNormInput(apart),
        jaxrnn.Stack((apart,)),
        Bidirectional(GRU, merge="apart"),
        LayerNormInput(jaxrnn.Stack((jaxrnn.RNNCell(2), apart))),
    ):

        def run(first=first):
            stack = jaxrnn.Stack((first, jaxrnn.RNNCell(2)))
            return jaxrnn.unroll(stack, stack.init(jax.random.key(0), I), XS)

        refused("cannot be the inputs of a next layer|has no next layer", run)


@pytest.mark.parametrize(
    "params",
    [None, 1.0, np.ones(3), "weights", (), (1, 2), {"params": {}}, [PARAMS, PARAMS]],
    ids=lambda p: type(p).__name__,
)
def test_parameters_of_another_kind_are_told_what_was_expected(params):
    for attempt in (
        lambda: jaxrnn.unroll(GRU, params, XS),
        lambda: jaxrnn.unroll_windows(GRU, params, XS, window=2),
        lambda: GRU(params, None, XS[0]),
        lambda: jaxrnn.stepper(GRU, params),
        lambda: carry_jacobians(GRU, params, XS[:, 0]),
    ):
        refused("must have the entries w_x, w_h, b, b_hn", attempt)


def test_parameters_and_inputs_that_are_swapped_are_told_so():
    refused(
        r"got GRUParams; the order is \(cell, params, xs\)", lambda: jaxrnn.unroll(GRU, XS, PARAMS)
    )


def test_wrappers_hold_cells():
    for make in (Residual, Skip, LayerNormInput, Zoneout, wrappers.LearnedInitialCarry):
        for wrong in (None, 5, jaxrnn.GRUCell, "gru"):
            refused(r"cell must be a jaxrnn\.Cell", lambda m=make, w=wrong: m(w))


def test_a_bare_cell_where_a_stack_is_meant_is_told_to_be_wrapped():
    refused(r"as Stack\(\(cell,\)\)", lambda: to_torch(GRU, PARAMS))
    refused(r"as Stack\(\(cell,\)\)", lambda: from_torch(GRU, I, {}))


def test_a_connection_past_what_changes_the_shape_is_refused():
    skip = Skip(cells.ConvLSTMCell(2, (3,), strides=(2,)))
    xs = np.ones((T, B, 8, I), np.float32)
    refused("skip connection", lambda: jaxrnn.unroll(skip, skip.init(jax.random.key(0), I), xs))


def test_initialisers_are_functions_that_give_what_was_asked_for():
    refused("recurrent_init must be a name", lambda: jaxrnn.GRUCell(H, recurrent_init=5))
    wrong = jaxrnn.GRUCell(H, input_init=lambda key, shape, dtype: jnp.zeros(3))
    refused(r"gave shape \(3,\), expected \(3, 5\)", lambda: wrong.init(jax.random.key(0), I))


def test_one_number_is_a_batch_of_one_axis():
    assert jaxrnn.initial_carry(GRU, PARAMS, 2).h.shape == (2, H)
    assert jaxrnn.stepper(GRU, PARAMS).first(2).h.shape == (2, H)
    refused("batch_shape must be a tuple", lambda: jaxrnn.initial_carry(GRU, PARAMS, 2.0))
    refused("each of batch_shape", lambda: jaxrnn.initial_carry(GRU, PARAMS, (2, -1)))


def test_lists_of_numbers_are_inputs():
    want = jaxrnn.unroll(GRU, PARAMS, XS)[1]
    rows = XS.tolist()
    np.testing.assert_array_equal(jaxrnn.unroll(GRU, PARAMS, rows)[1], want)
    np.testing.assert_array_equal(jaxrnn.unroll_windows(GRU, PARAMS, rows, window=9)[1], want)
    np.testing.assert_array_equal(
        Nnx("Recurrent", GRU, I, batch_first=False)(rows)[0].shape, (T, B, H)
    )
    refused(
        "Embed or one-hot", lambda: jaxrnn.unroll(GRU, PARAMS, np.ones((T, B, I), int).tolist())
    )


def test_noise_that_says_what_is_kept_is_boolean():
    stack = jaxrnn.Stack((GRU, GRU), dropout=0.5)
    params = stack.init(jax.random.key(0), I)
    noise = stack.noise(jax.random.key(1), T, XS[0])
    wrong = noise._replace(keep=(noise.keep[0].astype(jnp.float32),))
    refused("noise must be boolean", lambda: jaxrnn.unroll(stack, params, XS, noise=wrong))


def test_devices_are_some_and_each_is_named_once():
    loss = lambda xs: xs.mean()  # noqa: E731
    device = jax.devices()[0]
    for devices in ([], [device, device]):
        split = jaxrnn.split_batch(loss, in_axes=1, devices=devices)
        refused("devices must be one or more, each once", lambda split=split: split(XS))


# --- diagnostics ----------------------------------------------------------------------------------


def test_diagnostics_check_what_unroll_checks():
    one = XS[:, 0]
    for measure in (carry_jacobians, largest_lyapunov_exponent):
        refused("2 features", lambda m=measure: m(GRU, PARAMS, one[:, :2]))
        refused("Embed or one-hot", lambda m=measure: m(GRU, PARAMS, np.ones((T, I), int)))
        refused("use jax.vmap", lambda m=measure: m(GRU, PARAMS, XS))
        carry = cells.GRUCarry(h=np.ones(H + 1, np.float32))
        refused("carry.h has shape", lambda m=measure, c=carry: m(GRU, PARAMS, one, c))
        refused(r"cell must be a jaxrnn\.Cell", lambda m=measure: m(jaxrnn.GRUCell, PARAMS, one))
    refused("2 features", lambda: carry_gradients(GRU, PARAMS, XS[..., :2], lambda c, ys: ys.sum()))


@pytest.mark.usefixtures("x64")
def test_diagnostics_take_parameters_of_another_dtype_than_the_inputs():
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), PARAMS)
    one = XS[:, 0]
    want = carry_jacobians(GRU, PARAMS, one)
    got = carry_jacobians(GRU, wide, one)
    assert got.dtype == want.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(
        largest_lyapunov_exponent(GRU, wide, one),
        largest_lyapunov_exponent(GRU, PARAMS, one),
        atol=1e-5,
    )


def test_measures_of_memory_do_not_round_or_lose_what_they_are_given():
    refused("floating point", lambda: effective_memory(jnp.arange(5)))
    for share in (0, 1, math.nan):
        refused("share must be between 0 and 1", lambda s=share: effective_memory(jnp.ones(5), s))
    key = jax.random.key(0)
    params = jaxrnn.RNNCell(4).init(key, 1)
    lost = params._replace(w_x=params.w_x * np.nan)
    assert np.isnan(memory_capacity(jaxrnn.RNNCell(4), lost, key, 3, steps=50).total)
    for options in ({"scale": math.nan}, {"scale": -0.5}, {"ridge": -1.0}, {"steps": 2.5}):
        wrong = lambda o=options: memory_capacity(jaxrnn.RNNCell(4), params, key, 3, **o)  # noqa: E731
        refused("must be", wrong)


# --- sizes ----------------------------------------------------------------------------------------


def test_packing_takes_no_time_for_each_step_of_a_row():
    import time

    each = [np.ones((n, 1), np.int8) for n in (3, 5, 2_000_000, 1)]
    begin = time.perf_counter()
    packed = pack(each, 4_000_000)
    assert time.perf_counter() - begin < 2
    assert packed.xs.shape == (4_000_000, 1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_packing_is_best_fit_decreasing(seed):
    rng = np.random.default_rng(seed)
    length = int(rng.integers(5, 40))
    lengths = rng.integers(0, length + 1, rng.integers(1, 40))
    packed = pack([np.ones((n, 1)) for n in lengths], length)
    free = []  # by hand: the fullest row that has room, the oldest of them
    for n in sorted(lengths[lengths > 0], reverse=True):
        fits = [(space, row) for row, space in enumerate(free) if space >= n]
        if fits:
            free[min(fits)[1]] -= n
        else:
            free.append(length - n)
    assert sorted((~packed.mask).sum(0).tolist()) == sorted(free)


# --- what is no array -----------------------------------------------------------------------------


NO_ARRAYS = ["x", object, 2**40, {"a": "x"}]


@pytest.mark.parametrize("wrong", NO_ARRAYS, ids=["text", "type", "large", "dict"])
@pytest.mark.parametrize("argument", ["carry", "mask", "reset", "noise"])
def test_what_is_no_array_is_refused_by_name_before_jax_sees_it(argument, wrong):
    given = {argument: wrong}
    refused(argument, lambda: jaxrnn.unroll(GRU, PARAMS, XS, **given))
    refused(argument, lambda: jaxrnn.unroll_carries(GRU, PARAMS, XS, **given))
    refused(argument, lambda: jaxrnn.unroll_windows(GRU, PARAMS, XS, window=2, **given))
    if argument == "reset":
        step = jaxrnn.stepper(GRU, PARAMS)
        refused(argument, lambda: step(step.first((B,)), XS[0], reset=wrong))


@pytest.mark.parametrize("wrong", ["x", {}, None, object], ids=["text", "dict", "none", "type"])
def test_functions_of_sequences_refuse_what_is_no_array(wrong):
    sequences = jaxrnn.sequences
    packed = pack([XS[:, 0]], T)
    for attempt in (
        lambda: last_output(wrong),
        lambda: sequences.activation_regularization(wrong),
        lambda: sequences.temporal_activation_regularization(wrong),
        lambda: pack(wrong, T),
        lambda: sequences.pad(wrong),
        lambda: sequences.unpack(wrong, packed.xs),
        lambda: sequences.unpack(packed, wrong),
        lambda: sequences.unpad(wrong, [1]),
        lambda: sequences.bucket_sizes(wrong, 2),
        lambda: sequences.bucket_size(3, wrong),
        lambda: sequences.resets_from_segment_ids(wrong),
        lambda: sequences.resets_from_dones(wrong),
        lambda: effective_memory(wrong),
    ):
        refused("must be", attempt)


@pytest.mark.parametrize("wrong", [None, "4", 4.5, math.nan, True, -1])
def test_numbers_of_steps_are_integers(wrong):
    sequences = jaxrnn.sequences
    for attempt in (
        lambda: jaxrnn.lengths_to_mask([1], wrong),
        lambda: pack([XS[:, 0]], wrong),
        lambda: sequences.bucket_sizes([1, 2], wrong),
        lambda: sequences.bucket_size(wrong, (3, 9)),
        lambda: largest_lyapunov_exponent(GRU, PARAMS, XS[:, 0], washout=wrong),
        lambda: from_torch(jaxrnn.Stack((GRU,)), wrong, {}),
    ):
        refused("must be an integer", attempt)
    if wrong is not None:
        refused("must be an integer", lambda: sequences.pad([XS[:, 0]], wrong))
    refused("shape", lambda: jaxrnn.explain(GRU, None))
    refused("xs has shape", lambda: jaxrnn.explain(GRU, 5))


def test_ids_that_jax_would_cut_to_one_are_refused():
    ids = np.array([1, 2**32 + 1])
    resets = jaxrnn.sequences.resets_from_segment_ids
    refused("beyond int32", lambda: resets(ids))
    refused("beyond int32", lambda: resets(np.array([1, 1]), before=np.int64(2**32 + 1)))
    assert resets(np.unique(ids, return_inverse=True)[1] + 1).tolist() == [True, True]
    with jax.enable_x64(True):
        assert resets(ids).tolist() == [True, True]


def test_penalties_of_integers_and_the_memory_of_nan_are_refused():
    whole = np.ones((T, B, H), np.int8)
    for penalty in ("activation_regularization", "temporal_activation_regularization"):
        refused("floating", lambda f=penalty: getattr(jaxrnn.sequences, f)(whole))
    refused("NaN", lambda: effective_memory(jnp.full(5, math.nan)))


def test_lengths_that_are_no_integers_have_no_buckets():
    refused("integers", lambda: jaxrnn.sequences.bucket_sizes([2.5, 3.0], 2))


def test_parameters_with_an_entry_that_is_none_are_refused():
    for cell in (GRU, jaxrnn.LSTMCell(H), wrappers.Residual(jaxrnn.RNNCell(I)), cells.LEMCell(H)):
        params = cell.init(jax.random.key(0), I)
        for name in params._fields:
            broken = params._replace(**{name: None})
            refused("params", lambda c=cell, p=broken: jaxrnn.unroll(c, p, XS))
            refused("params", lambda c=cell, p=broken: c(p, None, XS[0]))
            refused("params", lambda c=cell, p=broken: jaxrnn.stepper(c, p))
            refused("params", lambda c=cell, p=broken: carry_jacobians(c, p, XS[:, 0]))


def test_noise_of_another_structure_or_number_of_steps_is_refused_also_for_one_step():
    stack = jaxrnn.Stack((GRU, GRU), dropout=0.5)
    params = stack.init(jax.random.key(0), I)
    noise = stack.noise(jax.random.key(1), T, XS[0])
    refused("noise", lambda: jaxrnn.unroll(stack, params, XS, noise=tuple(noise)))
    late = "first axis must be T=4 or 1"
    refused(late, lambda: jaxrnn.unroll(stack, params, XS[:4], noise=noise))
    refused(late, lambda: jaxrnn.unroll_windows(stack, params, XS[:4], window=2, noise=noise))
    step = jaxrnn.stepper(stack, params)
    now = step.noise_at(noise, 0)
    step(None, XS[0], noise=now)
    refused("noise", lambda: step(None, XS[0], noise=tuple(now)))
    refused("noise", lambda: step(None, XS[0], noise="x"))


def test_split_batch_takes_axes_and_devices_only():
    for wrong in ("x", {}, 1.5, (1.5,), (True,)):
        refused("in_axes", lambda w=wrong: jaxrnn.split_batch(jnp.mean, w))
    for wrong in (5, "x", [0]):
        refused("devices", lambda w=wrong: jaxrnn.split_batch(jnp.mean, 0, devices=w))
    refused("in_axes", lambda: jaxrnn.split_batch(jnp.mean, (0, 0))(XS))


@pytest.mark.parametrize("wrong", [{}, [], None, 3])
def test_names_of_options_may_be_anything_and_are_refused_in_words(wrong):
    for attempt in (
        lambda: jaxrnn.Stack((GRU, GRU), merge=wrong),
        lambda: Bidirectional(GRU, merge=wrong),
        lambda: cells.ExpRNNCell(H, recurrent_init=wrong),
        lambda: to_torch(jaxrnn.Stack((GRU,)), (PARAMS,), prefix=wrong),
        lambda: from_torch(jaxrnn.Stack((GRU,)), I, {}, prefix=wrong),
    ):
        refused("merge|recurrent_init|prefix", attempt)
    for names in (wrong or None, "w_h", (3,)):
        refused("names", lambda n=names: wrappers.DropConnect(GRU, names=n))
