"""Gated variants: how they are related to each other and to other libraries,
what they are drawn with, what they refuse.
"""

import math

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from oracles import assert_close, inputs, parameters, randomised

import jaxrnn
from jaxrnn.cells import (
    BlockGRUCell,
    CIFGCell,
    CoRNNCell,
    GRUParams,
    GRUResetBeforeCell,
    GRUResetBeforeParams,
    IndRNNCell,
    JANETCell,
    JANETParams,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormRNNCell,
    LEMCell,
    LiGRUCell,
    LSTMParams,
    MGUCell,
    MGUResetAfterCell,
    PeepholeLSTMCell,
    RNNCarry,
    RNNParams,
    SRUCell,
    UGRNNCell,
)
from jaxrnn.wrappers import MultiHead

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
KEY, T, BATCH, H = jax.random.key(11), 5, (3,), 4
Chrono = jaxrnn.Chrono


def heads_of(make):
    """The class of a cell with two heads, as far as these tests make one."""
    return lambda hidden_size, **options: MultiHead(make(hidden_size, **options), heads=2)


def by_gate(b):
    return b.reshape(-1, H)


def rewritten(p, rewrite):
    """Parameters with each array rewritten gate by gate."""
    return [rewrite(a) if a.ndim > 1 else rewrite(by_gate(a)).reshape(-1) for a in p]


# the class, its other positional arguments, the keeping gate's name, its row of b, and whether that
# is -f
VARIANTS = {
    "layer_norm_lstm": (LayerNormLSTMCell, {}, "forget_bias", 1, 1),
    "layer_norm_gru": (LayerNormGRUCell, {}, "update_bias", 1, 1),
    "peephole": (PeepholeLSTMCell, {}, "forget_bias", 1, 1),
    "cifg": (CIFGCell, {}, "forget_bias", 0, 1),
    "janet": (JANETCell, {}, "forget_bias", 0, 1),
    "mgu": (MGUCell, {}, "forget_bias", 0, -1),
    "mgu_reset_after": (MGUResetAfterCell, {}, "forget_bias", 0, 1),
    "ugrnn": (UGRNNCell, {}, "forget_bias", 0, 1),
    "ligru": (LiGRUCell, {}, "update_bias", 0, 1),
    "heads_lstm": (heads_of(jaxrnn.LSTMCell), {}, "forget_bias", 1, 1),
    "heads_gru": (heads_of(jaxrnn.GRUCell), {}, "update_bias", 1, 1),
}
UNGATED = {
    "layer_norm_rnn": (LayerNormRNNCell, {}),
    "indrnn": (IndRNNCell, {}),
    "heads_rnn": (heads_of(jaxrnn.RNNCell), {}),
}
EVERY = {name: case[:2] for name, case in (VARIANTS | UNGATED).items()}


def same_sequences(cell, p, other, q, rename=lambda carry: carry):
    """Both cells run the same inputs from the same random carry."""
    xs = inputs(cell, T, BATCH)
    carry = randomised(jaxrnn.initial_carry(cell, p, BATCH))
    after, ys = jaxrnn.unroll(cell, p, xs, carry)
    after_other, ys_other = jaxrnn.unroll(other, q, xs, rename(carry))
    assert_close((rename(after), ys), (after_other, ys_other))


# --- related cells --------------------------------------------------------------------------------


def test_cifg_is_the_lstm_whose_input_gate_has_the_negative_weights_of_the_forget_gate():
    cell = CIFGCell(H)
    p = parameters(cell)
    full = lambda a: np.stack([-a[..., 0, :], a[..., 0, :], a[..., 1, :], a[..., 2, :]], axis=-2)  # noqa: E731
    same_sequences(cell, p, jaxrnn.LSTMCell(H), LSTMParams(*rewritten(p, full)))


def test_mgu_with_the_reset_after_is_the_gru_with_one_gate_for_r_and_z():
    cell = MGUResetAfterCell(H)
    p = parameters(cell)
    tied = rewritten(p[:3], lambda a: a[..., [0, 0, 1], :])
    same_sequences(cell, p, jaxrnn.GRUCell(H), GRUParams(*tied, b_hn=p.b_hn))


