"""Normalisation of the input."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Dot, DType, Noise, Params, carry_dtype, dot
from jaxrnn.checks import check_number
from jaxrnn.wrappers.base import Run, Wrapper, own


class NormParams(NamedTuple):
    inner: Params
    scale: Array  # [I]
    bias: Array | None  # [I]


@dataclasses.dataclass(frozen=True)
class _NormInput(Wrapper):
    """A cell that sees what `_normal` makes of each step's input."""

    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("epsilon", self.epsilon, above=0)

    def input_size(self, params: NormParams) -> int | None:
        return own(self, params, NormParams).scale.shape[0]

    def prepare(self, params: NormParams) -> NormParams:
        return params._replace(inner=self.cell.prepare(params.inner))

    def absorb(self, params: NormParams, noise: Noise) -> tuple[NormParams, Noise]:
        inner, noise = self.cell.absorb(params.inner, noise)
        return params._replace(inner=inner), noise

    def init_carry(self, params: NormParams, like: Array) -> Carry:
        return self.cell.init_carry(params.inner, like)

    def project(self, params: NormParams, xs: Array, noise: Noise = None) -> Any:
        return self.cell.project(params.inner, self._normal(params, xs), noise)

    def step(self, params: NormParams, carry: Carry, u: Any, dot: Dot = dot) -> tuple[Carry, Array]:
        return self.cell.step(params.inner, carry, u, dot)

    def unroll_layers(
        self, run: Run, params: NormParams, xs: Array, carry: Carry, noise: Noise, reverse: bool
    ) -> tuple[Carry, Array]:
        """The inner cell over the whole sequence, on normalised inputs."""
        xs = self._normal(own(self, params, NormParams), xs)
        return run(self.cell, params.inner, xs, carry, noise=noise, reverse=reverse)

    def _normal(self, params: NormParams, xs: Array) -> Array:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class LayerNormInput(_NormInput):
    """Normalises the features of each step's input before a cell or stack sees them: layer norm
    between the layers of a stack.

    Args:
        cell: the cell or stack.
        epsilon: added to the variance.

    Source: Ba et al. 2016, arXiv:1607.06450, eq. 4; before each layer as in Xiong et al. 2020,
    arXiv:2002.04745.
    """

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> NormParams:
        scale = jnp.ones(input_size, dtype)
        bias = jnp.zeros(input_size, dtype)
        return NormParams(inner=self.cell.init(key, input_size, dtype), scale=scale, bias=bias)

    def _normal(self, params: NormParams, xs: Array) -> Array:
        assert params.bias is not None
        wide = carry_dtype(xs.dtype)
        x = xs.astype(wide)
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        return (
            _unit(x, self.epsilon) * params.scale.astype(wide) + params.bias.astype(wide)
        ).astype(xs.dtype)


@dataclasses.dataclass(frozen=True)
class RMSNormInput(_NormInput):
    """Divides the features of each step's input by the root of their mean square before a cell or
    stack sees them.

    Args:
        cell: the cell or stack.
        epsilon: added to the mean square.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4.
    """

    epsilon: float = 1e-6

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> NormParams:
        scale = jnp.ones(input_size, dtype)
        return NormParams(inner=self.cell.init(key, input_size, dtype), scale=scale, bias=None)

    def _normal(self, params: NormParams, xs: Array) -> Array:
        wide = carry_dtype(xs.dtype)
        x = _unit(xs.astype(wide), self.epsilon)
        return (x * params.scale.astype(wide)).astype(xs.dtype)


def _unit(x: Array, epsilon: float) -> Array:
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + epsilon)
