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
# # Train at scale
#
# A training loop that fits on one core, and what makes of it one for every device, several seeds, long sequences and several
# hosts. Each step computes the gradient in another way: most must not change it, two do, and all are held against the first one.
# JAX takes the cores of a CPU as devices when told so before anything else.

# %%
import jax

jax.config.update("jax_platforms", "cpu")  # without this line: the GPUs, where there are any
jax.config.update("jax_num_cpu_devices", 2)

import functools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxrnn

print(
    f"{len(jax.devices())} devices on {os.cpu_count()} cores; load before this: {os.getloadavg()[0]:.1f}"
)

# %% [markdown]
# ## One loop, one device
#
# An LSTM on the adding task. The loss is a mean over the batch, and the batch is a function of a key and the number of the update:
# both will matter.


# %%
class Params(NamedTuple):
    cell: jaxrnn.cells.LSTMParams
    head: jax.Array  # [32]


class Batch(NamedTuple):
    inputs: jax.Array  # [200, 64, 2]: numbers, and marks at two of them
    targets: jax.Array  # [64]: the sum of the two


cell = jaxrnn.LSTMCell(32)
optimizer = optax.adam(5e-3)


@jax.jit
def init(seed):
    k_cell, k_head = jax.random.split(jax.random.key(seed))
    return Params(cell.init(k_cell, 2), 0.1 * jax.random.normal(k_head, (32,)))


@jax.jit
def sample(seed, step):
    key = jax.random.fold_in(jax.random.key(seed), step)
    k_numbers, k_first, k_second = jax.random.split(key, 3)
    numbers = jax.random.uniform(k_numbers, (200, 64))
    places = (
        jax.random.randint(k_first, (64,), 0, 100),
        jax.random.randint(k_second, (64,), 100, 200),
    )
    marks = sum(jax.nn.one_hot(place, 200, axis=0) for place in places)
    return Batch(jnp.stack([numbers, marks], axis=-1), (numbers * marks).sum(0))


def loss(params, batch):
    carry, _ = jaxrnn.unroll(cell, params.cell, batch.inputs)
    return jnp.mean((carry.h @ params.head + 1 - batch.targets) ** 2)


@jax.jit
def apply(params, moments, gradients):
    changes, moments = optimizer.update(gradients, moments)
    return optax.apply_updates(params, changes), moments


def train(gradient, updates=40):
    """The loop; all that follows puts another `gradient` into it."""
    params, losses = init(0), []
    moments = optimizer.init(params)
    for step in range(updates):
        value, gradients = gradient(params, sample(0, step))
        params, moments = apply(params, moments, gradients)
        losses.append(float(value))
    return losses


gradient = jax.jit(jax.value_and_grad(loss))
losses = train(gradient)
print(
    f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} updates; any constant: {1 / 6:.3f}"
)

# %% [markdown]
# ## Every device
#
# `split_batch` gives each device its share of the batch and averages. The shares are of one size, so the mean of their means is the
# mean of all, but for rounding. JAX's own way is to place the arrays on a mesh: the same `gradient` is compiled for it, and XLA
# chooses where to add up over the devices.

# %%
params, batch = init(0), sample(0, 0)
split = jax.jit(jax.value_and_grad(jaxrnn.split_batch(loss, in_axes=(None, Batch(1, 0)))))

mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
whole, by_column, by_row = (
    NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (None, "data"), ("data",))
)
placed = (
    jax.device_put(params, whole),
    jax.device_put(batch, Batch(inputs=by_column, targets=by_row)),
)


