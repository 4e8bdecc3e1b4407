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
# # Sequence to sequence
#
# Dates as people write them, and as machines do: `"Tuesday, March 3 2015"` becomes `"2015-03-03"`. An encoder reads the characters in both
# directions, and a decoder writes ten, each of which it reads again, and looks at each step for what it needs in what the encoder saw
# (Bahdanau et al. 2015, [arXiv:1409.0473](https://arxiv.org/abs/1409.0473)).

# %%
import datetime

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxrnn
from jaxrnn.wrappers import AttentionInput, Feedback

FORMS = (
    "%A, %B {d} %Y", "%a {d} %b %Y", "{d} %B %Y", "{d} %b, %Y", "%B {d}, %Y", "%d/%m/%Y", "{d}.{m}.%Y", "%Y, %b {d}",
    "%d-%m-%y",
)  # fmt: skip
FIRST = datetime.date(1970, 1, 1).toordinal()
DAYS = 50 * 365  # up to 2019, so that two digits tell the year


def written(day, form):
    """A day as people write it."""
    day = datetime.date.fromordinal(FIRST + int(day))
    return day.strftime(form.replace("{d}", str(day.day)).replace("{m}", str(day.month))).lower()


def iso(day):
    return datetime.date.fromordinal(FIRST + int(day)).isoformat()


rng = np.random.default_rng(0)
for day in rng.integers(0, DAYS, 3):
    print([written(day, form) for form in rng.permutation(FORMS)[:3]], "->", iso(day))

# %% [markdown]
# ## Data
#
# Every tenth day is held out, in all its forms. Sources differ in length, and end where their mask does.

# %%
every = [(written(day, form), iso(day), day) for day in range(DAYS) for form in FORMS]
READ = sorted(set("".join(text for text, _, _ in every)))
WRITE = "0123456789-"
SLOTS = max(len(text) for text, _, _ in every)
STEPS = 10


def encoded(pairs):
    """Characters read [N, SLOTS], their number [N], and characters written [N, STEPS]."""
    place = {symbol: k for k, symbol in enumerate(READ)}
    read = np.zeros((len(pairs), SLOTS), np.int32)
    for row, (text, _, _) in zip(read, pairs, strict=True):
        row[: len(text)] = [place[symbol] for symbol in text]
    write = np.array([[WRITE.index(symbol) for symbol in target] for _, target, _ in pairs])
    return read, np.array([len(text) for text, _, _ in pairs]), write.astype(np.int32)


training = encoded([pair for pair in every if pair[2] % 10])
held_out = encoded([pair for pair in every if not pair[2] % 10])
print(f"{len(training[0]):,} to learn from, {len(held_out[0]):,} held out; "
      f"{training[1].min()} to {SLOTS} characters, {len(READ)} symbols")  # fmt: skip

# %% [markdown]
# ## The model
#
# A `Feedback` cell around an `AttentionInput` cell around a GRU. In training it is given the right character before (teacher forcing), and
# afterwards its own.

# %%
UNITS = 48
encoder = jaxrnn.Stack((jaxrnn.GRUCell(UNITS),), bidirectional=True)
attending = AttentionInput(jaxrnn.GRUCell(2 * UNITS), memory_size=2 * UNITS, slots=SLOTS)
decoder = Feedback(attending, len(WRITE), feed="one_hot")


def first(params, read, lengths):
    """The decoder's carry before its first step, with what the encoder saw."""
    mask = jaxrnn.lengths_to_mask(lengths, SLOTS)
    xs = jax.nn.one_hot(read.T, len(READ))
    _, seen = jaxrnn.unroll(encoder, params["encoder"], xs, mask=mask)
    carry = jaxrnn.initial_carry(decoder, params["decoder"], read.shape[:1])
    return carry._replace(
        inner=attending.attend(params["decoder"].inner, seen.swapaxes(0, 1), mask.T)
    )


