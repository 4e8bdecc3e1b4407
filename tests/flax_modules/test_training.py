"""What optimisers and Flax's tools make of our parameters, and torch's training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx, serialization, traverse_util
from oracles import EVERY, assert_close, parameters

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import diagnostics
from jaxrnn.interop import TwoBiases, from_torch, to_torch, with_two_biases
from jaxrnn.wrappers import LayerNormInput, LearnedInitialCarry, MultiHead, Residual, Zoneout

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")
T, B, INPUTS, H = 5, 2, 3, 4
XS = np.random.default_rng(0).normal(size=(T, B, INPUTS)).astype(np.float32)
LEARNED = "first"  # a learned carry keeps the shape of its carry


def fields(tree):
    """(name of the field, array) of parameters, those of a learned carry left out."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        names = [key.name for key in path if hasattr(key, "name")]
        if LEARNED not in names:
            yield names[-1], leaf


# --- vectors and matrices -------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [case[1] for case in EVERY], ids=[case[0] for case in EVERY])
def test_matrices_have_two_axes_or_more_and_all_else_one(cell):
    found = dict(fields(jax.eval_shape(lambda: cell.init(jax.random.key(0), INPUTS))))
    # w of UnICORNN, w_h of IndRNN and of the diagonal cell are one weight for each unit
    matrices = {name for name, leaf in found.items() if leaf.ndim > 1}
    assert all(name.startswith(("w", "a")) for name in matrices)
    assert not any(name.startswith(("b", "scale", "bias", "p_", "c")) for name in matrices)


def test_weight_decay_by_axes_spares_every_bias():
    cell = jaxrnn.LSTMCell(H)
    params = cell.init(jax.random.key(0), INPUTS)
    optimizer = optax.adamw(0.1, mask=lambda tree: jax.tree.map(lambda a: a.ndim > 1, tree))
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    assert not np.any(updates.b) and np.all(np.asarray(updates.w_x) != 0)


def test_muon_makes_each_gate_of_a_kernel_near_orthogonal_and_leaves_biases_to_adam():
    cell = jaxrnn.LSTMCell(8)
    params = cell.init(jax.random.key(0), INPUTS)
    keys = jax.tree.unflatten(jax.tree.structure(params), jax.random.split(jax.random.key(1), 3))
    gradients = jax.tree.map(lambda a, key: jax.random.normal(key, a.shape), params, keys)

    def matrices(tree):
        numbers = optax.contrib.MuonDimensionNumbers
        return jax.tree.map(lambda a: numbers((0,), (a.ndim - 1,)) if a.ndim > 1 else None, tree)

    optimizer = optax.contrib.muon(1.0, muon_weight_dimension_numbers=matrices, ns_steps=8)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    for gate in range(4):
        values = np.linalg.svd(updates.w_h[:, gate], compute_uv=False)
        assert values.max() / values.min() < 2
    assert np.ptp(np.abs(updates.b)) < 1e-5  # Adam's first step: of one size everywhere


# --- linen's dicts --------------------------------------------------------------------------------


def module():
    return jaxrnn.linen.LSTM(INPUTS, H, num_layers=2, bidirectional=True)


def test_flatten_dict_and_path_aware_map_see_every_array_by_its_name():
    params = module().init(jax.random.key(0), XS)["params"]
    flat = traverse_util.flatten_dict(params)
    names = {(str(k), name) for k in range(4) for name in ("w_x", "w_h", "b")}
    assert {path[1:] for path in flat} == names and all(hasattr(a, "shape") for a in flat.values())
    kept = traverse_util.path_aware_map(lambda path, a: path[-1] != "b", params)
    assert sum(jax.tree.leaves(kept)) == 8


def test_a_parameter_is_frozen_and_another_trained_faster_by_path():
    params = module().init(jax.random.key(0), XS)["params"]
    labels = traverse_util.path_aware_map(lambda path, a: path[-1], params)
    rates = {"w_x": optax.set_to_zero(), "w_h": optax.sgd(0.1), "b": optax.sgd(1.0)}
    optimizer = optax.multi_transform(rates, labels)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(ones, optimizer.init(params), params)
    found = {path[-1]: np.unique(a) for path, a in traverse_util.flatten_dict(updates).items()}
    assert found == {"w_x": 0, "w_h": np.float32(-0.1), "b": -1}


