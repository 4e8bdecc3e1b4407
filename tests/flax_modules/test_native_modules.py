"""Claims about modules that feel native: attributes, states, weights, what prints, and what Flax
does with them, for nnx and linen alike."""

import dataclasses
import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from modules import APIS, Linen, Nnx, compilations, random_weights
from oracles import assert_close

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import cells, wrappers
from jaxrnn.cells import GRUCarry, LSTMCarry
from jaxrnn.interop import from_linen, from_pretrained, save_pretrained, to_linen, to_torch
from jaxrnn.nnx import LSTMState
from jaxrnn.wrappers import Bidirectional, LearnedInitialCarry

pytestmark = pytest.mark.usefixtures("quick_compilation")
both = pytest.mark.parametrize("api", APIS, ids=lambda a: a.name)
T, B, I, H = 6, 4, 3, 5
RNG = np.random.RandomState(7)
XS = RNG.normal(size=(T, B, I)).astype(np.float32)
TORCH = dict(
    input_size=I,
    hidden_size=H,
    num_layers=2,
    bias=True,
    batch_first=True,
    dropout=0.25,
    bidirectional=True,
)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def close(a, b):
    """Of programs that take a state in two forms, which may round otherwise."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert_close(a, b, 1e-6)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# --- attributes and arguments ---------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_every_attribute_of_torch_is_readable(api, name):
    own = {"RNN": {"nonlinearity": "relu"}, "LSTM": {"proj_size": 2}, "GRU": {}}[name]
    module = api(name, I, **{k: v for k, v in (TORCH | own).items() if k != "input_size"}).module
    for attribute, value in (TORCH | own).items():
        assert getattr(module, attribute) == value
    assert api("LSTM", I, H).module.proj_size == 0


@pytest.mark.parametrize("name", [*TORCH, "method", "dtype", "remat", "proj_size", "merge"])
def test_assigning_an_attribute_without_effect_raises(name):
    module = jaxrnn.nnx.LSTM(I, H, rngs=nnx.Rngs(0))
    before = getattr(module, name)
    with pytest.raises(AttributeError, match=f"{name} of LSTM is fixed when the module is made"):
        setattr(module, name, 7)
    assert getattr(module, name) == before


def test_assigning_a_field_of_an_unbound_linen_module_has_its_effect():
    module = jaxrnn.linen.LSTM(I, H)
    module.hidden_size = 7
    variables = module.init(jax.random.key(0), XS)
    assert variables["params"]["cell"]["0"]["w_h"].shape == (7, 4, 7)
    module.bias = "no"
    with pytest.raises(TypeError, match="bias must be True or False"):
        module.init(jax.random.key(0), XS)


@both
@pytest.mark.parametrize("name", ["bias", "batch_first", "bidirectional"])
@pytest.mark.parametrize("value", ["False", 0, 1, 0.5, None])
def test_flags_must_be_bool(api, name, value):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got"):
        api("GRU", I, H, **{name: value})


@both
@pytest.mark.parametrize("name", ["hidden_size", "num_layers", "proj_size"])
@pytest.mark.parametrize("value", [2.0, "2", True])
def test_sizes_must_be_integers(api, name, value):
    options = {"hidden_size": H} | {name: value}
    with pytest.raises(TypeError, match=f"{name} must be an integer, got"):
        api("LSTM", I, **options)


def all_cells():
    for name in cells.__all__:
        kind = getattr(cells, name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            fields = {field.name: field for field in dataclasses.fields(kind)}
            needed = {"proj_size": 2, "kernel_size": (3,), "max_lag": 9}
            own = {k: needed[k] for k in fields if k in needed}
            yield name, kind, own, fields


CELLS = {name: rest for name, *rest in all_cells() if "bias" in rest[2]}


@pytest.mark.parametrize("name", CELLS)
def test_the_bias_of_every_cell_must_be_bool(name):
    kind, own, _ = CELLS[name]
    kind(H, **own, bias=False)
    for wrong in ("False", 0, 1.0, None):
        with pytest.raises(TypeError, match="bias must be True or False"):
            kind(H, **own, bias=wrong)


SLIPS = [
    (
        lambda m: m("LSTM", 10, 20, 2, True, True, True),
        "dropout must be a number .*torch's: input_",
    ),
    (
        lambda m: m("LSTM", 10, 20, 2, 0.5),
        r"bias must be True or False, got 0\.5.*num_layers, bias",
    ),
    (lambda m: m("RNN", 10, 20, 2, "tanh", 0.1), "bias must be .*num_layers, nonlinearity, bias"),
    (lambda m: m("GRU", 10, 20, True), "num_layers must be an integer, got True"),
    (lambda m: m("GRU", 10, units=20), "unexpected argument 'units': it is hidden_size= here"),
    (lambda m: m("GRU", 10, 20, return_sequences=True), "always returns"),
    (lambda m: m("LSTM", I, H)(XS, training=True), "deterministic=not training"),
    (lambda m: m("LSTM", I, H)(XS, hx=None), "'hx': it is state= here"),
    (lambda m: m("LSTM", I, H)(XS, seq_lengths=[1] * B), "'seq_lengths': it is lengths= here"),
    (lambda m: m("GRU", I, H).step(XS[0], dones=None), "'dones': it is reset= here"),
    (lambda m: m("GRU", I, H)(XS, np.array([1, 2, 3, 4])), "h_0 has shape|Lengths go by name"),
    (lambda m: m("LSTM", I, H)(XS, np.ones((T, B), bool)), "mask=, reset="),
    (
        lambda m: m("Recurrent", 10, jaxrnn.GRUCell(4), batch_first=True),
        r"\(cell, input_size\), in this order",
    ),
    (lambda m: m("Recurrent", jaxrnn.GRUCell(4), 10, batch_first="no"), "batch_first must be True"),
    (lambda m: m("Recurrent", jaxrnn.GRUCell(4), 10, batch_first=True, reverse=1), "reverse must"),
    (lambda m: jaxrnn.LSTMCell(10, 20), r"takes hidden_size by position, got 2 .* cell\.init\(key"),
    (lambda m: jaxrnn.RNNCell(10, 20), r"got 20\. input_size goes to init\(key, input_size\)"),
    (lambda m: jaxrnn.Stack(jaxrnn.GRUCell(2), jaxrnn.GRUCell(2)), r"Stack\(\(a, b\)\)"),
    (lambda m: jaxrnn.Stack((jaxrnn.GRUCell(2),), "yes"), "bidirectional must be True or False"),
    (lambda m: jaxrnn.Stack((jaxrnn.GRUCell(2),), True, True), "flags go by name"),
]


@both
@pytest.mark.parametrize("number", range(len(SLIPS)))
def test_a_slip_is_told_what_was_likely_meant(api, number):
    slip, message = SLIPS[number]
    with pytest.raises((TypeError, ValueError), match=message):
        slip(api)


# --- states ---------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_the_initial_state_needs_no_parameters_and_is_what_a_call_begins_with(api, name, dtype):
    module = random_weights(api(name, I, H, 2, bidirectional=True, dtype=dtype))
    for size, xs in ((B, XS), ((B,), XS), ((), XS[:, 0])):
        state = module.initial_state(size)
        want, last = module(xs)
        equal(module(xs, state), (want, last))
        assert jax.tree.map(lambda a: (a.shape, a.dtype), state) == jax.tree.map(
            lambda a: (a.shape, a.dtype), last
        )


def test_the_initial_state_of_linen_is_static():
    state = jaxrnn.linen.LSTM(I, H, proj_size=2).initial_state(B)
    assert (state.h_n.shape, state.c_n.shape) == ((1, B, 2), (1, B, H))
    carry = jaxrnn.linen.Recurrent(jaxrnn.LSTMCell(H), I, batch_first=True).initial_state((B, 2))
    assert isinstance(carry, LSTMCarry) and carry.c.shape == (B, 2, H)
    conv = jaxrnn.linen.Recurrent(cells.ConvLSTMCell(2, (3, 3)), 1, batch_first=True)
    assert conv.initial_state(B, spatial_shape=(4, 5)).c.shape == (B, 4, 5, 2)


@both
def test_a_learned_first_state_is_that_of_the_parameters(api):
    module = api("Recurrent", LearnedInitialCarry(jaxrnn.GRUCell(H)), I, batch_first=False)
    params = jax.tree.map(lambda a: draw(*a.shape), module.params)
    module.load(params)
    given = {} if api is Nnx else {"variables": module.weights}
    state = module.initial_state(B, **given)
    equal(state, jaxrnn.initial_carry(module.module.cell, params, (B,)))
    assert np.abs(state.h).min() > 0
    equal(module(XS, state), module(XS))
    if api is Linen:
        with pytest.raises(ValueError, match=r"is learned: initial_state\(batch_size, variables\)"):
            module.initial_state(B)


@both
@pytest.mark.parametrize("name", ["LSTM", "GRU", "Recurrent"])
def test_a_scan_over_step_begins_with_the_initial_state_and_equals_the_call(api, name):
    if name == "Recurrent":
        module = api(name, jaxrnn.LSTMCell(H), I, batch_first=False)
    else:
        module = random_weights(api(name, I, H, 2))
    reset = RNG.rand(T, B) < 0.4

    def body(state, row):
        x, now = row
        y, state = module.step(x, state, reset=now)
        return state, y

    state, ys = jax.lax.scan(body, module.initial_state(B), (XS, reset))
    assert_close((ys, state), module(XS, reset=reset), 1e-5)


@both
@pytest.mark.parametrize("name", ["LSTM", "GRU", "Recurrent"])
def test_a_call_with_none_and_one_with_a_state_compile_once(api, name):
    if name == "Recurrent":
        module = api(name, cells.LEMCell(H + 2), I, batch_first=True)
    else:
        module = random_weights(api(name, I, H + 2, 2, batch_first=True))
    xs = np.moveaxis(XS, 0, 1)
    _, state = module(xs)
    _, one = module.step(xs[:, 0])
    with compilations() as compiled:
        module(xs, state)
        module(xs, module.initial_state(B))
        module.step(xs[:, 0], one)
    assert not [name for name in compiled if "jitted" in str(name)]


@both
def test_states_of_the_torch_like_modules_and_of_recurrent_are_taken_for_each_other(api):
    lstm = random_weights(api("LSTM", I, H, 2, bidirectional=True))
    stack = jaxrnn.Stack((jaxrnn.LSTMCell(H),) * 2, bidirectional=True)
    recurrent = api("Recurrent", stack, I, batch_first=False)
    recurrent.load(lstm.params)
    state = LSTMState(h_n=draw(4, B, H), c_n=draw(4, B, H))
    carries = tuple(LSTMCarry(h=h, c=c) for h, c in zip(*state, strict=True))
    want, (h_n, c_n) = lstm(XS, state)
    for given in (state, tuple(state), list(state), LSTMCarry(*state), carries, list(carries)):
        close(lstm(XS, given), (want, LSTMState(h_n, c_n)))
    for given in (state, carries, list(carries)):
        output, last = recurrent(XS, given)
        close((output, last[3].h, last[3].c), (want, h_n[3], c_n[3]))
    _, after = recurrent(XS)
    close(lstm(XS, after)[0], recurrent(XS, after)[0])


@both
def test_the_state_of_one_layer_is_taken_with_and_without_its_axis(api):
    lstm = random_weights(api("LSTM", I, H))
    recurrent = api("Recurrent", jaxrnn.LSTMCell(H), I, batch_first=False)
    recurrent.load(lstm.params[0])
    h, c = draw(B, H), draw(B, H)
    want, _ = lstm(XS, (h[None], c[None]))
    close(lstm(XS, LSTMCarry(h=h, c=c))[0], want)
    close(recurrent(XS, LSTMState(h[None], c[None]))[0], want)
    close(recurrent(XS, LSTMState(h, c))[0], want)
    gru, one = random_weights(api("GRU", I, H)), draw(1, B, H)
    close(gru(XS, GRUCarry(h=one[0])), gru(XS, one))
    close(gru(XS, one.tolist()), gru(XS, one))


@both
def test_a_carry_may_come_as_lists_or_by_name_but_not_as_an_unnamed_pair(api):
    stack = jaxrnn.Stack((jaxrnn.LSTMCell(H), jaxrnn.GRUCell(H)))
    module = api("Recurrent", stack, I, batch_first=False)
    carry = (LSTMCarry(h=draw(B, H), c=draw(B, H)), GRUCarry(h=draw(B, H)))
    want = module(XS, carry)
    equal(module(XS, list(carry)), want)
    equal(module(XS, [carry[0]._asdict(), carry[1]._asdict()]), want)
    equal(module(XS, {"0": carry[0]._asdict(), "1": carry[1]._asdict()}), want)
    one = jaxrnn.Stack((jaxrnn.GRUCell(H),))
    params = one.init(jax.random.key(0), I)
    for run in (jaxrnn.unroll, functools.partial(jaxrnn.unroll_windows, window=2)):
        equal(run(one, params, XS, [carry[1]]), run(one, params, XS, (carry[1],)))
    with pytest.raises(ValueError, match=r"Make it by name: LSTMCarry\(h=\.\.\., c=\.\.\.\)"):
        api("Recurrent", jaxrnn.LSTMCell(H), I, batch_first=False)(XS, (carry[0].h, carry[0].c))


@both
@pytest.mark.parametrize("bfloat16", [False, True])
def test_tensors_of_torch_are_states(api, bfloat16):
    torch = pytest.importorskip("torch")
    kind = torch.bfloat16 if bfloat16 else torch.float32
    state = [torch.randn(2, B, H, requires_grad=True).to(kind) for _ in range(2)]
    arrays = tuple(part.detach().float().numpy() for part in state)
    lstm = random_weights(api("LSTM", I, H, 2))
    for given in (tuple(state), state, LSTMState(*state)):
        equal(lstm(XS, given), lstm(XS, arrays))
    gru = random_weights(api("GRU", I, H, 2))
    equal(gru(XS, state[0]), gru(XS, arrays[0]))
    recurrent = api("Recurrent", jaxrnn.GRUCell(H), I, batch_first=False)
    given = GRUCarry(h=state[0][0])
    equal(recurrent(XS, given), recurrent(XS, GRUCarry(h=arrays[0][0])))


@both
def test_a_wrong_state_is_told_what_was_expected(api):
    lstm, gru = api("LSTM", I, H), api("GRU", I, H)
    with pytest.raises(TypeError, match=r"the pair \(h_0, c_0\), got GRUCarry"):
        lstm(XS, GRUCarry(h=draw(B, H)))
    with pytest.raises(TypeError, match="the array h_0, got LSTMState"):
        gru(XS, LSTMState(draw(1, B, H), draw(1, B, H)))
    two = api("LSTM", I, H, 2)
    for kind in (tuple, list):
        pairs = kind(kind((draw(B, H), draw(B, H))) for _ in range(2))
        with pytest.raises(TypeError, match=r"go by name, LSTMCarry\(h=\.\.\., c=\.\.\.\)"):
            two(XS, pairs)
    with pytest.raises(ValueError, match="holds 2 carries, expected 1"):
        lstm(XS, [LSTMCarry(draw(B, H), draw(B, H))] * 2)
    recurrent = api("Recurrent", jaxrnn.GRUCell(H), I, batch_first=False)
    with pytest.raises(TypeError, match="an LSTMState is no carry of GRUCell"):
        recurrent(XS, LSTMState(draw(1, B, H), draw(1, B, H)))
    for size in (-1, 2.5, (2, -1), "2", (2.5,)):
        with pytest.raises((TypeError, ValueError), match="batch_size must be"):
            lstm.initial_state(size)
    with pytest.raises(ValueError, match="batch_size is one number"):
        lstm.initial_state((2, 3))


@both
def test_a_step_takes_resets_and_checks_them(api):
    module = random_weights(api("GRU", I, H, 2))
    state = draw(2, B, H)
    reset = np.array([True, False, False, True])
    y, after = module.step(XS[0], state, reset=reset)
    fresh, began = module.step(XS[0], state * ~reset[None, :, None])
    assert_close((y, after), (fresh, began), 1e-6)
    with pytest.raises(ValueError, match=r"reset has shape \(3,\), expected \(4,\)"):
        module.step(XS[0], state, reset=reset[:3])
    with pytest.raises(TypeError, match="reset must be boolean"):
        module.step(XS[0], state, reset=reset.astype(int))


# --- directions, outputs --------------------------------------------------------------------------


@both
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_runs_backwards_in_time(api, batch_first):
    module = api("Recurrent", jaxrnn.GRUCell(H), I, batch_first=batch_first, reverse=True)
    xs = np.moveaxis(XS, 0, 1) if batch_first else XS
    lengths = np.array([6, 0, 2, 3])
    mask = jaxrnn.lengths_to_mask(lengths, T)
    carry, ys = jaxrnn.unroll(jaxrnn.GRUCell(H), module.params, XS, mask=mask, reverse=True)
    output, state = module(xs, lengths=lengths)
    equal((np.moveaxis(output, 1, 0) if batch_first else output, state), (ys, carry))
    with pytest.raises(ValueError, match="reverse=True has no single step"):
        module.step(XS[0])
    with pytest.raises(ValueError, match=r"both directions has no reverse=True"):
        stack = jaxrnn.Stack((jaxrnn.GRUCell(H),), bidirectional=True)
        api("Recurrent", stack, I, batch_first=True, reverse=True)


@both
@pytest.mark.parametrize("merge", ["concat", "sum", "mean", "mul", "apart"])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_directions_are_merged_as_asked(api, name, merge):
    module = random_weights(api(name, I, H, bidirectional=True, merge="concat"))
    other = api(name, I, H, bidirectional=True, merge=merge)
    other.load(module.params)
    output, state = module(XS)
    there, back = output[..., :H], output[..., H:]
    want = {
        "concat": output,
        "sum": there + back,
        "mean": (there + back) / 2,
        "mul": there * back,
        "apart": np.stack([there, back], axis=-2),
    }[merge]
    assert_close(other(XS), (want, state), 1e-6)
    if merge != "concat":
        with pytest.raises(ValueError, match=f"merge={merge!r}"):
            other.to_torch()
        with pytest.raises(ValueError, match="merge joins the directions"):
            api(name, I, H, merge=merge)


PAIR = Bidirectional(jaxrnn.LSTMCell(H), jaxrnn.GRUCell(2))


@both
def test_the_backward_cell_may_differ(api):
    module = api("Recurrent", PAIR, I, batch_first=False)
    lengths = np.array([6, 0, 2, 3])
    mask = jaxrnn.lengths_to_mask(lengths, T)
    there, back = module.params
    carry, ys = jaxrnn.unroll(PAIR.forward, there, XS, mask=mask)
    last, zs = jaxrnn.unroll(PAIR.backward, back, XS, mask=mask, reverse=True)
    output, state = module(XS, lengths=lengths)
    equal((output, tuple(state)), (np.concatenate([ys, zs], axis=-1), (carry, last)))
    with pytest.raises(ValueError, match="no single step"):
        module.step(XS[0])


def test_bidirectional_of_one_cell_is_a_bidirectional_stack():
    stack = jaxrnn.Stack((jaxrnn.GRUCell(H),), bidirectional=True, merge="sum")
    cell = Bidirectional(jaxrnn.GRUCell(H), merge="sum")
    params = stack.init(jax.random.key(0), I)
    reset = RNG.rand(T, B) < 0.3
    carry, ys = jaxrnn.unroll(stack, params, XS, reset=reset, reverse=True)
    own = wrappers.bidirectional.BidirectionalParams(*params)
    mine, zs = jaxrnn.unroll(cell, own, XS, reset=reset, reverse=True)
    equal((zs, tuple(mine)), (ys, carry))


def test_bidirectional_is_a_layer_of_a_stack_with_noise_and_gradients():
    inner = Bidirectional(
        wrappers.VariationalDropout(jaxrnn.GRUCell(H), recurrent=0.5), jaxrnn.RNNCell(2)
    )
    stack = jaxrnn.Stack((inner, LearnedInitialCarry(jaxrnn.LSTMCell(4))), dropout=0.5)
    params = stack.init(jax.random.key(0), I)
    noise = stack.noise(jax.random.key(1), T, XS[0])

    def loss(params, method=None):
        return (jaxrnn.unroll(stack, params, XS, noise=noise, method=method)[1] ** 2).sum()

    gradients = jax.grad(loss)(params)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))
    assert_close(gradients, jax.grad(loss)(params, "scan"), 1e-5)


@pytest.mark.parametrize("merge", ["sum", "mean", "mul", "apart"])
def test_directions_of_different_sizes_can_only_be_concatenated(merge):
    cell = Bidirectional(jaxrnn.LSTMCell(H), jaxrnn.GRUCell(2), merge=merge)
    with pytest.raises(ValueError, match=r"needs outputs of one size.* are 5, 2"):
        jaxrnn.unroll(cell, cell.init(jax.random.key(0), I), XS)


def test_bidirectional_refuses_what_is_no_cell():
    with pytest.raises(TypeError, match=r"cell must be a jaxrnn\.Cell"):
        Bidirectional(jaxrnn.GRUCell)
    with pytest.raises(ValueError, match="merge must be one of"):
        Bidirectional(jaxrnn.GRUCell(2), merge="max")
    with pytest.raises(ValueError, match="must agree in axes"):
        Bidirectional(jaxrnn.GRUCell(2), cells.ConvGRUCell(2, (3,)))


def test_a_saved_bidirectional_cell_comes_back(tmp_path):
    params = PAIR.init(jax.random.key(0), I)
    save_pretrained(tmp_path / "pair", PAIR, params, I)
    cell, again = from_pretrained(tmp_path / "pair")
    assert cell == PAIR
    equal(again, params)


class Outputs(NamedTuple):
    y: jax.Array
    gate: jax.Array


@dataclasses.dataclass(frozen=True)
class TwoOutputs(jaxrnn.GRUCell):
    """A GRU that also puts out the mean of its state."""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        carry, y = super().step(params, carry, u, dot)
        return carry, {"all": Outputs(y=y, gate=y.mean(-1, keepdims=True))}


@both
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_cell_whose_output_is_a_tree_runs_in_recurrent(api, batch_first):
    module = api("Recurrent", TwoOutputs(H), I, batch_first=batch_first)
    plain = api("Recurrent", jaxrnn.GRUCell(H), I, batch_first=batch_first)
    plain.load(module.params)
    xs = np.moveaxis(XS, 0, 1) if batch_first else XS
    output, state = module(xs, lengths=[6, 0, 2, 3])
    want, last = plain(xs, lengths=[6, 0, 2, 3])
    equal((output["all"].y, state), (want, last))
    assert_close(output["all"].gate, want.mean(-1, keepdims=True), 1e-6)
    y, _ = module.step(XS[0])
    equal(y["all"].y, plain.step(XS[0])[0])


@pytest.mark.parametrize("method", ["scan", "fused"])
@pytest.mark.parametrize("remat", ["none", "carry", "sqrt"])
def test_an_output_that_is_a_tree_has_the_gradients_of_the_scan(method, remat):
    cell = TwoOutputs(H)
    params = cell.init(jax.random.key(0), I)
    mask = jaxrnn.lengths_to_mask([6, 0, 2, 3], T)

    def loss(params, xs, **how):
        _, ys = jaxrnn.unroll(cell, params, xs, mask=mask, **how)
        return (ys["all"].y ** 2).sum() + jnp.sin(ys["all"].gate).sum()

    got = jax.grad(loss, (0, 1))(params, XS, method=method, remat=remat)
    assert_close(got, jax.grad(loss, (0, 1))(params, XS, method="scan"), 1e-5)


def test_a_tree_of_outputs_runs_in_windows_with_carries_and_as_the_last_layer():
    cell = TwoOutputs(H)
    stack = jaxrnn.Stack((jaxrnn.GRUCell(4), cell), dropout=0.5)
    params = stack.init(jax.random.key(0), I)
    noise = stack.noise(jax.random.key(1), T, XS[0])
    want = jaxrnn.unroll(stack, params, XS, noise=noise)
    assert_close(jaxrnn.unroll_windows(stack, params, XS, noise=noise, window=4), want, 1e-6)
    carries, ys = jaxrnn.unroll_carries(stack, params, XS, noise=noise)
    assert_close((jax.tree.map(lambda c: c[-1], carries), ys), want, 1e-6)
    both_ways = jaxrnn.Stack((cell,), bidirectional=True)
    params = both_ways.init(jax.random.key(0), I)
    assert jaxrnn.unroll(both_ways, params, XS)[1]["all"].gate.shape == (T, B, 2)


# --- weights --------------------------------------------------------------------------------------


def sources(api, cell, core):
    """The same weights, as they may come."""
    lstm = api("LSTM", I, H, 2)
    lstm.load(core)
    nnx_module = jaxrnn.nnx.LSTM(I, H, 2, rngs=nnx.Rngs(3))
    nnx_module.load(core)
    variables = jaxrnn.linen.LSTM(I, H, 2).load(core)
    return {
        "core": core,
        "lists": [list(p) for p in core],
        "dicts": {str(k): p._asdict() for k, p in enumerate(core)},
        "nnx module": nnx_module,
        "nnx variables": nnx_module.weights,
        "nnx state": nnx.state(nnx_module, nnx.Param),
        "nnx pure dict": nnx.to_pure_dict(nnx.state(nnx_module, nnx.Param)),
        "linen variables": variables,
        "linen params": variables["params"],
        "linen boxed": jax.tree.map(lambda a: nn.Partitioned(a, (None,) * a.ndim), variables),
        "float64": jax.tree.map(lambda a: np.asarray(a, np.float64), core),
        "from_linen": tuple(from_linen(cell, to_linen(cell, p)) for p in core),
    }


@both
def test_load_takes_weights_of_any_source(api):
    stack = jaxrnn.Stack((jaxrnn.LSTMCell(H),) * 2)
    core = jax.tree.map(lambda a: draw(*a.shape), stack.init(jax.random.key(0), I))
    cell = jaxrnn.LSTMCell(H)
    want = jaxrnn.unroll(stack, core, XS)[1]
    for name, source in sources(api, cell, core).items():
        module = api("LSTM", I, H, 2)
        module.load(source)
        assert jax.tree.leaves(module.weights)[0].dtype == jnp.float32, name
        np.testing.assert_array_equal(module(XS)[0], want, err_msg=name)
        if name != "nnx module":
            np.testing.assert_array_equal(jaxrnn.unroll(stack, source, XS)[1], want, err_msg=name)


@both
def test_load_refuses_what_does_not_fit_and_changes_nothing(api):
    module = random_weights(api("GRU", I, H, 2))
    before = module.to_torch()
    wrong = [
        (jaxrnn.Stack((jaxrnn.GRUCell(H + 1),) * 2).init(jax.random.key(0), I), "do not fit"),
        (jaxrnn.Stack((jaxrnn.GRUCell(H),) * 2).init(jax.random.key(0), I + 1), "input_size=4"),
        (jaxrnn.Stack((jaxrnn.GRUCell(H),)).init(jax.random.key(0), I), "structure|entries"),
        (jaxrnn.Stack((jaxrnn.LSTMCell(H),) * 2).init(jax.random.key(0), I), "structure"),
        ({"0": {"w_x": 1}}, "must have the entries"),
        (None, "must have the entries 0, 1, got NoneType"),
        ((1, 2), "params"),
    ]
    for params, message in wrong:
        with pytest.raises((ValueError, TypeError), match=message):
            module.load(params)
    equal(module.to_torch(), before)


@both
def test_loading_keeps_dtypes_and_shares_no_memory(api):
    module = api("GRU", I, H, param_dtype=jnp.bfloat16)
    arrays = jax.tree.map(lambda a: draw(*a.shape), module.params)
    module.load(arrays)
    kept = jax.tree.map(np.array, jax.tree.leaves(module.weights))
    assert {a.dtype for a in kept} == {jnp.dtype(jnp.bfloat16)}
    for a in jax.tree.leaves(arrays):
        a[...] = 0
    equal(jax.tree.leaves(module.weights), kept)


@both
def test_unroll_explain_stepper_and_save_pretrained_take_a_module(api, tmp_path):
    module = random_weights(api("LSTM", I, H, 2, method="scan", batch_first=True))
    own, cell = module.module, module.module.cell
    weights = module.params if api is Nnx else module.weights
    want, (_, c_n) = module(np.moveaxis(XS, 0, 1))
    carry, ys = jaxrnn.unroll(own, weights, XS)
    assert_close((np.moveaxis(ys, 0, 1), carry[1].c), (want, c_n[1]), 1e-6)
    assert [found.method for found in jaxrnn.explain(own, (T, B, I))] == ["scan"] * 2
    assert [found.method for found in jaxrnn.explain(cell, (T, B, I))] == ["fused"] * 2
    step = jaxrnn.stepper(own, weights)
    assert_close(step(step.first((B,)), XS[0])[1], ys[0], 1e-6)
    save_pretrained(tmp_path / "lstm", own, weights, I)
    again, params = from_pretrained(tmp_path / "lstm")
    assert again == cell
    equal(params, module.params)
    equal(to_torch(again, params), module.to_torch())


def test_unroll_takes_the_variables_of_nnx_as_they_stand():
    module = jaxrnn.nnx.GRU(I, H, 2, rngs=nnx.Rngs(0))
    want = jaxrnn.unroll(module.cell, module.params, XS)
    for params in (module.weights, nnx.state(module, nnx.Param)):
        equal(jaxrnn.unroll(module.cell, params, XS), want)
    gradient = nnx.grad(lambda m: (jaxrnn.unroll(m.cell, m.weights, XS)[1] ** 2).sum())(module)
    assert np.abs(gradient["weights"]["0"]["w_x"][...]).max() > 0


# --- what prints, and what Flax does with them ----------------------------------------------------


@both
def test_a_module_prints_its_layers_directions_and_shapes(api):
    text = repr(api("GRU", I, H, 2, bidirectional=True, batch_first=True, dropout=0.5).module)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "GRU(" in plain and "input_size=3, batch first, dropout=0.5: 770 parameters" in plain
    for layer, features in ((0, 3), (1, 10)):
        for direction in ("forward", "backward"):
            row = next(r for r in plain.splitlines() if f"layer_{layer}_{direction}" in r)
            assert f"GRUCell(5): w_x [{features}, 3, 5], w_h [5, 3, 5], b [15], b_hn [5]" in row
    one = repr(api("Recurrent", jaxrnn.RNNCell(2, "relu"), I, batch_first=True).module)
    assert "RNNCell(2, nonlinearity='relu'): w_x [3, 1, 2]" in one
    assert len(plain.splitlines()) == 6


class LinenNet(nn.Module):
    dropout: float = 0.0

    @nn.compact
    def __call__(self, xs):
        ys, _ = jaxrnn.linen.LSTM(I, H, 2, dropout=self.dropout, deterministic=True)(xs)
        return nn.Dense(2)(ys)


class NnxNet(nnx.Module):
    def __init__(self, rngs, kind=jaxrnn.nnx.GRU, **options):
        self.rnn = kind(I, H, **options, rngs=rngs)
        self.head = nnx.Linear(H, 2, rngs=rngs)

    def __call__(self, xs):
        return self.head(self.rnn(xs)[0])


def test_a_module_prints_as_a_part_of_an_nnx_network():
    text = re.sub(r"\x1b\[[0-9;]*m", "", repr(NnxNet(nnx.Rngs(0))))
    assert "layer_0=GRUCell(5): w_x [3, 3, 5]" in text and "head=Linear(" in text


def test_linen_tabulates_a_module_alone_and_inside_a_network_with_flops():
    how = dict(compute_flops=True, compute_vjp_flops=True, console_kwargs=dict(width=200))
    alone = nn.tabulate(jaxrnn.linen.GRU(I, H), jax.random.key(0), **how)(XS)
    assert "Total Parameters: 140" in alone
    text = nn.tabulate(LinenNet(), jax.random.key(0), **how)(XS)
    row = next(line for line in text.splitlines() if "LSTM_0" in line)
    flops = [int(n) for n in re.findall(r"│ (\d+) +(?=│)", row)]
    assert len(flops) == 2 and min(flops) > 500
    assert "Total Parameters: 412" in text


def test_nnx_tabulates_networks_with_arrays_for_states():
    text = nnx.tabulate(NnxNet(nnx.Rngs(0)), XS, compute_flops=True, compute_vjp_flops=True)
    assert "GRU" in text and "Total Parameters: 152" in text


def test_nnx_cannot_tabulate_a_named_pair_which_is_its_own_fault():
    @nnx.jit
    def pair(xs):
        return xs, LSTMState(xs, xs)

    class Plain(nnx.Module):  # nothing of ours but a named tuple
        def __call__(self, xs):
            return pair(xs)

    with pytest.raises(TypeError, match="'<=' not supported"):
        nnx.tabulate(Plain(), XS)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_an_nnx_module_is_a_linen_module_by_to_linen(dropout):
    module = nnx.bridge.to_linen(jaxrnn.nnx.LSTM, I, H, 2, dropout=dropout)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = module.init(keys, XS)
    assert variables["params"]["weights"]["0"]["w_x"].shape == (I, 4, H)
    output, _ = module.apply(variables, XS, rngs={"dropout": jax.random.key(2)})
    if dropout == 0:
        own = jaxrnn.nnx.LSTM(I, H, 2, rngs=nnx.Rngs(0))
        own.load(variables["params"]["weights"])
        equal(own(XS)[0], output)
    else:
        other, _ = module.apply(variables, XS, rngs={"dropout": jax.random.key(3)})
        assert (output != other).any()


@pytest.mark.parametrize("kind", [jaxrnn.linen.LSTM, jaxrnn.linen.GRU])
def test_a_linen_module_is_an_nnx_module_by_tonnx(kind):
    module = nnx.bridge.ToNNX(kind(I, H, 2), rngs=nnx.Rngs(0)).lazy_init(XS)
    output, _ = module(XS)
    assert output.shape == (T, B, H) and np.isfinite(output).all()
    gradient = nnx.grad(lambda m: (m(XS)[0] ** 2).sum())(module)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradient))


@both
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_nan_in_the_padding_passes_under_debug_nans(api, name):
    module = random_weights(api(name, I, H, 2, batch_first=True))
    xs = np.moveaxis(XS, 0, 1).copy()
    lengths = np.array([6, 0, 2, 3])
    want = module(xs, lengths=lengths)
    dirty = xs.copy()
    for row, length in enumerate(lengths):
        dirty[row, length:] = np.nan
    with jax.debug_nans(True):
        for given in (dirty, jax.device_put(dirty)):
            equal(module(given, lengths=lengths), want)
            gradient = jax.grad(lambda xs: (module(xs, lengths=lengths)[0] ** 2).sum())(given)
            assert np.isfinite(gradient).all()
        mask = np.arange(T) < lengths[:, None]
        equal(module(dirty, mask=mask), want)


def test_dropout_captured_by_a_plain_transformation_says_pass_key():
    module = jaxrnn.nnx.GRU(I, H, 2, dropout=0.5, rngs=nnx.Rngs(0))
    for plain in (jax.jit, jax.grad, lambda f: jax.vmap(f)):
        with pytest.raises(ValueError, match=r"pass key=, or use nnx\.jit"):
            plain(lambda xs: module(xs)[0].sum())(XS)
    key = jax.random.key(0)
    assert np.isfinite(jax.jit(lambda xs: module(xs, key=key)[0])(XS)).all()


def test_split_batch_draws_other_masks_at_each_call_and_on_each_device():
    module = jaxrnn.nnx.GRU(I, H, 2, dropout=0.5, rngs=nnx.Rngs(0))
    same = np.repeat(XS[:, :1], 2, axis=1)  # two equal sequences, one for each device
    sign = np.array([1, -1], np.float32)[None, :, None]  # whose outputs cancel under one mask

    def loss(module, xs, sign):
        return (sign * module(xs)[0]).mean()

    split = jaxrnn.split_batch(loss, (None, 1, 1), devices=jax.devices()[:2])
    run = nnx.jit(nnx.value_and_grad(split))
    values = [float(run(module, same, sign)[0]) for _ in range(3)]
    assert len(set(values)) == 3 and min(map(abs, values)) > 1e-4
    assert float(split(module, same, sign)) not in values
    module.eval()
    assert abs(run(module, same, sign)[0]) < 1e-7


@both
def test_forward_mode_on_the_default_says_method_scan(api):
    module = random_weights(api("GRU", I, H))
    call = lambda xs: module(xs)[0]  # noqa: E731
    tries = (
        lambda f: jax.jvp(f, (XS,), (XS,)),
        lambda f: jax.jit(lambda xs: jax.jvp(f, (xs,), (xs,)))(XS),
        lambda f: jax.jacfwd(f)(XS),
        lambda f: jax.jit(jax.jacfwd(f))(XS),
        lambda f: jax.linearize(f, XS)[1](XS),
    )
    other = api("GRU", I, H, method="scan")
    other.load(module.params)
    for attempt in tries:
        with pytest.raises(TypeError, match='method="scan" has both modes'):
            attempt(call)
        attempt(lambda xs: other(xs)[0])


@pytest.mark.parametrize(
    "wrap", ["checkpoint", "vmap inside", "vmap outside", "scan", "cond", "twice"]
)
def test_the_refusal_of_forward_mode_leaves_reverse_mode_alone(wrap):
    cell = jaxrnn.GRUCell(H)
    params = cell.init(jax.random.key(0), I)

    def loss(xs, method=None):
        return (jaxrnn.unroll(cell, params, xs, method=method)[1] ** 2).sum()

    def gradient(method):
        f = lambda xs: loss(xs, method)  # noqa: E731
        many = jnp.stack([XS, 2 * XS])
        if wrap == "checkpoint":
            return jax.grad(jax.checkpoint(f))(XS)
        if wrap == "vmap inside":
            return jax.grad(lambda xs: jax.vmap(f)(xs).sum())(many)
        if wrap == "vmap outside":
            return jax.vmap(jax.grad(f))(many)
        if wrap == "scan":
            added = lambda total, x: (total + f(x), None)  # noqa: E731
            return jax.grad(lambda xs: jax.lax.scan(added, 0.0, xs)[0])(many)
        if wrap == "cond":
            return jax.grad(lambda xs: jax.lax.cond(xs.sum() > 0, f, lambda x: 2 * f(x), xs))(XS)
        return jax.jvp(jax.grad(f), (XS,), (XS,))

    assert_close(gradient(None), gradient("scan"), 1e-4)


# --- numbers that are not real, and Flax's own loops ----------------------------------------------


@both
@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("wrong", [np.complex64, np.int32, np.uint8, np.bool_])
def test_inputs_that_are_not_real_numbers_are_refused(api, dtype, wrong):
    xs = np.ones((T, B, I), wrong)
    why = "real and imaginary parts" if wrong is np.complex64 else "Embed or one-hot encode"
    for module in (
        api("LSTM", I, H, dtype=dtype),
        api("Recurrent", jaxrnn.GRUCell(H), I, batch_first=False, dtype=dtype),
    ):
        with pytest.raises(TypeError, match=why):
            module(xs)
        with pytest.raises(TypeError, match=why):
            module.step(xs[0])
        with pytest.raises(TypeError, match=why):
            module(xs.tolist())
    if api is Nnx:
        cell = jaxrnn.nnx.CellForRNN(jaxrnn.GRUCell(H), I, dtype=dtype, rngs=nnx.Rngs(0))
        run = nnx.RNN(cell)
        attempts = [lambda: cell(None, xs[0]), lambda: run(np.moveaxis(xs, 0, 1))]
    else:
        cell = jaxrnn.linen.CellForRNN(jaxrnn.GRUCell(H), dtype=dtype)
        variables = cell.init(jax.random.key(0), None, XS[0])
        attempts = [
            lambda: cell.apply(variables, None, xs[0]),
            lambda: nn.RNN(cell).init(jax.random.key(0), np.moveaxis(xs, 0, 1)),
        ]
    for attempt in attempts:
        with pytest.raises(TypeError, match=why):
            attempt()


def test_carry_init_is_honoured_or_refused():
    cell = jaxrnn.nnx.CellForRNN(jaxrnn.LSTMCell(H), I, rngs=nnx.Rngs(0))
    normal = jax.nn.initializers.normal(1.0)
    for rngs in (nnx.Rngs(carry=1), nnx.Rngs(1), nnx.Rngs(1).carry, jax.random.key(1)):
        carry = cell.initialize_carry((B, I), rngs, normal)
        assert carry.h.shape == (B, H) and np.std(carry.h) > 0.3
        assert (carry.h != carry.c).all()
    equal(cell.initialize_carry((B, I), None), jaxrnn.initial_carry(cell.cell, cell.params, (B,)))
    with pytest.raises(ValueError, match="pass rngs too"):
        cell.initialize_carry((B, I), None, normal)


@pytest.mark.parametrize("use", ["nnx.RNN", "nnx.Bidirectional", "linen.RNN"])
def test_a_bare_cell_in_the_loop_of_flax_is_told_of_its_adapter(use):
    cell = jaxrnn.LSTMCell(20)
    attempts = {
        "nnx.RNN": lambda: nnx.RNN(cell)(XS),
        "nnx.Bidirectional": lambda: nnx.Bidirectional(nnx.RNN(cell), nnx.RNN(cell))(XS),
        "linen.RNN": lambda: nn.RNN(cell).init(jax.random.key(0), XS),
    }
    with pytest.raises(AttributeError, match=r"jaxrnn\.nnx\.CellForRNN\(cell, input_size"):
        attempts[use]()
    assert not hasattr(cell, "num_feature_axes")


# --- what a fresh reader found --------------------------------------------------------------------


def test_a_view_of_a_network_switches_dropout_off():
    net = NnxNet(nnx.Rngs(0), num_layers=2, dropout=0.5)
    assert (net(XS) != net(XS)).any()
    view = nnx.view(net, deterministic=True)
    equal(view(XS), view(XS))
    alone = nnx.view(net.rnn, deterministic=True)
    equal(alone(XS), alone(XS))


@both
def test_a_module_that_runs_backwards_is_not_taken_for_its_cell(api):
    own = api("Recurrent", jaxrnn.GRUCell(H), I, batch_first=False, reverse=True)
    for attempt in (
        lambda: jaxrnn.unroll(own.module, own.params, XS),
        lambda: jaxrnn.stepper(own.module, own.params),
    ):
        with pytest.raises(ValueError, match="this module has reverse=True"):
            attempt()
    assert jaxrnn.explain(own.module, (T, B, I))[0].method == "fused"
    (found,) = jaxrnn.explain(own.module, (70, B, I), remat="sqrt")
    assert found == jaxrnn.explain(own.module.cell, (70, B, I), remat="sqrt")[0]


@dataclasses.dataclass(frozen=True)
class Named(jaxrnn.Cell):
    """A moving average as wide as its input, whose parameters have a name that modules use."""

    name: str = "weights"

    def init(self, key, input_size, dtype=jnp.float32):
        return {self.name: jax.random.uniform(key, (input_size,), dtype)}

    def init_carry(self, params, like):
        return jnp.zeros_like(like)

    def project(self, params, xs, noise=None):
        return xs

    def step(self, params, carry, u, dot=jaxrnn.dot):
        carry = params[self.name] * carry + (1 - params[self.name]) * u
        return carry, carry


@both
@pytest.mark.parametrize("name", ["weights", "cell", "params"])
def test_parameters_with_the_names_of_collections_are_a_cells_own(api, name):
    cell = Named(name)
    params = cell.init(jax.random.key(0), I)
    want = jaxrnn.unroll(cell, params, XS)
    module = api("Recurrent", cell, I, batch_first=False)
    module.load(params)
    equal(module(XS), want[::-1])
    equal(module.initial_state(B), np.zeros((B, I), np.float32))
    y, state = module.step(XS[0])
    equal(module.step(XS[0], module.initial_state(B)), (y, state))
    with pytest.raises(ValueError, match=r"have shapes .*\(1,\).*expected"):
        module.load({name: jnp.ones(1)})


@both
def test_load_checks_a_cell_whose_parameters_tell_no_size(api):
    cell = jaxrnn.linen.FromLinen(nn.GRUCell(H))
    module = api("Recurrent", cell, I, batch_first=False)
    before = jax.tree.map(np.array, jax.tree.leaves(module.weights))
    for other in (
        cell.init(jax.random.key(1), I + 1),
        jaxrnn.linen.FromLinen(nn.GRUCell(2)).init(jax.random.key(1), I),
    ):
        with pytest.raises(ValueError, match="have shapes"):
            module.load(other)
    equal(jax.tree.leaves(module.weights), before)


@both
def test_tensors_of_torch_are_inputs_and_weights(api):
    torch = pytest.importorskip("torch")
    module = random_weights(api("GRU", I, H))
    tensor = torch.as_tensor(XS).requires_grad_()
    equal(module(tensor), module(XS))
    equal(
        jaxrnn.unroll(module.module.cell, module.params, tensor),
        jaxrnn.unroll(module.module.cell, module.params, XS),
    )
    other = api("GRU", I, H)
    other.load(jax.tree.map(lambda a: torch.as_tensor(np.array(a)), module.params))
    equal(other(XS), module(XS))


def test_split_batch_takes_a_network_with_one_stream_in_two_places():
    class Sub(nnx.Module):
        def __init__(self, rngs):
            self.rngs = rngs

        def __call__(self, xs):
            return xs + jax.random.normal(self.rngs.noise(), xs.shape)

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.a = Sub(rngs)
            self.b = Sub(rngs)

        def __call__(self, xs):
            return self.b(self.a(xs))

    split = jaxrnn.split_batch(lambda net, xs: net(xs).mean(), (None, 1), jax.devices()[:2])
    run = nnx.jit(split)
    net = Net(nnx.Rngs(0))
    assert len({float(run(net, XS)) for _ in range(3)}) == 3


@both
def test_the_state_of_a_gru_is_taken_by_recurrent_and_states_of_files_by_name(api):
    gru = random_weights(api("GRU", I, H, 2))
    recurrent = api("Recurrent", gru.module.cell, I, batch_first=False)
    recurrent.load(gru.params)
    _, h_n = gru(XS)
    equal(recurrent(XS, h_n)[0], gru(XS, h_n)[0])
    equal(recurrent(XS, tuple(GRUCarry(h=nnx.Param(h)) for h in h_n))[0], gru(XS, h_n)[0])
    lstm = random_weights(api("LSTM", I, H, 2))
    _, state = lstm(XS)
    want = lstm(XS, state)
    equal(lstm(XS, state._asdict()), want)
    rows = [{"h": h, "c": c} for h, c in zip(*state, strict=True)]
    close(lstm(XS, rows), want)


def test_an_initial_state_may_have_a_symbol_for_its_batch():
    from jax import export

    module = jaxrnn.nnx.LSTM(I, H, rngs=nnx.Rngs(0))
    jaxrnn.interop.register_for_export()

    def run(xs):
        return module(xs, module.initial_state(xs.shape[1]))

    xs = jax.ShapeDtypeStruct((T, *export.symbolic_shape("B"), I), jnp.float32)
    program = export.export(jax.jit(run))(xs)
    assert_close(program.call(XS), run(XS), 1e-6)


def test_an_initial_state_follows_x64_and_takes_lists_of_sizes():
    module = jaxrnn.nnx.Recurrent(jaxrnn.GRUCell(H), I, batch_first=True, rngs=nnx.Rngs(0))
    assert module.initial_state(2, jnp.float64).h.dtype == jnp.float32
    with jax.enable_x64(True):
        assert module.initial_state(2, jnp.float64).h.dtype == jnp.float64
    conv = jaxrnn.linen.Recurrent(cells.ConvLSTMCell(2, (3, 3)), 1, batch_first=True)
    assert conv.initial_state([B], spatial_shape=[4, 5]).c.shape == (B, 4, 5, 2)


def test_no_layer_follows_a_tree_of_outputs():
    stack = jaxrnn.Stack((TwoOutputs(H), jaxrnn.GRUCell(2)))
    with pytest.raises(ValueError, match="puts out a tree of arrays, so that no layer may follow"):
        stack.init(jax.random.key(0), I)
