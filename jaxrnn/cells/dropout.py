"""Regularisers of the recurrence, as cells around cells: zoneout,
variational and recurrent dropout, DropConnect.

All draws come from `noise`, made outside the loop from one key; without noise a cell runs as at
evaluation.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn.cell import Array, Carry, Cell, Dot, Noise, Params, dot, gates, zeros
from jaxrnn.cells.gru import GRUCarry, GRUCell
from jaxrnn.cells.lstm import LSTMCarry, LSTMCell
from jaxrnn.cells.wrappers import Around, Wrapper, carry_shapes


def check_rates(cell: Cell, names: tuple[str, ...], *, one: bool = False) -> None:
    """Checks that fields of a cell are probabilities, below 1 unless `one`, and makes them
    Python's: NumPy's have a dtype.
    """
    for name in names:
        rate: Any = getattr(cell, name)
        if not isinstance(rate, int | float | np.number) or not (
            0 <= rate < 1 or (one and rate == 1)
        ):
            raise ValueError(
                f"{name} is a probability from 0 to {'' if one else 'below '}1, got {rate!r}."
            )
        object.__setattr__(cell, name, float(rate))


def drop(a: Array, keep: Array | None, rate: float) -> Array:
    """`a` where it is kept, scaled so that its mean stays, and 0 elsewhere;
    all of it without a mask.
    """
    return a if keep is None else where(keep, a / (1 - rate), jnp.zeros_like(a))


def where(keep: Array, yes: Array, no: Array) -> Array:
    """`jnp.where` with a mask that is first brought to the sharding of what it selects."""
    return jnp.where(keep | jnp.zeros_like(yes, jnp.bool_), yes, no)


def absorb_inside(cell: Cell, params: Params, noise: Around) -> tuple[Params, Around]:
    """`absorb` of the cell inside, where it has drawn anything."""
    params, inner = (params, None) if noise.inner is None else cell.absorb(params, noise.inner)
    return params, noise._replace(inner=inner)


def draw(
    cell: Cell, key: Array, probability: float, T: int, like: Array, field: str
) -> Array | None:
    """Booleans [T, *batch, ...] for a field of the carry, in the sharding of `like`;
    None without such a field.
    """
    shape = getattr(carry_shapes(cell, like.shape), field, None)
    if shape is None:
        return None
    here = zeros(
        like, *shape.shape[like.ndim - cell.feature_axes :], feature_axes=cell.feature_axes
    ).astype(jnp.bool_)
    return jax.random.bernoulli(key, probability, (T, *shape.shape)) | here


class Zoned(NamedTuple):
    h: Array | None  # [T, *batch, H], True where the old value is kept
    c: Array | None


@dataclasses.dataclass(frozen=True)
class Zoneout(Wrapper):
    """Units keep their old value at random: h' = d * h + (1 - d) * h', and c alike;
    evaluation takes the mean.

    Args:
        cell: a cell whose output is its carry's h (RNN, LSTM, LSTMP, GRU, ...).
        h, c: the probability that a unit of h, of c is kept, drawn anew for each step. c counts
            where the carry has one.

    Source: Krueger et al. 2017, arXiv:1606.01305, eq. 5-6. As there h is made from the new c,
    before that is zoned out.
    """

    h: float = 0.05
    c: float = 0.5

    def __post_init__(self) -> None:
        check_rates(self, ("h", "c"), one=True)

    def noise(self, key: Array, T: int, like: Array) -> Around:
        k_inner, k_h, k_c = jax.random.split(key, 3)
        zoned = Zoned(
            h=draw(self.cell, k_h, self.h, T, like, "h"),
            c=draw(self.cell, k_c, self.c, T, like, "c"),
        )
        return Around(inner=self.cell.noise(k_inner, T, like), keep=zoned)

    def absorb(self, params: Params, noise: Around) -> tuple[Params, Around]:
        return absorb_inside(self.cell, params, noise)

    def project(self, params: Params, xs: Array, noise: Around | None = None) -> Around:
        inner, keep = (None, None) if noise is None else noise
        return Around(inner=self.cell.project(params, xs, inner), keep=keep)

    def step(self, params: Params, carry: Any, u: Around, dot: Dot = dot) -> tuple[Carry, Array]:
        new, y = self.cell.step(params, carry, u.inner, dot)
        if getattr(new, "h", None) is not y:
            raise TypeError(
                f"Zoneout needs a cell whose output is its carry's h; {self.cell} has another. "
                "Put it around Zoneout."
            )
        for name in [name for name in ("h", "c") if name in new._fields]:
            rate = getattr(self, name)
            old = getattr(carry, name)
            fresh = getattr(new, name)
            kept = (
                rate * old + (1 - rate) * fresh
                if u.keep is None
                else where(getattr(u.keep, name), old, fresh)
            )
            new = new._replace(**{name: kept})
        return new, new.h


class Kept(NamedTuple):
    input: Array | None  # [1, *batch, I]
    recurrent: Array | None  # [1, *batch, H]
    output: Array | None  # [1, *batch, H]


@dataclasses.dataclass(frozen=True)
class VariationalDropout(Wrapper):
    """Dropout with one mask for the whole sequence: of the input,
    of h where it meets its weights, and of the output.

    A product of the step is dropped where its vector has the size of h; elsewhere (the
    interpolation of a GRU) h stays whole.

    Args:
        cell: a cell whose carry has a field h, which is its output.
        input, recurrent, output: probabilities of dropping an entry; what is kept is scaled by
            1 / (1 - rate). `recurrent` acts where the state meets a weight through `dot`, so not on
            recurrent weights that act unit by unit (`IndRNNCell`).

    Source: Gal and Ghahramani 2016, arXiv:1512.05287, eq. 7.
    """

    input: float = 0.0
    recurrent: float = 0.0
    output: float = 0.0

    def __post_init__(self) -> None:
        check_rates(self, Kept._fields)

    def noise(self, key: Array, T: int, like: Array) -> Around:
        k_inner, k_x, k_h, k_y = jax.random.split(key, 4)
        x = jax.random.bernoulli(k_x, 1 - self.input, (1, *like.shape)) | jnp.zeros_like(
            like, jnp.bool_
        )
        h, y = (
            draw(self.cell, k, 1 - rate, 1, like, "h")
            for k, rate in ((k_h, self.recurrent), (k_y, self.output))
        )
        if h is None:
            raise TypeError(
                "VariationalDropout needs a carry with a field h, "
                f"which that of {self.cell} has not."
            )
        kept = Kept(
            *(
                keep if rate else None
                for keep, rate in ((x, self.input), (h, self.recurrent), (y, self.output))
            )
        )
        return Around(inner=self.cell.noise(k_inner, T, like), keep=kept)

    def absorb(self, params: Params, noise: Around) -> tuple[Params, Around]:
        return absorb_inside(self.cell, params, noise)

    def project(self, params: Params, xs: Array, noise: Around | None = None) -> Around:
        if noise is None:
            return Around(inner=self.cell.project(params, xs), keep=None)
        inner = self.cell.project(params, drop(xs, noise.keep.input, self.input), noise.inner)
        return Around(inner=inner, keep=noise.keep._replace(input=None))

    def step(self, params: Params, carry: Carry, u: Around, dot: Dot = dot) -> tuple[Carry, Array]:
        keep = Kept(None, None, None) if u.keep is None else u.keep

        def dropped(v: Array, w: Array, op: Any = None) -> Array:
            fits = keep.recurrent is not None and keep.recurrent.shape[-1] == v.shape[-1]
            return dot(drop(v, keep.recurrent, self.recurrent) if fits else v, w, op)

        after, y = self.cell.step(params, carry, u.inner, dropped)
        if keep.output is not None and keep.output.shape[-1] != y.shape[-1]:
            raise TypeError(
                "VariationalDropout needs a cell whose output is its carry's h; "
                f"put {self.cell} around it."
            )
        return after, drop(y, keep.output, self.output)


@dataclasses.dataclass(frozen=True)
class RecurrentDropout(Wrapper):
    """Dropout of the candidate, so that no step forgets: c' = f * c + i * d(g),
    and in a GRU h' = (1 - z) * d(n) + z * h.

    Args:
        cell: an `LSTMCell` or a `GRUCell`.
        rate: the probability of dropping an entry, drawn anew for each step; what is kept is scaled
            by 1 / (1 - rate).

    Source: Semeniuta et al. 2016, arXiv:1603.05118, eq. 9-10 and 14-16; its z is 1 - z here.
    """

    rate: float = 0.0

    def __post_init__(self) -> None:
        check_rates(self, ("rate",))
        if type(self.cell) not in (LSTMCell, GRUCell):
            raise TypeError(
                "RecurrentDropout acts on the candidate of an LSTMCell or a GRUCell, "
                f"got {self.cell!r}."
            )

    def noise(self, key: Array, T: int, like: Array) -> Around | None:
        keep = draw(self.cell, key, 1 - self.rate, T, like, "h")
        return Around(inner=None, keep=keep) if self.rate else None

    def project(self, params: Params, xs: Array, noise: Around | None = None) -> Around:
        return Around(
            inner=self.cell.project(params, xs), keep=None if noise is None else noise.keep
        )

    def step(self, params: Params, carry: Any, u: Around, dot: Dot = dot) -> tuple[Carry, Array]:
        if isinstance(self.cell, LSTMCell):
            i, f, g, o = gates(u.inner + dot(carry.h, params.w_h))
            c = sigmoid(f) * carry.c + sigmoid(i) * drop(tanh(g), u.keep, self.rate)
            h = sigmoid(o) * tanh(c)
            return LSTMCarry(h=h, c=c), h
        u_r, u_z, u_n = gates(u.inner)
        a_r, a_z, a_n = gates(dot(carry.h, params.w_h))
        a_n = a_n if params.b_hn is None else a_n + params.b_hn
        r = sigmoid(u_r + a_r)
        z = sigmoid(u_z + a_z)
        n = tanh(u_n + r * a_n)
        h = (1 - z) * drop(n, u.keep, self.rate) + z * carry.h
        return GRUCarry(h=h), h


@dataclasses.dataclass(frozen=True)
class DropConnect(Wrapper):
    """Weights are dropped, each for the whole sequence and for all of the batch,
    before they are used.

    Args:
        cell: any cell whose parameters are a NamedTuple.
        rate: the probability of dropping an entry; what is kept is scaled by 1 / (1 - rate).
        names: the parameters, by default the recurrent kernel.

    Source: Merity et al. 2017, arXiv:1708.01009, section 2; Wan et al. 2013 for feed-forward
    layers.
    """

    rate: float = 0.0
    names: tuple[str, ...] = ("w_h",)

    def __post_init__(self) -> None:
        check_rates(self, ("rate",))
        object.__setattr__(self, "names", tuple(self.names))

    def noise(self, key: Array, T: int, like: Array) -> Around | None:
        k_inner, *keys = jax.random.split(key, 1 + len(self.names))
        inner = self.cell.noise(k_inner, T, like)
        shapes = jax.eval_shape(
            lambda: self.cell.init(jax.random.key(0), like.shape[-1], jnp.float32)
        )
        missing = [name for name in self.names if getattr(shapes, name, None) is None]
        if missing:
            raise ValueError(
                f"{self.cell} has no parameters {missing}; it has {getattr(shapes, '_fields', ())}."
            )
        chances = (
            (name, k, getattr(shapes, name).shape) for name, k in zip(self.names, keys, strict=True)
        )
        keep = {
            name: jax.random.bernoulli(k, 1 - self.rate, (1, *shape)) for name, k, shape in chances
        }
        return Around(inner=inner, keep=keep) if self.rate or jax.tree.leaves(inner) else None

    def absorb(self, params: Any, noise: Around) -> tuple[Params, Noise]:
        dropped = {
            name: drop(getattr(params, name), keep[0], self.rate)
            for name, keep in noise.keep.items()
        }
        params = params._replace(**dropped)
        return (params, None) if noise.inner is None else self.cell.absorb(params, noise.inner)