def logits(params, read, lengths, write=None):
    """[STEPS, N, symbols]: with `write` by teacher forcing, else by itself."""
    given = jnp.zeros((STEPS, read.shape[0], len(WRITE)))
    if write is not None:
        given = given.at[1:].set(jax.nn.one_hot(write.T[:-1], len(WRITE)))
    xs = decoder.inputs(given, use=write is not None)
    return jaxrnn.unroll(decoder, params["decoder"], xs, first(params, read, lengths))[1]


key_e, key_d, key_t = jax.random.split(jax.random.key(0), 3)
params = {
    "encoder": encoder.init(key_e, len(READ)),
    "decoder": decoder.init(key_d, len(WRITE) + 1),
}
print(f"{sum(a.size for a in jax.tree.leaves(params)):,} parameters")

# %% [markdown]
# ## Training
#
# Adam, 1,500 updates of 128 dates each.

# %%
UPDATES = 1500
adam = optax.adam(optax.cosine_decay_schedule(4e-3, UPDATES))


def loss(params, read, lengths, write):
    outputs = logits(params, read, lengths, write)
    return optax.softmax_cross_entropy_with_integer_labels(outputs, write.T).mean()


@jax.jit
def train(params, key):
    def update(state, key):
        params, moments = state
        rows = jax.random.randint(key, (128,), 0, len(training[0]))
        value, grads = jax.value_and_grad(loss)(params, *(jnp.asarray(a)[rows] for a in training))
        changes, moments = adam.update(grads, moments)
        return (optax.apply_updates(params, changes), moments), value

    (params, _), losses = jax.lax.scan(
        update, (params, adam.init(params)), jax.random.split(key, UPDATES)
    )
    return params, losses


params, losses = train(params, key_t)
print(f"loss {losses[0]:.2f} before, {losses[-50:].mean():.5f} after")

# %% [markdown]
# ## By itself
#
# Each date that was held out, written without help; it counts where all ten characters are right.

# %%
written_alone = jax.jit(logits)(params, *held_out[:2]).argmax(-1).T
right = (written_alone == held_out[2]).all(axis=1)
print(f"{right.sum():,} of {len(right):,} dates right")
for k in [905, 4000, 9007]:
    text = "".join(READ[c] for c in held_out[0][k][: held_out[1][k]])
    print(f"{text:28} -> {''.join(WRITE[c] for c in np.asarray(written_alone[k]))}")

# %% [markdown]
# ## Where it looks
#
# The weights of the attention at each step, from the carries that the decoder passed through.


# %%
def weights(params, read, lengths):
    """[STEPS, SLOTS] of one date."""
    carry = first(params, read[None], lengths[None])
    xs = decoder.inputs(jnp.zeros((STEPS, 1, len(WRITE))), use=False)
    carries, _ = jaxrnn.unroll_carries(decoder, params["decoder"], xs, carry)
    inner = carries.inner
    # the query at a step is made of the state before it
    h = jnp.concatenate([carry.inner.inner.h[None], inner.inner.h[:-1]])
    scores = jnp.einsum("tba,tbsa->tbs", h @ params["decoder"].inner.w_q, inner.keys)
    scores = jnp.where(inner.valid, scores / np.sqrt(inner.keys.shape[-1]), -jnp.inf)
    return jax.nn.softmax(scores)[:, 0]


chosen = [900, 905]
fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained", width_ratios=[2, 1.2])
for ax, k in zip(axes, chosen, strict=True):
    count = held_out[1][k]
    ax.imshow(
        weights(params, held_out[0][k], held_out[1][k])[:, :count],
        cmap="Blues",
        vmin=0,
        vmax=1,
        aspect="auto",
    )
    ax.set_xticks(range(count), [READ[c] for c in held_out[0][k][:count]])
    ax.set_yticks(range(STEPS), [WRITE[c] for c in np.asarray(written_alone[k])])
    ax.set(xlabel="read", ylabel="written")
    ax.grid(False)

# %% [markdown]
# For the year it looks at the end, for the month at its name or its number, and for the day at the number before or behind it, wherever they
# stand. Where nothing must be looked up, as for the first character (1 or 2 by the decades alone) and the hyphens, it looks anywhere.
#
# [Closed loops](../docs/closed_loops.md) shows the same parts by themselves, and a beam search.