def test_weight_norm_scales_each_unit_of_each_gate_for_itself():
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, xs):
            layer = jaxrnn.linen.LSTM(INPUTS, H)
            own = nn.WeightNorm(layer, feature_axes=(-2, -1), variable_filter={"w_x", "w_h"})
            return own(xs)[0]

    variables = Normed().init(jax.random.key(0), XS)
    scales = variables["params"]["WeightNorm_0"]
    assert {a.shape for a in scales.values()} == {(4, H)} and len(scales) == 2
    inner = variables["params"]["LSTM_0"]["cell"]["0"]
    normal = {
        name: inner[name] / np.linalg.norm(inner[name], axis=0, keepdims=True)
        for name in ("w_x", "w_h")
    }
    plain = {"params": {"cell": {"0": {**inner, **normal}}}}
    want, _ = jaxrnn.linen.LSTM(INPUTS, H).apply(plain, XS)
    np.testing.assert_allclose(Normed().apply(variables, XS), want, atol=1e-5)


def test_spectral_norm_sees_the_kernels_and_no_bias():
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return nn.SpectralNorm(jaxrnn.linen.LSTM(INPUTS, H))(xs, update_stats=True)[0]

    variables = Normed().init(jax.random.key(0), XS)
    names = {name.split("/")[-2] for name in variables["batch_stats"]["SpectralNorm_0"]}
    assert names == {"w_x", "w_h"}
    output, _ = Normed().apply(variables, XS, mutable=["batch_stats"])
    assert output.shape == (T, B, H)


def test_msgpack_without_a_target_gives_variables_that_run():
    variables = module().init(jax.random.key(0), XS)
    again = serialization.msgpack_restore(serialization.msgpack_serialize(variables))
    want, _ = module().apply(variables, XS)
    np.testing.assert_array_equal(module().apply(again, XS)[0], want)


def as_dicts(tree):
    """What msgpack makes of tuples, with lists for those without names."""
    if not isinstance(tree, tuple):
        return tree
    if hasattr(tree, "_fields"):
        return {name: as_dicts(part) for name, part in tree._asdict().items() if part is not None}
    return [as_dicts(part) for part in tree]


def listed(part):
    return list(part) if hasattr(part, "w_h") else part


RAW = {
    "cell": jaxrnn.LSTMCell(H),
    "without_bias": jaxrnn.GRUCell(H, bias=False),
    "stack": jaxrnn.Stack((jaxrnn.GRUCell(H), jaxrnn.RNNCell(H)), bidirectional=True),
    "learned": LearnedInitialCarry(jaxrnn.LSTMCell(H)),
    "residual": jaxrnn.Stack((Residual(jaxrnn.GRUCell(INPUTS)),) * 2),
    "around_a_stack": LayerNormInput(jaxrnn.Stack((jaxrnn.GRUCell(H),) * 2)),
    "heads": Zoneout(MultiHead(jaxrnn.GRUCell(H), heads=2)),
}


@pytest.mark.parametrize("cell", RAW.values(), ids=RAW)
def test_restored_dicts_tuples_and_lists_run_as_the_parameters_they_were(cell):
    params = jax.tree.map(jnp.float32, parameters(cell))
    carry, want = jaxrnn.unroll(cell, params, XS)
    numbered = params
    if isinstance(cell, jaxrnn.Stack):  # as `nnx.to_pure_dict` writes it
        numbered = {k: as_dicts(part) for k, part in enumerate(params)}
    raw = [
        as_dicts(params),
        numbered,
        jax.tree.map(listed, params, is_leaf=lambda a: hasattr(a, "w_h")),
        serialization.to_state_dict(params),
        serialization.msgpack_restore(serialization.to_bytes(params)),
        list(params),
        tuple(params),
    ]
    for given in raw:
        found, ys = jaxrnn.unroll(cell, given, XS)
        np.testing.assert_array_equal(ys, want)
        assert jax.tree.structure(found) == jax.tree.structure(carry)
    slopes = jax.grad(lambda p: jaxrnn.unroll(cell, p, XS)[1].sum())(raw[0])
    assert jax.tree.structure(slopes) == jax.tree.structure(raw[0])
    if cell.causal:
        first = jaxrnn.initial_carry(cell, raw[0], (B,))
        want = cell(params, first, XS[0])[1]
        np.testing.assert_array_equal(cell(raw[0], first, XS[0])[1], want)
        np.testing.assert_array_equal(jaxrnn.stepper(cell, raw[0])(first, XS[0])[1], want)
        told = [jaxrnn.explain(cell, XS.shape, params=p)[0].method for p in (params, raw[0])]
        assert told[0] == told[1]


