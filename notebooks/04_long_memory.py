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
# # Long memory
#
# Which recurrent network can hold something for 200 steps? This page answers before any training, from the initialisation alone,
# and then looks at what training made of it. The task: one of two symbols comes first, then 200 to 220 random ones, then the
# question which it was (Experiment 2c of Hochreiter and Schmidhuber 1997; `python -m experiments run full_first_symbol`).

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from experiments.cells import CELLS
from experiments.config import Config
from experiments.report import figures
from experiments.tasks import TASKS
from experiments.training import train
from experiments.training.check import CALIBRATION
from experiments.training.folder import read_json
from jaxrnn.diagnostics import carry_jacobian_norms, effective_memory, memory_capacity

T, H, SEEDS = 200, 32, 5
NAMES = ["rnn_orth", "lstm", "lstm_chrono", "gru", "gru_chrono"]
task = TASKS["first_symbol"](lag=T)
xs = task.sample(jax.random.key(0), SEEDS).inputs[
    -T:
]  # [T, SEEDS, 20], the last steps, which are never padding
for name in NAMES:
    print(f"{name:12} {CELLS[name].description}")

# %% [markdown]
# ## Before training: how far back does the state reach?
#
# The norm of $\partial s_T / \partial s_{T - k}$ against the lag $k$, where $s$ is the whole carry: the median of five seeds.


# %%
@functools.partial(jax.jit, static_argnums=0)
def norms(cell):
    """log10 of the norm, [SEEDS, T + 1]."""

    def one(key, xs):
        return carry_jacobian_norms(cell, cell.init(key, xs.shape[-1]), xs)

    return jax.vmap(one, in_axes=(0, 1))(jax.random.split(jax.random.key(1), SEEDS), xs)


curves = {name: np.asarray(norms(CELLS[name].make(H, T))) for name in NAMES}
fig, ax = plt.subplots(figsize=(8, 4))
for name, values in curves.items():
    colour, style = figures.STYLES[name]
    ax.plot(np.median(values, axis=0), color=colour, linestyle=style, label=name)
ax.axhline(-2, color="0.4", linewidth=0.8)
ax.text(T, -1.6, "1 %", ha="right", fontsize=9)
ax.set(xlabel="lag (steps)", ylabel="log10 of the norm", ylim=(-20, 2))
ax.legend(loc="lower left", fontsize=8)
plt.show()

# %% [markdown]
# The *effective memory* counts the lags at which more than 1 % is left. The *memory capacity* (Jaeger 2001) asks another
# question: of how many earlier inputs does the state hold a linear trace? A state of 32 numbers holds at most 32.


# %%
@functools.partial(jax.jit, static_argnums=0)
def capacity(cell, key):
    return memory_capacity(cell, cell.init(key, 1), key, delays=50, steps=1000).total


reach = {
    name: int(np.median(effective_memory(jnp.asarray(values)))) for name, values in curves.items()
}
held = {name: float(capacity(CELLS[name].make(H, T), jax.random.key(2))) for name in NAMES}
for name in NAMES:
    print(
        f"{name:12} effective memory {reach[name]:3} of {T} steps   memory capacity {held[name]:5.1f} of at most {H}"
    )

# %% [markdown]
# The two disagree, and that is the point. The orthogonal tanh RNN holds traces of many inputs, all of them weak after some dozens
# of steps. The gates that were opened keep what came first as well as what came last.
#
# ## After training: who solved it?
#
# The saved calibration: five seeds of each, at most 1,500 updates.

# %%
results = read_json(CALIBRATION / "full_first_symbol" / "summary.json")["results"]
solved = {row["cell"]: [step for step in row["steps_to_solve"] if step] for row in results}
for name in NAMES:
    print(
        f"{name:12} effective memory at the start {reach[name]:3}   solved {len(solved[name])}/5   updates {solved[name]}"
    )

# %%
fig, ax = plt.subplots(figsize=(8, 3))
bars = ax.barh(
    NAMES, [reach[name] for name in NAMES], color=[figures.STYLES[name][0] for name in NAMES]
)
ax.bar_label(
    bars, [f"solved by {len(solved[name])} of 5 seeds" for name in NAMES], padding=4, fontsize=9
)
ax.invert_yaxis()
ax.set(xlabel="effective memory before training (steps)", xlim=(0, 1.35 * T))
plt.show()

# %% [markdown]
# The same count tells what happens at a lag of 50 (`fast_first_symbol`, at most 1,500 updates): whoever reaches beyond 50 steps
# solves it with every seed, whoever reaches 15 with none, and the tanh RNN, which reaches 41, with some.

# %%
for row in read_json(CALIBRATION / "fast_first_symbol" / "summary.json")["results"]:
    if row["cell"] in NAMES[:2] + NAMES[3:4]:  # those whose start does not depend on the lag
        count = sum(step is not None for step in row["steps_to_solve"])
        print(
            f"{row['cell']:12} effective memory at the start {reach[row['cell']]:3}   solved {count}/5 at lag 50"
        )

# %% [markdown]
# Nothing separates `lstm` from `lstm_chrono`, or `gru` from `gru_chrono`, but the bias of one gate before the first update: drawn
# as $\log U(1, T - 1)$, so that the memories of the units reach from 1 step to $T$
# (Tallec and Ollivier 2018, [arXiv:1804.11188](https://arxiv.org/abs/1804.11188)). A gradient that does not arrive cannot open a gate.
#
# ## Now
#
# One seed of both LSTMs, 200 updates, as the preset trains them.

# %%
for name in ("lstm", "lstm_chrono"):
    config = Config(
        task="first_symbol",
        lag=T,
        cells=(name,),
        batch_size=32,
        learning_rates=(3e-3,),
        steps=200,
        seeds=1,
        seed=7,
    )
    job, rows = train.make_job(config, name), train.rows(config)
    state = train.start(job, rows)
    for step in range(0, config.steps, 50):
        state, losses, *_ = train.advance(job, state, rows, np.full(1, True), step)
        print(
            f"{name:12} after {step + 50} updates: loss {losses[0]:.4f} (any constant: {task.levels.baseline:.4f})"
        )