def test_mgu_is_the_gru_with_the_reset_before_and_z_for_one_minus_r():
    cell = MGUCell(H)
    p = parameters(cell)
    tied = rewritten(p, lambda a: np.stack([a[..., 0, :], -a[..., 0, :], a[..., 1, :]], axis=-2))
    same_sequences(cell, p, GRUResetBeforeCell(H), GRUResetBeforeParams(*tied))


def test_ugrnn_is_janet_with_beta_zero():
    cell = UGRNNCell(H)
    p = parameters(cell)
    same_sequences(cell, p, JANETCell(H, beta=0.0), JANETParams(*p))


@pytest.mark.parametrize("make, reset_gate", [(MGUResetAfterCell, True), (UGRNNCell, False)])
def test_flax_computes_the_same_minimal_gated_unit(make, reset_gate):
    cell = make(H)
    p, x = parameters(cell), inputs(cell, 1, BATCH)[0]
    carry = randomised(jaxrnn.initial_carry(cell, p, BATCH))
    tree = {
        "if": {"kernel": p.w_x[:, 0], "bias": by_gate(p.b)[0]},
        "in": {"kernel": p.w_x[:, 1], "bias": by_gate(p.b)[1]},
    }
    tree |= {
        "hf": {"kernel": p.w_h[:, 0]},
        "hn": {"kernel": p.w_h[:, 1]} | ({"bias": p.b_hn} if reset_gate else {}),
    }
    flax_cell = flax.linen.MGUCell(H, reset_gate=reset_gate, param_dtype=jnp.float64)
    assert_close(cell(p, carry, x)[1], flax_cell.apply({"params": tree}, carry.h, x)[1])


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_indrnn_is_the_elman_cell_with_a_diagonal_recurrent_matrix(nonlinearity):
    cell = IndRNNCell(H, nonlinearity)
    p = parameters(cell)
    same_sequences(
        cell,
        p,
        jaxrnn.RNNCell(H, nonlinearity),
        RNNParams(p.w_x, np.diag(p.w_h)[:, None], p.b),
    )


def test_an_lstm_without_peepholes_is_the_lstm():
    cell = PeepholeLSTMCell(H)
    p = parameters(cell)._replace(p_i=np.zeros(H), p_f=np.zeros(H), p_o=np.zeros(H))
    same_sequences(cell, p, jaxrnn.LSTMCell(H), LSTMParams(*p[:3]))


@pytest.mark.parametrize(
    "make",
    [
        jaxrnn.RNNCell,
        jaxrnn.LSTMCell,
        jaxrnn.GRUCell,
        GRUResetBeforeCell,
        PeepholeLSTMCell,
        CIFGCell,
        JANETCell,
        MGUCell,
        MGUResetAfterCell,
        UGRNNCell,
        LiGRUCell,
        LayerNormRNNCell,
        LayerNormLSTMCell,
        LayerNormGRUCell,
        LEMCell,
        CoRNNCell,
    ],
)
@pytest.mark.parametrize("heads", slow.some([1, 2, 3], (2).__eq__, "other numbers of heads"))
def test_heads_are_the_cell_with_a_block_diagonal_kernel(make, heads):
    cell, dense = MultiHead(make(6), heads), make(6)
    p = parameters(cell)
    names = [name for name in p._fields if name in ("w_h", "w_y", "w_z")]
    P = 6 // heads
    assert all(getattr(p, name).shape[0] == P for name in names)
    own = np.kron(np.eye(heads), np.ones((P, P)))

    def full(w):  # [P, ..., 6], of which column q sees the units of its head
        inside = np.tile(w.reshape(P, -1, 6), (heads, 1, 1)) * own[:, None]
        return inside.reshape(6, *w.shape[1:])

    same_sequences(cell, p, dense, p._replace(**{name: full(getattr(p, name)) for name in names}))