def test_diagnostics_take_restored_dicts_too():
    cell = jaxrnn.GRUCell(H)
    params = cell.init(jax.random.key(0), INPUTS)
    raw = as_dicts(params)
    for find in (diagnostics.carry_jacobians, diagnostics.largest_lyapunov_exponent):
        np.testing.assert_array_equal(find(cell, raw, XS[:, 0]), find(cell, params, XS[:, 0]))
    loss = lambda carry, ys: carry.h.sum()  # noqa: E731
    one, two = (diagnostics.carry_gradients(cell, p, XS, loss) for p in (raw, params))
    np.testing.assert_array_equal(one.h, two.h)
    one, two = (diagnostics.memory_capacity(cell, p, jax.random.key(1), 3) for p in (raw, params))
    np.testing.assert_array_equal(one.delays, two.delays)


def test_a_stack_that_keeps_its_features_runs_inside_linens_own_loop():
    stack = jaxrnn.Stack((Residual(jaxrnn.GRUCell(INPUTS)),) * 2)
    rnn = nn.RNN(jaxrnn.linen.CellForRNN(stack), time_major=True)
    variables = rnn.init(jax.random.key(0), XS)
    ys = jaxrnn.unroll(stack, variables["params"]["cell"]["cell"], XS)[1]
    np.testing.assert_allclose(rnn.apply(variables, XS), ys, atol=1e-6)


def test_a_converter_takes_restored_dicts_too():
    stack = jaxrnn.Stack((jaxrnn.LSTMCell(H),))
    params = stack.init(jax.random.key(0), INPUTS)
    for name, array in to_torch(stack, as_dicts(params)).items():
        np.testing.assert_array_equal(array, to_torch(stack, params)[name])


@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"w_x": 1, "w_h": 1},
            "LSTMCell must have the entries w_x, w_h, b, got a dict of w_x, w_h",
        ),
        ({"kernel": 1}, "must have the entries w_x, w_h, b, got a dict of kernel"),
        ([1, 2], "must have the entries w_x, w_h, b, got 2 entries"),
        ({}, "must have the entries w_x, w_h, b, got a dict of "),
    ],
)
def test_a_dict_of_other_names_is_told_the_names_wanted(given, message):
    with pytest.raises(ValueError, match=message):
        jaxrnn.unroll(jaxrnn.LSTMCell(H), given, XS)


def test_parameters_of_another_cell_with_the_same_fields_are_refused_in_a_stack_too():
    own = jaxrnn.cells.UGRNNCell(H).init(jax.random.key(0), INPUTS)
    cell = jaxrnn.cells.JANETCell(H)
    for whole, params in ((cell, own), (jaxrnn.Stack((cell,)), (own,))):
        with pytest.raises(ValueError, match="params have structure"):
            jaxrnn.unroll(whole, params, XS)


@pytest.mark.parametrize("cell", [case[1] for case in EVERY], ids=[case[0] for case in EVERY])
def test_new_parameters_can_be_donated(cell):
    params = jax.tree.leaves(cell.init(jax.random.key(0), INPUTS))
    assert len({a.unsafe_buffer_pointer() for a in params}) == len(params)


# --- torch's two biases ---------------------------------------------------------------------------


def test_a_bias_that_torch_has_twice_moves_twice_as_far_and_b_hn_does_not():
    cells = (jaxrnn.RNNCell(H), jaxrnn.LSTMCell(H), jaxrnn.cells.LSTMPCell(H, 2), jaxrnn.GRUCell(H))
    for cell in cells:
        params = cell.init(jax.random.key(0), INPUTS)
        optimizer = with_two_biases(optax.sgd(1.0))
        ones = jax.tree.map(jnp.ones_like, params)
        updates, _ = optimizer.update(ones, optimizer.init(params), params)
        want = jax.tree.map(lambda a: -np.ones(a.shape), params)
        twice = 2 * H if isinstance(cell, jaxrnn.GRUCell) else len(params.b)
        want.b[:twice] = -2
        assert_close(updates, want)


