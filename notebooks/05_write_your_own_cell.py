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
# # Write your own cell
#
# A cell is its equations. Masks, gradients, stacks, Flax modules, training and diagnostics follow from them. Here is one that the
# library does not have, the *chaos-free network* (Laurent and von Brecht 2017, [arXiv:1612.06212](https://arxiv.org/abs/1612.06212)):
#
# $$f = \sigma(x W_{xf} + h W_{hf} + b_f) \qquad i = \sigma(x W_{xi} + h W_{hi} + b_i) \qquad
# h' = f \cdot \tanh(h) + i \cdot \tanh(x W_{xg} + b_g)$$
#
# Its claim: left alone, an LSTM can be chaotic, this cell never is. At the end of this page it is measured.

# %%
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.nn import sigmoid

import jaxrnn
from experiments.tasks import TASKS
from experiments.training import train
from experiments.training.check import CALIBRATION
from experiments.training.folder import read_json
from experiments.training.model import Model
from jaxrnn.diagnostics import largest_lyapunov_exponent
from jaxrnn.testing import check_cell

# %% [markdown]
# ## Twenty lines
#
# `project` is the part that needs only the input: the library runs it for all steps at once. `step` is the recurrence; every
# product with a weight goes through `dot`, and nothing else is asked of it.


# %%
class CFNParams(NamedTuple):
    w_x: jax.Array  # [I, 3, H]
    w_h: jax.Array  # [H, 2, H]
    b: jax.Array  # [3 * H]


class CFNCarry(NamedTuple):
    h: jax.Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class CFNCell(jaxrnn.Cell):
    hidden_size: int

    def init(self, key, input_size, dtype=jnp.float32):
        k_x, k_h = jax.random.split(key)
        w_x = jaxrnn.initializers.kernel(
            "lecun_normal", k_x, input_size, 3, self.hidden_size, dtype
        )
        w_h = jaxrnn.initializers.kernel(
            "orthogonal", k_h, self.hidden_size, 2, self.hidden_size, dtype
        )
        H = self.hidden_size
        b = jnp.zeros(3 * H, dtype).at[:H].set(1)  # of the forget gate
        return CFNParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params, like):
        return CFNCarry(h=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params, xs, noise=None):
        return jaxrnn.linear(xs, params.w_x, params.b)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        u_f, u_i, u_g = jaxrnn.gates(u)
        a_f, a_i = jaxrnn.gates(dot(carry.h, params.w_h))
        h = sigmoid(u_f + a_f) * jnp.tanh(carry.h) + sigmoid(u_i + a_i) * jnp.tanh(u_g)
        return CFNCarry(h=h), h


# %% [markdown]
# ## Is it a cell?
#
# `check_cell` holds it against the contract: single steps against the sequence, gradients against finite differences, masks, resets,
# dtypes, batch axes. It says nothing where all is well.

# %%
check_cell(CFNCell(hidden_size=4))

# %% [markdown]
# From here on it is like any other: two layers, both directions, sequences of different lengths.

# %%
stack = jaxrnn.Stack((CFNCell(8), CFNCell(8)), bidirectional=True)
params = stack.init(jax.random.key(0), input_size=3)
mask = jaxrnn.lengths_to_mask(jnp.array([5, 2]), 5)
carry, ys = jaxrnn.unroll(stack, params, jnp.ones((5, 2, 3)), mask=mask)
ys.shape, [c.h.shape for c in carry]

# %% [markdown]
# ## Does it learn?
#
# The task of the preset `fast_adding`: the sum of two marked numbers among 50. Three seeds, the preset's optimiser, learning rate
# and number of units.

# %%
task = TASKS["adding"](lag=50)
job = train.Job(task, Model(CFNCell(32), task.score.output_size), batch_size=64, clip=1.0)
rows = train.Rows(
    np.stack([jax.random.key_data(jax.random.key(s)) for s in range(3)]),
    np.full(3, 5e-3, np.float32),
)
state, losses = train.start(job, rows), []
for step in range(0, 450, 50):
    state, now, *_ = train.advance(job, state, rows, np.full(3, True), step)
    losses.append(now)
losses = np.array(losses)
loss, share = train.evaluate(job, state.params)
print(
    f"evaluation: squared error {np.round(loss, 4)}, of the best constant {task.levels.baseline:.4f}"
)

# %% [markdown]
# Beside what five seeds of the library's cells needed in the calibration of that preset:

# %%
for row in read_json(CALIBRATION / "fast_adding" / "summary.json")["results"]:
    print(f"{row['cell']:10} updates to solve: {row['steps_to_solve']}")
solved = [
    next((50 * (k + 1) for k in range(len(losses)) if losses[k, s] < task.levels.solved), None)
    for s in range(3)
]
print(f"{'CFN':10} updates to solve: {solved}  (at most 450)")

# %%
fig, ax = plt.subplots(figsize=(7, 3.5))
ax.plot(50 * np.arange(1, len(losses) + 1), losses)
ax.axhline(task.levels.baseline, color="0.5", linestyle="--", linewidth=0.9)
ax.text(450, task.levels.baseline * 1.1, "best constant", ha="right", fontsize=9)
ax.set(
    xlabel="updates",
    ylabel="squared error, mean of 50 updates",
    yscale="log",
    title="the chaos-free network on adding",
)
plt.show()

# %% [markdown]
# ## Is it free of chaos?
#
# The largest Lyapunov exponent is the mean growth of a small difference between two states, in nats per step: above zero means
# chaos. We leave the cells alone (no input, zero biases), scale random recurrent kernels by a gain, and start from a random state.


# %%
def exponent(cell, gain, seed):
    """Of a cell with recurrent kernels N(0, gain^2 / H) and no biases, over 600 steps without input, the first 200 left out."""
    key, k_w, k_h = jax.random.split(jax.random.key(seed), 3)
    params = cell.init(key, 1)
    w_h = gain * jax.random.normal(k_w, params.w_h.shape) / params.w_h.shape[0] ** 0.5
    params = params._replace(w_h=w_h, b=jnp.zeros_like(params.b))
    carry = jaxrnn.initial_carry(cell, params)
    carry = jax.tree.map(lambda a: jax.random.normal(k_h, a.shape), carry)
    return largest_lyapunov_exponent(cell, params, jnp.zeros((600, 1)), carry, washout=200)


many = jax.jit(
    jax.vmap(jax.vmap(exponent, in_axes=(None, None, 0)), in_axes=(None, 0, None)), static_argnums=0
)
gains = jnp.array([1.0, 2.0, 4.0, 6.0, 8.0, 12.0])
found = {
    cell.__class__.__name__: many(cell, gains, jnp.arange(5))
    for cell in (jaxrnn.LSTMCell(64), CFNCell(64))
}
for name, exponents in found.items():
    print(f"{name:10}", " ".join(f"{v:7.3f}" for v in jnp.median(exponents, axis=1)))

# %%
fig, ax = plt.subplots(figsize=(7, 3.5))
for name, exponents in found.items():
    ax.plot(gains, jnp.median(exponents, axis=1), marker="o", label=name)
    ax.fill_between(gains, exponents.min(axis=1), exponents.max(axis=1), alpha=0.2)
ax.axhline(0, color="0.4", linewidth=0.8)
ax.set(xlabel="gain of the recurrent kernels", ylabel="largest Lyapunov exponent (nats / step)")
ax.legend()
plt.show()

# %% [markdown]
# The LSTM crosses zero, the chaos-free network does not: as its paper proves, whatever the gain.
