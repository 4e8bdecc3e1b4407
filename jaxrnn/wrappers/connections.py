"""Connections past a cell: residual and skip."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Dot, Noise, Params, dot
from jaxrnn.wrappers.base import Run, Wrapper


class Passed(NamedTuple):
    """The projected input of a cell that sees its input again at its output."""

    inner: Any
    x: Array


@dataclasses.dataclass(frozen=True)
class Residual(Wrapper):
    """y + x: the output of a cell, or of a stack (in both directions too), plus its input,
    of the same features.

    Raises:
        ValueError: when it runs, where output and input differ in features.

    Source: He et al. 2016, arXiv:1512.03385; in stacks of LSTMs Wu et al. 2016, arXiv:1609.08144,
    section 3.1.
    """

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Passed:
        return Passed(inner=self.cell.project(params, xs, noise), x=xs)

    def step(self, params: Params, carry: Carry, u: Passed, dot: Dot = dot) -> tuple[Carry, Array]:
        after, y = self.cell.step(params, carry, u.inner, dot)
        return after, _plus(y, u.x)

    def unroll_layers(
        self, run: Run, params: Params, xs: Array, carry: Carry, noise: Noise, reverse: bool
    ) -> tuple[Carry, Array]:
        """The cell over the whole sequence, and the inputs added."""
        after, ys = run(self.cell, params, xs, carry, noise=noise, reverse=reverse)
        return after, _plus(ys, xs)


@dataclasses.dataclass(frozen=True)
class Skip(Wrapper):
    """[y, x]: the output of a cell, or of a stack (in both directions too),
    and behind it its input.

    A stack of them sees in each layer the outputs of all layers before, and its input.

    Source: Graves 2013, arXiv:1308.0850, section 2; Haiku's `deep_rnn_with_skip_connections`.
    """

    @property
    def elementwise(self) -> bool:
        return False

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Passed:
        return Passed(inner=self.cell.project(params, xs, noise), x=xs)

    def step(self, params: Params, carry: Carry, u: Passed, dot: Dot = dot) -> tuple[Carry, Array]:
        after, y = self.cell.step(params, carry, u.inner, dot)
        return after, _beside(y, u.x)

    def unroll_layers(
        self, run: Run, params: Params, xs: Array, carry: Carry, noise: Noise, reverse: bool
    ) -> tuple[Carry, Array]:
        """The cell over the whole sequence, and the inputs beside its outputs."""
        after, ys = run(self.cell, params, xs, carry, noise=noise, reverse=reverse)
        return after, _beside(ys, xs)


def _beside(y: Array, x: Array) -> Array:
    if y.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            "a skip connection needs outputs of the axes of the inputs but for the features, "
            f"got shapes {y.shape} and {x.shape}."
        )
    return jnp.concatenate([y, x], axis=-1)


def _plus(y: Array, x: Array) -> Array:
    if y.shape != x.shape:
        raise ValueError(
            "a residual connection needs as many outputs as inputs, "
            f"got shapes {y.shape} and {x.shape}."
        )
    return y + x
