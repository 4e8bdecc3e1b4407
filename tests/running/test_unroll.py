"""`unroll` against the NumPy driver: values and gradients, masks, resets, directions, dtypes,
meshes, errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from oracles import CELLS, EVERY, assert_close, drive, inputs, parameters, randomised

import jaxrnn
from jaxrnn.cells import LSTMCarry

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
T, BATCH = 5, (3,)
BY_NAME = {name: (cell, oracle) for name, cell, oracle in EVERY}
NAMES = list(BY_NAME)
QUICK = {name for name, _, _ in CELLS} | {
    "cifg",
    "indrnn",
    "cornn",
}  # the gradients of the other cells are slow tests
MASK = jaxrnn.lengths_to_mask(np.array([5, 2, 0]), T=T)  # a full, a padded and an empty sequence
HOLES = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0]], bool)
RESET = np.array(
    [[0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 1, 0]], bool
)  # on valid and on masked steps
LSTM = jaxrnn.LSTMCell(4)
REVERSED = [
    "lstm",
    "conv",
    "zoneout",
    "variational_dropout",
    "recurrent_dropout",
    "recurrent_dropout_gru",
    "drop_connect",
    "learned_start",
    "learned_zoneout_dropout_lstmp",
    "stack",
]  # with noise


def setting(name, T=T, batch=BATCH):
    """Parameters, inputs, a given carry, and noise, all NumPy."""
    cell, oracle = BY_NAME[name]
    p, xs = parameters(cell), inputs(cell, T, batch)
    carry = randomised(oracle.first(p, xs.shape[1:]))
    noise = cell.noise(jax.random.key(3), T, jnp.asarray(xs[0], jnp.float32)) if T else None
    return cell, oracle, p, xs, carry, jax.tree.map(np.asarray, noise)


def poisoned(xs, mask, cell):
    """NaN and infinity wherever the mask is False."""
    mask = np.asarray(mask).reshape(mask.shape + (1,) * cell.feature_axes)
    return np.where(mask, xs, np.where(np.arange(xs.shape[-1]) % 2, np.nan, np.inf))


@pytest.mark.parametrize(
    "name, reverse", [(name, False) for name in NAMES] + [(name, True) for name in REVERSED]
)
def test_a_sequence_equals_the_equations_step_by_step(name, reverse):
    cell, oracle, p, xs, carry, noise = setting(name)
    noise = noise if reverse else None
    starts = (carry, oracle.first(p, xs.shape[1:]))
    for mask, reset, start in (
        (MASK, RESET, carry),
        (HOLES, RESET, carry),
        (HOLES | True, RESET & False, starts[1]),
    ):
        bad, options = (
            poisoned(xs, mask, cell),
            dict(mask=np.asarray(mask), reset=reset, noise=noise, reverse=reverse),
        )
        got = jaxrnn.unroll(cell, p, bad, start, **options)
        assert_close(got, drive(oracle, p, xs, start, **options, feature_axes=cell.feature_axes))


@pytest.mark.parametrize(
    "name", slow.some(NAMES, QUICK.__contains__, "the sequence of each cell is tested by default")
)
def test_gradients_equal_the_derivatives_of_the_equations(name):
    cell, oracle, p, xs, carry, noise = setting(name)
    options = dict(mask=HOLES, reset=RESET, noise=noise, reverse=len(name) % 2 == 0)
    leaves, tree = jax.tree.flatten((p, xs, carry))

    def loss(result):
        return sum(
            (a * np.cos(np.arange(a.size)).reshape(a.shape)).sum() for a in jax.tree.leaves(result)
        )

    def ours(leaves):
        p, xs, carry = tree.unflatten(leaves)
        return loss(jaxrnn.unroll(cell, p, xs, carry, **options))

    def theirs(leaves):
        p, xs, carry = tree.unflatten(leaves)
        return loss(drive(oracle, p, xs, carry, **options, feature_axes=cell.feature_axes))

    for index, slope in enumerate(jax.jit(jax.grad(ours))(leaves)):
        way = np.random.default_rng(index).normal(size=slope.shape)
        moved = [
            leaf + 1e-30j * way if k == index else leaf for k, leaf in enumerate(leaves)
        ]  # a complex step
        assert_close(
            np.vdot(slope, way), theirs(moved).imag / 1e-30, 1e-11
        )  # a sum of as many as 100 terms of size 1


@pytest.mark.parametrize("name", ["lstm", "conv", "layer_norm"])
def test_gradients_at_padding_are_exactly_zero_whatever_stands_there(name):
    cell, _, p, xs, carry, _ = setting(name)

    def loss(p, xs, carry):
        after, ys = jaxrnn.unroll(cell, p, xs, carry, mask=MASK, reset=RESET)
        return jnp.sum(ys) + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(after))

    grad = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    d_p, d_xs, d_carry = grad(p, jnp.asarray(poisoned(xs, MASK, cell)), carry)
    assert np.all(np.asarray(d_xs)[~np.asarray(MASK)] == 0)
    assert np.all(np.asarray(d_xs)[np.asarray(MASK)] != 0)
    assert_close((d_p, d_carry), grad(p, jnp.asarray(xs), carry)[::2], 0)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize(
    "name, steps",
    [("lstmp", 0), ("lstmp", 1), ("lstmp", 2), ("learned_start", 0), ("learned_stack", 1)],
)
def test_any_number_of_batch_axes_and_steps(name, steps, batch):
    cell, oracle, p, xs, carry, _ = setting(name, steps, batch)
    rows = np.random.default_rng(0).random((2, steps, *batch)) < 0.6
    options = dict(mask=rows[0], reset=rows[1], reverse=bool(batch))
    got, ys = jaxrnn.unroll(cell, p, xs, carry, **options)
    want, outputs = drive(oracle, p, xs, carry, **options, feature_axes=cell.feature_axes)
    assert_close(got, want)
    assert_close(ys, outputs) if steps else None
    assert ys.shape[: 1 + len(batch)] == (steps, *batch)


@pytest.mark.parametrize(
    "dtype, tolerance", [("float32", 1e-5), ("bfloat16", 2e-2), ("float16", 4e-3)]
)  # of float16: 1e-3 each
@pytest.mark.parametrize(
    "name",
    ["lstmp", "gru", "orthogonal", "conv", "stack", "layer_norm_input", "variational_dropout"],
)
def test_narrow_dtypes_agree_with_float64(name, dtype, tolerance):
    cell, oracle, p, xs, _, noise = setting(name)
    narrow = jax.tree.map(lambda a: jnp.asarray(a / 2, dtype), (p, xs))
    p, xs = jax.tree.map(lambda a: np.asarray(a, np.float64), narrow)
    carry, ys = jaxrnn.unroll(cell, *narrow, mask=MASK, noise=noise)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {
        jnp.dtype("float32")
    } and ys.dtype == dtype
    assert_close(
        (carry, ys),
        drive(oracle, p, xs, mask=MASK, noise=noise, feature_axes=cell.feature_axes),
        tolerance,
    )


def test_the_matmul_precision_is_that_of_jax_forward_and_backward():
    p, xs = parameters(LSTM), inputs(LSTM, T, BATCH)
    slope = jax.jit(jax.grad(lambda p, xs: jaxrnn.unroll(LSTM, p, xs)[1].sum(), argnums=(0, 1)))
    for precision, word in (("default", "DEFAULT"), ("highest", "HIGHEST")):
        with jax.default_matmul_precision(precision):
            text = slope.lower(p, xs).as_text()
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert len(products) >= 5 and all(
            f"precision = [{word}, {word}]" in line for line in products
        )


def test_inputs_set_the_dtype_not_parameters():
    _, _, p, xs, _, _ = setting("lstm")
    for param_dtype, dtype, wide in (
        ("float32", "bfloat16", "float32"),
        ("bfloat16", "float64", "float64"),
    ):
        cast = jax.tree.map(lambda a, d=param_dtype: jnp.asarray(a, d), p)
        carry, ys = jaxrnn.unroll(LSTM, cast, jnp.asarray(xs, dtype))
        assert (str(carry.c.dtype), str(ys.dtype)) == (wide, dtype)


@pytest.mark.parametrize("name", ["gru", "learned_start", "stack"])
def test_absent_arguments_equal_neutral_ones(name):
    cell, oracle, p, xs, _, _ = setting(name)
    ones = np.ones((T, *BATCH), bool)
    initial = jaxrnn.initial_carry(cell, p, BATCH)
    assert_close(initial, oracle.first(p, xs.shape[1:]))
    assert_close(
        jaxrnn.unroll(cell, p, xs),
        jaxrnn.unroll(cell, p, xs, initial, mask=ones, reset=~ones),
        1e-15,
    )


@pytest.mark.parametrize("name", ["lstm", "learned_start"])
def test_a_reset_goes_to_the_initial_carry_never_to_the_given_one(name):
    cell, _, p, xs, carry, _ = setting(name)
    all_reset = np.ones((T, *BATCH), bool)
    got = jaxrnn.unroll(cell, p, xs, carry, reset=all_reset)
    alone = [jaxrnn.unroll(cell, p, xs[t : t + 1]) for t in range(T)]
    assert_close(got, (alone[-1][0], np.concatenate([ys for _, ys in alone])))


def test_gradients_reach_a_learned_initial_state_through_a_reset_alone():
    cell, _, p, xs, carry, _ = setting("learned_start")

    def loss(p, reset):
        return jnp.sum(jaxrnn.unroll(cell, p, xs, carry, reset=reset)[1])

    grad = jax.jit(jax.grad(loss))
    assert np.all(grad(p, RESET).first.h != 0)
    assert np.all(grad(p, RESET & False).first.h == 0)


def test_a_reset_takes_effect_on_a_masked_step():
    cell, oracle, p, xs, carry, _ = setting("learned_start")
    rows = np.zeros((T, *BATCH), bool)
    reset = rows.copy()
    reset[2] = True
    after, ys = jaxrnn.unroll(cell, p, xs, carry, mask=rows, reset=reset)
    assert_close(after, oracle.first(p, xs.shape[1:]))
    assert np.all(ys == 0)


def test_an_empty_sequence_keeps_its_carry():
    _, _, p, xs, carry, _ = setting("lstm")
    after, ys = jaxrnn.unroll(LSTM, p, xs, carry, mask=MASK)
    assert_close((after.h[2], after.c[2]), (carry.h[2], carry.c[2]), 0)
    assert np.all(ys[:, 2] == 0)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["gru", "learned_start"])
def test_packed_sequences_equal_separate_runs_in_both_directions(name, reverse):
    cell, _, p, xs, _, _ = setting(name)
    reset = np.zeros((T, *BATCH), bool)
    reset[[0, 2]] = True  # the sequences 0-1 and 2-4
    got = jaxrnn.unroll(cell, p, xs, reset=reset, reverse=reverse)
    parts = [jaxrnn.unroll(cell, p, part, reverse=reverse) for part in (xs[:2], xs[2:])]
    assert_close(got, (parts[0 if reverse else 1][0], np.concatenate([ys for _, ys in parts])))


@pytest.mark.parametrize("name", ["gru", "orthogonal", "conv"])
def test_a_loop_of_single_steps_equals_unroll(name):
    cell, _, p, xs, carry, _ = setting(name)
    want, ys, step = carry, [], jax.jit(cell.__call__)
    for x in xs:
        want, y = step(p, want, x)
        ys.append(y)
    assert_close(jaxrnn.unroll(cell, p, xs, carry), (want, np.stack(ys)))


@pytest.mark.parametrize("name", ["variational_dropout"])
def test_method_and_remat_change_no_value_and_no_gradient(name):
    cell, _, p, xs, carry, noise = setting(name)

    def loss(p, xs, carry, method, remat):
        after, ys = jaxrnn.unroll(
            cell, p, xs, carry, mask=HOLES, reset=RESET, noise=noise, method=method, remat=remat
        )
        return jnp.sum(ys**2) + jnp.sum(after.h), (after, ys)

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True), static_argnums=(3, 4))
    results = [
        run(p, xs, carry, m, r)
        for m, r in ((None, "none"), ("scan", "none"), (None, "carry"), ("scan", "carry"))
    ]
    for result in results[1:]:
        assert_close(result, results[0])


TRACES = []


@dataclasses.dataclass(frozen=True)
class CountingCell(jaxrnn.GRUCell):
    def step(self, params, carry, u, dot=jaxrnn.dot):
        TRACES.append(self)
        return super().step(params, carry, u, dot)


def test_a_second_eager_call_of_an_equal_cell_traces_nothing():
    p, xs = parameters(CountingCell(4)), inputs(LSTM, T, BATCH)
    counts = []
    for update_bias in (0.5, 0.5, 1.0):
        jaxrnn.unroll(CountingCell(4, update_bias=update_bias), p, xs)
        counts.append(len(TRACES))
    assert counts[0] > 0 and counts[1] == counts[0] and counts[2] > counts[1]


def test_vmap_over_parameters_equals_separate_calls():
    _, _, p, xs, carry, _ = setting("lstm")
    many = jax.tree.map(lambda a: np.stack([a, 2 * a]), p)
    got = jax.vmap(lambda p: jaxrnn.unroll(LSTM, p, xs, carry, mask=MASK))(many)
    for k in range(2):
        assert_close(
            jax.tree.map(lambda a, k=k: a[k], got),
            jaxrnn.unroll(LSTM, jax.tree.map(lambda a, k=k: a[k], many), xs, carry, mask=MASK),
        )


@pytest.mark.parametrize("how", ["auto", "explicit", "shard_map"])
@pytest.mark.parametrize(
    "name, given, method",
    [
        ("lstm", True, None),
        ("stack", False, "scan"),
        pytest.param("stack", True, None, marks=pytest.mark.slow("the largest of its programs")),
    ],
)
def test_two_devices_give_the_values_and_gradients_of_one(name, how, given, method):
    cell, _, p, xs, carry, noise = setting(name, batch=(4,))
    carry, rows = carry if given else None, (xs[..., 0] > -0.5, xs[..., 1] > 0.8)

    def run(p, xs, carry, noise, mask, reset):
        return jaxrnn.unroll(cell, p, xs, carry, mask=mask, reset=reset, noise=noise, method=method)

    def slopes(p, xs, carry, noise, mask, reset):
        run_p = functools.partial(run, xs=xs, carry=carry, noise=noise, mask=mask, reset=reset)
        result, back = jax.vjp(run_p, p)
        return result, back(jax.tree.map(lambda a: 2 * a, result))[0]

    want = jax.jit(slopes)(p, xs, carry, noise, *rows)
    mesh = jax.make_mesh(
        (2,), ("data",), axis_types=(AxisType.Explicit if how == "explicit" else AxisType.Auto,)
    )
    specs = (P(), P(None, "data"), P("data"), P(None, "data"), P(None, "data"), P(None, "data"))
    with jax.set_mesh(mesh):
        if how == "shard_map":
            sharded = jax.shard_map(
                slopes, in_specs=specs, out_specs=((P("data"), P(None, "data")), P())
            )
            got = jax.jit(sharded)(p, xs, carry, noise, *rows)
        else:
            args = (p, xs, carry, noise, *rows)
            placed = [
                jax.tree.map(lambda a, s=s: jax.device_put(a, NamedSharding(mesh, s)), a)
                for a, s in zip(args, specs, strict=True)
            ]
            got = jax.jit(slopes)(*placed)
            assert not got[0][1].sharding.is_fully_replicated
    assert_close(got, want)


@pytest.mark.parametrize(
    "name",
    slow.some(["peephole", "layer_norm", "gru"], "gru".__eq__, "made of the same operations"),
)
def test_second_derivatives_in_every_parameter_are_those_of_the_scan(name):
    cell, _, p, xs, _, _ = setting(name)
    way = randomised(p, 8)

    def slopes(method):
        grad = jax.grad(
            lambda p: jnp.sum(jnp.sin(jaxrnn.unroll(cell, p, xs, reset=RESET, method=method)[1]))
        )

        def along(p):
            pairs = zip(jax.tree.leaves(grad(p)), jax.tree.leaves(way), strict=True)
            return sum(jnp.vdot(a, b) for a, b in pairs)

        reverse = jax.grad(along)
        return jax.jit(
            lambda p: (
                reverse(p),
                reverse(p) if method == "scan" else jax.jvp(grad, (p,), (way,))[1],
            )
        )(p)

    p = jax.tree.map(jnp.asarray, p)
    assert_close(slopes("fused"), slopes("scan"), 1e-11)


@pytest.mark.parametrize("method", ["scan", "fused"])
def test_hessian_and_forward_over_reverse_agree_with_finite_differences(method):
    _, _, p, xs, _, _ = setting("gru")
    cell = jaxrnn.GRUCell(4)
    grad = jax.jit(
        jax.grad(lambda b: jnp.sum(jaxrnn.unroll(cell, p._replace(b=b), xs, method=method)[1] ** 2))
    )
    b, way = jnp.asarray(p.b), np.random.default_rng(0).normal(size=p.b.shape)
    difference = (grad(b + 1e-5 * way) - grad(b - 1e-5 * way)) / 2e-5
    along = jax.jvp(grad, (b,), (jnp.asarray(way),))[1]
    whole = jax.jit(
        jax.hessian(
            lambda b: jnp.sum(jaxrnn.unroll(cell, p._replace(b=b), xs, method=method)[1] ** 2)
        )
    )(b)
    assert_close(along, difference, 1e-8)  # finite differences are off by 1e-5 squared
    assert_close(whole @ way, along)


def test_noise_that_is_held_equals_the_same_draw_at_every_step():
    cell, _, p, xs, _, noise = setting("variational_dropout")
    repeated = jax.tree.map(lambda n: np.repeat(n, T, axis=0), noise)
    assert jax.tree.leaves(noise)[0].shape[0] == 1
    assert_close(
        jaxrnn.unroll(cell, p, xs, noise=noise), jaxrnn.unroll(cell, p, xs, noise=repeated), 0
    )


XS = np.zeros((5, 15, 10))
PARAMS = parameters(LSTM, 10)
ERRORS = {
    "features": (
        dict(xs=np.zeros((5, 15, 12))),
        ValueError,
        r"12 features .* input_size=10. xs has shape \(5, 15, 12\), "
        r"expected \(T, ..., 10\); is the time",
    ),
    "integers": (
        dict(xs=np.zeros((5, 15, 10), int)),
        TypeError,
        r"xs has dtype int.*Embed or one-hot",
    ),
    "rank": (
        dict(xs=np.zeros(10)),
        ValueError,
        r"xs has shape \(10,\), expected \(T, ..., features\): at least 2 axes",
    ),
    "mask_shape": (
        dict(mask=np.ones((15, 5), bool)),
        ValueError,
        r"mask has shape \(15, 5\), expected \(5, 15\): \(T, \*batch\)",
    ),
    "mask_dtype": (
        dict(mask=np.ones((5, 15))),
        TypeError,
        "mask must be boolean, got dtype float64; mask != 0 makes one",
    ),
    "reset_shape": (
        dict(reset=np.ones(5, bool)),
        ValueError,
        r"reset has shape \(5,\), expected \(5, 15\)",
    ),
    "structure": (
        dict(carry=(np.zeros((15, 4)), np.zeros((15, 4)))),
        ValueError,
        r"carry has structure .* expected .*LSTMCarry",
    ),
    "carry": (
        dict(carry=LSTMCarry(h=np.zeros((15, 4)), c=np.zeros(4))),
        ValueError,
        r"carry.c has shape \(4,\), expected \(15, 4\)",
    ),
    "noise": (
        dict(noise=np.zeros((3, 15, 4))),
        ValueError,
        "noise was given, but LSTMCell draws none: noise must be None",
    ),
    "method": (dict(method="fast"), ValueError, r"method must be one of .*'scan'.*, got 'fast'"),
    "remat": (dict(remat="all"), ValueError, r"remat must be one of .*, got 'all'"),
    "class": (
        dict(cell=jaxrnn.LSTMCell),
        TypeError,
        r"must be a jaxrnn.Cell, got .*; make one, as in LSTMCell\(hidden_size=20\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_mistake_is_told_with_what_was_expected(name):
    changed, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        jaxrnn.unroll(**{"cell": LSTM, "params": PARAMS, "xs": XS, **changed})


def test_an_unhashable_cell_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Listed(jaxrnn.Cell):
        sizes: list

    with pytest.raises(
        TypeError, match=r"Listed is not hashable .*frozen dataclass of plain values"
    ):
        jaxrnn.unroll(Listed([1]), PARAMS, XS)


def test_a_single_step_checks_its_features():
    with pytest.raises(ValueError, match=r"12 features .* expected \(..., 10\)$"):
        LSTM(PARAMS, jaxrnn.initial_carry(LSTM, PARAMS), np.zeros(12))


def test_lengths_make_a_mask():
    assert jaxrnn.lengths_to_mask([], T=3).shape == (3, 0)
    want = np.arange(3)[:, None] < np.array([2, 0, 3])
    assert np.array_equal(jaxrnn.lengths_to_mask([2, 0, 3], T=3), want)
    assert np.array_equal(
        jax.jit(lambda n: jaxrnn.lengths_to_mask(n, T=3))(jnp.array([2, 0, 9])), want
    )


@pytest.mark.parametrize(
    "lengths, error, message",
    [
        ([1.0], TypeError, "lengths must be integers, got dtype float"),
        ([4], ValueError, "between 0 and T=3, got 4 to 4"),
        ([-1, 2], ValueError, "got -1 to 2"),
    ],
)
def test_impossible_lengths_are_refused(lengths, error, message):
    with pytest.raises(error, match=message):
        jaxrnn.lengths_to_mask(lengths, T=3)


def test_the_initial_carry_of_a_convolutional_cell_needs_its_spatial_axes():
    cell, oracle, p, _, _, _ = setting("conv")
    assert_close(
        jaxrnn.initial_carry(cell, p, (2,), spatial_shape=(5, 6)), oracle.first(p, (2, 5, 6, 3))
    )
    with pytest.raises(
        ValueError, match=r"ConvLSTMCell needs 2 spatial axes, got spatial_shape=\(\)"
    ):
        jaxrnn.initial_carry(cell, p)
