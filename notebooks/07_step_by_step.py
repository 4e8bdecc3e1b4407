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
# # One step at a time
#
# Training sees whole sequences; an agent or a generator sees one step at a time. Both run the same cell with the same
# parameters, and must give the same numbers. This notebook shows it twice: an agent that acts step by step and learns from
# windows, and a generator whose output is its next input.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxrnn

# %% [markdown]
# ## An agent with a memory
#
# Each episode shows a cue, +1 or -1, at its first step only. At its last step, 2 to 8 steps later, a flag goes up, and the agent
# is rewarded for naming the cue. Without a memory it is right half of the time. 64 environments run side by side; where an
# episode ends, the next one begins in the same row.

# %%
B, T = 64, 32


def begin(key):
    k_last, k_cue = jax.random.split(key)
    return dict(
        t=jnp.zeros(B, int),
        last=jax.random.randint(k_last, (B,), 2, 9),
        cue=jax.random.bernoulli(k_cue, 0.5, (B,)),
    )


def observe(env):
    return jnp.stack(
        [jnp.where(env["t"] == 0, 2.0 * env["cue"] - 1, 0.0), 1.0 * (env["t"] == env["last"])],
        axis=-1,
    )


def advance(env, action, key):
    done = env["t"] == env["last"]
    reward = jnp.where(done, 1.0 * (action == env["cue"]), 0.0)
    env, new = env | dict(t=env["t"] + 1), begin(key)
    return {name: jnp.where(done, new[name], env[name]) for name in env}, reward, done


# %% [markdown]
# The actor holds the carry between steps. It starts from `initial_carry`, which needs no observation. After the last step of an
# episode the carry must go back to the beginning *before* the next observation is seen: that is what `reset` means, and a
# sequence of one step takes it like any other.

# %%
cell = jaxrnn.GRUCell(hidden_size=16)


def policy(params, obs, carry, reset):
    """Observations [T, B, 2] to logits [T, B, 2]; of the actor T is 1, of the learner 32."""
    carry, ys = jaxrnn.unroll(cell, params["cell"], obs, carry, reset=reset)
    return carry, ys @ params["w"] + params["b"]


def act(params, state, key):
    """One step of all environments."""
    env, carry, before = state
    k_action, k_env = jax.random.split(key)
    obs = observe(env)
    carry, logits = policy(params, obs[None], carry, before[None])
    action = jax.random.categorical(k_action, logits[0])
    env, reward, done = advance(env, action, k_env)
    return (env, carry, done), dict(
        obs=obs, action=action, reward=reward, done=done, logits=logits[0]
    )


@jax.jit
def play(params, state, key):
    """A window of T steps."""
    return jax.lax.scan(lambda state, k: act(params, state, k), state, jax.random.split(key, T))


params = dict(cell=cell.init(jax.random.key(0), input_size=2), w=jnp.zeros((16, 2)), b=jnp.zeros(2))
first = (
    begin(jax.random.key(1)),
    jaxrnn.initial_carry(cell, params["cell"], (B,)),
    jnp.zeros(B, bool),
)
state, window = play(params, first, jax.random.key(2))
print(
    "episodes that ended in the first window:",
    int(window["done"].sum()),
    "- rewarded:",
    float(window["reward"].sum()),
)

# %% [markdown]
# The learner sees the window at once. `resets_from_dones` turns "step t ended an episode" into "a new one begins at t + 1"; the
# flag of the step before the window goes in as `before`, and the carry of the actor at its start as the carry. A flag that is
# one step off would leak the cue of one episode into the next; so the agreement of both is worth a check:


# %%
def learner_logits(params, start, window):
    _, carry, before = start
    return policy(
        params, window["obs"], carry, jaxrnn.sequences.resets_from_dones(window["done"], before)
    )[1]