@pytest.mark.parametrize(
    "cell",
    [
        jaxrnn.cells.CIFGCell(H),
        jaxrnn.cells.JANETCell(H),
        jaxrnn.cells.IndRNNCell(H),
        jaxrnn.cells.AntisymmetricRNNCell(H),
        jaxrnn.cells.ConvLSTMCell(H),
    ],
)
def test_a_cell_that_torch_has_not_keeps_its_steps(cell):
    params = (cell.init(jax.random.key(0), INPUTS), jaxrnn.RNNCell(H).init(jax.random.key(1), H))
    optimizer = with_two_biases(optax.sgd(1.0))
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(ones, optimizer.init(params), params)
    assert_close(updates[0], jax.tree.map(lambda a: -np.ones(a.shape), params[0]))


def test_the_two_biases_are_found_in_linen_and_in_nnx():
    tree = jaxrnn.linen.GRU(INPUTS, H).init(jax.random.key(0), XS)["params"]
    optimizer = with_two_biases(optax.sgd(1.0))
    ones = jax.tree.map(jnp.ones_like, tree)
    updates, _ = optimizer.update(ones, optimizer.init(tree), tree)
    want = np.repeat([-2.0, -2, -1], H)
    np.testing.assert_array_equal(updates["cell"]["0"]["b"], want)

    gru = jaxrnn.nnx.GRU(INPUTS, H, rngs=nnx.Rngs(0))
    own = nnx.Optimizer(gru, with_two_biases(optax.sgd(1.0)), wrt=nnx.Param)
    before = np.asarray(gru.params[0].b)
    own.update(gru, jax.tree.map(jnp.ones_like, nnx.state(gru, nnx.Param)))
    np.testing.assert_allclose(np.asarray(gru.params[0].b) - before, want, atol=1e-6)


def test_adam_sees_each_bias_with_moments_of_its_own():
    params = jaxrnn.LSTMCell(H).init(jax.random.key(0), INPUTS)
    state = with_two_biases(optax.adam(1e-3)).init(params)
    assert isinstance(state.inner[0].mu.b, TwoBiases)


def test_where_there_is_no_bias_of_torch_it_says_where_it_belongs():
    params = jaxrnn.LSTMCell(H).init(jax.random.key(0), INPUTS)
    labels = type(params)("k", "k", "b")
    parts = {"k": optax.sgd(1.0), "b": with_two_biases(optax.sgd(1.0))}
    with pytest.raises(ValueError, match="goes around the whole optimiser"):
        optax.multi_transform(parts, labels).init(params)
    whole = with_two_biases(optax.multi_transform(dict.fromkeys("kb", optax.sgd(1.0)), labels))
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = whole.update(ones, whole.init(params), params)
    np.testing.assert_array_equal(updates.b, -2)
    several = with_two_biases(optax.MultiSteps(optax.sgd(1.0), 2))
    updates, state = several.update(ones, several.init(params), params)
    np.testing.assert_array_equal(several.update(ones, state, params)[0].b, -2)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw", "adam_l2"])
