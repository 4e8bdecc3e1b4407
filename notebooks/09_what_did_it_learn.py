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
# # What did it learn?
#
# A network that remembers three bits: how does it hold them? Sussillo and Barak (2013,
# [doi:10.1162/NECO_a_00409](https://doi.org/10.1162/NECO_a_00409)) trained one, looked for the points where its state stands still, and
# found the corners of a cube, with saddles between them. This page does the same with a GRU and a simple RNN.
#
# Each of three channels gives a pulse of +1 or -1 now and then. The target of each channel, at every step, is its last pulse.

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxrnn
from jaxrnn.diagnostics import fixed_points

STEPS, TRIALS, BITS, UNITS = 64, 64, 3, 48
CELLS = {"GRU": jaxrnn.GRUCell(UNITS), "simple RNN": jaxrnn.RNNCell(UNITS)}


def sample(key):
    """Pulses and the bits that they set, [time, trials, channels]."""
    key_p, key_s = jax.random.split(key)
    shape = (STEPS, TRIALS, BITS)
    pulses = jax.random.bernoulli(key_p, 0.2, shape).at[0].set(True)
    signs = jax.random.rademacher(key_s, shape, jnp.float32)
    last = jax.lax.cummax(jnp.where(pulses, jnp.arange(STEPS)[:, None, None], 0), axis=0)
    return jnp.where(pulses, signs, 0), jnp.take_along_axis(signs, last, axis=0)


# %% [markdown]
# ## Training
#
# Adam, 1,500 updates, some seconds each. The learning rate falls to 0, so that the dynamics come to rest.


# %%
def loss(params, cell, batch):
    pulses, bits = batch
    _, states = jaxrnn.unroll(cell, params["cell"], pulses)
    return jnp.mean((states @ params["head"] - bits) ** 2)


@functools.partial(jax.jit, static_argnums=0)
def train(cell, key):
    adam = optax.adam(optax.cosine_decay_schedule(5e-3, 1500))
    params = {
        "cell": cell.init(key, BITS),
        "head": jax.random.normal(key, (UNITS, BITS)) / np.sqrt(UNITS),
    }

    def update(state, key):
        params, moments = state
        value, grads = jax.value_and_grad(loss)(params, cell, sample(key))
        changes, moments = adam.update(grads, moments)
        return (optax.apply_updates(params, changes), moments), value

    keys = jax.random.split(key, 1500)
    (params, _), losses = jax.lax.scan(update, (params, adam.init(params)), keys)
    return params, losses


trained = {}
for name, cell in CELLS.items():
    trained[name], losses = train(cell, jax.random.key(0))
    print(f"{name:10} loss {losses[0]:.2f} before, {losses[-50:].mean():.4f} after training")

# %% [markdown]
# ## Where the state stands still
#
# Without pulses the input is zero. From states that the trained network passes through, with some noise, `fixed_points` walks to where a
# step changes nothing. The eigenvalues of a step tell in how many directions a small difference grows: in none at a stable point, in one
# or more at a saddle.

# %%
found = {}
for name, cell in CELLS.items():
    pulses, _ = sample(jax.random.key(1))
    _, states = jaxrnn.unroll(cell, trained[name]["cell"], pulses)
    visited = states.reshape(-1, UNITS)[::4]
    pairs = jax.random.randint(jax.random.key(2), (2, 1500), 0, len(visited))
    share = jax.random.uniform(jax.random.key(3), (1500, 1))
    between = share * visited[pairs[0]] + (1 - share) * visited[pairs[1]]  # saddles lie between
    noise = 0.1 * jax.random.normal(jax.random.key(4), between.shape)
    starts = type(jaxrnn.initial_carry(cell, trained[name]["cell"]))(h=between + noise)
    found[name] = fixed_points(
        cell, trained[name]["cell"], jnp.zeros(BITS), starts, speed=1e-7, distance=0.1
    )

for name, points in found.items():
    print(name)
    for count in range(4):
        some = points.unstable_directions == count
        kind = ("stable", "one direction out", "two", "three")[count]
        print(f"  {kind:18} {some.sum():3} points")

# %% [markdown]
# What do the stable points hold? Each is read out as three bits, one corner of a cube:

# %%
for name, points in found.items():
    bits = points.points.h[points.stable] @ np.asarray(trained[name]["head"])
    print(name, sorted({"".join("+" if b > 0 else "-" for b in row) for row in bits}))

# %% [markdown]
# ## The cube
#
# The state in the three directions in which it varies most: trajectories in grey, stable points as black dots, saddles with one direction
# out as crosses with a line along it, those with more as triangles.

# %%
fig = plt.figure(figsize=(11, 5), layout="constrained")
for k, (name, points) in enumerate(found.items()):
    pulses, _ = sample(jax.random.key(5))
    _, states = jaxrnn.unroll(CELLS[name], trained[name]["cell"], pulses)
    states = np.asarray(states)
    flat = states[5:].reshape(-1, UNITS)
    middle = flat.mean(0)
    axes = np.linalg.svd(flat - middle, full_matrices=False)[2][:3].T
    ax = fig.add_subplot(1, 2, k + 1, projection="3d")
    for trial in range(12):
        ax.plot(*((states[5:, trial] - middle) @ axes).T, color="0.75", linewidth=0.6)
    placed = (points.points.h - middle) @ axes
    stable, one = points.stable, points.unstable_directions == 1
    ax.scatter(*placed[stable].T, color="black", s=35, label="stable")
    ax.scatter(*placed[one].T, color="#D55E00", marker="x", s=30, label="one direction out")
    more = points.unstable_directions > 1
    ax.scatter(*placed[more].T, color="#0072B2", marker="^", s=30, label="more")
    cell, params = CELLS[name], trained[name]["cell"]
    for h in points.points.h[one]:
        carry = type(jaxrnn.initial_carry(cell, params))(h=jnp.asarray(h))
        jacobian = jaxrnn.diagnostics.carry_jacobians(cell, params, jnp.zeros((1, BITS)), carry)[0]
        values, vectors = np.linalg.eig(np.asarray(jacobian))
        out = np.real(vectors[:, abs(values).argmax()])
        ends = np.stack([h - 0.7 * out, h + 0.7 * out])
        ax.plot(*((ends - middle) @ axes).T, color="#D55E00", linewidth=1.5)
    ax.set(title=name, xticks=[], yticks=[], zticks=[])
    ax.legend(loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# Both have learned the same thing, and it can be read off: 8 corners hold the bits; on each of the 12 edges lies a saddle with one direction
# out, along the edge, over which a pulse takes the state from one corner to the next; in the middle of each of the 6 faces one with two, and
# in the middle of the cube one with three. That is what Sussillo and Barak found for their network of rates, and the GRU's gates change nothing
# of it.
