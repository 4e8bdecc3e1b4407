"""A tied word-level language model with truncated backpropagation and clipping, as PyTorch's
example trains one: the same updates give the same losses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxrnn.nnx as rnn
from jaxrnn.interop import with_two_biases

pytestmark = [
    pytest.mark.usefixtures("quick_compilation", "standard_promotion"),
    pytest.mark.parity,
]
WORDS, SIZE, WINDOW, BATCH, UPDATES = 17, 12, 5, 4, 8
RATE, CLIP = 2.0, 0.25
TEXT = np.random.default_rng(0).integers(0, WORDS, (UPDATES * WINDOW + 1, BATCH))


class LanguageModel(nnx.Module):
    """Embedding, recurrent layers, and the embedding again as the decoder."""

    def __init__(self, kind, rngs):
        self.embed = nnx.Embed(WORDS, SIZE, rngs=rngs)
        self.rnn = kind(SIZE, SIZE, num_layers=2, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(WORDS))

    def __call__(self, words, state):
        output, state = self.rnn(self.embed(words), state)
        return self.embed.attend(output) + self.bias, state


def losses_here(kind, weights):
    model = LanguageModel(kind, nnx.Rngs(0))
    model.rnn.load_torch(weights, prefix="rnn.")
    model.embed.embedding[...] = jnp.asarray(weights["embed.weight"].numpy())
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.sgd(RATE))
    optimizer = nnx.Optimizer(model, with_two_biases(optimizer), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, words, targets, state):
        def loss(model):
            logits, after = model(words, state)
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            return nats.mean(), after

        (value, state), gradients = nnx.value_and_grad(loss, has_aux=True)(model)
        optimizer.update(model, gradients)
        return value, state  # its gradient ends here

    state = model.rnn.initial_state(BATCH)
    losses = []
    for start in range(0, UPDATES * WINDOW, WINDOW):
        words, targets = TEXT[start : start + WINDOW], TEXT[start + 1 : start + WINDOW + 1]
        value, state = update(model, optimizer, words, targets, state)
        losses.append(float(value))
    return losses


def losses_of_torch(torch, name):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(WORDS, SIZE)
            self.rnn = getattr(torch.nn, name)(SIZE, SIZE, num_layers=2)
            self.bias = torch.nn.Parameter(torch.zeros(WORDS))

        def forward(self, words, state):
            output, state = self.rnn(self.embed(words), state)
            return output @ self.embed.weight.T + self.bias, state

    torch.manual_seed(0)
    model = Model()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = None
    losses = []
    for start in range(0, UPDATES * WINDOW, WINDOW):
        words = torch.as_tensor(TEXT[start : start + WINDOW])
        targets = torch.as_tensor(TEXT[start + 1 : start + WINDOW + 1])
        model.zero_grad()
        logits, state = model(words, state)
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, WORDS), targets.reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= RATE * parameter.grad
        losses.append(loss.item())
    return losses, weights


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_the_language_model_trains_as_that_of_torch(name):
    torch = pytest.importorskip("torch")
    want, weights = losses_of_torch(torch, name)
    got = losses_here(getattr(rnn, name), weights)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert max(abs(np.diff(want))) > 1e-2  # it does train
    assert jax.tree.leaves(got)
