"""Sequence to sequence with feedback, as Flax's example has it: an LSTM reads the question, another
writes the answer and reads its own last symbol."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from modules import APIS

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.interop import from_linen

pytestmark = pytest.mark.usefixtures("standard_promotion")
SYMBOLS, UNITS, QUESTION, ANSWER, BATCH = 6, 24, 5, 5, 16
LENGTHS = np.array([5, 3, 4, 1] * (BATCH // 4))


def questions(seed):
    rng = np.random.default_rng(seed)
    words = rng.integers(1, SYMBOLS, (BATCH, QUESTION))
    return np.where(np.arange(QUESTION) < LENGTHS[:, None], words, 0)


def answers(words):
    """The question backwards."""
    out = np.zeros((BATCH, ANSWER), int)
    for row, length in enumerate(LENGTHS):
        out[row, :length] = words[row, :length][::-1]
    return out


# --- Flax's, by hand ------------------------------------------------------------------------------


class ByHand(nn.Module):
    """Greedy where `targets` is None, else with the right symbol fed back."""

    @nn.compact
    def __call__(self, words, targets=None):
        encoder = nn.RNN(nn.LSTMCell(UNITS, name="encoder"), return_carry=True, name="read")
        carry, _ = encoder(jax.nn.one_hot(words, SYMBOLS), seq_lengths=jnp.asarray(LENGTHS))
        cell = nn.LSTMCell(UNITS, name="decoder")
        head = nn.Dense(SYMBOLS, name="head")
        symbol = jnp.zeros(BATCH, int)
        rows = []
        for t in range(ANSWER):
            carry, y = cell(carry, jax.nn.one_hot(symbol, SYMBOLS))
            rows.append(head(y))
            symbol = rows[-1].argmax(-1) if targets is None else targets[:, t]
        return jnp.stack(rows, axis=1)


# --- here -----------------------------------------------------------------------------------------


def decode(step, head, state, targets):
    """A scan over `step`, which reads what it wrote, or the right symbol where there is one."""

    def body(carry, target):
        state, symbol = carry
        y, state = step(jax.nn.one_hot(symbol, SYMBOLS), state)
        logits = head(y)
        symbol = logits.argmax(-1) if target is None else target
        return (state, symbol), logits

    first = (state, jnp.zeros(BATCH, int))
    rows = None if targets is None else jnp.asarray(targets).T
    _, logits = jax.lax.scan(body, first, rows, length=ANSWER)
    return jnp.moveaxis(logits, 0, 1)


class NnxSeq2Seq(nnx.Module):
    def __init__(self, rngs):
        self.encoder = jaxrnn.nnx.LSTM(SYMBOLS, UNITS, batch_first=True, rngs=rngs)
        self.decoder = jaxrnn.nnx.LSTM(SYMBOLS, UNITS, rngs=rngs)
        self.head = nnx.Linear(UNITS, SYMBOLS, rngs=rngs)

    def __call__(self, words, targets=None):
        _, state = self.encoder(jax.nn.one_hot(words, SYMBOLS), lengths=LENGTHS)
        return decode(self.decoder.step, self.head, state, targets)


def run_nnx(params, words, targets):
    model = NnxSeq2Seq(nnx.Rngs(0))
    cell = jaxrnn.LSTMCell(UNITS)
    model.encoder.load((from_linen(cell, params["encoder"]),))
    model.decoder.load((from_linen(cell, params["decoder"]),))
    model.head.kernel[...] = params["head"]["kernel"]
    model.head.bias[...] = params["head"]["bias"]
    return model(words, targets)


def run_linen(params, words, targets):
    encoder = jaxrnn.linen.LSTM(SYMBOLS, UNITS, batch_first=True)
    decoder = jaxrnn.linen.LSTM(SYMBOLS, UNITS)
    cell = jaxrnn.LSTMCell(UNITS)
    reading = encoder.load((from_linen(cell, params["encoder"]),))
    writing = decoder.load((from_linen(cell, params["decoder"]),))
    _, state = encoder.apply(reading, jax.nn.one_hot(words, SYMBOLS), lengths=LENGTHS)

    def step(x, state):
        return decoder.apply(writing, x, state, method="step")

    head = lambda y: nn.Dense(SYMBOLS).apply({"params": params["head"]}, y)  # noqa: E731
    return decode(step, head, state, targets)


@pytest.mark.parametrize("api", APIS, ids=lambda a: a.name)
@pytest.mark.parametrize("forced", [False, True])
def test_it_writes_what_flax_writes(api, forced):
    words = questions(0)
    targets = answers(words) if forced else None
    params = ByHand().init(jax.random.key(0), words)["params"]
    want = ByHand().apply({"params": params}, words, targets)
    got = (run_nnx if api.name == "nnx" else run_linen)(params, words, targets)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_it_learns_to_write_the_question_backwards_from_its_own_symbols():
    model = NnxSeq2Seq(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, words, targets):
        def loss(model):
            logits = model(words, targets)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    for seed in range(400):
        words = questions(seed)
        update(model, optimizer, words, answers(words))
    words = questions(1000)
    right = nnx.jit(lambda m, w: m(w))(model, words).argmax(-1) == answers(words)
    assert right.mean() > 0.9
