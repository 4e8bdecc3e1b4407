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
# # A cell from a paper
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
import optax
from jax.nn import sigmoid

import jaxrnn
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
# The adding problem: of 50 random numbers two are marked, and their sum is asked for. Who always says 1 has a squared error of 1/6.


# %%
def adding(key, T=50, B=64):
    """Numbers and marks [T, B, 2], and the sum of the two marked numbers [B]."""
    k_numbers, k_first, k_second = jax.random.split(key, 3)
    numbers = jax.random.uniform(k_numbers, (T, B))
    places = (
        jax.random.randint(k_first, (B,), 0, T // 2),
        jax.random.randint(k_second, (B,), T // 2, T),
    )
    marks = sum(jax.nn.one_hot(place, T, axis=0) for place in places)
    return jnp.stack([numbers, marks], axis=-1), (numbers * marks).sum(0)


def losses_of(cell, seed, updates=450):
    """The squared error after each update, by Adam."""
    key = jax.random.key(seed)
    params = {"cell": cell.init(key, input_size=2), "head": jnp.zeros(32)}
    optimizer = optax.adam(5e-3)

    def loss(params, batch):
        xs, sums = batch
        carry, _ = jaxrnn.unroll(cell, params["cell"], xs)
        return jnp.mean((carry.h @ params["head"] + 1 - sums) ** 2)

    def update(state, step):
        params, moments = state
        value, gradients = jax.value_and_grad(loss)(params, adding(jax.random.fold_in(key, step)))
        changes, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(params, changes), moments), value

    return jax.lax.scan(update, (params, optimizer.init(params)), jnp.arange(updates))[1]


cells = {"chaos-free": CFNCell(32), "LSTM": jaxrnn.LSTMCell(32), "tanh RNN": jaxrnn.RNNCell(32)}
learning = {}
for name, cell in cells.items():
    learning[name] = jnp.stack([jax.jit(losses_of, static_argnums=0)(cell, s) for s in range(3)])
    print(f"{name:10} squared error at the end: {learning[name][:, -50:].mean(1).round(4)}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.5))
for name, losses in learning.items():
    blocks = losses.reshape(3, -1, 25).mean(-1)
    steps = 25 * jnp.arange(1, blocks.shape[1] + 1)
    ax.plot(steps, jnp.median(blocks, axis=0), label=name)
    ax.fill_between(steps, blocks.min(axis=0), blocks.max(axis=0), alpha=0.2)
ax.axhline(1 / 6, color="0.5", linestyle="--", linewidth=0.9)
ax.set(
    xlabel="updates",
    ylabel="squared error",
    yscale="log",
    title="adding across 50 steps: median and range of three seeds",
)
ax.legend()
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
