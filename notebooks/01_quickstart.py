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
# A recurrent cell in jaxrnn is a frozen dataclass of hyper-parameters with pure methods. It holds no arrays: parameters and
# carries go in, and come out. This notebook goes from one step of an LSTM to a trained model.

# %%
import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn

# %% [markdown]
# ## A cell by hand
#
# `cell.init` draws the parameters, a NamedTuple of arrays. Kernels keep a gate axis, `[inputs, gates, units]`, with the gates
# in torch's order `i f g o`.

# %%
cell = jaxrnn.LSTMCell(hidden_size=20)
params = cell.init(jax.random.key(0), input_size=10)
jax.tree.map(jnp.shape, params)

# %% [markdown]
# `cell(params, carry, x)` is one step: it takes a carry and an input, and returns the next carry and an output. Any number of
# batch axes may stand in front of the features. Here are five sequences at once.

# %%
x = jax.random.normal(jax.random.key(1), (5, 10))
carry = jaxrnn.initial_carry(cell, params, batch_shape=(5,))
carry, y = cell(params, carry, x)
y.shape, carry.h.shape, carry.c.shape

# %% [markdown]
# The cell is its equations and nothing else. Written out once more with NumPy, the step gives the same numbers:

# %%
sigmoid = lambda a: 1 / (1 + np.exp(-a))
w_x, w_h, b = (np.asarray(p) for p in params)
u = np.tensordot(np.asarray(x), w_x, 1) + b.reshape(
    4, 20
)  # the first carry is zero, and so is its product with w_h
i, f, g, o = np.moveaxis(u, -2, 0)
c = sigmoid(i) * np.tanh(g)
h = sigmoid(o) * np.tanh(c)
print("largest difference:", float(np.abs(h - y).max()))

# %% [markdown]
# ## A sequence
#
# `jaxrnn.unroll` runs a cell over time, which is axis 0. Padding is named by a mask: there the carry is held, the output is
# zero, and nothing that stands in the input reaches values or gradients. A length of zero is fine.

# %%
xs = jax.random.normal(jax.random.key(1), (15, 5, 10))  # time, batch, features
lengths = np.array([15, 7, 0, 1, 3])
xs = xs.at[7:, 1].set(jnp.nan)  # whatever stands in the padding
carry, ys = jaxrnn.unroll(cell, params, xs, mask=jaxrnn.lengths_to_mask(lengths, T=15))
print("outputs that are zero, per sequence:", (ys == 0).all(-1).sum(0), "of 15 steps")
print("the last carry is the output at the last valid step:", bool((carry.h[1] == ys[6, 1]).all()))

# %% [markdown]
# `reset` marks steps at which a new sequence begins. Two sequences packed into one row give what they give apart:

# %%
xs = jax.random.normal(jax.random.key(2), (9, 10))
reset = jnp.zeros(9, bool).at[4].set(True)
_, packed = jaxrnn.unroll(cell, params, xs, reset=reset)
_, first = jaxrnn.unroll(cell, params, xs[:4])
_, second = jaxrnn.unroll(cell, params, xs[4:])
print("largest difference:", float(jnp.abs(packed - jnp.concatenate([first, second])).max()))

# %% [markdown]
# ## As in torch
#
# `jaxrnn.nnx` has `RNN`, `LSTM` and `GRU` with the constructor arguments, shapes and return values of `torch.nn`
# (`jaxrnn.linen` has the same for linen).

# %%
from flax import nnx

import jaxrnn.nnx as rnn

lstm = rnn.LSTM(10, 20, num_layers=2, batch_first=True, rngs=nnx.Rngs(0))
x = jax.random.normal(jax.random.key(1), (5, 15, 10))  # batch, time, features
h_0 = jnp.zeros((2, 5, 20))
c_0 = jnp.zeros((2, 5, 20))
output, (h_n, c_n) = lstm(x, (h_0, c_0))
output.shape, h_n.shape, c_n.shape

# %% [markdown]
# Weights travel both ways by torch's names, as NumPy arrays or tensors. `load_torch` takes a `state_dict`; here, one that
# `to_torch` wrote. (With torch installed: `lstm.load_torch(torch_lstm.state_dict())`.)

# %%
weights = lstm.to_torch()
for name, array in weights.items():
    print(f"{name:14} {array.shape}")

other = rnn.LSTM(10, 20, num_layers=2, batch_first=True, rngs=nnx.Rngs(1))
other.load_torch(weights)
print("same outputs:", bool((other(x)[0] == output).all()))

# %% [markdown]
# ## Training in ten lines
#
# A GRU learns whether the sum of its inputs is positive. Parameters are plain trees, so `jax.grad`, `jax.jit` and optax need
# nothing special.

# %%
import optax

cell = jaxrnn.GRUCell(hidden_size=16)
params = {
    "cell": cell.init(jax.random.key(0), input_size=1),
    "readout": 0.1 * jax.random.normal(jax.random.key(1), (16,)),
}
optimizer = optax.adam(1e-2)


def loss(params, key):
    xs = jax.random.normal(key, (20, 64, 1))
    carry, _ = jaxrnn.unroll(cell, params["cell"], xs)
    logits, labels = carry.h @ params["readout"], (xs.sum((0, 2)) > 0).astype(jnp.float32)
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


@jax.jit
def update(params, state, key):
    value, grads = jax.value_and_grad(loss)(params, key)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, value


state = optimizer.init(params)
for step in range(301):
    params, state, value = update(params, state, jax.random.fold_in(jax.random.key(2), step))
    if step % 100 == 0:
        print(f"step {step}: loss {value:.3f} (chance: 0.693)")

# %% [markdown]
# ## Next
#
# `02_vanishing_gradients` shows what the gates are for. `python -m experiments run adding` trains the simple RNN, the LSTM and
# the GRU on a task that only those pass that keep a value for 200 steps.
