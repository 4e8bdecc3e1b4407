"""Initialisers, gate by gate: spectra, moments, formulas, names."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import initializers
from jaxrnn.cells import BlockGRUCell, GRUResetBeforeCell, LSTMPCell, SRUCell

pytestmark = pytest.mark.usefixtures("quick_compilation")
KEY = jax.random.key(7)
GATED = [
    (jaxrnn.LSTMCell, 4),
    (jaxrnn.GRUCell, 3),
    (GRUResetBeforeCell, 3),
    (jaxrnn.RNNCell, 1),
]


@pytest.mark.parametrize("make, gates", GATED)
def test_each_recurrent_gate_is_orthogonal_for_itself(make, gates):
    w_h = np.asarray(make(8).init(KEY, 5).w_h)
    assert w_h.shape == (8, gates, 8)
    for k in range(gates):
        np.testing.assert_allclose(np.linalg.svd(w_h[:, k], compute_uv=False), 1, rtol=1e-5)
    assert len({w_h[0, k, 0] for k in range(gates)}) == gates  # each gate has a draw of its own


def test_a_projected_cell_draws_semi_orthogonal_gates():
    w_h = np.asarray(LSTMPCell(8, 3).init(KEY, 5).w_h)
    np.testing.assert_allclose(np.linalg.svd(w_h[:, 2], compute_uv=False), np.ones(3), rtol=1e-5)


def test_bfloat16_parameters_are_the_float32_draw_rounded():
    cell = jaxrnn.LSTMCell(6, forget_bias=jaxrnn.Chrono(50))
    narrow, wide = cell.init(KEY, 4, jnp.bfloat16), cell.init(KEY, 4)
    for a, b in zip(narrow, wide, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_array_equal(a, b.astype(jnp.bfloat16))


@pytest.mark.parametrize("name, variance", [("lecun_normal", 1 / 100), ("glorot_uniform", 2 / 300)])
def test_input_kernels_have_the_variance_of_their_own_fans_not_of_the_fused_kernel(name, variance):
    w_x = np.asarray(
        jaxrnn.LSTMCell(200, input_init=name, recurrent_init="identity").init(KEY, 100).w_x
    )
    for k in range(4):  # 20,000 draws: the standard error of a variance is below 1.5 per cent
        assert abs(w_x[:, k].mean()) < 4 * math.sqrt(variance / 20_000)
        assert abs(w_x[:, k].var() / variance - 1) < 0.06


def test_gates_of_an_sru_get_half_of_their_variance_from_the_input_where_they_see_the_state():
    seen, unseen = (
        np.asarray(SRUCell(200, peepholes=sees).init(KEY, 100).w_x) for sees in (True, False)
    )
    variances = [[100 * w[:, k].var() for k in range(3)] for w in (seen, unseen)]
    np.testing.assert_allclose(variances, [[0.5, 0.5, 1], [1, 1, 1]], rtol=0.05)


def test_a_block_gru_is_drawn_as_the_authors_draw_it_with_the_inputs_of_all_blocks():
    params = BlockGRUCell(160, blocks=4, inner_size=40, parts=(50, 70)).init(KEY, 120)
    all_inputs = 160 + 4 * 3 * 40  # of four blocks: the state once, three vectors of 40 each time
    fans = {"w_h": 160, "w_u": all_inputs, "w_v": all_inputs, "w_b": all_inputs, "w_g": 160}
    for name, fan in fans.items():
        np.testing.assert_allclose(getattr(params, name).var(), 1 / fan, rtol=0.05)
    for part, fan in ((params.w_x[:50], 50), (params.w_x[50:], 70)):
        np.testing.assert_allclose(part.var(), 1 / fan, rtol=0.05)
    for name in ("b_x", "b_h", "b_s", "b_g"):
        assert not getattr(params, name).any()


def test_identity_is_the_identity_in_every_gate_times_its_scale():
    w_h = jaxrnn.GRUCell(4, recurrent_init=initializers.Identity(0.5)).init(KEY, 3).w_h
    np.testing.assert_array_equal(w_h, np.stack([0.5 * np.eye(4)] * 3, axis=1))


def test_orthogonal_scales():
    w_h = np.asarray(
        jaxrnn.RNNCell(4, recurrent_init=initializers.Orthogonal(0.3)).init(KEY, 3).w_h
    )
    np.testing.assert_allclose(np.linalg.svd(w_h[:, 0], compute_uv=False), 0.3, rtol=1e-5)


def test_normal_has_its_standard_deviation():
    w_x = np.asarray(
        jaxrnn.RNNCell(200, input_init=initializers.Normal(0.1), recurrent_init="identity")
        .init(KEY, 100)
        .w_x
    )
    assert abs(w_x.std() / 0.1 - 1) < 0.03


@pytest.mark.parametrize(
    "make",
    [lambda **k: jaxrnn.LSTMCell(2000, **k), lambda **k: LSTMPCell(2000, 2, **k)],
)
def test_chrono_draws_forget_biases_of_uniform_time_scales(make):
    b = np.asarray(
        make(forget_bias=jaxrnn.Chrono(100), recurrent_init="glorot_uniform").init(KEY, 1).b
    ).reshape(4, 2000)
    times = np.exp(b[1])  # b_f = log U(1, 99)
    assert times.min() >= 1 - 1e-5 and times.max() <= 99 * (1 + 1e-5)
    assert abs(times.mean() - 50) < 4 * 98 / math.sqrt(12 * 2000)
    np.testing.assert_array_equal(b[0], -b[1])
    np.testing.assert_array_equal(b[2:], 0)


def test_chrono_draws_only_the_update_bias_of_a_gru():
    b = np.asarray(jaxrnn.GRUCell(50, update_bias=jaxrnn.Chrono(20)).init(KEY, 1).b).reshape(3, 50)
    assert (
        np.all((np.exp(b[1]) >= 1 - 1e-5) & (np.exp(b[1]) <= 19 * (1 + 1e-5)))
        and len(set(b[1])) == 50
    )
    np.testing.assert_array_equal(b[[0, 2]], 0)


@pytest.mark.parametrize("max_lag", [2, 0, float("nan")])
def test_chrono_refuses_lags_it_has_no_logarithm_for(max_lag):
    with pytest.raises(ValueError, match=r"must be above 2 \(steps\)"):
        jaxrnn.Chrono(max_lag)


def test_constant_biases_land_on_their_gate_alone():
    np.testing.assert_array_equal(jaxrnn.LSTMCell(3).init(KEY, 2).b, np.repeat([0.0, 1, 0, 0], 3))
    np.testing.assert_array_equal(
        jaxrnn.GRUCell(3, update_bias=-2.0).init(KEY, 2).b,
        np.repeat([0.0, -2, 0], 3),
    )
    np.testing.assert_array_equal(jaxrnn.GRUCell(3).init(KEY, 2).b_hn, np.zeros(3))


@pytest.mark.parametrize(
    "cell",
    [LSTMPCell(16, 9, init_scheme="torch"), jaxrnn.GRUCell(16, init_scheme="torch")],
)
def test_the_torch_scheme_draws_everything_within_torchs_bound(cell):
    # 1/sqrt(hidden_size) = 0.25, whatever the fan
    for leaf in jax.tree.leaves(cell.init(KEY, 100)):
        assert np.abs(leaf).max() <= 0.25
        assert leaf.size < 100 or abs(np.var(leaf) - 0.25**2 / 3) < 0.2 * 0.25**2 / 3
        assert np.all(np.asarray(leaf) != 0)


def test_without_bias_there_are_no_bias_parameters():
    assert jaxrnn.LSTMCell(3, bias=False).init(KEY, 2).b is None
    gru = jaxrnn.GRUCell(3, bias=False).init(KEY, 2)
    assert gru.b is None and gru.b_hn is None


def test_a_misspelt_initializer_is_told_its_nearest_name():
    with pytest.raises(
        ValueError,
        match=r"recurrent_init='ortogonal' is no known initializer\. Did you mean 'orthogonal'",
    ):
        jaxrnn.LSTMCell(3, recurrent_init="ortogonal")


def test_equal_initializers_make_equal_cells():
    a, b = (
        jaxrnn.LSTMCell(
            3, recurrent_init=initializers.Orthogonal(0.5), forget_bias=jaxrnn.Chrono(9)
        )
        for _ in range(2)
    )
    assert a == b and hash(a) == hash(b)
    assert a != jaxrnn.LSTMCell(
        3, recurrent_init=initializers.Orthogonal(0.6), forget_bias=jaxrnn.Chrono(9)
    )


@pytest.mark.timeout(120)
def test_a_vmapped_initialisation_comes_to_an_end():
    # hung after 65 calls on jaxlib 0.10.2
    init = jax.jit(jax.vmap(lambda key: jaxrnn.LSTMCell(32).init(key, 32)))
    for seed in range(150):
        params = jax.block_until_ready(init(jax.random.split(jax.random.key(seed), 8)))
    assert bool(jnp.isfinite(params.w_h).all())


def test_a_vmapped_initialisation_gives_what_each_key_gives_alone():
    with jax.enable_x64(True):  # in float32 the QR of a batch may round differently
        init = functools.partial(jaxrnn.LSTMCell(32).init, input_size=32, dtype=jnp.float64)
        keys = jax.random.split(jax.random.key(149), 8)
        together, alone = jax.jit(jax.vmap(init))(keys), init(keys[3])
        for many, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(many[3], one, rtol=1e-12, atol=1e-12)