@pytest.mark.parametrize("make", [jaxrnn.RNNCell, jaxrnn.LSTMCell, jaxrnn.GRUCell])
def test_hidden_units_see_those_of_their_own_head_only(make):
    cell = MultiHead(make(6), heads=2)
    p, x = parameters(cell), np.ones(3)
    carry = randomised(jaxrnn.initial_carry(cell, p))
    slope = jax.jacobian(lambda h: cell(p, carry._replace(h=h), x)[1])(carry.h)
    own = np.kron(np.eye(2), np.ones((3, 3))) == 1
    assert np.all(slope[own] != 0) and np.all(slope[~own] == 0)


# --- layer norm -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [LayerNormLSTMCell, LayerNormGRUCell])
def test_layer_norm_ignores_the_scale_of_each_kernel_and_a_shift_of_all_units(make):
    cell = make(H, epsilon=1e-30)
    p = parameters(cell)
    shift = np.random.default_rng(3).normal(size=(2, 4, 1, 1))
    same_sequences(
        cell, p, cell, p._replace(w_x=3 * p.w_x + shift[0, :3], w_h=0.2 * p.w_h + shift[1])
    )


def test_the_layer_norm_of_a_sum_ignores_the_scale_of_both_kernels_together_and_no_other():
    cell = LayerNormRNNCell(H, epsilon=1e-30)
    p, xs = parameters(cell), inputs(cell, T, BATCH)
    same_sequences(cell, p, cell, p._replace(w_x=3 * p.w_x, w_h=3 * p.w_h))
    alone = jaxrnn.unroll(cell, p._replace(w_x=3 * p.w_x), xs)[1]
    assert np.abs(alone - jaxrnn.unroll(cell, p, xs)[1]).max() > 1e-2


@pytest.mark.parametrize("make", [LayerNormLSTMCell, LayerNormGRUCell])
def test_layer_norm_in_sixteen_bits_adds_many_rows_without_losing_them(make):
    cell = make(H)
    p, xs = jax.tree.map(
        lambda a: jnp.asarray(a, jnp.bfloat16), (parameters(cell), inputs(cell, 1, (4096,)))
    )

    @jax.jit
    def slopes(p, xs):
        slope = jax.grad(lambda p: jaxrnn.unroll(cell, p, xs)[1].astype(jnp.float64).sum())(p)
        return slope.b, slope.scale_x

    wide = slopes(*jax.tree.map(lambda a: a.astype(jnp.float64), (p, xs)))
    assert np.abs(wide[0]).max() > 256  # where a 16-bit sum of ones ends
    # one rounding of the sum; all of project in 16 bits is off by 0.006 and 0.012
    assert_close(slopes(p, xs), wide, 2**-8)


# --- initial values -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_a_large_bias_of_the_gate_that_keeps_holds_the_state(name):
    make, options, bias, _, sign = VARIANTS[name]
    cell = make(H, **options, **{bias: sign * 60.0})
    params = jax.tree.map(lambda a: a.astype(jnp.float64), cell.init(KEY, 3))
    carry = randomised(jaxrnn.initial_carry(cell, params, BATCH))
    if name.endswith("lstm") or name == "peephole":  # one gate forgets, another writes
        params = params._replace(b=params.b.at[:H].set(-60.0))
    after, _ = cell(params, carry, inputs(cell, 1, BATCH)[0])
    held = "c" if "c" in carry._fields else "h"
    assert_close(getattr(after, held), getattr(carry, held))


@pytest.mark.parametrize("name", VARIANTS)
def test_chrono_draws_the_bias_of_the_gate_that_keeps_and_no_other(name):
    make, options, bias, row, sign = VARIANTS[name]
    b = np.array(
        make(200, **options, **{bias: Chrono(100)}, recurrent_init="identity").init(KEY, 1).b
    ).reshape(-1, 200)
    lags = np.exp(sign * b[row])
    assert lags.min() >= 1 - 1e-5 and lags.max() <= 99 * (1 + 1e-5)
    assert abs(lags.mean() - 50) < 4 * 98 / math.sqrt(12 * 200)
    if name.endswith("lstm") or name == "peephole":
        np.testing.assert_array_equal(b[0], -b[1])
        b[0] = 0
    b[row] = 0
    np.testing.assert_array_equal(b, 0)


