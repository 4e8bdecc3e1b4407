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
# # Quickstart
#
# You train an LSTM on real pictures, look at what it believes while it reads, and see what is underneath. You need
# `pip install jaxrnn optax scikit-learn matplotlib`, and nothing else of this project.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import jaxrnn
import jaxrnn.nnx as rnn

# %% [markdown]
# ## A layer, as in torch
#
# `RNN`, `LSTM` and `GRU` take the arguments of `torch.nn`, and return `output, (h_n, c_n)`. `lengths` is new: padding reaches nothing.

# %%
lstm = rnn.LSTM(10, 20, num_layers=2, batch_first=True, rngs=nnx.Rngs(0))
x = jax.random.normal(jax.random.key(1), (5, 15, 10))  # batch, time, features
output, (h_n, c_n) = lstm(x, lengths=[15, 7, 0, 1, 3])
output.shape, h_n.shape, c_n.shape

# %% [markdown]
# ## Train it on pictures
#
# scikit-learn ships 1,797 handwritten digits of 8 x 8 pixels. The network reads a digit row by row, eight numbers at a time, and
# says after each row which digit it is. The first 1,500 are for training.

# %%
digits = load_digits()
images = digits.images.astype(np.float32) / 16  # [1797, 8 rows, 8 columns]
labels = digits.target
train = slice(0, 1500)
test = slice(1500, None)


class Reader(nnx.Module):
    def __init__(self, rngs):
        self.rnn = rnn.LSTM(8, 64, batch_first=True, rngs=rngs)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images, state=None):
        output, state = self.rnn(images, state)
        return self.head(output), state  # logits after each row, [batch, 8, 10]


@nnx.jit
def update(model, optimizer, images, labels):
    def loss(model):
        logits, _ = model(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits[:, -1], labels).mean()

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


model = Reader(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
rng = np.random.default_rng(0)
losses = []
for _ in range(300):
    some = rng.integers(0, 1500, 64)
    losses.append(float(update(model, optimizer, images[some], labels[some])))
logits, _ = model(images[test])
right = (logits.argmax(-1) == labels[test, None]).mean(0)
print(f"right after the last row: {right[-1]:.1%} of the {len(labels[test])} that it has not seen")

# %% [markdown]
# What it believes after each row, for four of those:

# %%
fig, axes = plt.subplots(2, 4, figsize=(9, 4.2), layout="constrained")
believed = jax.nn.softmax(logits)
for column, ax in zip(axes.T, range(4), strict=True):
    column[0].imshow(images[test][ax], cmap="gray_r")
    column[0].set(title=f"a {labels[test][ax]}", xticks=[], yticks=[])
    column[1].imshow(believed[ax], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    column[1].set(xlabel="digit", xticks=range(10), yticks=[0, 7])
axes[1, 0].set_ylabel("rows read")
plt.show()

# %% [markdown]
# ## One row at a time
#
# A state goes in and comes out. Reading the rows one by one gives the same numbers as reading them at once.

# %%
state = model.rnn.initial_state(4)
for row in range(8):
    y, state = model.rnn.step(images[test][:4, row], state)
print("largest difference:", float(jnp.abs(model.head(y) - logits[:4, -1]).max()))

# %% [markdown]
# ## Weights of torch
#
# They travel both ways by torch's names. `load_torch` takes a `state_dict`; here, one that `to_torch` wrote.

# %%
weights = model.rnn.to_torch()
print({name: array.shape for name, array in weights.items()})
model.rnn.load_torch(weights)  # or torch_lstm.state_dict()

# %% [markdown]
# ## Underneath
#
# A module holds parameters. What runs is a pure function of a cell: `unroll(cell, params, xs)`, with the time on axis 0. A cell is a
# frozen dataclass of sizes, without arrays.

# %%
cell = jaxrnn.LSTMCell(hidden_size=20)
params = cell.init(jax.random.key(0), input_size=10)
xs = jax.random.normal(jax.random.key(1), (15, 5, 10))  # time, batch, features
carry, ys = jaxrnn.unroll(cell, params, xs)
jax.tree.map(jnp.shape, params), carry.c.shape, ys.shape

# %% [markdown]
# A step is the equations of the cell and nothing else. Here they are once more in NumPy, for the first step:

# %%
sigmoid = lambda a: 1 / (1 + np.exp(-a))
w_x, w_h, b = (np.asarray(p) for p in params)  # [inputs, gates, units], gates in the order i f g o
u = np.tensordot(np.asarray(xs[0]), w_x, 1) + b.reshape(4, 20)  # the first state is zero
i, f, g, o = np.moveaxis(u, -2, 0)
c = sigmoid(i) * np.tanh(g)
h = sigmoid(o) * np.tanh(c)
print("largest difference:", float(np.abs(h - ys[0]).max()))

# %% [markdown]
# `mask` names padding, `reset` the steps at which a new sequence begins in the same row. Two sequences in one row give what they
# give apart:

# %%
row = jax.random.normal(jax.random.key(2), (9, 10))
reset = jnp.zeros(9, bool).at[4].set(True)
_, packed = jaxrnn.unroll(cell, params, row, reset=reset)
_, first = jaxrnn.unroll(cell, params, row[:4])
_, second = jaxrnn.unroll(cell, params, row[4:])
print("largest difference:", float(jnp.abs(packed - jnp.concatenate([first, second])).max()))

# %% [markdown]
# ## Next
#
# The page [Training](../docs/training.md) has linen, plain functions, dropout, long sequences, checkpoints and several devices;
# [Sequences](../docs/sequences.md) what real data ask for. The notebook
# [Vanishing gradients](02_vanishing_gradients.ipynb) shows what the gates are for.