def difference(a, b):
    """The largest, as a part of the largest number in b."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return np.max(np.abs(a - b)) / np.max(np.abs(b))


one = gradient(params, batch)
for name, other in {"split_batch": split(params, batch), "mesh": gradient(*placed)}.items():
    print(f"{name:11} differs from one device by {difference(other, one):.0e}")
    assert difference(other, one) < 1e-5
print(f"after {len(losses)} updates the losses differ by {difference(train(split), losses):.0e}")

# %% [markdown]
# The last digits differ, since the same terms are added up in another order, and over many updates those before them will.
#
# Is it faster? A time alone means little, least of all on a machine that does other work. So all are called in random order, round
# by round, and what counts is the median of the ratios within a round.


# %%
def compare(programs, rounds=15):
    """Prints the milliseconds of each program, and how many times as fast as the first it is."""
    for program in programs.values():
        jax.block_until_ready(program())  # compiles
    times, rng = {name: [] for name in programs}, np.random.default_rng(0)
    for _ in range(rounds):
        for name in rng.permutation(list(programs)):
            began = time.perf_counter()
            jax.block_until_ready(programs[name]())
            times[name].append(1e3 * (time.perf_counter() - began))
    (name, first), *others = ((name, np.array(taken)) for name, taken in times.items())
    print(f"{name:30} {np.median(first):5.1f} ms")
    for name, taken in others:
        low, middle, high = np.quantile(first / taken, (0.25, 0.5, 0.75))
        print(
            f"{name:30} {np.median(taken):5.1f} ms   {middle:.2f} times as fast (half of the rounds: {low:.2f}-{high:.2f})"
        )


programs = {"one device": functools.partial(gradient, params, batch)}
programs["two devices, split_batch"] = functools.partial(split, params, batch)
programs["two devices, mesh"] = functools.partial(gradient, *placed)
compare(programs)

# %% [markdown]
# Two idle cores could give at most 2; what other work takes of them is missing here.
#
# ## Several seeds in one program
#
# One seed says little, and seeds differ only in their arrays. Stack them, and `vmap` the gradient; or go through them one by one.

# %%
seeds = [(init(seed), sample(seed, 0)) for seed in range(3)]
stacked = jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *seeds))
at_once = jax.jit(jax.vmap(jax.value_and_grad(loss)))
one_by_one = jax.tree.map(
    lambda *leaves: np.stack(leaves), *[gradient(*arrays) for arrays in seeds]
)
print(f"by vmap and one by one differ by {difference(at_once(*stacked), one_by_one):.0e}")
assert difference(at_once(*stacked), one_by_one) < 1e-5

programs = {"3 seeds by vmap, one device": lambda: at_once(*stacked)}
programs["one by one, one device"] = lambda: [gradient(*arrays) for arrays in seeds]
programs["one by one, each batch split"] = lambda: [split(*arrays) for arrays in seeds]
compare(programs)

# %% [markdown]
# A step of three seeds is three times the work, and on a CPU `vmap` saves none of it. So there `python -m experiments` goes through
# the seeds one by one, each batch split over the cores: on two idle cores 1.9 to 2.2 times as fast as by `vmap` on one device, for
# this LSTM (measured in `experiments/training/train.py`). On a GPU it uses `vmap`; the last figure shows why.
#
# ## Long sequences
#
# The backward pass needs what the forward pass saw, at T steps. `remat="carry"` saves the carries alone and computes the rest again;
# `remat="sqrt"` saves about $\sqrt T$ of them. Beside them `method="scan"`, the plain loop with JAX's own derivative. How much memory
# a program takes beyond its arguments and results, it says once compiled, before it runs.

# %%
OPTIONS = {'method="scan"': dict(method="scan")} | {
    f'remat="{name}"': dict(remat=name) for name in ("none", "carry", "sqrt")
}
LENGTHS = (200, 1600, 12800)


def compiled(name, T):
    """The gradient of the last h with respect to the parameters of the cell, at T steps and 64 sequences."""
    square = lambda weights, xs: jnp.mean(
        jaxrnn.unroll(cell, weights, xs, **OPTIONS[name])[0].h ** 2
    )
    level = (
        "3" if T == LENGTHS[0] else "0"
    )  # what is not run needs no fast code; the memory is the same
    lowered = jax.jit(jax.grad(square)).lower(
        params.cell, jax.ShapeDtypeStruct((T, 64, 2), jnp.float32)
    )
    return lowered.compile({"xla_backend_optimization_level": level})


with ThreadPoolExecutor() as pool:  # XLA compiles beside Python
    made = {(name, T): pool.submit(compiled, name, T) for name in OPTIONS for T in LENGTHS}
memory = {
    where: job.result().memory_analysis().temp_size_in_bytes / 2**20 for where, job in made.items()
}

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, colour, marker in zip(
    OPTIONS, ("0.4", "#D55E00", "#0072B2", "#009E73"), "xos^", strict=True
):
    values = [memory[name, T] for T in LENGTHS]
    ax.plot(LENGTHS, values, color=colour, marker=marker)
    ax.text(
        1.15 * LENGTHS[-1], values[-1], f"{name}: {values[-1]:,.0f} MiB", color=colour, va="center"
    )
ax.set(
    xscale="log",
    yscale="log",
    xlim=(150, 140_000),
    xlabel="length of the sequences (steps)",
    ylabel="temporary memory (MiB)",
)
ax.set_xticks(LENGTHS, [f"{T:,}" for T in LENGTHS])
ax.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
ax.minorticks_off()
ax.set_title("Gradient of an LSTM: 32 units, 64 sequences, float32", fontsize=10)
plt.show()

# %%
programs = {
    name: functools.partial(made[name, 200].result(), params.cell, batch.inputs) for name in OPTIONS
}
worst = max(difference(program(), programs['remat="none"']()) for program in programs.values())
print(f"the gradients differ by {worst:.0e}")
assert worst < 1e-5
compare(programs)

# %% [markdown]
# A sequence without an end is cut into windows: the carry goes on from one to the next, the gradient does not. This does change
# what is computed. `unroll_windows` does it in one program; memory that does not grow with T takes a call for each window.

# %%
square = lambda weights, xs: jnp.mean(jaxrnn.unroll(cell, weights, xs)[1] ** 2)
in_windows = lambda weights, xs: jnp.mean(
    jaxrnn.unroll_windows(cell, weights, xs, window=50)[1] ** 2
)


@jax.jit
def one_window(weights, carry, xs):
    def run(weights):
        after, ys = jaxrnn.unroll(cell, weights, xs, carry)
        return jnp.mean(ys**2), after

    return jax.grad(run, has_aux=True)(weights)


carry, parts = jaxrnn.initial_carry(cell, params.cell, (64,)), []
for window in np.split(np.asarray(batch.inputs), 4):
    part, carry = one_window(params.cell, carry, window)
    parts.append(part)
mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *parts)
together = jax.jit(jax.grad(in_windows))(params.cell, batch.inputs)
complete = jax.jit(jax.grad(square))(params.cell, batch.inputs)
print(
    f"window by window and in one program: the gradients differ by {difference(mean, together):.0e}"
)
print(f"from that through all 200 steps both differ by {difference(together, complete):.0%}")
assert difference(mean, together) < 1e-5

# %% [markdown]
# ## 16 bits
#
# The dtype of the inputs decides that of the products; the carry, which adds up over the steps, stays float32, and so do parameters
# and gradients. This, too, changes what is computed. How much? Another batch of the same task is the measure.

# %%
half = jax.jit(
    jax.value_and_grad(
        lambda params, batch: loss(params, batch._replace(inputs=batch.inputs.astype(jnp.bfloat16)))
    )
)
print(
    f"the gradient in bfloat16 differs from that in float32 by {difference(half(params, batch)[1], one[1]):.2%}"
)
print(
    f"the gradient of another batch differs by {difference(gradient(params, sample(0, 1))[1], one[1]):.2%}"
)
print(
    f"loss after {len(losses)} updates: {train(half)[-1]:.4f} in bfloat16, {losses[-1]:.4f} in float32"
)

# %% [markdown]
# ## Runs that are cut, and several hosts
#
# The page [Experiments](../docs/experiments.md) has runs that survive being killed, and runs on several hosts; the page
# [Training](../docs/training.md) has checkpoints for a loop of your own. What a step costs, and where the time goes, is on the page
# [Speed](../docs/speed.md).