params = params | dict(w=jax.random.normal(jax.random.key(3), (16, 2)))
middle, _ = play(params, first, jax.random.key(4))
_, window = play(params, middle, jax.random.key(5))
difference = float(jnp.abs(learner_logits(params, middle, window) - window["logits"]).max())
print(f"actor and learner differ by {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# Policy gradient: only the last action of an episode is rewarded, so only its log-probability counts. What led to it, the
# memory, is learned by backpropagation through the steps before.

# %%
optimizer = optax.adam(1e-2)


@jax.jit
def update(params, opt_state, state, key):
    after, window = play(params, state, key)

    def loss(params):
        chosen = jnp.take_along_axis(
            jax.nn.log_softmax(learner_logits(params, state, window)),
            window["action"][..., None],
            -1,
        )
        return -jnp.mean(jnp.where(window["done"], (window["reward"] - 0.5) * chosen[..., 0], 0.0))

    updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
    return (
        optax.apply_updates(params, updates),
        opt_state,
        after,
        window["reward"].sum() / window["done"].sum(),
    )


state, opt_state = first, optimizer.init(params)
for step in range(301):
    params, opt_state, state, rewarded = update(
        params, opt_state, state, jax.random.fold_in(jax.random.key(6), step)
    )
    if step % 100 == 0:
        print(f"update {step}: {float(rewarded):.2f} of all episodes rewarded (chance: 0.50)")

# %% [markdown]
# ## A generator that hears itself
#
# A model of a signal is trained with *teacher forcing*: its input is the true value, its output the guess of the next. As a
# generator it runs *free*: its input is its own last guess. Here the signals are sine waves of random frequency and phase.

# %%
model = jaxrnn.Stack([jaxrnn.LSTMCell(32)])


def waves(key, steps, count):
    k_rate, k_phase = jax.random.split(key)
    rate = jax.random.uniform(k_rate, (count,), minval=0.2, maxval=0.5)
    phase = jax.random.uniform(k_phase, (count,), maxval=2 * jnp.pi)
    return jnp.sin(rate * jnp.arange(steps)[:, None] + phase)[..., None]  # [T, B, 1]


def guesses(weights, xs):
    carry, ys = jaxrnn.unroll(model, weights["cell"], xs)
    return carry, ys @ weights["w"]


@jax.jit
def fit(weights, opt_state, key):
    xs = waves(key, 60, 64)
    value, slope = jax.value_and_grad(lambda w: jnp.mean((guesses(w, xs[:-1])[1] - xs[1:]) ** 2))(
        weights
    )
    updates, opt_state = optimizer.update(slope, opt_state)
    return optax.apply_updates(weights, updates), opt_state, value


weights = dict(
    cell=model.init(jax.random.key(7), input_size=1),
    w=0.1 * jax.random.normal(jax.random.key(8), (32, 1)),
)
opt_state = optimizer.init(weights)
for step in range(1001):
    weights, opt_state, value = fit(weights, opt_state, jax.random.fold_in(jax.random.key(9), step))
    if step % 250 == 0:
        print(f"update {step}: mean squared error {float(value):.5f}")

# %% [markdown]
# `unroll` hears the first 30 steps of new waves; then `model(params, carry, x)`, one step, is the body of a scan in which the
# output of each step is the input of the next. Fed with the true values instead, that loop gives what `unroll` gives.


# %%
def forced(weights, carry, xs):
    def body(carry, x):
        carry, y = model(weights["cell"], carry, x)
        return carry, y @ weights["w"]

    return jax.lax.scan(body, carry, xs)[1]


def free(weights, carry, x, steps):
    def body(state, _):
        carry, x = state
        carry, y = model(weights["cell"], carry, x)
        x = y @ weights["w"]
        return (carry, x), x

    return jax.lax.scan(body, (carry, x), length=steps)[1]


truth = waves(jax.random.key(10), 80, 3)
carry, heard = guesses(weights, truth[:30])
difference = float(
    jnp.abs(forced(weights, carry, truth[30:]) - guesses(weights, truth)[1][30:]).max()
)
print(f"step by step and at once differ by {difference:.1e}")
assert difference < 1e-5
own = jnp.concatenate([heard[-1:], free(weights, carry, heard[-1], 49)])
print(
    f"error of the free run: {float(jnp.mean((own - truth[30:]) ** 2)):.4f} (of silence: {float(jnp.mean(truth**2)):.2f})"
)

# %%
fig, axes = plt.subplots(3, 1, figsize=(7, 4), sharex=True, layout="constrained")
for k, ax in enumerate(axes):
    ax.plot(truth[:, k, 0], color="0.6", label="the wave")
    ax.plot(np.arange(30, 80), own[:, k, 0], "--", color="C0", label="generated from step 30 on")
    ax.axvline(29.5, color="0.8", lw=1)
axes[0].legend(loc="upper right", ncols=2, frameon=False)
axes[-1].set_xlabel("step")
fig.suptitle("An LSTM goes on with what it has heard")
plt.show()
