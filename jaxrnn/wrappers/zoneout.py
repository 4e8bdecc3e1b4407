"""Zoneout: units keep their old value at random."""

import dataclasses
from typing import Any, NamedTuple

import jax

from jaxrnn.cell import Array, Carry, Dot, Params, dot
from jaxrnn.wrappers.base import Wrapper
from jaxrnn.wrappers.draws import Around, absorb_inside, check_rates, draw, where


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
        super().__post_init__()
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
