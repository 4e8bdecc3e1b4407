"""Dropout inside the recurrence: with one mask for the whole sequence, and of the candidate."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Dot, Params, dot, drop, gates
from jaxrnn.cells.activations import functions
from jaxrnn.cells.gru import GRUCarry, GRUCell
from jaxrnn.cells.lstm import LSTMCarry, LSTMCell
from jaxrnn.wrappers.base import Wrapper
from jaxrnn.wrappers.draws import Around, absorb_inside, check_rates, draw


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
        super().__post_init__()
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
        super().__post_init__()
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
        sigmoid, tanh = functions(self.cell)
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
