"""Truncated backpropagation in windows, and the carries of all steps:
against the same written by hand.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from oracles import CELLS, assert_close, drive, inputs, parameters, randomised

import jaxrnn
from jaxrnn.cells import ExpRNNCell, QRNNCell, S5Cell
from jaxrnn.sequences import last_output, resets_from_dones, temporal_activation_regularization
from jaxrnn.wrappers import Block, LayerNormInput, LearnedInitialCarry, RMSNormInput

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
BY_NAME = {name: (cell, oracle) for name, cell, oracle in CELLS}
T, BATCH = 8, (3,)
RNG = np.random.default_rng(2)
MASK, RESET = RNG.random((T, *BATCH)) < 0.8, RNG.random((T, *BATCH)) < 0.3
NOISY = ["variational_dropout", "recurrent_dropout", "drop_connect", "stack"]


def setting(name):
    cell, oracle = BY_NAME[name]
    p, xs = parameters(cell), inputs(cell, T, BATCH)
    carry = randomised(oracle.first(p, xs.shape[1:]))
    return cell, p, xs, carry, cell.noise(jax.random.key(1), T, jnp.asarray(xs[0], jnp.float32))


def within(noise, part):
    """The noise of some steps; what is held over time stays as it is."""
    return jax.tree.map(lambda n: n[part] if len(n) == T else n, noise)


def waves(tree):
    """Weights of a sum, for every entry its own."""
    return jax.tree.map(lambda a: np.cos(np.arange(a.size)).reshape(a.shape), tree)


def slopes(run):
    """The result of `run`, and the gradients of its sum weighed by `weigh`."""

    def loss(p, xs, carry, weigh, options):
        result = run(p, xs, carry, **options)
        pairs = zip(jax.tree.leaves(result), jax.tree.leaves(weigh), strict=True)
        return sum(jnp.vdot(a, w) for a, w in pairs), result

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))


@pytest.mark.parametrize(
    "cell",
    [
        Block(ExpRNNCell(3), mlp=4),
        RMSNormInput(S5Cell(4, 3)),
        LayerNormInput(ExpRNNCell(3)),
        QRNNCell(4),
        LearnedInitialCarry(Block(jaxrnn.GRUCell(4), conv=None)),
    ],
    ids=["block", "rms norm", "layer norm", "qrnn", "learned"],
)
def test_cells_of_parts_prepare_their_parameters_once_for_all_windows(cell):
    p, xs = parameters(cell), inputs(cell, T, BATCH)
    got = jaxrnn.unroll_windows(cell, p, xs, window=3, mask=MASK, reset=RESET)
    want = jaxrnn.unroll(cell, p, xs, mask=MASK, reset=RESET, method="scan")
    assert_close(got, want, 1e-12)


@functools.cache
def scan(cell):
    """One window by the plain scan: one compilation for all windows of a length."""
    return slopes(functools.partial(jaxrnn.unroll, cell, method="scan"))


def by_hand(window, cell, p, xs, carry, weigh, options):
    """Windows of `unroll`, each with gradients of its own, which end where it begins."""
    ys, d_p, d_xs, d_carries = [], [], [], []
    for start in range(0, T, window):
        at = slice(start, start + window)
        now = dict(
            mask=options["mask"][at], reset=options["reset"][at], noise=within(options["noise"], at)
        )
        last = start + window >= T
        weigh_now = (weigh[0] if last else jax.tree.map(np.zeros_like, weigh[0]), weigh[1][at])
        slope, (carry, y) = scan(cell)(p, xs[at], carry, weigh_now, now)
        for found, new in zip((d_p, d_xs, d_carries, ys), (*slope, y), strict=True):
            found.append(new)
    d_p = jax.tree.map(lambda *parts: sum(map(np.asarray, parts)), *d_p)
    return (d_p, np.concatenate(d_xs), d_carries[0]), (carry, np.concatenate(ys))


@pytest.mark.parametrize("window", slow.some([3, 4], (4).__eq__, "one that divides the steps"))
@pytest.mark.parametrize("name", ["lstm", "learned_start", *NOISY])
def test_windows_equal_the_manual_version_values_and_gradients(name, window):
    cell, p, xs, carry, noise = setting(name)
    options = dict(mask=MASK, reset=RESET, noise=noise)
    weigh = waves(
        (carry, np.zeros(jax.eval_shape(functools.partial(jaxrnn.unroll, cell), p, xs)[1].shape))
    )
    got = slopes(functools.partial(jaxrnn.unroll_windows, cell, window=window))(
        p, xs, carry, weigh, options
    )
    assert_close(got, by_hand(window, cell, p, xs, carry, weigh, options))


@pytest.mark.parametrize("remat", ["none", "carry", "sqrt"])
@pytest.mark.parametrize("window", [1, 5, T, T + 1])
def test_the_values_are_those_of_unroll_whatever_the_window(window, remat):
    cell, p, xs, carry, noise = setting("variational_dropout")
    options = dict(mask=MASK, reset=RESET, noise=noise)
    got = jaxrnn.unroll_windows(cell, p, xs, carry, window=window, remat=remat, **options)
    assert_close(got, jaxrnn.unroll(cell, p, xs, carry, **options))


def test_no_gradient_reaches_an_earlier_window_and_a_learned_start_has_its_own_and_that_of_resets():
    cell, p, xs, _, _ = setting("learned_start")
    reset = np.zeros((T, *BATCH), bool)

    def last(p, xs, reset):
        return jaxrnn.unroll_windows(cell, p, xs, window=4, reset=reset)[1][-1].sum()

    d_p, d_xs = jax.grad(last, argnums=(0, 1))(p, xs, reset)
    assert not d_xs[:4].any() and d_xs[4:].any(axis=(1, 2)).all() and not d_p.first.h.any()
    d_p, _ = jax.grad(last, argnums=(0, 1))(p, xs, np.arange(T)[:, None] + np.zeros(BATCH) == 6)
    assert d_p.first.h.any()
    d_p = jax.grad(lambda p: jaxrnn.unroll_windows(cell, p, xs, window=4)[1][0].sum())(p)
    assert d_p.first.h.any()


def test_windows_run_eagerly_and_trace_once():
    traced = []

    class Traced(jaxrnn.GRUCell):
        def step(self, *args, **kwargs):
            traced.append(1)
            return super().step(*args, **kwargs)

    p, xs = parameters(Traced(4)), inputs(Traced(4), T, BATCH)
    first = jaxrnn.unroll_windows(Traced(4), p, xs, window=3)
    count = len(traced)
    assert_close(jaxrnn.unroll_windows(Traced(4), p, xs, window=3), first)
    assert len(traced) == count > 0


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["lstm", "learned_start", "zoneout", "stack"])
def test_the_carries_of_all_steps_are_those_of_single_steps(name, reverse):
    (cell, p, xs, carry, noise), oracle = setting(name), BY_NAME[name][1]
    options = dict(mask=MASK, reset=RESET, reverse=reverse)
    carries, ys = jaxrnn.unroll_carries(cell, p, xs, carry, noise=noise, **options)
    final, want = jaxrnn.unroll(cell, p, xs, carry, noise=noise, **options)
    assert_close(ys, want)
    assert_close(jax.tree.map(lambda a: a[0 if reverse else -1], carries), final)
    noise = jax.tree.map(np.asarray, noise)
    for t in range(1, T):
        part, reset = slice(T - t, T) if reverse else slice(0, t), RESET.copy()
        if reverse:
            # the boundary before step T - t comes after it in this direction
            reset[part.start] = False
        options = dict(
            mask=MASK[part], reset=reset[part], noise=within(noise, part), reverse=reverse
        )
        after, _ = drive(oracle, p, xs[part], carry, **options)
        assert_close(jax.tree.map(lambda a, t=t: a[T - t if reverse else t - 1], carries), after)


@functools.cache
def carries_and_slopes(name, method, remat):
    cell, p, xs, carry, noise = setting(name)
    reverse = name in ("peephole", "zoneout")
    run = functools.partial(
        jaxrnn.unroll_carries, cell, method=method, remat=remat, reverse=reverse
    )
    options = dict(mask=MASK, reset=RESET, noise=noise)
    return slopes(run)(p, xs, carry, waves(jax.eval_shape(run, p, xs, carry)), options)


@pytest.mark.parametrize("remat", ["none", "carry", "sqrt"])
@pytest.mark.parametrize(
    "name",
    slow.some(
        ["lstm", "peephole", "learned_stack", "zoneout"],
        "learned_stack".__eq__,
        "steps made of the same operations",
    ),
)
def test_the_carries_of_all_steps_have_the_gradients_of_the_scan(name, remat):
    assert_close(carries_and_slopes(name, "fused", remat), carries_and_slopes(name, "scan", "none"))


def test_the_carries_of_a_bidirectional_stack_and_their_gradients():
    stack = jaxrnn.Stack([jaxrnn.LSTMCell(4), jaxrnn.GRUCell(2)], bidirectional=True)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    carries, ys = jaxrnn.unroll_carries(stack, p, xs, mask=MASK)
    final, want = jaxrnn.unroll(stack, p, xs, mask=MASK)
    assert_close(ys, want)
    last = tuple(jax.tree.map(lambda a, k=k: a[-(k % 2 == 0)], c) for k, c in enumerate(carries))
    assert_close(last, final)
    slope = jax.grad(
        lambda xs: jaxrnn.unroll_carries(stack, p, xs, remat="carry")[0][0].c[3].sum()
    )(xs)
    assert slope[:4].any(axis=(1, 2)).all() and not slope[4:].any()


FUNCTIONS = {
    "windows": lambda cell, p, xs, mask: jaxrnn.unroll_windows(cell, p, xs, window=3, mask=mask),
    "carries": lambda cell, p, xs, mask: jaxrnn.unroll_carries(cell, p, xs, mask=mask),
    "last_output": lambda cell, p, xs, mask: last_output(
        jaxrnn.unroll(cell, p, xs, mask=mask)[1], mask
    ),
    "penalty": lambda cell, p, xs, mask: jax.vmap(temporal_activation_regularization, 1)(xs, mask),
    "resets": lambda cell, p, xs, mask: resets_from_dones(mask),
}
ALONG = {
    "windows": (P("data"), P(None, "data")),
    "carries": P(None, "data"),
    "resets": P(None, "data"),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_batches_may_be_vmapped_or_split_over_devices(function):
    cell, p, xs, _, _ = setting("gru")
    xs, mask = np.stack([xs[:, :2], -xs[:, 1:]]), np.stack([MASK[:, :2], MASK[:, 1:]])
    run = functools.partial(FUNCTIONS[function], cell)
    want = jax.tree.map(
        lambda *a: np.stack(a), *(run(p, x, m) for x, m in zip(xs, mask, strict=True))
    )
    assert_close(jax.jit(jax.vmap(run, in_axes=(None, 0, 0)))(p, xs, mask), want)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    specs = (P(), P(None, "data"), P(None, "data"))
    split = jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=ALONG.get(function, P("data")))
    assert_close(jax.jit(split)(p, xs[0], mask[0]), jax.tree.map(lambda a: a[0], want))


def test_carries_keep_their_dtype_in_half_precision():
    cell = jaxrnn.LSTMCell(4)
    carries, ys = jaxrnn.unroll_carries(
        cell, parameters(cell), inputs(cell, T, BATCH).astype(jnp.bfloat16)
    )
    assert carries.c.dtype == jnp.float32 and ys.dtype == jnp.bfloat16


def test_an_empty_sequence_has_no_carries_and_keeps_its_carry_in_windows():
    cell, p, xs, carry, _ = setting("lstm")
    carries, ys = jaxrnn.unroll_carries(cell, p, xs[:0], carry)
    assert carries.c.shape == (0, 3, 4) == ys.shape
    assert_close(jaxrnn.unroll_windows(cell, p, xs[:0], carry, window=3)[0], carry)


STACK = jaxrnn.Stack([jaxrnn.GRUCell(4)], bidirectional=True)


@pytest.mark.parametrize("call, message", [
    (lambda cell, p, xs: jaxrnn.unroll_windows(cell, p, xs, window=0),
     "window must be an integer of at least 1, got 0"),
    (lambda cell, p, xs: jaxrnn.unroll_windows(STACK, parameters(STACK), xs, window=2),
     "both directions sees the whole"),
    (lambda cell, p, xs: jaxrnn.unroll_windows(cell, p, xs, window=2, method="fast"),
     "method must be one of"),
    (lambda cell, p, xs: jaxrnn.unroll_windows(cell, p, xs, window=2, mask=MASK.T),
     r"mask .* \(3, 8\), expected \(8, 3\)"),
    (lambda cell, p, xs: jaxrnn.unroll_windows(cell, p, xs[..., :2], window=2),
     "xs has 2 features but .* input_size=3"),
    (lambda cell, p, xs: jaxrnn.unroll_windows(cell, p, xs, window=4, noise=MASK[:4]),
     "LSTMCell draws none"),
    (lambda cell, p, xs: jaxrnn.unroll_carries(cell, p, xs, method="cudnn", remat="sqrt"),
     "remat must be one of"),
])  # fmt: skip
def test_a_mistake_is_told_with_what_was_expected(call, message):
    cell, p, xs, _, _ = setting("lstm")
    with pytest.raises(ValueError, match=message):
        call(cell, p, xs)
