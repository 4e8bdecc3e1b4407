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
# # Learning while it runs
#
# Backpropagation through time keeps every step of the past, and needs an end to begin from. A stream has no end. The gradient can also be carried
# forward, beside the state: then it is known at every step, and nothing of the past is kept.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxrnn
from jaxrnn import online

# %% [markdown]
# ## One rule
#
# A cell makes the next state of the last one, $s_t = f(\theta, s_{t-1}, x_t)$. How the state depends on the parameters follows from the chain rule:
#
# $$P_t = \frac{ds_t}{d\theta} = \frac{\partial f}{\partial s_{t-1}} P_{t-1} + \frac{\partial f}{\partial \theta}.$$
#
# A loss of the state at step $t$ has the gradient $\frac{\partial L}{\partial s_t} P_t$: real-time recurrent learning (Williams & Zipser 1989). For one unit with
# one weight, $s_t = \tanh(a\, s_{t-1} + x_t)$, it is two lines:

# %%
a = 0.9
xs = np.sin(np.arange(30.0))
s = trace = 0.0
for x in xs:
    after = np.tanh(a * s + x)
    trace = (1 - after**2) * (a * trace + s)
    s = after


def last(a):
    return jax.lax.scan(lambda s, x: (jnp.tanh(a * s + x), None), 0.0, jnp.asarray(xs))[0]


print(f"forward {trace:.6f}, backward {jax.grad(last)(a):.6f}")

# %% [markdown]
# ## Where it is cheap
#
# In general $P$ has a row for every unit and a column for every parameter. An LSTM of 128 units with 128 inputs would keep tens of millions of numbers. Where no unit acts on
# another, each parameter belongs to one unit, and $P$ has the size of the parameters. The minGRU, the LRU, the RG-LRU and others are such cells; `online.RTRL` reads
# from the equations whether one is.

# %%
cell = jaxrnn.cells.MinGRUCell(128)
params = cell.init(jax.random.key(0), input_size=128)
state = online.RTRL(cell).init(params, jnp.zeros(128))
lstm = jaxrnn.LSTMCell(128)
dense = 2 * 128 * sum(p.size for p in jax.tree.leaves(lstm.init(jax.random.key(0), 128)))
print(f"minGRU: {sum(t.size for t in jax.tree.leaves(state.traces)):,} numbers")
print(f"LSTM, all of them: {dense:,}")
try:
    online.RTRL(lstm).init(lstm.init(jax.random.key(0), 128), jnp.zeros(128))
except ValueError as error:
    print(error)

# %% [markdown]
# The gradient is that of backpropagation, whatever the length:

# %%
xs = jax.random.normal(jax.random.key(1), (300, 4, 128))


def loss(_, y, __):
    return jnp.mean(y**2)


def total(params):
    return jnp.sum(jnp.mean(jaxrnn.unroll(cell, params, xs)[1] ** 2, axis=(1, 2)))


forward, _ = online.learn(online.RTRL(cell), params, xs, None, loss).gradients
backward = jax.grad(total)(params)
apart = max(
    float(jnp.max(jnp.abs(f - b)) / jnp.max(jnp.abs(b)))
    for f, b in zip(forward, backward, strict=True)
)
print(f"largest difference {apart:.0e} of the largest entry")

# %% [markdown]
# ## A stream that drifts
#
# What came 20 steps before and what came 10 steps before, mixed in shares that turn once round in 10,000 steps. There is no end at which to be done. Truncated
# backpropagation in windows of eight steps never sees from a target back to its cause: it tunes the readout of what the LRU happens to hold. The forward
# gradient sees all of it.

# %%
T, LAG, H = 20_000, 20, 32
drifting = jax.random.normal(jax.random.key(2), (T, 16))
angle = 2 * jnp.pi * jnp.arange(T)[:, None] / 10_000
targets = jnp.cos(angle) * jnp.roll(drifting, LAG, 0) + jnp.sin(angle) * jnp.roll(drifting, 10, 0)
inputs = drifting[..., None]
lru = jaxrnn.cells.LRUCell(H)
start = lru.init(jax.random.key(3), input_size=1)
head = jax.random.normal(jax.random.key(4), (H,)) / np.sqrt(H)


def error(head, y, target):
    return jnp.mean((y @ head - target) ** 2)


@jax.jit
def by_rtrl(params, head):
    adam = optax.adam(1e-3)
    learner = online.RTRL(lru)
    return online.learn(
        learner, params, inputs, targets, error, head=head, optimizer=adam, every=8
    ).losses


@jax.jit
def by_windows(params, head):
    adam = optax.adam(3e-3)
    pieces = jax.tree.map(lambda v: v.reshape(T // 8, 8, *v.shape[1:]), (inputs, targets))

    def window(now, piece):
        whole, progress, carry = now

        def loss(whole):
            after, ys = jaxrnn.unroll(lru, whole[0], piece[0], carry)
            errors = jax.vmap(error, (None, 0, 0))(whole[1], ys, piece[1])
            return errors.sum(), (after, errors)

        gradients, (after, errors) = jax.grad(loss, has_aux=True)(whole)
        changes, progress = adam.update(gradients, progress)
        return (optax.apply_updates(whole, changes), progress, after), errors

    whole = (params, head)
    first = (whole, adam.init(whole), jaxrnn.initial_carry(lru, params, (16,)))
    return jax.lax.scan(window, first, pieces)[1].reshape(-1)


curves = {"forward": by_rtrl(start, head), "windows of 8": by_windows(start, head)}
fig, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for name, losses in curves.items():
    ax.plot(np.arange(40) * T / 40, losses.reshape(40, -1).mean(1), label=name)
    print(f"{name}: {losses[-5000:].mean():.2f} in the last 5,000 steps")
ax.set(xlabel="step", ylabel="square error", yscale="log")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Where units act on each other
#
# For an LSTM or a GRU two approximations have the same price. SnAp-1 keeps of every recurrent product its diagonal; e-prop keeps nothing of it, which a synapse
# could do by itself. How near they are to the exact gradient depends on how far back it has to reach. Here a loss of the last output of a GRU, as it is drawn:

# %%
gru = jaxrnn.GRUCell(16)
drawn = gru.init(jax.random.key(5), input_size=4)
LENGTHS = (1, 2, 4, 8, 16, 32)


def cosine(a, b):
    a, b = (jnp.concatenate([v.ravel() for v in jax.tree.leaves(t)]) for t in (a, b))
    return float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b))


def near(method, steps):
    xs = jax.random.normal(jax.random.key(6), (steps, 32, 4))
    weights = jax.random.normal(jax.random.key(7), (16,))
    asked = jnp.arange(steps) == steps - 1
    got, _ = online.learn(
        method(gru), drawn, xs, asked, lambda _, y, now: now * jnp.sum(y @ weights)
    ).gradients
    want = jax.grad(lambda p: jnp.sum(jaxrnn.unroll(gru, p, xs)[1][-1] @ weights))(drawn)
    return cosine(got, want)


fig, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for method in (online.SnAp1, online.EProp):
    cosines = [near(method, steps) for steps in LENGTHS]
    print(method.__name__, [f"{c:.2f}" for c in cosines])
    ax.plot(LENGTHS, cosines, marker="o", label=method.__name__)
ax.set(xlabel="steps", ylabel="cosine to the exact gradient", xscale="log", ylim=(0, 1.05))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# [The page](../docs/online.md) says which way takes which cells, and what each costs. In `python -m experiments online` they learn three streams.
