"""`method="cudnn"` against the plain scan: with cuDNN where there is a GPU, else with the reference
that JAX holds against it."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from jax.experimental import rnn
from oracles import assert_close

import jaxrnn
from jaxrnn.cells import PeepholeLSTMCell
from jaxrnn.wrappers import DropConnect, LearnedInitialCarry, Zoneout

cudnn = importlib.import_module("jaxrnn.hardware.cudnn")
pytestmark = pytest.mark.usefixtures("quick_compilation")
T, B, I, H = 6, 5, 3, 4
LENGTHS = [6, 1, 0, 4, 3]
PADDED = np.arange(T)[:, None] < np.array(LENGTHS)
HOLES = np.random.default_rng(1).random((T, B)) < 0.6
LSTM, BOTH = jaxrnn.LSTMCell(H), jaxrnn.Stack((jaxrnn.LSTMCell(H),) * 2, bidirectional=True)


def reference(x, h_0, c_0, weights, lengths, I, H, layers, dropout, bidirectional):
    assert lengths.dtype == jnp.int32
    parts = rnn.unpack_lstm_weights(weights, I, H, layers, bidirectional)
    found = rnn.lstm_ref(x, h_0, c_0, *parts, lengths, I, H, layers, dropout, bidirectional)
    return tuple(
        jnp.where(jnp.min(lengths) > 0, a, jnp.nan) for a in found
    )  # cuDNN refuses a length of 0


@pytest.fixture(params=["reference", pytest.param("cudnn", marks=pytest.mark.gpu)], autouse=True)
def computed_by(request, monkeypatch):
    if request.param == "cudnn" and not cudnn.gpu():
        pytest.skip("there is no NVIDIA GPU")
    if (
        request.param == "reference"
    ):  # of nothing but JAX's operations; it is wrong at length 0, as cuDNN is
        monkeypatch.setattr(rnn, "lstm", reference)
        monkeypatch.setattr(cudnn, "gpu", lambda: True)
    importlib.import_module("jaxrnn.running.unroll").jitted.clear_cache()
    with jax.default_matmul_precision("highest"):
        yield request.param


def random(tree, seed=0):
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(
        structure, [jnp.asarray(rng.normal(0, 0.5, a.shape), jnp.float32) for a in leaves]
    )


def answers(cell, method, shape=(T, B, I), **options):
    """The results, and the gradients of parameters, inputs and the first carry."""
    params = random(jax.eval_shape(lambda: cell.init(jax.random.key(0), shape[-1])))
    xs, carry = (
        random(jnp.zeros(shape), 1),
        random(jaxrnn.initial_carry(cell, params, shape[1:-1]), 2),
    )

    def run(params, xs, carry):
        return jaxrnn.unroll(cell, params, xs, carry, method=method, **options)

    @jax.jit
    def everything(*args):
        results, pull = jax.vjp(run, *args)
        return results, pull(random(results, 3))

    return everything(params, xs, carry)


CELLS = {
    "lstm": LSTM,
    "no bias": jaxrnn.LSTMCell(H, bias=False),
    "both directions of two layers": BOTH,
    "layers of several sizes": jaxrnn.Stack(
        (jaxrnn.LSTMCell(H), jaxrnn.LSTMCell(2)), bidirectional=True
    ),
    "directions that are added": jaxrnn.Stack(
        (jaxrnn.LSTMCell(H),) * 2, bidirectional=True, merge="sum"
    ),
    "a stack of stacks, of which one has both directions": jaxrnn.Stack(
        (jaxrnn.Stack((LSTM,), bidirectional=True), jaxrnn.Stack((LSTM, LSTM)))
    ),
    "a stack of stacks in both directions": jaxrnn.Stack(
        (jaxrnn.Stack((LSTM, LSTM)),), bidirectional=True
    ),
    "a stack of stacks": jaxrnn.Stack((jaxrnn.Stack((LSTM, LSTM)), LSTM)),
    "a learned first carry": LearnedInitialCarry(LSTM),
}

FEW = ("lstm", "both directions of two layers")


@pytest.mark.parametrize(
    ("mask", "reverse"),
    [(None, False), (None, True), (PADDED, False), (HOLES, True)],
    ids=["whole", "reverse", "padded", "holes"],
)
@pytest.mark.parametrize(
    "name", slow.some(CELLS, FEW.__contains__, "other ways to put the same layers together")
)
def test_results_and_gradients_are_those_of_the_plain_scan(name, mask, reverse):
    cell = CELLS[name]
    options = {"mask": None if mask is None else jnp.asarray(mask), "reverse": reverse}
    assert_close(answers(cell, "cudnn", **options), answers(cell, "scan", **options), 1e-5)


@pytest.mark.parametrize("shape", [(T, I), (T, 2, B, I), (1, B, I)], ids=str)
@pytest.mark.parametrize(
    "name", slow.some(FEW, "lstm".__eq__, "the same shapes for several layers at once")
)
def test_any_number_of_batch_axes_and_one_step(name, shape):
    cell = CELLS[name]
    assert_close(answers(cell, "cudnn", shape), answers(cell, "scan", shape), 1e-5)


def test_nothing_in_the_padding_reaches_results_or_gradients():
    params, mask = random(LSTM.init(jax.random.key(0), I)), jnp.asarray(HOLES)
    xs = jnp.where(mask[..., None], random(jnp.zeros((T, B, I)), 1), jnp.nan)

    def loss(params, xs):
        carry, ys = jaxrnn.unroll(LSTM, params, xs, mask=mask, method="cudnn")
        return jnp.sum(ys**2) + jnp.sum(carry.c**2)

    gradients = jax.grad(loss, (0, 1))(params, xs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert not np.any(np.asarray(gradients[1])[~HOLES])


def test_a_stack_of_one_size_is_one_call(monkeypatch):
    calls, run = [], rnn.lstm
    monkeypatch.setattr(rnn, "lstm", lambda *args: calls.append(args[7:]) or run(*args))
    answers(BOTH, "cudnn")
    answers(CELLS["a stack of stacks"], "cudnn")
    assert calls == [(2, 0.0, True), (3, 0.0, False)]


def test_the_order_in_memory_of_what_goes_in_and_comes_out_is_fixed():
    # Else XLA leaves out the transposition between time and batch around the call (jax#19177).
    fixed, real = [], cudnn.with_layout_constraint

    def constrained(a, layout):
        fixed.append((a.shape, layout.major_to_minor))
        return real(a, layout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cudnn, "with_layout_constraint", constrained)
        jax.make_jaxpr(lambda: answers(LSTM, "cudnn"))()
    shapes = [(B, T, I), (1, B, H), (1, B, H), (B, T, H), (1, B, H), (1, B, H)]
    assert fixed[:6] == [(shape, (0, 1, 2)) for shape in shapes]


@pytest.mark.parametrize("shape", [(0, 2, I), (T, 0, I)], ids=str)
def test_over_nothing_a_stack_in_both_directions_is_what_the_scan_gives(shape):
    assert_close(answers(BOTH, "cudnn", shape), answers(BOTH, "scan", shape), 0)


def test_dropout_between_layers_and_of_weights_is_ours():
    stack = jaxrnn.Stack((DropConnect(LSTM, 0.3), LSTM), bidirectional=True, dropout=0.4)
    noise = stack.noise(jax.random.key(7), T, jnp.zeros((B, I)))
    assert_close(answers(stack, "cudnn", noise=noise), answers(stack, "scan", noise=noise), 1e-5)
    assert (
        np.abs(answers(stack, "cudnn", noise=noise)[0][1] - answers(stack, "cudnn")[0][1]).max()
        > 0.05
    )


def test_the_modules_take_it_with_lengths():
    from flax import nnx

    from jaxrnn.nnx import LSTM as Module

    options = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    fast, plain = (Module(I, H, **options, method=m, rngs=nnx.Rngs(0)) for m in ("cudnn", "scan"))
    xs = random(jnp.zeros((B, T, I)))
    assert_close(fast(xs, lengths=LENGTHS), plain(xs, lengths=LENGTHS), 1e-5)


class Clipped(jaxrnn.LSTMCell):
    """A cell made from the LSTM, with another step."""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        carry, y = super().step(params, carry, u, dot)
        return carry, jnp.clip(y, -0.1, 0.1)


class Doubled(jaxrnn.Stack):
    """A stack with outputs of its own."""

    def unroll_layers(self, *args, **options):
        carry, ys = super().unroll_layers(*args, **options)
        return carry, 2 * ys


def test_a_stack_that_runs_its_layers_otherwise_is_not_one_call():
    cell = Doubled((LSTM, LSTM))
    assert_close(answers(cell, "cudnn"), answers(cell, "scan"), 1e-5)


REFUSED = {
    "GRUCell: it is no LSTM as cuDNN has it": (jaxrnn.GRUCell(H), {}),
    "PeepholeLSTMCell: it is no LSTM": (PeepholeLSTMCell(H), {}),
    "Clipped: it is no LSTM": (Clipped(H), {}),
    "Zoneout: it is no LSTM": (jaxrnn.Stack((LSTM, Zoneout(LSTM, 0.1))), {}),
    "xs are float16, and it computes in float32 only": (LSTM, {"dtype": jnp.float16}),
    "reset begins a new sequence inside a row": (LSTM, {"reset": jnp.ones((T, B), jnp.bool_)}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cudnn_does_not_compute_is_refused(reason):
    cell, options = REFUSED[reason]
    xs = jnp.zeros((options.pop("T", T), B, I), options.pop("dtype", jnp.float32))
    with pytest.raises(
        ValueError, match=f'method="cudnn" cannot run .*{reason}.*method=None runs everything'
    ):
        jaxrnn.unroll(cell, cell.init(jax.random.key(0), I), xs, method="cudnn", **options)


def test_carries_of_all_steps_and_other_remat_are_refused():
    params, xs = LSTM.init(jax.random.key(0), I), jnp.zeros((T, B, I))
    with pytest.raises(ValueError, match="it does not give the carries of all steps"):
        jaxrnn.unroll_carries(LSTM, params, xs, method="cudnn")
    with pytest.raises(
        ValueError, match=r"remat must be one of \('none',\) for method='cudnn', got 'carry'"
    ):
        jaxrnn.unroll(LSTM, params, xs, method="cudnn", remat="carry")


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(cudnn, "gpu", lambda: False)
    with pytest.raises(ValueError, match="it needs an NVIDIA GPU, and this process has none"):
        jaxrnn.unroll(LSTM, LSTM.init(jax.random.key(0), I), jnp.zeros((T, B, I)), method="cudnn")


def test_what_is_explained_is_what_runs():
    for cell in (LSTM, BOTH):
        (first, *_) = jaxrnn.explain(cell, (T, B, I), method="cudnn")
        assert first.method == "cudnn" and "cudnn" not in first.refused
        assert (
            jaxrnn.explain(cell, (T, B, I))[0].method == "fused"
        )  # chosen by nobody but the caller
    with pytest.raises(ValueError, match="reset begins"):
        jaxrnn.explain(LSTM, (T, B, I), method="cudnn", reset=True)
