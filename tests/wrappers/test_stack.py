"""Stacks against NumPy, layer by layer: both directions, masks, resets, dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CELLS, assert_close, drive, inputs, parameters, randomised

import jaxrnn
from jaxrnn.cells import LSTMPCell

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
BY_NAME = {name: (cell, oracle) for name, cell, oracle in CELLS}
T, BATCH = 5, (3,)
MASK = np.asarray(jaxrnn.lengths_to_mask(np.array([5, 2, 0]), T=T))
RESET = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 1, 0]], bool)


def by_layer(names, p, xs, carry, bidirectional, feature_axes=1, keep=None, rate=0.0, **options):
    """What a stack is: each layer runs over the outputs of the one before,
    in one or two directions.
    """
    after, directions = [], (False, True) if bidirectional else (False,)
    for layer, name in enumerate(names):
        if layer > 0 and keep is not None:
            xs = xs * keep[layer - 1] / (1 - rate)
        outputs = []
        for reverse in directions:
            k, oracle = len(after), BY_NAME[name][1]
            start = None if carry is None else carry[k]
            last, ys = drive(
                oracle, p[k], xs, start, reverse=reverse, feature_axes=feature_axes, **options
            )
            after.append(last)
            outputs.append(ys)
        xs = np.concatenate(outputs, axis=-1)
    return tuple(after), xs


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    "names, bidirectional",
    [
        (("lstmp", "orthogonal", "rnn"), False),
        (("lstmp", "learned_start"), True),
        (("conv", "conv"), True),
    ],
    ids=["heterogeneous", "bidirectional", "convolutional"],
)
def test_a_stack_equals_its_layers_one_after_another(names, bidirectional, given):
    stack = jaxrnn.Stack([BY_NAME[name][0] for name in names], bidirectional=bidirectional)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    options = dict(mask=MASK, reset=RESET, feature_axes=stack.feature_axes)
    carry = randomised(by_layer(names, p, xs, None, bidirectional, **options)[0]) if given else None
    got = jaxrnn.unroll(stack, p, xs, carry, mask=MASK, reset=RESET)
    assert_close(got, by_layer(names, p, xs, carry, bidirectional, **options))


def test_a_reversed_bidirectional_stack_swaps_the_directions_of_time():
    stack = jaxrnn.Stack([jaxrnn.GRUCell(4)], bidirectional=True)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    carry, ys = jaxrnn.unroll(stack, p, xs, reverse=True)
    flipped, outputs = jaxrnn.unroll(stack, p, xs[::-1])
    assert_close((carry, ys), (flipped, outputs[::-1]))


def test_dropout_scales_what_it_keeps_and_spares_the_last_layer():
    names, rate = ("lstm", "gru", "rnn"), 0.5
    stack = jaxrnn.Stack([BY_NAME[name][0] for name in names], dropout=rate)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    noise = stack.noise(jax.random.key(0), T, xs[0])
    keep = [np.asarray(k, float) for k in noise.keep]
    assert [k.shape for k in keep] == [(T, 3, 4), (T, 3, 4)] and not np.array_equal(*keep)
    got = jaxrnn.unroll(stack, p, xs, noise=noise)
    assert_close(got, by_layer(names, p, xs, None, False, keep=keep, rate=rate))
    assert np.all(got[1] != 0)


def test_dropout_draws_each_step_anew_with_its_probability():
    stack = jaxrnn.Stack([jaxrnn.LSTMCell(50)] * 2, dropout=0.3)
    keep = np.asarray(stack.noise(jax.random.key(1), 40, jnp.zeros((10, 3))).keep[0])
    assert abs(keep.mean() - 0.7) < 4 * np.sqrt(0.21 / keep.size)
    assert len({row.tobytes() for row in keep.reshape(400, 50)}) == 400


def test_the_same_key_gives_the_same_result_and_another_key_another():
    stack = jaxrnn.Stack([jaxrnn.GRUCell(4)] * 2, dropout=0.5)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    a, b, c = (
        jaxrnn.unroll(stack, p, xs, noise=stack.noise(jax.random.key(k), T, xs[0]))[1]
        for k in (0, 0, 1)
    )
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_without_noise_dropout_does_nothing():
    p, xs = parameters(jaxrnn.Stack([jaxrnn.GRUCell(4)] * 2)), inputs(jaxrnn.GRUCell(4), T, BATCH)
    a, b = (
        jaxrnn.unroll(jaxrnn.Stack([jaxrnn.GRUCell(4)] * 2, dropout=d), p, xs) for d in (0.0, 0.9)
    )
    assert_close(a, b, 0)


def test_dropout_of_one_drops_everything_and_stays_finite():
    stack = jaxrnn.Stack([jaxrnn.GRUCell(4), jaxrnn.LSTMCell(4)], dropout=1.0)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    noise = stack.noise(jax.random.key(0), T, xs[0])
    alone = jaxrnn.unroll(stack.cells[1], p[1], np.zeros((T, 3, 4)))[1]
    assert_close(jaxrnn.unroll(stack, p, xs, noise=noise)[1], alone)
    slopes = jax.jit(jax.grad(lambda p: jnp.sum(jaxrnn.unroll(stack, p, xs, noise=noise)[1])))(p)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slopes[0]))


def test_a_stack_without_dropout_has_no_noise():
    assert (
        jaxrnn.Stack([jaxrnn.GRUCell(4)] * 2).noise(jax.random.key(0), T, jnp.zeros((2, 3))) is None
    )


def test_each_cell_draws_parameters_of_its_own_for_its_own_input_size():
    stack = jaxrnn.Stack([LSTMPCell(5, 2), jaxrnn.GRUCell(4)], bidirectional=True)
    p = stack.init(jax.random.key(0), 3)
    assert [q.w_x.shape[0] for q in p] == [3, 3, 4, 4]
    assert not np.array_equal(p[0].w_x, p[1].w_x)


def test_a_bidirectional_stack_has_no_single_step():
    stack = jaxrnn.Stack([jaxrnn.GRUCell(4)], bidirectional=True)
    p = parameters(stack)
    with pytest.raises(ValueError, match=r"a bidirectional stack has no single step.*Use unroll"):
        stack(p, jaxrnn.initial_carry(stack, p), np.zeros(3))


def test_a_carry_with_too_few_entries_is_refused():
    stack = jaxrnn.Stack([jaxrnn.GRUCell(4)] * 2)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    with pytest.raises(ValueError, match="carry of this stack must be a tuple of 2: 2 layers x 1"):
        jaxrnn.unroll(stack, p, xs, jaxrnn.initial_carry(stack, p, BATCH)[:1])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: jaxrnn.Stack([]), "needs a tuple with one jaxrnn.Cell per layer"),
        (lambda: jaxrnn.Stack([4]), "needs a tuple with one jaxrnn.Cell per layer"),
        (
            lambda: jaxrnn.Stack([jaxrnn.GRUCell(4), BY_NAME["conv"][0]]),
            "must agree in feature_axes",
        ),
        (
            lambda: jaxrnn.Stack([jaxrnn.GRUCell(4)], dropout=1.5),
            "probability between 0 and 1, got 1.5",
        ),
        (
            lambda: jaxrnn.Stack([jaxrnn.GRUCell(4)], True, merge="add"),
            r"one of \('concat', 'sum', .*, got 'add'",
        ),
        (
            lambda: jaxrnn.Stack([jaxrnn.GRUCell(4)], merge="sum"),
            "merge joins the directions of a bidirectional stack",
        ),
        (
            lambda: jaxrnn.Stack([jaxrnn.GRUCell(4)] * 2, True, merge="apart"),
            "is for a single layer",
        ),
        (
            lambda: jaxrnn.Stack([jaxrnn.Stack([jaxrnn.GRUCell(4)], True, merge="apart")] * 2),
            "has no next layer",
        ),
    ],
)
def test_a_stack_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


JOIN = {
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
    "concat": lambda a, b: np.concatenate([a, b], -1),
    "apart": lambda a, b: np.stack([a, b], -2),
}


@pytest.mark.parametrize("merge", JOIN)
def test_the_directions_are_merged_as_asked(merge):
    layers = [jaxrnn.GRUCell(4)] * (1 if merge == "apart" else 2)
    stack = jaxrnn.Stack(layers, bidirectional=True, merge=merge)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    carry, ys = jaxrnn.unroll(stack, p, xs, mask=MASK, reset=RESET)
    want, after = xs, []
    for layer in range(len(layers)):
        pairs = [
            jaxrnn.unroll(
                layers[0],
                p[2 * layer + d],
                want,
                mask=MASK,
                reset=RESET,
                reverse=d == 1,
                method="scan",
            )
            for d in (0, 1)
        ]
        after += [pair[0] for pair in pairs]
        want = JOIN[merge](*(np.asarray(pair[1]) for pair in pairs))
    assert_close((carry, ys), (tuple(after), want))
    assert_close(jaxrnn.initial_carry(stack, p, BATCH), jax.tree.map(jnp.zeros_like, carry))


def test_layers_of_both_directions_may_be_stacked_with_layers_of_one():
    both = jaxrnn.Stack([jaxrnn.LSTMCell(4)], bidirectional=True, merge="mean")
    stack = jaxrnn.Stack([both, jaxrnn.GRUCell(2)], dropout=0.5)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    noise = stack.noise(jax.random.key(0), T, jnp.asarray(xs[0], jnp.float32))
    carry, ys = jaxrnn.unroll(stack, p, xs, mask=MASK, noise=noise)
    after, between = jaxrnn.unroll(both, p[0], xs, mask=MASK)
    last, want = jaxrnn.unroll(
        stack.cells[1], p[1], np.where(noise.keep[0], between * 2, 0), mask=MASK
    )
    assert_close((carry, ys), ((after, last), want))
    with pytest.raises(ValueError, match="no single step"):
        stack(p, None, xs[0])