def test_janet_with_chrono_remembers_for_as_long_as_it_was_told():
    cell = JANETCell(64, forget_bias=Chrono(100))
    params = jax.tree.map(lambda a: 0 * a, cell.init(KEY, 3, jnp.float64))._replace(
        b=cell.init(KEY, 3, jnp.float64).b
    )
    after, _ = jaxrnn.unroll(cell, params, np.zeros((50, 3)), RNNCarry(h=np.ones(64)))
    lags = np.exp(params.b[:64])  # the gate is lag / (1 + lag)
    assert_close(after.h, (lags / (1 + lags)) ** 50)
    assert after.h.max() > 0.5 and after.h.min() < 0.05


@pytest.mark.parametrize("name", VARIANTS)
def test_constant_biases_have_their_defaults(name):
    make, options, _, row, _ = VARIANTS[name]
    b = np.zeros_like(by_gate(make(H, **options).init(KEY, 3).b))
    b[row] = 0 if name in ("mgu", "ligru", "layer_norm_gru", "heads_gru") else 1
    np.testing.assert_array_equal(by_gate(make(H, **options).init(KEY, 3).b), b)


def test_peepholes_begin_at_zero_and_scales_at_one():
    peephole = PeepholeLSTMCell(H).init(KEY, 3)
    np.testing.assert_array_equal([peephole.p_i, peephole.p_f, peephole.p_o], np.zeros((3, H)))
    scales = {LayerNormRNNCell: 1, LayerNormLSTMCell: 4 + 4 + 1, LayerNormGRUCell: 3 + 3}
    for make, count in scales.items():
        p = make(H).init(KEY, 3)
        found = [getattr(p, name) for name in p._fields if name.startswith("scale")]
        np.testing.assert_array_equal(np.concatenate(found), np.ones(count * H))


def test_each_gate_of_each_head_is_orthogonal_for_itself():
    w_h = np.asarray(MultiHead(jaxrnn.GRUCell(12), heads=3).init(KEY, 5).w_h)
    assert w_h.shape == (4, 3, 12) and len(set(w_h[0].ravel())) == 36
    for head in np.split(w_h, 3, axis=-1):
        for k in range(3):
            np.testing.assert_allclose(np.linalg.svd(head[:, k], compute_uv=False), 1, rtol=1e-5)


def test_a_recurrent_weight_of_indrnn_beyond_its_bound_is_used_as_the_bound():
    cell = IndRNNCell(3, max_recurrent=2 ** (1 / T))
    params = parameters(cell)._replace(w_h=jnp.array([-3.0, 0.5, 1e30]))
    np.testing.assert_array_equal(cell.prepare(params).w_h, [-(2 ** (1 / T)), 0.5, 2 ** (1 / T)])
    same_sequences(cell, params, IndRNNCell(3), cell.prepare(params))
    common, converted = jaxrnn.interop.as_common_cell(cell, params)
    same_sequences(cell, params, common, converted)


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-0.5, 0.5), (0.9, 1.0)])
def test_recurrent_weights_of_indrnn_fill_their_range(low, high):
    w_h = np.asarray(IndRNNCell(2000, recurrent_range=(low, high)).init(KEY, 1).w_h)
    assert w_h.min() >= low and w_h.max() <= high
    assert abs(w_h.mean() - (low + high) / 2) < 4 * (high - low) / math.sqrt(12 * 2000)
    assert IndRNNCell(8).recurrent_range == (0.0, 1.0)


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"indrnn"}))
def test_the_torch_scheme_draws_all_but_scales_within_torchs_bound(name):
    make, options = EVERY[name]
    params = make(16, **options, init_scheme="torch").init(KEY, 30)
    for field, leaf in params._asdict().items():
        if field.startswith("scale"):
            np.testing.assert_array_equal(leaf, 1)
        elif field != "b_c":  # of layer norm, as the scales
            # 1/sqrt(hidden_size); a head is drawn as a cell of its own size
            bound = 8**-0.5 if name.startswith("heads") and field == "w_h" else 0.25
            assert np.abs(leaf).max() <= bound and np.all(np.asarray(leaf) != 0)
            assert leaf.size < 100 or abs(np.var(leaf) - bound**2 / 3) < 0.25 * bound**2 / 3


