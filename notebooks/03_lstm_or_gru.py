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
# # LSTM or GRU?
#
# Both carry their state along a path that a gate can leave alone. The LSTM has a second, hidden state for it and four blocks of
# weights; the GRU does with one state and three. Which learns in fewer updates, at the same number of parameters? This page answers
# from 25 tasks of the catalogue (`experiments/README.md`), trained by
#
# ```
# python -m experiments sweep adding --config experiments/presets/sweeps/lstm_or_gru.yaml
# ```
#
# with about 4,500 parameters each, so that the GRU has more units. They are compared in three pairs whose gates begin
# alike: with a bias of 1, so that most of the state is kept at each step; with a bias of 0, so that half of it is; and with biases
# drawn so that they span the lag of the task. Each cell has the learning rate that served it best on three seeds of their own, and
# is judged on ten others.

# %%
import statistics
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown

from experiments.cells import CELLS
from experiments.config import HERE, Config
from experiments.report.statistics import holm, rank_test
from experiments.training import train
from experiments.training.folder import read_json

RESULTS = HERE / "results" / "lstm_or_gru"
PAIRS = {
    "bias 1": ("lstm", "gru_ub1"),
    "bias 0": ("lstm_fb0", "gru"),
    "lag known": ("lstm_chrono", "gru_chrono"),
}
for names in PAIRS.values():
    for name in names:
        print(f"{name:12} {CELLS[name].description}")

# %% [markdown]
# A seed has solved its task once its loss on sequences held out stays below the bar. Of two cells, one is **ahead** where an exact
# test of ranks says so: as if all twenty seeds had been drawn from one hat, how often would dealing them out set the two cells as
# far apart as they were found? The p-values of all tasks and pairs are corrected together (Holm), so that with 95 % none of the
# verdicts is by chance.

# %%
folders = [run["folder"] for run in read_json(RESULTS / "sweep.json")["runs"]]
runs = {(run := read_json(RESULTS / name / "summary.json"))["task"]: run for name in folders}
runs = dict(sorted(runs.items()))
rows = {task: {row["cell"]: row for row in run["results"]} for task, run in runs.items()}


def updates(task, cell):
    """The updates that each seed needed; infinite where it did not solve the task."""
    return [step or np.inf for step in rows[task][cell]["steps_to_solve"]]


chances = holm(
    {
        (task, pair): rank_test(updates(task, lstm), updates(task, gru))
        for task in runs
        for pair, (lstm, gru) in PAIRS.items()
    }
)


def ahead(task, cells, chance):
    """ "LSTM" or "GRU", or nothing where the seeds do not tell them apart."""
    if chance >= 0.05:
        return ""
    lstm, gru = (np.array(updates(task, cell)) for cell in cells)
    sooner = (lstm[:, None] < gru).sum() - (lstm[:, None] > gru).sum()
    return "LSTM" if sooner > 0 else "GRU"


verdicts = {
    (task, pair): ahead(task, PAIRS[pair], chance) for (task, pair), chance in chances.items()
}


def cell_text(row):
    """How many seeds solved the task, unless all, and the median and range of their updates; of none the median of the metric."""
    steps = [step for step in row["steps_to_solve"] if step]
    count = "" if len(steps) == 10 else f"{len(steps)}/10, "
    if not steps:
        return f"0/10, metric {statistics.median(row['final_metric']):.2f}"
    return f"{count}{statistics.median(steps):,.0f} ({min(steps):,}-{max(steps):,})"


columns = [cell for pair in PAIRS.values() for cell in pair]
lines = [
    "| task | lag | " + " | ".join(f"{' | '.join(PAIRS[pair])} | ahead" for pair in PAIRS) + " |"
]
lines.append("|---|---|" + "---|" * 9)
for task, run in runs.items():
    entries = []
    for pair, cells in PAIRS.items():
        entries += [cell_text(rows[task][cell]) for cell in cells]
        word = verdicts[task, pair]
        entries.append(f"{word}, p = {chances[task, pair]:.1g}" if word else "-")
    lines.append(f"| `{task}` | {run['lag']} | {' | '.join(entries)} |")
Markdown("\n".join(lines))

# %% [markdown]
# Updates until the task was solved: the median and the range of the ten seeds, and where not all solved it, how many did.
#
# Drawn, with every seed a dot, and those that did not solve the task at the right edge:

# %%
COLOURS = ("#0072B2", "#009E73")
edge = 1.6 * max(
    x for task in runs for cell in columns for x in updates(task, cell) if np.isfinite(x)
)
order = sorted(runs, key=lambda task: statistics.median(updates(task, "lstm")))
fig, axes = plt.subplots(1, 3, figsize=(11, 9), sharey=True, sharex=True, layout="constrained")
for ax, (pair, cells) in zip(axes, PAIRS.items(), strict=True):
    for cell, colour, shift in zip(cells, COLOURS, (0.18, -0.18), strict=True):
        for k, task in enumerate(order):
            xs = np.minimum(updates(task, cell), edge)
            ys = np.full(10, k + shift)
            ax.plot(xs, ys, color=colour, linewidth=1)
            label = cell if k == 0 else None
            solved = xs < edge
            ax.plot(xs[solved], ys[solved], "o", color=colour, markersize=3, label=label)
            ax.plot(xs[~solved], ys[~solved], "o", color=colour, markersize=5, mfc="white")
    for k, task in enumerate(order):
        if word := verdicts[task, pair]:
            ax.axhspan(k - 0.45, k + 0.45, color=COLOURS[word == "GRU"], alpha=0.12, linewidth=0)
    ax.set(xscale="log", xlabel="updates to solve", title=pair)
    ax.axvline(edge / 1.25, color="0.6", linewidth=0.8, linestyle=":")
    ax.text(edge, len(order) - 0.3, "not\nsolved", ha="center", fontsize=8)
    ax.grid(axis="x", color="0.92")
    ax.legend(loc="lower right", fontsize=8)
