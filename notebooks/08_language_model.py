# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A model that writes
#
# Two blocks around a minimal GRU learn the reference manual that comes with Python, character by character. In training one
# scan over two numbers a unit gives all states; in writing each character is one step. Both give the same numbers.

# %%
import collections
import math
import pydoc_data.topics

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxrnn
from jaxrnn.cells import DenseCell, MinGRUCell
from jaxrnn.wrappers import Block

# %% [markdown]
# ## The text
#
# What `help("topics")` shows, in one piece, but each paragraph once: some topics stand in others word for word. The last
# twentieth is kept for the end.

# %%
topics = pydoc_data.topics.topics
paragraphs = (part for name in sorted(topics) for part in topics[name].strip().split("\n\n"))
text = "\n\n".join(dict.fromkeys(paragraphs))
count = collections.Counter(text)
alphabet = sorted(c for c in count if count[c] >= 20)
place = {c: k for k, c in enumerate(alphabet)}
symbols = np.array([place[c] for c in text if c in place], np.uint8)
train, test = np.split(symbols, [len(symbols) * 19 // 20])
V = len(alphabet)
print(f"{len(symbols):,} characters of {V} kinds")
print(text[10000:10300])

# %% [markdown]
# ## The model
#
# `Block` puts a norm, a short convolution, a gate and a residual connection around a cell, and a gated perceptron behind it. A
# block has as many outputs as inputs, so a linear layer comes first. It is a cell like any other: it can be stacked, carried
# on, masked, reset.

# %%
H = 96
block = Block(MinGRUCell(H), mlp=2 * H)
model = jaxrnn.Stack((DenseCell(H), block, block, DenseCell(V)))
params = model.init(jax.random.key(0), input_size=V)
print(f"{sum(a.size for a in jax.tree.leaves(params)):,} parameters")

# %% [markdown]
# How does it run? The state of a minimal GRU is linear in its last one, unit by unit, which is found in its step and not declared:
# all matrix products are made before, for all steps at once.

# %%
for layer in jaxrnn.explain(model, (128, 32, V)):
    print(*str(layer).splitlines()[:2], sep="\n")

# %% [markdown]
# ## Training
#
# Windows of 128 characters from random places; the loss is the mean of -log P(next character), in bits.

# %%
T, B, STEPS = 128, 32, 300
optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(4e-3, STEPS))
)


def bits(params, window):
    """Of a window, [T + 1, B]."""
    _, logits = jaxrnn.unroll(model, params, jax.nn.one_hot(window[:-1], V))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, window[1:].astype(int))
    return jnp.mean(losses) / math.log(2)


@jax.jit
def update(params, state, key):
    first = jax.random.randint(key, (B,), 0, len(train) - T)
    window = jnp.asarray(train)[first + jnp.arange(T + 1)[:, None]]
    loss, slope = jax.value_and_grad(bits)(params, window)
    change, state = optimizer.update(slope, state, params)
    return optax.apply_updates(params, change), state, loss


state = optimizer.init(params)
losses = []
for step in range(STEPS):
    params, state, loss = update(params, state, jax.random.fold_in(jax.random.key(1), step))
    losses.append(float(loss))

# %% [markdown]
# What it knows, beside what the frequencies of single characters say, and those of pairs:

# %%
kept = test[: len(test) // (T + 1) * (T + 1)].reshape(-1, T + 1).T
loss = float(jax.jit(bits)(params, kept))
pairs = np.ones((V, V))
np.add.at(pairs, (train[:-1], train[1:]), 1)
by_pairs = -np.mean(np.log2(pairs / pairs.sum(1, keepdims=True))[test[:-1], test[1:]])
single = pairs.sum(0) / pairs.sum()
by_one = -np.mean(np.log2(single)[test])
print(f"bits per character: {loss:.2f}; by pairs {by_pairs:.2f}, by single characters {by_one:.2f}")
assert loss < by_pairs

# %%
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(losses, color="C0")
for level, words in ((by_one, "single characters"), (by_pairs, "pairs")):
    ax.axhline(level, color="0.6", lw=1, ls="--")
    ax.annotate(words, (STEPS, level), ha="right", va="bottom", color="0.4")
ax.set(xlabel="update", ylabel="bits per character", title="Two blocks learn Python's manual")
plt.show()

# %% [markdown]
# ## Writing
#
# `model(params, carry, x)` is one step. What it says of a text step by step is what `unroll` says of it at once:

# %%
prompt = jax.nn.one_hot(np.array([place[c] for c in "The statement "]), V)
carry, at_once = jaxrnn.unroll(model, params, prompt)
first = jaxrnn.initial_carry(model, params, ())
_, one_by_one = jax.lax.scan(lambda carry, x: model(params, carry, x), first, prompt)
difference = float(jnp.abs(at_once - one_by_one).max())
print(f"step by step and at once differ by {difference:.1e}")
assert difference < 1e-4

# %% [markdown]
# So the text is read at once, and gone on with from the carry, each character drawn from what the model thinks of it:


# %%
@jax.jit
def write(params, carry, logits, key):
    def one(state, key):
        carry, logits = state
        symbol = jax.random.categorical(key, logits / 0.7)
        return model(params, carry, jax.nn.one_hot(symbol, V)), symbol

    return jax.lax.scan(one, (carry, logits), jax.random.split(key, 400))[1]


written = write(params, carry, at_once[-1], jax.random.key(2))
print("The statement " + "".join(alphabet[k] for k in written))

# %% [markdown]
# A minute is short. `python -m experiments run language_model` trains longer, beside an LSTM of as many parameters and a model
# that counts sequences of six characters.