@pytest.mark.parametrize("name", EVERY)
def test_without_bias_a_cell_is_that_with_biases_of_zero(name):
    make, options = EVERY[name]
    cell, other = make(H, **options, bias=False), make(H, **options)
    shapes = jax.eval_shape(lambda: other.init(KEY, 3))
    absent = [field for field in shapes._fields if field.startswith("b")]
    q = parameters(other)
    q = q._replace(**{field: np.zeros(getattr(shapes, field).shape) for field in absent})
    p = q._replace(**dict.fromkeys(absent))
    assert jax.tree.structure(cell.init(KEY, 3)) == jax.tree.structure(p)
    same_sequences(cell, p, other, q)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("size", [0, 2.0, True, None])
def test_a_hidden_size_that_is_no_positive_integer_is_refused(name, size):
    make, options = EVERY[name]
    with pytest.raises(ValueError, match="hidden_size must be an integer of at least 1"):
        make(size, **options)


@pytest.mark.parametrize("name", EVERY)
def test_a_misspelt_initializer_is_refused_when_the_cell_is_made(name):
    make, options = EVERY[name]
    with pytest.raises(
        ValueError,
        match=r"input_init='lecun_norml' is no known initializer\. Did you mean 'lecun_normal'",
    ):
        make(H, **options, input_init="lecun_norml")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_chrono_bias_needs_a_bias(name):
    make, options, bias, _, _ = VARIANTS[name]
    with pytest.raises(ValueError, match=rf"{bias}=Chrono\(...\) needs bias=True"):
        make(H, **options, **{bias: Chrono(9)}, bias=False)
    with pytest.raises(
        TypeError, match=rf"{bias} must be a number or Chrono\(max_lag\), got 'one'"
    ):
        make(H, **options, **{bias: "one"})


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: MultiHead(jaxrnn.LSTMCell(6), heads=4),
            "hidden_size=6 must be a multiple of heads=4",
        ),
        (
            lambda: MultiHead(jaxrnn.GRUCell(6), heads=0),
            "heads must be an integer of at least 1, got 0",
        ),
        (
            lambda: LayerNormRNNCell(3, "tan"),
            "nonlinearity='tan' is unknown. Did you mean 'tanh'",
        ),
        (
            lambda: IndRNNCell(3, "reluu"),
            "nonlinearity='reluu' is unknown. Did you mean 'relu'",
        ),
        (
            lambda: IndRNNCell(3, recurrent_range=0.5),
            r"recurrent_range must be a tuple \(low, high\), got 0.5",
        ),
        (
            lambda: IndRNNCell(3, max_recurrent=0.0),
            "max_recurrent must be a number above 0, got 0.0",
        ),
        (
            lambda: IndRNNCell(3, recurrent_range=(1, 0)),
            r"with low <= high, got \(1, 0\)",
        ),
        (
            lambda: LayerNormGRUCell(3, epsilon=0.0),
            "epsilon must be a number above 0, got 0.0",
        ),
        (
            lambda: JANETCell(3, beta=-1.0),
            "beta must be a number at least 0, got -1.0",
        ),
        (
            lambda: CIFGCell(3, init_scheme="keras"),
            "init_scheme must be 'jaxrnn' or 'torch', got 'keras'",
        ),
        (
            lambda: SRUCell(3, highway_bias=1000.0),
            "highway_bias must be at most 20, got 1000.0",
        ),
        (
            lambda: BlockGRUCell(12, blocks=8),
            "hidden_size=12 must be a multiple of blocks=8",
        ),
        (
            lambda: BlockGRUCell(8, inner_size=0),
            "inner_size must be an integer of at least 1, got 0",
        ),
        (
            lambda: BlockGRUCell(8, parts=(2, 3)).init(KEY, 4),
            r"input_size=4 must be the sum of parts=\(2, 3\)",
        ),
        (
            lambda: IndRNNCell(3).init(KEY, 0),
            "input_size must be an integer of at least 1, got 0",
        ),
    ],
)
def test_an_option_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
