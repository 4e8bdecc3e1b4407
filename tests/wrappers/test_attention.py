"""Attention over a memory in the carry: equal to a loop, with masks, resets and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.testing import check_cell
from jaxrnn.wrappers import AttentionInput, Feedback, LayerNormInput

KEY = jax.random.key(7)
T, B, I, S, M, H = 6, 3, 4, 5, 2, 8
CELLS = [
    jaxrnn.GRUCell(H),
    jaxrnn.LSTMCell(H),
    LayerNormInput(jaxrnn.RNNCell(H)),
    jaxrnn.Stack((jaxrnn.RNNCell(3), jaxrnn.GRUCell(H))),
]
VALID = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)


def given(dtype=jnp.float32):
    return (
        jax.random.normal(jax.random.key(1), (T, B, I), dtype),
        jax.random.normal(jax.random.key(2), (B, S, M), dtype),
    )


def hidden(carry):
    return carry.h if hasattr(carry, "h") else carry[-1].h


def loop(cell, params, xs, memory):
    """Row by row and step by step, over the valid entries alone."""
    rows = []
    for row in range(B):
        carry = jaxrnn.initial_carry(cell.cell, params.inner, (), xs.dtype)
        entries = memory[row][np.flatnonzero(VALID[row])]
        outputs = []
        for t in range(T):
            context = jnp.zeros(M, xs.dtype)
            if len(entries):
                q = hidden(carry) @ params.w_q
                keys = entries @ params.w_k
                if cell.score == "dot":
                    scores = keys @ q / np.sqrt(q.shape[0])
                else:
                    scores = jnp.tanh(q + keys) @ params.v
                weights = jnp.exp(scores) / jnp.exp(scores).sum()
                context = weights @ entries
            carry, y = cell.cell(params.inner, carry, jnp.concatenate([xs[t, row], context]))
            outputs.append(jnp.concatenate([y, context]))
        rows.append(jnp.stack(outputs))
    return jnp.stack(rows, 1)


@pytest.mark.parametrize("inner, score", [*((c, "dot") for c in CELLS), (CELLS[0], "additive")])
def test_values_and_gradients_are_those_of_a_loop_over_what_is_valid(inner, score, x64):
    cell = AttentionInput(inner, M, S, key_size=3, score=score, output_context=True)
    params = cell.init(KEY, I, jnp.float64)
    xs, memory = given(jnp.float64)
    weights = jax.random.normal(KEY, (T, B, H + M), jnp.float64)

    def ours(params, xs, memory):
        holes = jnp.where(VALID[..., None], memory, jnp.nan)
        carry = cell.attend(params, holes, jnp.asarray(VALID))
        return jaxrnn.unroll(cell, params, xs, carry)[1]

    def theirs(params, xs, memory):
        return loop(cell, params, xs, memory)

    runs = [
        jax.jit(jax.value_and_grad(lambda *a, f=f: (f(*a) * weights).sum(), (0, 1, 2)))(
            params, xs, memory
        )
        for f in (ours, theirs)
    ]
    for a, b in zip(*map(jax.tree.leaves, runs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_gradients_reach_the_encoder_and_windows_add_up():
    encoder = jaxrnn.GRUCell(M)
    cell = AttentionInput(jaxrnn.GRUCell(H), M, T)
    params = {"encoder": encoder.init(KEY, I), "decoder": cell.init(KEY, I)}
    xs, _ = given()

    def decoded(params, parts):
        _, seen = jaxrnn.unroll(encoder, params["encoder"], xs)
        carry = cell.attend(params["decoder"], seen.swapaxes(0, 1))
        ys = []
        for part in jnp.split(xs, parts):
            carry, y = jaxrnn.unroll(cell, params["decoder"], part, carry)
            ys.append(y)
        return (jnp.concatenate(ys) ** 2).sum()

    runs = [jax.value_and_grad(decoded)(params, parts) for parts in (1, 3)]
    for a, b in zip(*map(jax.tree.leaves, runs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert abs(runs[0][1]["encoder"].w_h).max() > 1e-4


def test_a_memory_of_which_nothing_is_valid_any_more_gives_no_context():
    cell = AttentionInput(jaxrnn.GRUCell(H), M, S, output_context=True)
    params = cell.init(KEY, I)
    xs, memory = given()
    carry = cell.attend(params, memory)
    _, ys = jaxrnn.unroll(cell, params, xs, carry._replace(valid=jnp.zeros((B, S), bool)))
    _, fresh = jaxrnn.unroll(cell, params, xs)
    np.testing.assert_allclose(ys, fresh, atol=1e-6)
    assert not ys[..., H:].any()


def test_a_reset_empties_the_memory():
    cell = AttentionInput(jaxrnn.GRUCell(H), M, S)
    params = cell.init(KEY, I)
    xs, memory = given()
    reset = jnp.zeros((T, B), bool).at[2].set(True)
    after, ys = jaxrnn.unroll(cell, params, xs, cell.attend(params, memory), reset=reset)
    _, fresh = jaxrnn.unroll(cell, params, xs[2:])
    np.testing.assert_allclose(ys[2:], fresh, atol=1e-6)
    assert not after.memory.any() and not after.valid.any()


def test_the_state_of_an_encoder_may_come_with_its_outputs():
    cell = AttentionInput(jaxrnn.LSTMCell(H), M, S)
    params = cell.init(KEY, I)
    xs, memory = given()
    state = jaxrnn.cells.LSTMCarry(*jax.random.normal(KEY, (2, B, H)))
    carry = cell.attend(params, memory, inner=state)
    assert carry.inner is state
    mine, others = (
        jaxrnn.unroll(cell, params, xs, c)[1] for c in (carry, cell.attend(params, memory))
    )
    assert abs(mine - others).max() > 0.05


def test_it_goes_into_a_closed_loop():
    cell = Feedback(AttentionInput(jaxrnn.GRUCell(H), M, S), 3, feed="one_hot")
    params = cell.init(KEY, 4)
    _, memory = given()
    carry = jaxrnn.initial_carry(cell, params, (B,))
    carry = carry._replace(inner=cell.cell.attend(params.inner, memory))
    xs = cell.inputs(jnp.zeros((T, B, 3)), use=False)
    after, ys = jaxrnn.unroll(cell, params, xs, carry)
    assert ys.shape == (T, B, 3) and (after.fed.sum(-1) == 1).all()


@pytest.mark.parametrize("score", ["dot", "additive"])
def test_it_keeps_the_contract(score):
    check_cell(AttentionInput(jaxrnn.GRUCell(4), M, S, score=score), I)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: AttentionInput(jaxrnn.GRUCell(4), 0, 3), ValueError, "memory_size must be"),
        (lambda: AttentionInput(jaxrnn.GRUCell(4), 2, 0), ValueError, "slots must be"),
        (lambda: AttentionInput(jaxrnn.GRUCell(4), 2, 3, key_size=0), ValueError, "key_size must"),
        (lambda: AttentionInput(jaxrnn.GRUCell(4), 2, 3, score="d"), ValueError, "or 'additive'"),
        (lambda: AttentionInput(jaxrnn.cells.ConvGRUCell(4, 3), 2, 3), ValueError, "for vectors"),
        (
            lambda: AttentionInput(jaxrnn.cells.SRUCell(4), 2, 3).init(KEY, 2),
            TypeError,
            "an h in its carry",
        ),
        (
            lambda: AttentionInput(jaxrnn.GRUCell(4), M, 3).attend(
                AttentionInput(jaxrnn.GRUCell(4), M, 3).init(KEY, 2), jnp.zeros((B, S, M))
            ),
            ValueError,
            r"= \(3, 2\), got shape \(3, 5, 2\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
