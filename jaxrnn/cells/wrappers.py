"""Cells around cells: a learned first carry, residual and skip connections,
layer normalisation of the input.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Cell, Dot, DType, Noise, Params, carry_dtype, dot
from jaxrnn.checks import check_params

Run = Callable[..., tuple[Carry, Array]]  # how `unroll` runs a cell inside `unroll_layers`


class Around(NamedTuple):
    """The noise, and the projected input, of a cell around a cell that draws noise."""

    inner: Any
    keep: Any  # booleans; None at evaluation


@dataclasses.dataclass(frozen=True)
class Wrapper(Cell):
    """A cell that is in everything the cell inside, `self.cell`,
    but for what a subclass says otherwise.

    A subclass is a frozen dataclass, whose first field is `cell`. Its parameters and carry are
    those of the cell inside. Around a `Stack` it runs step by step, not layer by layer, and in one
    direction; inside a `Stack` it is as fast as its cell.
    """

    cell: Cell

    @property
    def feature_axes(self) -> int:  # pyrefly: ignore[bad-override]
        return self.cell.feature_axes

    @property
    def elementwise(self) -> bool:  # pyrefly: ignore[bad-override]
        return self.cell.elementwise

    @property
    def causal(self) -> bool:  # pyrefly: ignore[bad-override]
        return self.cell.causal

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> Params:
        return self.cell.init(key, input_size, dtype)

    def input_size(self, params: Params) -> int | None:
        return self.cell.input_size(params)

    def prepare(self, params: Params) -> Params:
        return self.cell.prepare(params)

    def absorb(self, params: Params, noise: Noise) -> tuple[Params, Noise]:
        return self.cell.absorb(params, noise)

    def init_carry(self, params: Params, like: Array) -> Carry:
        return self.cell.init_carry(params, like)

    def noise(self, key: Array, T: int, like: Array) -> Noise:
        return self.cell.noise(key, T, like)

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Any:
        return self.cell.project(params, xs, noise)

    def step(self, params: Params, carry: Carry, u: Any, dot: Dot = dot) -> tuple[Carry, Array]:
        return self.cell.step(params, carry, u, dot)


def carry_shapes(cell: Cell, shape: tuple[int, ...]) -> Any:
    """The shapes of the carry of a cell for one step's input of that shape,
    found without computing.
    """

    def make() -> Carry:
        params = cell.prepare(cell.init(jax.random.key(0), shape[-1], jnp.float32))
        return cell.init_carry(params, jnp.zeros(shape, jnp.float32))

    return jax.eval_shape(make)


def own(cell: Cell, params: Params, kind: type) -> Any:
    """Returns `params`, or raises ValueError where they are not of a wrapper's own kind."""
    if not isinstance(params, kind):
        name = type(cell).__name__
        raise ValueError(
            f"params of {name} are {kind.__name__}(inner=..., ...), got {type(params).__name__}."
        )
    return params


class LearnedParams(NamedTuple):
    inner: Params
    first: Carry  # without batch axes


def _learned_zeros(dtype: DType, shape: Any) -> Array | None:
    """What is learned of one leaf of a carry; None of a counter or a flag."""
    if not jnp.issubdtype(shape.dtype, jnp.floating):
        return None
    return jnp.zeros([max(n, 1) for n in shape.shape], dtype)


@dataclasses.dataclass(frozen=True)
class LearnedInitialCarry(Wrapper):
    """A sequence begins with a learned carry, and begins again with it after a reset;
    it starts at the cell's own (zeros).

    In a stack wrap the cell of each layer.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.LearnedInitialCarry(jaxrnn.GRUCell(4))
        >>> cell.init(jax.random.key(0), input_size=3).first.h.shape
        (4,)
    """

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LearnedParams:
        shapes = carry_shapes(self.cell, (1,) * (self.feature_axes - 1) + (input_size,))
        # A convolution without padding leaves nothing of one pixel: its learned state is the same
        # for all pixels, as others' are.
        first = jax.tree.map(functools.partial(_learned_zeros, dtype), shapes)
        return LearnedParams(inner=self.cell.init(key, input_size, dtype), first=first)

    def input_size(self, params: LearnedParams) -> int | None:
        return self.cell.input_size(own(self, params, LearnedParams).inner)

    def prepare(self, params: LearnedParams) -> LearnedParams:
        return params._replace(inner=self.cell.prepare(params.inner))

    def absorb(self, params: LearnedParams, noise: Noise) -> tuple[LearnedParams, Noise]:
        inner, noise = self.cell.absorb(params.inner, noise)
        return params._replace(inner=inner), noise

    def init_carry(self, params: LearnedParams, like: Array) -> Carry:
        first, tree = jax.tree.flatten(self.cell.init_carry(params.inner, like))
        learned = jax.tree.leaves(params.first, is_leaf=lambda a: a is None)
        pairs = zip(first, learned, strict=True)
        return jax.tree.unflatten(tree, [a if b is None else a + b for a, b in pairs])

    def project(self, params: LearnedParams, xs: Array, noise: Noise = None) -> Any:
        return self.cell.project(params.inner, xs, noise)

    def step(
        self, params: LearnedParams, carry: Carry, u: Any, dot: Dot = dot
    ) -> tuple[Carry, Array]:
        return self.cell.step(params.inner, carry, u, dot)


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
        return after, jnp.concatenate([y, u.x], axis=-1)

    def unroll_layers(
        self, run: Run, params: Params, xs: Array, carry: Carry, noise: Noise, reverse: bool
    ) -> tuple[Carry, Array]:
        after, ys = run(self.cell, params, xs, carry, noise=noise, reverse=reverse)
        return after, jnp.concatenate([ys, xs], axis=-1)


def _plus(y: Array, x: Array) -> Array:
    if y.shape != x.shape:
        raise ValueError(
            "a residual connection needs as many outputs as inputs, "
            f"got shapes {y.shape} and {x.shape}."
        )
    return y + x


class NormParams(NamedTuple):
    inner: Params
    scale: Array  # [I]
    bias: Array  # [I]


@dataclasses.dataclass(frozen=True)
class LayerNormInput(Wrapper):
    """Normalises the features of each step's input before a cell or stack sees them: layer norm
    between the layers of a stack.

    Args:
        cell: the cell or stack.
        epsilon: added to the variance.

    Source: Ba et al. 2016, arXiv:1607.06450, eq. 4; before each layer as in Xiong et al. 2020,
    arXiv:2002.04745.
    """

    epsilon: float = 1e-5

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> NormParams:
        scale = jnp.ones(input_size, dtype)
        bias = jnp.zeros(input_size, dtype)
        return NormParams(inner=self.cell.init(key, input_size, dtype), scale=scale, bias=bias)

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
        check_params(self, params)
        return run(
            self.cell, params.inner, self._normal(params, xs), carry, noise=noise, reverse=reverse
        )

    def _normal(self, params: NormParams, xs: Array) -> Array:
        wide = carry_dtype(xs.dtype)
        x = xs.astype(wide)
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + self.epsilon)
        return (x * params.scale.astype(wide) + params.bias.astype(wide)).astype(xs.dtype)
