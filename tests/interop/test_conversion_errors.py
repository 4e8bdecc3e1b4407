"""What one library has and another has not is refused, with the reason and what to do;
nothing is approximated.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from peers import B, H, I, T, random

import jaxrnn
from jaxrnn import interop
from jaxrnn.cells import (
    ConvLSTMCell,
    GRUResetBeforeCell,
    JANETCell,
    LSTMPCell,
    MGUResetAfterCell,
    RNNCarry,
    UGRNNCell,
)
from jaxrnn.interop import ConversionError
from jaxrnn.wrappers import Zoneout

pytestmark = pytest.mark.usefixtures("quick_compilation")
TO = [
    interop.to_torch_cell,
    interop.to_linen,
    interop.to_nnx,
    interop.to_keras,
    interop.to_haiku,
    interop.to_equinox,
]
FROM = [
    interop.from_torch_cell,
    interop.from_linen,
    interop.from_nnx,
    interop.from_keras,
    interop.from_haiku,
]
FROM += [interop.from_equinox]
BEFORE, AFTER = GRUResetBeforeCell(H), jaxrnn.GRUCell(H)


def params_of(cell, seed=0):
    return random(cell.init(jax.random.key(0), I), seed)


def refused(text, cell, to):
    """Each way of a conversion is refused, with this text."""
    back = getattr(interop, to.__name__.replace("to_", "from_"))
    with pytest.raises(ConversionError, match=text):
        to(cell, params_of(cell))
    with pytest.raises(ConversionError, match=text):
        back(cell, {"kernel": np.ones((2, 2), np.float32)})


@pytest.mark.parametrize("to", [t for t in TO if t not in (interop.to_keras, interop.to_haiku)])
def test_a_gru_that_resets_before_the_product_goes_to_none_that_resets_after(to):
    refused(r"resets after the product .* train a GRUCell for it", BEFORE, to)


def test_a_gru_that_resets_after_the_product_does_not_go_to_haiku():
    refused(
        r"resets after the product .* train a GRUResetBeforeCell for it", AFTER, interop.to_haiku
    )


@pytest.mark.parametrize(("cell", "other"), [(AFTER, BEFORE), (BEFORE, AFTER)])
def test_the_bias_of_a_keras_gru_of_the_other_kind_is_refused(cell, other):
    with pytest.raises(
        ConversionError,
        match=rf"reset_after={other is AFTER}, another function .* Use {type(other).__name__} ",
    ):
        interop.from_keras(cell, interop.to_keras(other, params_of(other)))


@pytest.mark.parametrize("to", TO)
def test_an_lstm_with_projection_goes_into_no_cell_of_another_library(to):
    refused("It has no projection of h; train an LSTMCell", LSTMPCell(H, 2), to)


@pytest.mark.parametrize(
    "name", ["PeepholeLSTMCell", "LayerNormLSTMCell", "JANETCell", "ExpRNNCell"]
)
@pytest.mark.parametrize("to", TO)
def test_a_function_that_no_other_library_computes_is_refused(to, name):
    refused("Nothing there computes this function", getattr(jaxrnn.cells, name)(H), to)


@pytest.mark.parametrize("to", TO)
def test_a_stack_is_told_to_be_converted_cell_by_cell_and_a_wrapper_from_inside(to):
    refused(r"Convert one cell after another", jaxrnn.Stack((AFTER,)), to)
    refused(r"Convert the cell inside", Zoneout(jaxrnn.LSTMCell(H)), to)


def test_an_rnn_of_tanh_does_not_go_to_haiku():
    refused(
        r"VanillaRNN is a relu, this cell a tanh\. Use RNNCell\(nonlinearity='relu'\)",
        jaxrnn.RNNCell(H),
        interop.to_haiku,
    )


def test_equinox_has_no_elman_cell():
    refused("equinox has no counterpart of RNNCell", jaxrnn.RNNCell(H), interop.to_equinox)


def test_a_gru_with_b_hn_goes_to_nnx_only_where_that_is_zero_or_has_a_place():
    params = params_of(AFTER)
    with pytest.raises(
        ConversionError, match=r"b_hn is not zero, and the GRUCell of flax\.nnx has none"
    ):
        interop.to_nnx(AFTER, params)
    zero = interop.to_nnx(AFTER, params._replace(b_hn=np.zeros(H, np.float32)))
    # as soon as Flax has one of that name
    later = interop.to_nnx(AFTER, params, like=zero | {"b_hn": params.b_hn})
    np.testing.assert_array_equal(later["b_hn"], params.b_hn)
    np.testing.assert_array_equal(interop.from_nnx(AFTER, later).b_hn, params.b_hn)
    assert not np.any(interop.from_nnx(AFTER, zero).b_hn)


@pytest.mark.parametrize("field", ["w_x", "w_h", "b"])
def test_a_gru_with_two_different_gates_goes_to_no_mgu(field):
    like = interop.to_linen(MGUResetAfterCell(H), params_of(MGUResetAfterCell(H)))
    params = interop.from_linen(AFTER, like)
    interop.to_linen(AFTER, params, like=like)
    own = getattr(params, field)
    different = own.reshape(-1, 3, H).at[:, 0].add(1).reshape(own.shape)
    with pytest.raises(
        ConversionError,
        match=f"has one gate, and in {field} those for r and z differ. Use Flax's GRUCell",
    ):
        interop.to_linen(AFTER, params._replace(**{field: different}), like=like)


def test_the_two_kinds_of_mgu_are_not_taken_for_each_other():
    reset, plain = MGUResetAfterCell(H), UGRNNCell(H)
    without = interop.to_linen(plain, params_of(plain))
    for cell in (reset, AFTER):
        with pytest.raises(
            ConversionError,
            match=r"reset_gate=False, which is no GRU\. Use jaxrnn\.cells\.UGRNNCell",
        ):
            interop.from_linen(cell, without)
    with pytest.raises(ConversionError, match=r"Use jaxrnn\.cells\.MGUResetAfterCell"):
        interop.from_linen(plain, interop.to_linen(reset, params_of(reset)))


@pytest.mark.parametrize("option", [{"strides": 2}, {"dilation": 2}, {"padding": "valid"}])
@pytest.mark.parametrize("to", [interop.to_linen, interop.to_haiku])
def test_a_conv_lstm_with_strides_dilation_or_lost_margins_goes_only_to_keras(to, option):
    cell = ConvLSTMCell(H, (3,), **option)
    refused(r"act on the recurrent convolution too.* Keras has it", cell, to)
    interop.from_keras(cell, interop.to_keras(cell, params_of(cell)))


@pytest.mark.parametrize("to", [interop.to_linen, interop.to_haiku])
def test_biases_for_a_cell_without_are_refused_unless_zero_and_zeros_are_written_with_a_warning(to):
    back = getattr(interop, to.__name__.replace("to_", "from_"))
    bare, full = jaxrnn.LSTMCell(H, bias=False), jaxrnn.LSTMCell(H)
    params = params_of(bare)
    with pytest.warns(UserWarning, match="has no cell without bias: it gets zeros"):
        written = to(bare, params)
    for a, b in zip(back(bare, written), params, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(
        ConversionError,
        match=r"has no biases, and those given are not zero\. Make the cell with bias=True",
    ):
        back(bare, to(full, params_of(full)))


@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_a_residual_simple_cell_is_read_as_its_function(api):
    cell, rng = jaxrnn.RNNCell(H), np.random.RandomState(3)
    xs, h = (
        rng.normal(size=(T, B, I)).astype(np.float32),
        rng.normal(size=(B, H)).astype(np.float32),
    )
    if api == "linen":
        module = nn.SimpleCell(H, residual=True)
        tree = random(module.init(jax.random.key(0), h, xs[0])["params"])
        step, params = module.bind({"params": tree}), interop.from_linen(cell, tree, residual=True)
    else:
        step = nnx.SimpleCell(I, H, residual=True, rngs=nnx.Rngs(0))
        state = jax.tree.map(jnp.asarray, random(nnx.state(step)))
        nnx.update(step, state)
        params = interop.from_nnx(cell, nnx.to_pure_dict(state), residual=True)
    _, ys = jaxrnn.unroll(cell, params, xs, RNNCarry(h))
    for x, y in zip(xs, ys, strict=True):
        h = step(h, x)[0]
        np.testing.assert_allclose(y, h, rtol=0, atol=1e-5)
    with pytest.raises(ConversionError, match="only SimpleCell, our RNNCell, has residual=True"):
        interop.from_linen(AFTER, interop.to_linen(AFTER, params_of(AFTER)), residual=True)


def test_weights_of_a_haiku_core_are_found_by_name_among_others():
    cell = jaxrnn.LSTMCell(H)
    named = interop.to_haiku(cell, params_of(cell), name="model/~/core")
    assert list(named) == ["model/~/core/linear"]
    larger = named | {"model/~/head": {"w": np.ones((2, 2), np.float32)}}
    np.testing.assert_array_equal(
        interop.from_haiku(cell, larger, name="model/~/core").w_h, params_of(cell).w_h
    )
    with pytest.raises(
        ValueError,
        match=r"missing: lstm/linear/w, lstm/linear/b; unexpected: model/~/core/linear/w",
    ):
        interop.from_haiku(cell, larger)


def test_the_weights_of_a_haiku_core_under_another_name_are_told_that_name():
    cell = jaxrnn.LSTMCell(H)
    theirs = interop.to_haiku(cell, params_of(cell), name="model/~/lstm")
    with pytest.raises(ValueError, match=r"Pass name='model/~/lstm'\."):
        interop.from_haiku(cell, theirs)
    interop.from_haiku(cell, theirs, name="model/~/lstm")


@pytest.mark.parametrize("convert", [interop.from_linen, interop.from_nnx])
def test_the_identity_of_a_residual_cell_is_added_before_the_sum_is_rounded_to_16_bits(convert):
    cell = jaxrnn.RNNCell(H)
    to = interop.to_linen if convert is interop.from_linen else interop.to_nnx
    theirs = to(
        cell, params_of(cell)._replace(w_h=np.diag(np.full(H, -0.998, np.float32))[:, None])
    )
    w_h = convert(cell, theirs, jnp.bfloat16, residual=True).w_h
    assert w_h.dtype == jnp.bfloat16
    # half an ulp of bfloat16
    np.testing.assert_allclose(np.diag(np.asarray(w_h[:, 0], np.float32)), 0.002, rtol=2**-8)


def test_one_wide_leaf_is_not_cut_to_the_dtype_of_another():
    cell = jaxrnn.LSTMCell(H)
    params = jax.tree.map(lambda a: np.asarray(a, np.float16), params_of(cell))
    b = np.random.RandomState(1).normal(size=4 * H).astype(np.float32)
    bias = interop.to_keras(cell, params._replace(b=b))["bias"]
    np.testing.assert_array_equal(bias, b, strict=True)


def test_weights_of_keras_are_written_and_read_in_the_order_of_get_weights():
    weights = interop.to_keras(AFTER, params_of(AFTER))
    assert list(weights) == ["kernel", "recurrent_kernel", "bias"]
    np.testing.assert_array_equal(
        interop.from_keras(AFTER, list(weights.values())).w_h, params_of(AFTER).w_h
    )
    with pytest.raises(
        ValueError, match=r"has 2 or 3 weights, kernel, recurrent_kernel, bias; got 6"
    ):
        interop.from_keras(AFTER, list(weights.values()) * 2)


def test_a_prefix_takes_one_torch_cell_out_of_a_larger_module():
    weights = interop.to_torch_cell(AFTER, params_of(AFTER), prefix="decoder.cell.")
    assert set(weights) == {
        f"decoder.cell.{n}" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    larger = weights | {"head.weight": np.ones((2, 2), np.float32)}
    np.testing.assert_array_equal(
        interop.from_torch_cell(AFTER, larger, prefix="decoder.cell.").w_h, params_of(AFTER).w_h
    )
    with pytest.raises(ValueError, match=r"Pass prefix='decoder\.cell\.'"):
        interop.from_torch_cell(AFTER, larger)


def test_a_tree_that_is_too_high_up_is_told_where_the_cell_is():
    tree = {"params": {"cell": interop.to_linen(AFTER, params_of(AFTER))}}
    with pytest.raises(ValueError, match=r"Pass the dict at \['params'\]\['cell'\]"):
        interop.from_linen(AFTER, tree)


@pytest.mark.parametrize("back", FROM, ids=lambda f: f.__name__)
@pytest.mark.parametrize("given", ["weights.npz", 3])
def test_what_maps_no_names_to_arrays_is_refused(back, given):
    cell = jaxrnn.LSTMCell(H)
    with pytest.raises(TypeError, match=rf"must map names to arrays, got {type(given).__name__}"):
        back(cell, given)
    with pytest.raises(TypeError, match=r"must map names to arrays, but w is a float"):
        back(cell, {"w": 1.0})


def test_the_carry_of_a_flax_lstm_is_c_then_h():
    cell, rng = jaxrnn.LSTMCell(H), np.random.RandomState(5)
    params = params_of(cell)
    x, c, h = (rng.normal(size=(B, n)).astype(np.float32) for n in (I, H, H))
    theirs, _ = nn.LSTMCell(H).apply({"params": interop.to_linen(cell, params)}, (c, h), x)
    ours, _ = cell(params, interop.from_flax_carry(cell, (c, h)), x)
    for a, b in zip(interop.to_flax_carry(cell, ours), theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "cell",
    [AFTER, jaxrnn.RNNCell(H), UGRNNCell(H), ConvLSTMCell(H, (3,))],
)
def test_a_carry_goes_to_flax_and_back(cell):
    shape = (B, *(5,) * (cell.feature_axes - 1), I)
    carry = random(cell.init_carry(None, jnp.zeros(shape)))
    again = interop.from_flax_carry(cell, interop.to_flax_carry(cell, carry))
    assert type(again) is type(carry)
    for a, b in zip(again, carry, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_carry_of_another_kind_is_refused():
    one = np.ones(H, np.float32)
    with pytest.raises(TypeError, match=r"is the array h, got tuple"):
        interop.from_flax_carry(AFTER, (one, one))
    with pytest.raises(TypeError, match=r"is the pair \(c, h\), got ndarray"):
        interop.from_flax_carry(jaxrnn.LSTMCell(H), one)
    with pytest.raises(TypeError, match=r"the carry of LSTMCell.* is a LSTMCarry, got tuple"):
        interop.to_flax_carry(jaxrnn.LSTMCell(H), (one, one))
    with pytest.raises(ConversionError, match="flax has no counterpart of LSTMPCell"):
        interop.to_flax_carry(LSTMPCell(H, 2), (one, one))
    with pytest.raises(ConversionError, match="flax has no counterpart of LSTMPCell"):
        interop.from_flax_carry(LSTMPCell(H, 2), (one, one))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["CIFGCell", "MGUResetAfterCell", "IndRNNCell"])
def test_a_special_case_of_a_common_cell_computes_the_same_as_that_cell(name, bias):
    cell, rng = getattr(jaxrnn.cells, name)(H, bias=bias), np.random.RandomState(9)
    params, xs = params_of(cell), rng.normal(size=(T, B, I)).astype(np.float32)
    first = random(cell.init_carry(None, jnp.zeros((B, I))))
    common, more = interop.as_common_cell(cell, params)
    ours, theirs = (jaxrnn.unroll(c, p, xs, first) for c, p in ((cell, params), (common, more)))
    for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max()))
    weights = interop.to_torch_cell(common, more)
    np.testing.assert_array_equal(interop.from_torch_cell(common, weights).w_h, more.w_h)


def test_a_cell_that_is_no_special_case_is_not_rewritten():
    cell = JANETCell(H)
    with pytest.raises(ConversionError, match="as_common_cell has no counterpart of JANETCell"):
        interop.as_common_cell(cell, params_of(cell))


def cudnn_layer(weights, gates):
    """A Keras layer's weights as its older layers for cuDNN keep them: of each gate the memory of
    the matrix [H, I], and two biases side by side."""

    def memory(kernel):
        blocks = np.split(kernel, gates, axis=1)
        return np.concatenate([b.T.reshape(b.shape) for b in blocks], axis=1)

    return [memory(weights["kernel"]), memory(weights["recurrent_kernel"])]


def test_cudnn_layers_of_keras_give_the_sum_of_their_biases():
    cell = jaxrnn.LSTMCell(H)
    params = params_of(cell)
    weights = interop.to_keras(cell, params)
    half = np.random.default_rng(0).normal(size=4 * H).astype(np.float32)
    biases = np.concatenate([weights["bias"] - half, half])
    found = interop.from_keras(cell, [*cudnn_layer(weights, 4), biases])
    np.testing.assert_array_equal(found.w_x, params.w_x)
    np.testing.assert_array_equal(found.w_h, params.w_h)
    np.testing.assert_allclose(found.b, params.b, atol=1e-6)


def test_cudnn_layers_of_keras_give_a_gru_with_the_reset_after_the_product():
    params = params_of(AFTER)
    weights = interop.to_keras(AFTER, params)
    found = interop.from_keras(AFTER, [*cudnn_layer(weights, 3), weights["bias"].reshape(-1)])
    for name, array in params._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), array)


def test_a_basic_lstm_of_tensorflow_1_is_read_as_one_of_haiku():
    cell = jaxrnn.LSTMCell(H)
    p = params_of(cell)
    # its kernel [I + H, 4H] has the gates i j f o, where j is g, and adds 1 to f when it runs
    order = [0, 2, 1, 3]
    kernel = np.concatenate([p.w_x[:, order].reshape(I, -1), p.w_h[:, order].reshape(H, -1)])
    bias = p.b.reshape(4, H)[order] - np.array([0, 0, 1, 0], np.float32)[:, None]
    found = interop.from_haiku(cell, {"lstm/linear": {"w": kernel, "b": bias.reshape(-1)}})
    np.testing.assert_array_equal(found.w_h, p.w_h)
    np.testing.assert_allclose(found.b, p.b, atol=1e-6)


def aligned(array):
    """A copy at an address that JAX would share and not copy."""
    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    own = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    own[...] = array
    return own


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "library", ["torch", "torch_cell", "keras", "equinox", "linen", "nnx", "haiku"]
)
def test_parameters_are_copies_of_what_was_read(library, bias):
    makes = [jaxrnn.LSTMCell, jaxrnn.GRUCell, jaxrnn.RNNCell, GRUResetBeforeCell]
    read, write = (getattr(interop, f"{way}_{library}") for way in ("from", "to"))
    seen = 0
    for make in makes:
        cell = make(16, bias=bias)  # parts of a bias begin where JAX would share them too
        whole = jaxrnn.Stack((cell,)) if library == "torch" else cell
        params = jax.tree.map(jnp.asarray, random(whole.init(jax.random.key(0), I)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                arrays = jax.tree.map(aligned, write(whole, params))
                found = read(whole, I, arrays) if library == "torch" else read(whole, arrays)
        except ConversionError:
            continue
        jax.block_until_ready(found)
        seen += 1
        before = jax.tree.map(np.array, found)
        jax.tree.map(lambda a: a.fill(np.nan), arrays)
        jax.tree.map(np.testing.assert_array_equal, found, before)
    assert seen
