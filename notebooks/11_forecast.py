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
# # A forecast that knows how sure it is
#
# The intensity of a laser, measured 10,093 times (data set A of the Santa Fe competition of 1991, with its continuation): it swings about
# every seven steps, grows, and collapses at moments that are hard to foresee. A GRU learns the distribution of the next value. From what it has
# drawn it goes on, a hundred times, and the hundred ends are the forecast.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from reservoirpy.datasets import santafe_laser

import jaxrnn

values = santafe_laser()[:, 0].astype(np.float32)
KNOWN, TEST = 7000, 8000  # trained on what is before the first, judged from the second on
mean, deviation = values[:KNOWN].mean(), values[:KNOWN].std()
series = jnp.asarray((values - mean) / deviation)
print(f"{len(values):,} values from {values.min():.0f} to {values.max():.0f}")

# %% [markdown]
# ## The model
#
# A GRU with 64 units and a head that gives three normal distributions with their weights: what may come next is often one of two things.

# %%
UNITS, PARTS = 64, 3
cell = jaxrnn.GRUCell(UNITS)


def init(key):
    key_c, key_h = jax.random.split(key)
    head = jax.random.normal(key_h, (UNITS, 3 * PARTS)) / np.sqrt(UNITS)
    return {"cell": cell.init(key_c, 1), "head": head, "bias": jnp.zeros(3 * PARTS)}


def distribution(params, ys):
    """Logarithms of the weights, means and standard deviations, each [..., PARTS]."""
    logits, means, scales = jnp.split(ys @ params["head"] + params["bias"], 3, axis=-1)
    return jax.nn.log_softmax(logits), means, jax.nn.softplus(scales) + 1e-3


def log_density(params, ys, x):
    weights, means, scales = distribution(params, ys)
    return jax.nn.logsumexp(weights + jax.scipy.stats.norm.logpdf(x[..., None], means, scales), -1)


# %% [markdown]
# ## Training
#
# Adam, 2,000 updates on 32 windows of 200 steps; the loss is the mean of the negative log-density of the next value.

# %%
UPDATES, LENGTH, ROWS = 2000, 200, 32
adam = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(5e-3, UPDATES))
)


def loss(params, window):
    _, ys = jaxrnn.unroll(cell, params["cell"], window[:-1, :, None])
    return -jnp.mean(log_density(params, ys, window[1:])[20:])


@jax.jit
def train(key):
    def update(state, key):
        params, moments = state
        starts = jax.random.randint(key, (ROWS,), 0, KNOWN - LENGTH - 1)
        window = series[starts + jnp.arange(LENGTH + 1)[:, None]]
        value, grads = jax.value_and_grad(loss)(params, window)
        changes, moments = adam.update(grads, moments)
        return (optax.apply_updates(params, changes), moments), value

    params = init(key)
    (params, _), losses = jax.lax.scan(
        update, (params, adam.init(params)), jax.random.split(key, UPDATES)
    )
    return params, losses


params, losses = train(jax.random.key(0))
print(
    f"negative log-density {losses[:20].mean():.2f} at first, {losses[-100:].mean():.2f} at the end"
)

# %% [markdown]
# ## Forecasts
#
# `generate` reads a hundred values and goes on by itself. Every 20 steps of the test part is an origin, of which a hundred futures of 60 steps are
# drawn, all in one program.

# %%
READ, AHEAD, FUTURES = 100, 60, 100
origins = np.arange(TEST, len(values) - AHEAD, 20)


@jax.jit
def forecast(params, read, key):
    """Futures [AHEAD, origins, FUTURES] of what was read [READ, origins]."""

    def choose(key, y):
        weights, means, scales = distribution(params, y)
        key_part, key_value = jax.random.split(key)
        part = jax.random.categorical(key_part, weights)[..., None]
        of_part = [jnp.take_along_axis(a, part, -1) for a in (means, scales)]
        token = of_part[0] + of_part[1] * jax.random.normal(key_value, part.shape)
        return token[..., 0], token

    prompt = jnp.broadcast_to(read[:, :, None, None], (*read.shape, FUTURES, 1))
    return jaxrnn.generate(cell, params["cell"], prompt, AHEAD, choose, key=key).tokens


