"""Gradients forward in time, against `jax.grad` of `unroll` over the whole history."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import EVERY

import jaxrnn
from jaxrnn import cells, online, wrappers

T, B, I, H = 9, 3, 3, 4
# every cell of vectors that puts out vectors; block_gru wants three features, as all get here
VECTORS = {case[0]: case[1] for case in EVERY if case[1].feature_axes == 1}
APART = {
    *(
        "diagonal",
        "indrnn",
        "indrnn_clipped",
        "unicornn",
        "mingru",
        "minlstm",
        "hgrn",
        "rglru",
        "lru",
        "s5",
    ),
    *("mingru_signed", "rglru_signed"),
    *("sru_linear", "sru", "sru_past", "sru_highway", "sru_no_bias", "paragru", "paralstm"),
    *("qrnn", "qrnn_no_bias", "causal_conv", "gated_mlp", "dense"),
}
MASK = np.arange(T)[:, None] < np.array([T, 0, 5])
RESET = np.random.default_rng(5).random((T, B)) < 0.25
MIXING = {
    "rnn": jaxrnn.RNNCell(H),
    "lstm": jaxrnn.LSTMCell(H),
    "gru": jaxrnn.GRUCell(H),
    "leaky": cells.LeakyRNNCell(H),
}


def made(cell, seed=0, dtype=jnp.float64):
    """Parameters none of which is zero."""
    rng = np.random.default_rng(seed)
    drawn = cell.init(jax.random.key(seed), I, dtype)
    return jax.tree.map(lambda a: a + 0.3 * rng.normal(size=a.shape).astype(a.dtype), drawn)


def inputs(dtype=jnp.float64):
    return jnp.asarray(np.random.default_rng(1).normal(size=(T, B, I)), dtype)


def weighted(_, y, weights):
    return jnp.sum(y * weights)


def weights_for(cell, params, xs):
    ys = jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs)[1])
    return jnp.asarray(np.random.default_rng(2).normal(size=ys.shape), xs.dtype)


def truth(cell, params, xs, weights, **options):
    def loss(params):
        ys = jaxrnn.unroll(cell, params, xs, method="scan", **options)[1]
        return jnp.sum(ys * weights)

    return jax.jit(jax.grad(loss))(params)


def found(learner, params, xs, weights, **options):
    def run(params):
        return online.learn(learner, params, xs, weights, weighted, **options).gradients[0]

    return jax.jit(run)(params)


def close(got, want, tolerance=1e-10):
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True):
        scale = max(1.0, float(jnp.abs(b).max(initial=0)))
        np.testing.assert_allclose(
            a / scale, b / scale, rtol=0, atol=tolerance, err_msg=jax.tree_util.keystr(path)
        )


def flat(tree):
    return np.concatenate([np.asarray(a).ravel() for a in jax.tree.leaves(tree)])


def cosine(got, want):
    a, b = flat(got), flat(want)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", sorted(APART))
@pytest.mark.parametrize("method", [online.RTRL, online.SnAp1, online.EProp])
def test_where_units_keep_apart_the_gradient_is_exact(name, method):
    cell = VECTORS[name]
    params, xs = made(cell), inputs()
    weights = weights_for(cell, params, xs)
    options = {"reset": RESET, "mask": MASK}
    padded = jnp.where(MASK[..., None], xs, jnp.nan)
    want = truth(cell, params, padded, weights, **options)
    close(found(method(cell), params, padded, weights, **options), want)


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_every_small_cell_has_its_exact_gradient(name):
    cell = VECTORS[name]
    params, xs = made(cell), inputs()
    weights = weights_for(cell, params, xs)
    want = truth(cell, params, xs, weights, reset=RESET)
    close(found(online.DenseRTRL(cell), params, xs, weights, reset=RESET), want)


@pytest.mark.parametrize("name", sorted(set(VECTORS) - APART))
def test_cells_whose_units_mix_are_refused_by_the_method_that_would_be_wrong(name):
    params = made(VECTORS[name])
    with pytest.raises(
        ValueError, match=r"RTRL does not take .*(act on each other|several|differ)"
    ):
        online.RTRL(VECTORS[name]).init(params, inputs()[0])


def masked_dense(cell, params, xs, weights):
    """SnAp-1 by its definition: the whole Jacobian, of which those entries stay in which a
    parameter acts on its own unit within one step."""
    leaves, tree = jax.tree.flatten(params)
    carry = jaxrnn.initial_carry(cell, params)
    states, shape = jax.tree.flatten(carry)

    def step(x, leaves, states):
        after, _ = cell(tree.unflatten(leaves), shape.unflatten(states), x)
        return jax.tree.leaves(after)

    def own(p, leaf):
        """[H, *parameter]: the unit that an entry belongs to; biases have gates before units."""
        column = np.arange(leaf.size).reshape(leaf.shape) % H
        return (np.arange(H).reshape(-1, *[1] * leaf.ndim) == column).astype(float)

    masks = [own(p, leaf) for p, leaf in enumerate(leaves)]
    total = [np.zeros(leaf.shape) for leaf in leaves]
    for b in range(B):
        now = states
        traces = [[0 * mask for mask in masks] for _ in states]
        for x, weight in zip(xs[:, b], weights[:, b], strict=True):
            pairs = jax.jacrev(functools.partial(step, x), (0, 1))(leaves, now)
            direct, inner = zip(*pairs, strict=True)
            traces = [
                [
                    mask
                    * (
                        direct[k][p]
                        + sum(
                            np.tensordot(inner[k][j], traces[j][p], 1) for j in range(len(states))
                        )
                    )
                    for p, mask in enumerate(masks)
                ]
                for k in range(len(states))
            ]
            now = step(x, leaves, now)
            # y is the first leaf of these carries
            total = [a + np.tensordot(weight, t, 1) for a, t in zip(total, traces[0], strict=True)]
    return tree.unflatten(total)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_snap1_is_what_its_paper_says(name):
    cell = MIXING[name]
    params, xs = made(cell), inputs()
    weights = weights_for(cell, params, xs)
    close(found(online.SnAp1(cell), params, xs, weights), masked_dense(cell, params, xs, weights))


@pytest.mark.parametrize("name", sorted(MIXING))
def test_e_prop_lets_nothing_pass_through_recurrent_products(name):
    cell = MIXING[name]
    params, xs = made(cell), inputs()
    weights = weights_for(cell, params, xs)

    def cut(v, w, op=None):
        return jaxrnn.dot(jax.lax.stop_gradient(v), w, op)

    def loss(params):
        def step(carry, u):
            return cell.step(params, carry, u, cut)

        first = jaxrnn.initial_carry(cell, params, (B,))
        return jnp.sum(jax.lax.scan(step, first, cell.project(params, xs))[1] * weights)

    want = jax.grad(loss)(params)
    close(found(online.EProp(cell), params, xs, weights), want)
    assert cosine(want, truth(cell, params, xs, weights)) < 0.999


def test_uoro_is_right_on_average():
    cell = jaxrnn.RNNCell(H)
    params = made(cell)
    xs = inputs()[:, :1]
    weights = weights_for(cell, params, xs)
    want = truth(cell, params, xs, weights)
    rows = 4000
    many = jnp.broadcast_to(xs, (T, rows, I))
    # each row has signs of its own
    got = found(online.UORO(cell), params, many, weights)
    mean = flat(got) / rows
    few = flat(found(online.UORO(cell), params, many[:, : rows // 16], weights)) / (rows // 16)
    error, larger = (np.linalg.norm(a - flat(want)) for a in (mean, few))
    assert error < 0.15 * np.linalg.norm(flat(want))
    assert error < larger < 16 * error  # as one over the root of the rows
    one = found(online.UORO(cell, seed=1), params, xs, weights)
    assert cosine(one, want) < 0.999


@pytest.mark.parametrize("options", [{"mask": True}, {"reset": True}])
def test_uoro_is_right_on_average_with_masks_and_resets(options):
    cell = wrappers.LearnedInitialCarry(cells.MinGRUCell(H))
    params = made(cell)
    rows = 3000
    one = inputs()[:, :1]
    rule = np.random.default_rng(8).random((T, 1)) < 0.6
    options = dict.fromkeys(options, rule)
    weights = weights_for(cell, params, one)
    want = flat(truth(cell, params, one, weights, **options))
    many = jnp.broadcast_to(one, (T, rows, I))
    options = {name: np.broadcast_to(rule, (T, rows)) for name in options}
    got = flat(found(online.UORO(cell), params, many, weights, **options)) / rows
    assert np.linalg.norm(got - want) < 0.15 * np.linalg.norm(want)


def test_uoro_draws_new_signs_at_each_reset():
    cell = wrappers.LearnedInitialCarry(cells.MinGRUCell(H))
    params = made(cell)
    learner = online.UORO(cell)
    state = learner.init(params, inputs()[0])
    after, _, moment = learner.step(params, state, inputs()[0], reset=np.ones(B, bool))
    assert any(
        (a != b).any() for a, b in zip(state.traces[0].carry, moment.traces[0].carry, strict=True)
    )
    jax.jit(learner.step, donate_argnums=1)(params, state, inputs()[0])
    assert after.traces[0].key.shape == (B,)


def test_products_of_inputs_are_not_cut():
    """A cell whose step multiplies its input by a matrix, as its projection could."""
    cell = Late(H)
    params, xs = made(cell), inputs()
    weights = weights_for(cell, params, xs)
    stack = jaxrnn.Stack((cells.MinGRUCell(H), cell))
    both = made(stack)
    for method in (online.SnAp1, online.EProp):
        same = found(method(jaxrnn.RNNCell(H)), early(params), xs, weights)
        got = found(method(cell), params, xs, weights)
        close((got.w, got.v), (same.w_x[:, 0], same.w_h[:, 0]))
        lower = found(method(stack), both, xs, weights)[0]
        first = found(method(stack), both, xs[:1], weights[:1])[0]
        close(first, truth(stack, both, xs[:1], weights[:1])[0])
        assert np.abs(flat(lower)).max() > 0.01


class LateParams(NamedTuple):
    v: jax.Array
    w: jax.Array


@dataclasses.dataclass(frozen=True)
class Late(jaxrnn.Cell):
    hidden_size: int

    def init(self, key, input_size, dtype=jnp.float32):
        H = self.hidden_size
        return LateParams(jnp.zeros((H, H), dtype), jnp.zeros((input_size, H), dtype))

    def input_size(self, params):
        return params.w.shape[0]

    def init_carry(self, params, like):
        return cells.RNNCarry(h=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params, xs, noise=None):
        return xs

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = jnp.tanh(dot(carry.h, params.v) + dot(u, params.w))
        return cells.RNNCarry(h=h), h


def early(params):
    """The same as parameters of an RNN."""
    drawn = jaxrnn.RNNCell(H).init(jax.random.key(0), I, jnp.float64)
    return drawn._replace(w_x=params.w[:, None], w_h=params.v[:, None], b=0 * drawn.b)


def test_a_carry_that_is_given_does_not_depend_on_the_parameters():
    cell = wrappers.LearnedInitialCarry(cells.MinGRUCell(H))
    params, xs = made(cell), inputs()
    weights = weights_for(cell, params, xs)
    own = jax.tree.map(lambda a: a + 0.5, jaxrnn.initial_carry(cell, params, (B,)))
    want = jax.grad(lambda p: jnp.sum(jaxrnn.unroll(cell, p, xs, own, method="scan")[1] * weights))(
        params
    )
    for method in (online.RTRL, online.DenseRTRL):
        state = method(cell).init(params, xs[0], carry=own)
        close(found(method(cell), params, xs, weights, state=state), want)


def test_sums_of_16_bits_do_not_stop_growing():
    cell = cells.MinGRUCell(H)
    params = made(cell, dtype=jnp.float16)
    xs = jnp.ones((3000, 1, I), jnp.float16)

    def loss(_, y, __):
        return jnp.sum(y)

    got, _ = online.learn(online.RTRL(cell), params, xs, None, loss).gradients
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), params)
    want, _ = online.learn(online.RTRL(cell), wide, xs.astype(jnp.float32), None, loss).gradients
    assert got.w_x.dtype == jnp.float16
    np.testing.assert_allclose(flat(got), flat(want), rtol=0.02, atol=2)


def test_units_may_stand_in_a_parameter_in_another_order():
    """A state of two axes, which stand the other way round in both parameters, and in one of them
    as parts of one axis."""
    cell = Turned(2, 3)
    params, xs = made(cell), inputs()
    weights = weights_for(cell, params, xs)
    want = truth(cell, params, xs, weights, mask=MASK, reset=RESET)
    close(found(online.RTRL(cell), params, xs, weights, mask=MASK, reset=RESET), want)


class TurnedParams(NamedTuple):
    a: jax.Array  # [Q, P]
    w: jax.Array  # [I, Q * P]


@dataclasses.dataclass(frozen=True)
class Turned(jaxrnn.Cell):
    rows: int
    columns: int

    def init(self, key, input_size, dtype=jnp.float32):
        P, Q = self.rows, self.columns
        return TurnedParams(jnp.zeros((Q, P), dtype), jnp.zeros((input_size, Q * P), dtype))

    def input_size(self, params):
        return params.w.shape[0]

    def init_carry(self, params, like):
        return cells.RNNCarry(h=jaxrnn.zeros(like, self.rows, self.columns))

    def project(self, params, xs, noise=None):
        return jnp.tanh(xs @ params.w)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        u = u.reshape(*u.shape[:-1], *params.a.shape)
        h = jnp.tanh(params.a.T * carry.h + jnp.swapaxes(u, -1, -2))
        return cells.RNNCarry(h=h), h.reshape(*h.shape[:-2], -1)


def test_a_stack_wants_a_carry_of_each_layer():
    stack = jaxrnn.Stack((cells.MinGRUCell(H), cells.IndRNNCell(H)))
    params, x = made(stack), inputs()[0]
    learner = online.RTRL(stack)
    state = learner.init(params, x)
    for parts in (state.carry[:1], (*state.carry, state.carry[0])):
        with pytest.raises(ValueError, match="a tuple of 2"):
            learner.step(params, state._replace(carry=parts), x)
    _, _, moment = learner.step(params, state, x)
    with pytest.raises(ValueError, match="a tuple of 2"):
        learner.gradients(params, moment, dcarry=state.carry[:1])


def test_draws_on_what_the_first_carry_is_made_of_are_refused():
    cell = Begun(H)
    params, x = made(cell), inputs()[0]
    noise = jax.tree.map(lambda n: n[0], cell.noise(jax.random.key(0), 1, x))
    for method in (online.RTRL, online.DenseRTRL):
        with pytest.raises(ValueError, match="its first carry is made of"):
            method(cell).init(params, x, noise)


class BegunParams(NamedTuple):
    a: jax.Array
    first: jax.Array


@dataclasses.dataclass(frozen=True)
class Begun(jaxrnn.Cell):
    """A cell that drops entries of the parameter that it begins with."""

    hidden_size: int

    def init(self, key, input_size, dtype=jnp.float32):
        return BegunParams(*[jnp.zeros((self.hidden_size,), dtype)] * 2)

    def input_size(self, params):
        return None

    def noise(self, key, T, like):
        return jax.random.bernoulli(key, 0.5, (1, self.hidden_size))

    def absorb(self, params, noise):
        return params._replace(first=jnp.where(noise[0], params.first, 0 * params.first)), None

    def init_carry(self, params, like):
        return cells.RNNCarry(h=jaxrnn.zeros(like, self.hidden_size) + params.first)

    def project(self, params, xs, noise=None):
        return xs.sum(-1, keepdims=True)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = jnp.tanh(params.a * carry.h + u)
        return cells.RNNCarry(h=h), h


def test_layers_are_exact_and_what_is_between_them_is_of_the_same_step():
    below = cells.MinGRUCell(H)
    stack = jaxrnn.Stack((below, cells.DenseCell(5)))
    params, xs = made(stack), inputs()
    weights = weights_for(stack, params, xs)
    close(found(online.RTRL(stack), params, xs, weights), truth(stack, params, xs, weights))
    two = jaxrnn.Stack((below, cells.IndRNNCell(5)))
    params = made(two)
    weights = weights_for(two, params, xs)
    want = truth(two, params, xs, weights)
    got = found(online.RTRL(two), params, xs, weights)
    close(got[1], want[1])
    assert 0.5 < cosine(got[0], want[0]) < 0.999

    def cut(params):
        """The upper layer, for the gradient of its input, begins anew at each step."""
        hs = jaxrnn.unroll(below, params[0], xs, method="scan")[1]
        carries = jaxrnn.unroll_carries(two.cells[1], params[1], jax.lax.stop_gradient(hs))[0]
        first = jaxrnn.initial_carry(two.cells[1], params[1], (B,))
        before = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), first, carries)
        ys = jax.vmap(lambda c, h: two.cells[1](params[1], c, h)[1])(
            jax.lax.stop_gradient(before), hs
        )
        return jnp.sum(ys * weights)

    close(got[0], jax.grad(cut)(params)[0])


def test_noise_and_learned_starts_are_part_of_the_gradient():
    inner = wrappers.LearnedInitialCarry(cells.MinGRUCell(H))
    cell = wrappers.VariationalDropout(inner, input=0.4)
    stack = jaxrnn.Stack((cell, cells.DenseCell(4)), dropout=0.5)
    for each in (cell, stack, wrappers.Residual(cells.IndRNNCell(I))):
        params, xs = made(each), inputs()
        weights = weights_for(each, params, xs)
        noise = each.noise(jax.random.key(3), T, xs[0])
        options = {"noise": noise, "reset": RESET}
        want = truth(each, params, xs, weights, **options)
        close(found(online.RTRL(each), params, xs, weights, **options), want)


def test_dropped_weights_are_those_of_the_whole_sequence():
    cell = wrappers.DropConnect(jaxrnn.GRUCell(H), 0.5)
    params, xs = made(cell), inputs()
    weights = weights_for(cell, params, xs)
    noise = cell.noise(jax.random.key(3), T, xs[0])
    want = truth(cell, params, xs, weights, noise=noise)
    close(found(online.DenseRTRL(cell), params, xs, weights, noise=noise), want)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_batch(batch):
    cell = cells.MinLSTMCell(H)
    params = made(cell)
    xs = jnp.asarray(np.random.default_rng(4).normal(size=(T, *batch, I)))
    weights = weights_for(cell, params, xs)
    for method in (online.RTRL, online.DenseRTRL):
        close(found(method(cell), params, xs, weights), truth(cell, params, xs, weights))


def test_a_loss_of_the_carry():
    cell = jaxrnn.LSTMCell(H)
    params, xs = made(cell), inputs()
    learner = online.DenseRTRL(cell)

    def loss(carry):
        return jnp.sum(jnp.sin(carry.c))

    state = learner.init(params, xs[0])
    for x, valid in zip(xs, MASK, strict=True):
        state, _, moment = learner.step(params, state, x, mask=valid)
    got = learner.gradients(params, moment, dcarry=jax.grad(loss)(state.carry))
    want = jax.grad(lambda p: loss(jaxrnn.unroll(cell, p, xs, mask=MASK)[0]))(params)
    close(got, want)


def test_inputs_of_16_bits_have_traces_of_32():
    cell = cells.MinGRUCell(H)
    params = made(cell, dtype=jnp.float32)
    xs = inputs(jnp.bfloat16)
    learner = online.RTRL(cell)
    state = learner.init(params, xs[0])
    state, y, _ = learner.step(params, state, xs[0])
    assert y.dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}
    weights = weights_for(cell, params, xs)
    want = truth(cell, params, xs.astype(jnp.float32), weights.astype(jnp.float32))
    got = found(learner, params, xs, weights)
    assert {a.dtype for a in jax.tree.leaves(got)} == {jnp.dtype(jnp.float32)}
    close(got, want, 0.03)


@pytest.mark.parametrize("method", [online.RTRL, online.DenseRTRL, online.UORO])
def test_memory_does_not_grow_with_time(method):
    learner = method(cells.MinGRUCell(16))
    params = made(learner.cell)

    def temporary(T):
        xs = jnp.zeros((T, B, I))
        run = jax.jit(
            lambda p, xs: online.learn(learner, p, xs, xs[..., :1], weighted).gradients[0]
        )
        return run.lower(params, xs).compile().memory_analysis().temp_size_in_bytes

    # losses and numbers of steps grow, a few bytes each; one trace alone has 2,000
    assert temporary(4000) < temporary(50) + 4000 * 32


@pytest.mark.usefixtures("standard_promotion")
def test_a_stream_in_pieces_is_the_stream():
    learner = online.RTRL(cells.MinGRUCell(H))
    params, xs = made(learner.cell), inputs()
    targets = weights_for(learner.cell, params, xs)
    head = {"w": jnp.asarray(np.random.default_rng(6).normal(size=(H, H)))}

    def loss(head, y, target):
        return jnp.mean((y @ head["w"] - target) ** 2)

    def run(params, head, *given, **options):
        return online.learn(
            learner, params, *given, loss, head=head, optimizer=optax.adam(0.01), **options
        )

    whole = run(params, head, xs, targets, every=3)
    first = run(params, head, xs[:6], targets[:6], every=3)
    rest = run(
        first.params,
        first.head,
        xs[6:],
        targets[6:],
        state=first.state,
        optimizer_state=first.optimizer_state,
        every=3,
    )
    close(rest.params, whole.params, 1e-12)
    close(rest.head, whole.head, 1e-12)
    np.testing.assert_allclose(jnp.concatenate([first.losses, rest.losses]), whole.losses)
    assert not np.allclose(whole.params.w_x, params.w_x)
    assert not flat(whole.gradients).any()  # all of them are in the updates
    with pytest.raises(ValueError, match="no multiple of every=2"):
        run(params, head, xs, targets, every=2)


def test_a_signal_takes_the_place_of_the_derivative():
    cell = jaxrnn.LSTMCell(H)
    params, xs = made(cell), inputs()
    weights = weights_for(cell, params, xs)
    random = jnp.asarray(np.random.default_rng(7).normal(size=(H,)))
    got = found(online.EProp(cell), params, xs, weights, signal=lambda head, y, w: w * random)
    close(got, found(online.EProp(cell), params, xs, weights * random))


def test_modules_are_taken_as_their_cells():
    from flax import nnx

    module = jaxrnn.nnx.Recurrent(cells.MinGRUCell(H), I, batch_first=True, rngs=nnx.Rngs(0))
    assert online.RTRL(module) == online.RTRL(module.cell)
    assert hash(online.RTRL(module)) == hash(online.RTRL(module.cell))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: online.RTRL(3), TypeError, "must be a jaxrnn.Cell"),
        (
            lambda: online.RTRL(jaxrnn.Stack((cells.MinGRUCell(H),), bidirectional=True)),
            ValueError,
            "both directions",
        ),
        (lambda: online.UORO(cells.ConvLSTMCell(2, (3,))), ValueError, "spatial axes"),
        (
            lambda: online.DenseRTRL(jaxrnn.LSTMCell(40)).init(
                made(jaxrnn.LSTMCell(40)), jnp.zeros(I)
            ),
            ValueError,
            "has 80",
        ),
        (
            lambda: online.SnAp1(cells.LSTMPCell(H, 2)).init(
                made(cells.LSTMPCell(H, 2)), jnp.zeros(I)
            ),
            ValueError,
            "no matrix from its units",
        ),
        (
            lambda: online.EProp(wrappers.LayerNormInput(jaxrnn.GRUCell(H))).init(
                made(wrappers.LayerNormInput(jaxrnn.GRUCell(H))), jnp.zeros(I)
            ),
            ValueError,
            "scale acts on several units",
        ),
        (lambda: online.UORO(jaxrnn.GRUCell(H), seed="a"), ValueError, "seed"),
        (lambda: started().gradients(dy=jnp.ones((1, H))), ValueError, "dy has shape"),
        (lambda: started().stretch(jnp.zeros((0, 2, I))), ValueError, "at least one step"),
        (lambda: started().stretch(jnp.zeros((3, 2, I)), mask=MASK), ValueError, "mask has shape"),
        (lambda: started().stretch(jnp.zeros((3, 2, I)), noise=jnp.ones(3)), ValueError, "noise"),
        (
            lambda: online.learn(jaxrnn.GRUCell(H), None, None, None, None),
            TypeError,
            "learner must be",
        ),
        (lambda: started().step(jnp.zeros((2, I + 1))), ValueError, "features"),
        (lambda: started().step(jnp.zeros((2, I)), mask=jnp.ones(2)), TypeError, "mask"),
        (lambda: started().step(jnp.zeros((2, I)), reset=jnp.ones(3, bool)), ValueError, "reset"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call()


def started():
    """A learner in the middle, whose `step` takes the rest."""
    learner = online.RTRL(cells.MinGRUCell(H))
    params = made(learner.cell)
    x = jnp.zeros((2, I))
    state = learner.init(params, x)

    class Started:
        def step(self, x, **options):
            return learner.step(params, state, x, **options)

        def gradients(self, **options):
            _, _, moment = learner.step(params, state, x, mask=jnp.ones(2, bool))
            return learner.gradients(params, moment, **options)

        def stretch(self, xs, **options):
            return online.learn(learner, params, xs, None, weighted, **options)

    return Started()