axes[0].set_yticks(range(len(order)), [f"{task} {runs[task]['lag']}" for task in order])
plt.show()

# %% [markdown]
# A row is coloured where the cell of that colour is ahead.
#
# ## What the evidence says

# %%
for pair in PAIRS:
    counts = Counter(verdicts[task, pair] or "neither" for task in runs)
    print(
        f"{pair:10} LSTM {counts['LSTM']:2}   GRU {counts['GRU']:2}   neither {counts['neither']:2}"
    )
for cell in columns:
    solved = sum(row["steps_to_solve"].count(None) == 0 for row in (r[cell] for r in rows.values()))
    print(f"{cell:12} solves {solved} of {len(runs)} tasks with all ten seeds")
pace = read_json(RESULTS / "pace.json")["runs"].values()
print(
    "side by side, with three seeds, an update of the GRU takes "
    f"{statistics.median(run['gru_ub1']['ratio'] for run in pace):.2f} of the LSTM's (median)"
)

# %% [markdown]
# **Neither, in general.** Of the 25 tasks the LSTM is ahead on 8 or 9 in each pair, the GRU on 4 to 8; on 9 to 13 twenty seeds do not tell
# them apart.
#
# **The LSTM** is ahead in all three pairs where something is counted or computed as it comes: both kinds of counting, brackets, moves
# round a cycle, modular arithmetic; where strings are given back twice, and on the chaotic flow. **The GRU** is ahead in all three
# where something that is seen once is to be kept apart from all else: adding, copying, induction, the order of two symbols.
#
# **Where the lag is long the bias decides, and the learning rate with it.** With a bias of 0 the LSTM keeps the first of 50 symbols
# with no seed, with 1 it does with all. A GRU with a bias of 0 keeps it, and the latch over 100 steps, at a learning rate of 0.111, which
# opens its gate in 50 updates. With a bias of 1 its grid stopped at 0.003, better than both rates beside it: there it takes 475 updates,
# and does not solve the latch. With biases that know the lag all do, in 50.
#
# ## What the rules changed
#
# This page once gave verdicts of three seeds, where their ranges lay apart. They were of an LSTM whose forget gate begins open (bias 1)
# against a GRU whose update gate begins half open (bias 0), at the best of three learning rates, which was the largest for almost all, and
# a task counted as solved by the loss in training. Beside them, what the same two cells do now, and what the three pairs do:

# %%
BEFORE = dict.fromkeys(
    "cycle_navigation duplicate first_symbol induction modular_arithmetic temporal_order".split(),
    "LSTM",
)
BEFORE |= dict.fromkeys(
    "adding copying digits linear_memory mnist_1d selective_copying".split(), "GRU"
)
unlike = holm({task: rank_test(updates(task, "lstm"), updates(task, "gru")) for task in runs})
lines = ["| task | once | the same two | " + " | ".join(PAIRS) + " |", "|---|---|---|---|---|---|"]
for task in runs:
    now = [ahead(task, ("lstm", "gru"), unlike[task]), *(verdicts[task, pair] for pair in PAIRS)]
    if any(now) or task in BEFORE:
        words = [BEFORE.get(task, ""), *now]
        lines.append(f"| `{task}` | {' | '.join(word or '-' for word in words)} |")
print("\n".join(lines))
rates = [(run, row) for run in runs.values() for row in run["results"]]
beyond = sum(row["learning_rate"] > 0.01 for _, row in rates)
tried = {
    (run["task"], row["cell"]): [
        one["learning_rate"] for one in run["selection"] if one["cell"] == row["cell"]
    ]
    for run, row in rates
}
inside = sum(
    min(tried[run["task"], row["cell"]])
    < row["learning_rate"]
    < max(tried[run["task"], row["cell"]])
    for run, row in rates
)
print({row["cell"]: row["learning_rate"] for row in runs["first_symbol"]["results"]})
print(
    f"of {len(rates)} choices of a learning rate {beyond} lie above 0.01, {inside} inside of what was tried"
)

# %% [markdown]
# Six of the twelve stand. Three turned to the other side: first symbol, induction and temporal order are learned sooner by the GRU at rates
# that the old grid did not reach. Three are gone: pictures and curves were solved in training alone, and in selective copying the
# verdict was the biases'. Seven tasks have a verdict that had none, which three seeds could not give. The old grid ended at 0.01, and most
# choices lie above; all of them lie inside of what was tried now.
#
# ## Now
#
# The bias alone, live: one seed each of both GRUs on `first_symbol` across 50 steps, as the sweep trains them.

# %%
for name in ("gru", "gru_ub1"):
    config = Config(
        task="first_symbol",
        lag=50,
        cells=(name,),
        parameters=4500,
        batch_size=32,
        learning_rates=(3e-3,),
        seeds=1,
    )
    job, start = train.make_job(config, name), train.rows(config)
    state = train.start(job, start)
    for step in range(0, 600, 50):
        state, losses, *_ = train.advance(job, state, start, np.full(1, True), step)
    print(
        f"{name:8} after 600 updates: loss {losses[0]:.4f} (any constant: {job.task.levels.baseline:.4f})"
    )
