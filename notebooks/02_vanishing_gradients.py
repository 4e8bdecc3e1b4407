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
# # Vanishing gradients
#
# Why does a simple RNN lose what it saw a hundred steps ago, and an LSTM or a GRU keep it? A network learns from the past only
# through the derivative of its last state with respect to an earlier one. This notebook measures that derivative.

# %%
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path.cwd().parent))  # the package `experiments` runs from the checkout

import jaxrnn
from experiments.cells import CELLS
from experiments.report import figures
from experiments.tasks import TASKS
from jaxrnn.diagnostics import carry_jacobian_norms

# %% [markdown]
# ## One number per step
#
# Take the RNN $h_t = \tanh(W h_{t-1} + u_t)$ at a state of zero. The derivative of one step is $W$, and of $k$ steps $W^k$.
# If $W$ is $g$ times an orthogonal matrix, its norm is exactly $g^k$: at $g = 0.9$ a hundred steps leave $2.7 \cdot 10^{-5}$.
# `carry_jacobian_norms` gives $\log_{10}$ of the norm against the lag, for any cell.

# %%
T = 100
zeros = jnp.zeros((T, 2))
for g in (1.0, 0.9, 0.5):
    cell = jaxrnn.RNNCell(32)
    params = cell.init(jax.random.key(0), input_size=2)
    params = params._replace(w_h=g * params.w_h)
    measured = carry_jacobian_norms(cell, params, zeros)
    print(f"g = {g}: 10^{measured[T]:.2f} after {T} steps, expected 10^{T * np.log10(g):.2f}")

# %% [markdown]
# Real inputs make it worse: away from zero the slope of tanh is below 1, so every step loses a little more, even where $W$ itself
# is orthogonal. We take sequences of the *adding task*: 100 pairs of a random number and a marker; the target is the sum of the
# two marked numbers.

# %%
batch = TASKS["adding"](lag=T).sample(jax.random.key(0), 16)
batch.inputs.shape


# %%
def norms(name):
    """The median norm over sequences, against the lag."""
    cell = CELLS[name].make(32, T)
    params = cell.init(jax.random.key(1), input_size=2)
    one = lambda xs: carry_jacobian_norms(cell, params, xs)
    return np.median(jax.jit(jax.vmap(one, in_axes=1))(batch.inputs), axis=0)


def plot(ax, names):
    for name in names:
        colour, style = figures.STYLES[name]
        ax.plot(
            norms(name), color=colour, linestyle=style, label=f"{name}: {CELLS[name].description}"
        )
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.set(xlabel="lag (steps)", ylabel="log10 of the norm")
    ax.legend(loc="lower left", fontsize=8)


# %% [markdown]
# ## The simple RNN
#
# Three initialisations. "Simple RNN" alone says little: between the smallest and the orthogonal one lie twenty orders of
# magnitude.

# %%
fig, ax = plt.subplots(figsize=(8, 4))
plot(ax, ["rnn_orth", "rnn_glorot", "rnn_small"])
plt.show()

# %% [markdown]
# ## The gate
#
# The LSTM's cell state passes from step to step through one multiplication, $c_t = \sigma(f) \cdot c_{t-1} + \dots$: the
# derivative along it is $\sigma(f)$, which the network sets itself. With a bias $b$ on that gate and all else zero, $k$ steps
# leave $\sigma(b)^k$: nothing at $b = 0$ ($0.5^{100}$), more at $b = 1$, nearly all for the *chrono* initialisation, which
# spreads $b$ so that the gates' memories reach from 1 step to `lag`.

# %%
fig, ax = plt.subplots(figsize=(8, 4))
plot(ax, ["rnn_orth", "lstm_fb0", "lstm", "lstm_chrono"])
plt.show()

# %% [markdown]
# So an LSTM does not keep the past because it is an LSTM: with a forget bias of 0 its gradients vanish faster than those of an
# orthogonal simple RNN. It keeps the past because it *can* hold a gate open, and because it is started with the gate open.
# The GRU is no different; its gate $z$ keeps the old state.

# %%
fig, ax = plt.subplots(figsize=(8, 4))
plot(ax, ["rnn_orth", "gru", "gru_chrono", "lstm_chrono"])
plt.show()

# %% [markdown]
# ## What training does
#
# Training moves the gates. Below is what `python -m experiments gradients` measured and saved: above at initialisation, below
# after a short training on the adding task; on the left the gradient of the loss, on the right the norm that we plotted here.

# %%
figures.gradient_figure(Path("..") / "experiments" / "results" / "gradients")

# %% [markdown]
# The GRU, which started with its gate half closed, has opened it, and the LSTM that started closed is on its way; the simple RNNs,
# which have no gate to open, forget faster than before. That is the difference in the end: on the adding task at 200 steps the
# LSTM and the GRU solve the task and the simple RNN does not get there (`python -m experiments run adding`).