read = series[origins + np.arange(-READ, 0)[:, None]]
truth = np.asarray(series)[origins + np.arange(AHEAD)[:, None]]
by_gru = np.asarray(forecast(params, read, jax.random.key(1)))
print(by_gru.shape)

# %% [markdown]
# ## Against whom
#
# Two forecasts without learning: the last value (naive), and the value one swing before (seasonal), each with the errors that it made in the
# training part as its distribution. The continuous ranked probability score is the mean absolute error of a distribution, in units of the series'
# standard deviation; lower is better.


# %%
def crps(futures, truth):
    """Of each step ahead, the mean over the origins."""
    near = np.abs(futures - truth[..., None]).mean(-1)
    order = np.sort(futures, -1)
    n = order.shape[-1]
    spread = (order * (2 * np.arange(n) - n + 1)).sum(-1) / n**2
    return (near - spread).mean(-1)


known = np.asarray(series[:KNOWN])
lags = np.arange(4, 40)
season = lags[np.argmax([np.corrcoef(known[:-lag], known[lag:])[0, 1] for lag in lags])]


def without_learning(period):
    """The value a whole number of periods before (1 is the last), and its errors in training."""
    futures = np.empty((AHEAD, len(origins), FUTURES), np.float32)
    whole = np.asarray(series)
    rng = np.random.default_rng(0)
    for k in range(AHEAD):
        back = -(-(k + 1) // period) * period
        errors = known[back:] - known[:-back]
        futures[k] = whole[origins + k - back][:, None] + rng.choice(
            errors, (len(origins), FUTURES)
        )
    return futures


found = {"GRU": by_gru, "seasonal": without_learning(int(season)), "naive": without_learning(1)}
print(f"one swing is {season} steps; {len(origins)} origins")
print(f"{'steps ahead':10} {'1':>6} {'5':>6} {'20':>6} {'60':>6}   all   inside 80 %")
for name, futures in found.items():
    score = crps(futures, truth)
    low, high = np.quantile(futures, (0.1, 0.9), axis=-1)
    inside = ((low <= truth) & (truth <= high)).mean()
    print(
        f"{name:11}",
        *(f"{score[k - 1]:6.3f}" for k in (1, 5, 20, 60)),
        f"{score.mean():6.3f}  {inside:5.0%}",
    )

# %%
fig, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4), layout="constrained", width_ratios=[1.5, 1]
)
k = 30
steps = np.arange(AHEAD)
left.plot(np.arange(-40, 0), np.asarray(read)[-40:, k], color="0.6")
left.plot(steps, truth[:, k], color="black", label="measured")
for share, shade in ((0.9, 0.2), (0.5, 0.4)):
    low, high = np.quantile(by_gru[:, k], ((1 - share) / 2, (1 + share) / 2), axis=-1)
    left.fill_between(
        steps,
        low,
        high,
        color="#0072B2",
        alpha=shade,
        linewidth=0,
        label=f"{share:.0%} of the futures",
    )
left.set(xlabel="steps ahead", ylabel="intensity, standardised")
left.legend(frameon=False)
for name, futures in found.items():
    right.plot(steps + 1, crps(futures, truth), label=name)
right.set(xlabel="steps ahead", ylabel="CRPS", ylim=(0, None))
right.legend(frameon=False)

# %% [markdown]
# For five swings the GRU is nearly sure, and right; later the futures part, above all about the moment of the collapse, and say so. Who does
# not learn is far behind at every distance. Its intervals are somewhat too wide: those of 80 % hold more than that. The competition's entries were judged by
# one forecast of 100 steps; here are many of 60, so that the numbers are not to be compared with theirs.