def test_twelve_updates_of_a_tied_language_model_with_clipping_are_those_of_torch(kind, rule):
    torch = pytest.importorskip("torch")
    words, size, rows, steps = 23, 16, 4, 7
    rng = np.random.default_rng(3)
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(size, size, 2)
    with torch.no_grad():  # as `to_torch` writes them: the sum in the first
        for name, second in theirs.named_parameters():
            if name.startswith("bias_hh"):
                count = 2 * size if kind == "GRU" else len(second)
                getattr(theirs, name.replace("hh", "ih"))[:count] += second[:count]
                second[:count] = 0
    embedding = torch.nn.Parameter(0.3 * torch.randn(words, size))
    bias = torch.nn.Parameter(torch.zeros(words))
    make = {
        "sgd": functools.partial(torch.optim.SGD, lr=2.0),
        "adam": functools.partial(torch.optim.Adam, lr=0.05),
        "adamw": functools.partial(torch.optim.AdamW, lr=0.05, weight_decay=0.1),
        "adam_l2": functools.partial(torch.optim.Adam, lr=0.05, weight_decay=0.1),
    }
    everything = [*theirs.parameters(), embedding, bias]
    optimizer = make[rule](everything)

    cell = {"LSTM": jaxrnn.LSTMCell, "GRU": jaxrnn.GRUCell, "RNN": jaxrnn.RNNCell}[kind](size)
    stack = jaxrnn.Stack((cell,) * 2)
    params = {
        "rnn": from_torch(stack, size, theirs.state_dict()),
        "embedding": jnp.array(embedding.detach().numpy()),
        "bias": jnp.zeros(words),
    }
    inner = {
        "sgd": optax.sgd(2.0),
        "adam": optax.adam(0.05),
        "adamw": optax.adamw(0.05, weight_decay=0.1),
        "adam_l2": optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.05)),
    }
    ours = with_two_biases(optax.chain(optax.clip_by_global_norm(0.25), inner[rule]))
    state = ours.init(params)

    def loss(params, ids, targets, carry):
        after, ys = jaxrnn.unroll(stack, params["rnn"], params["embedding"][ids], carry)
        logits = ys @ params["embedding"].T + params["bias"]
        each = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return jnp.mean(each), after

    @jax.jit
    def update(params, state, ids, targets, carry):
        (value, after), slopes = jax.value_and_grad(loss, has_aux=True)(params, ids, targets, carry)
        updates, state = ours.update(slopes, state, params)
        return optax.apply_updates(params, updates), state, value, after

    text = rng.integers(0, words, (12, steps + 1, rows))
    hidden, carry = None, jaxrnn.initial_carry(stack, params["rnn"], (rows,))
    for ids in text:
        x = torch.as_tensor(ids)
        output, hidden = theirs(embedding[x[:-1]], hidden)
        logits = output @ embedding.T + bias
        value = torch.nn.functional.cross_entropy(logits.reshape(-1, words), x[1:].reshape(-1))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(everything, 0.25)
        optimizer.step()
        hidden = jax.tree.map(lambda a: a.detach(), hidden)
        params, state, own, carry = update(params, state, ids[:-1], ids[1:], carry)
        np.testing.assert_allclose(own, value.item(), rtol=1e-4)
    for name, array in to_torch(stack, params["rnn"]).items():
        if not name.startswith("bias"):
            want = theirs.state_dict()[name].numpy()
            np.testing.assert_allclose(array, want, rtol=0, atol=1e-3)


def test_a_fixed_mask_and_tied_directions_have_the_gradients_of_what_they_stand_for():
    cell = jaxrnn.GRUCell(H)
    params = jax.tree.map(jnp.float32, parameters(cell))
    mask = np.random.default_rng(1).random(params.w_h.shape) < 0.5

    def masked(params):
        sparse = params._replace(w_h=jnp.where(mask, params.w_h, 0))
        return jaxrnn.unroll(cell, sparse, XS)[1].sum()

    slopes = jax.grad(masked)(params)
    assert np.all((np.asarray(slopes.w_h) != 0) == mask)
    both = jaxrnn.Stack((cell,), bidirectional=True)
    tied = jax.grad(lambda p: jaxrnn.unroll(both, (p, p), XS)[1].sum())(params)
    one, two = jax.grad(lambda p: jaxrnn.unroll(both, p, XS)[1].sum())((params, params))
    assert_close(tied, jax.tree.map(jnp.add, one, two), 1e-5)


@pytest.mark.filterwarnings("ignore")  # of orbax
def test_orbax_without_a_target_gives_variables_that_run(tmp_path):
    orbax = pytest.importorskip("orbax.checkpoint")
    variables = module().init(jax.random.key(0), XS)
    with orbax.PyTreeCheckpointer() as saver:
        saver.save(tmp_path / "one", variables)
        again = saver.restore(tmp_path / "one")
    want, _ = module().apply(variables, XS)
    np.testing.assert_array_equal(module().apply(again, XS)[0], want)
    stack = module().cell
    with orbax.PyTreeCheckpointer() as saver:
        saver.save(tmp_path / "two", stack.init(jax.random.key(0), INPUTS))
        raw = saver.restore(tmp_path / "two")
    want = jaxrnn.unroll(stack, stack.init(jax.random.key(0), INPUTS), XS)[1]
    np.testing.assert_array_equal(jaxrnn.unroll(stack, raw, XS)[1], want)
