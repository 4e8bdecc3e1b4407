"""A block: what networks of today put around a recurrent cell."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import gelu

from jaxrnn import initializers
from jaxrnn.cell import Array, Carry, Cell, Dot, DType, Noise, Params, cast, dot, zeros
from jaxrnn.cells.causal_conv import CausalConvCarry, CausalConvCell, CausalConvParams
from jaxrnn.cells.gated_mlp import GatedMLPCell
from jaxrnn.checks import check_flag, check_size, in_order
from jaxrnn.initializers import Initializer
from jaxrnn.stack import Stack
from jaxrnn.wrappers.base import Run, Wrapper, output_size, own
from jaxrnn.wrappers.connections import Residual
from jaxrnn.wrappers.norm import LayerNormInput, RMSNormInput

NORMS = {"rms": RMSNormInput, "layer": LayerNormInput}


class MixerParams(NamedTuple):
    w_x: Array  # [I, width]
    w_gate: Array | None  # [I, H]
    conv: CausalConvParams | None
    inner: Params
    w_y: Array  # [H, I]


class MixerCarry(NamedTuple):
    conv: CausalConvCarry | None
    inner: Carry


class MixerInput(NamedTuple):
    conv: Any  # what the convolution is given, or the cell where there is none
    gate: Array | None  # [..., H]
    noise: Noise


@dataclasses.dataclass(frozen=True)
class Mixer(Wrapper):
    """A cell between two products, behind a short convolution and before a gate:
    y = W_y (gelu(W_gate x) * cell(conv(W_x x))), with as many outputs as inputs.

    Args:
        cell: a cell that runs in one direction.
        inner_size: how many features the convolution and the cell see; None is as many as x has.
        conv: how many steps the convolution sees; None leaves it out.
        gate: False leaves the gate out.
        input_init: initialiser of the kernels of this layer.

    Source: De et al. 2024, arXiv:2402.19427, section 2.3, the recurrent block of Griffin.
    """

    inner_size: int | None = None
    _: dataclasses.KW_ONLY
    conv: int | None = 4
    gate: bool = True
    input_init: Initializer = "lecun_normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cell.causal or self.cell.feature_axes != 1:
            raise ValueError(
                f"a block needs a cell for vectors that runs in one direction, got {self.cell}."
            )
        for name in ("inner_size", "conv"):
            if getattr(self, name) is not None:
                check_size(name, getattr(self, name))
        check_flag("gate", self.gate)
        initializers.resolve(self.input_init, "input_init")

    @property
    def elementwise(self) -> bool:  # pyrefly: ignore[bad-override]
        return False

    @property
    def _conv(self) -> CausalConvCell | None:
        return None if self.conv is None else CausalConvCell(self.conv)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> MixerParams:
        check_size("input_size", input_size)
        key_x, key_g, key_c, key_y, key = jax.random.split(key, 5)
        width = self.inner_size or input_size
        H = output_size(self.cell, width)
        draw = functools.partial(self._kernel, dtype=dtype)
        return MixerParams(
            w_x=draw(key_x, input_size, width),
            w_gate=draw(key_g, input_size, H) if self.gate else None,
            conv=None if self._conv is None else self._conv.init(key_c, width, dtype),
            inner=self.cell.init(key, width, dtype),
            w_y=draw(key_y, H, input_size),
        )

    def _kernel(self, key: Array, rows: int, columns: int, dtype: DType) -> Array:
        return initializers.kernel(self.input_init, key, rows, 1, columns, dtype)[:, 0]

    def input_size(self, params: MixerParams) -> int:
        return own(self, params, MixerParams).w_x.shape[0]

    def prepare(self, params: MixerParams) -> MixerParams:
        return params._replace(inner=self.cell.prepare(params.inner))

    def absorb(self, params: MixerParams, noise: Noise) -> tuple[MixerParams, Noise]:
        inner, noise = self.cell.absorb(params.inner, noise)
        return params._replace(inner=inner), noise

    def init_carry(self, params: MixerParams, like: Array) -> MixerCarry:
        v = zeros(like, params.w_x.shape[-1])
        conv = self._conv
        before = None
        if conv is not None and params.conv is not None:
            before = conv.init_carry(params.conv, v)
        return MixerCarry(conv=before, inner=self.cell.init_carry(params.inner, v))

    def noise(self, key: Array, T: int, like: Array) -> Noise:
        width = self.inner_size or like.shape[-1]
        return self.cell.noise(key, T, jnp.zeros_like(like, shape=(*like.shape[:-1], width)))

    def project(self, params: MixerParams, xs: Array, noise: Noise = None) -> MixerInput:
        v = dot(xs, params.w_x)
        conv = self._conv
        if conv is not None and params.conv is not None:
            v = conv.project(params.conv, v)
        return MixerInput(conv=v, gate=self._gate(params, xs), noise=noise)

    def step(
        self, params: MixerParams, carry: MixerCarry, u: MixerInput, dot: Dot = dot
    ) -> tuple[MixerCarry, Array]:
        v = u.conv
        before = carry.conv
        conv = self._conv
        if conv is not None and params.conv is not None and before is not None:
            before, v = conv.step(params.conv, before, v, dot)
        v = self.cell.project(params.inner, v, u.noise)
        inner, y = self.cell.step(params.inner, carry.inner, v, dot)
        y = y if u.gate is None else y * u.gate
        return MixerCarry(conv=before, inner=inner), dot(y, params.w_y)

    def unroll_layers(
        self,
        run: Run,
        params: MixerParams,
        xs: Array,
        carry: MixerCarry | None,
        noise: Noise,
        reverse: bool,
    ) -> tuple[MixerCarry, Array]:
        """The convolution, and then the cell, over the whole sequence."""
        params = own(self, params, MixerParams)
        mine = cast(params._replace(conv=None, inner=None), xs.dtype)
        before, inner = in_order(carry, MixerCarry._fields) or (None, None)
        v = dot(xs, mine.w_x)
        if self._conv is not None:
            before, v = run(self._conv, params.conv, v, before, noise=None, reverse=reverse)
        inner, ys = run(self.cell, params.inner, v, inner, noise=noise, reverse=reverse)
        gate = self._gate(mine, xs)
        ys = ys if gate is None else ys * gate
        return MixerCarry(conv=before, inner=inner), dot(ys, mine.w_y)

    def _gate(self, params: MixerParams, xs: Array) -> Array | None:
        return None if params.w_gate is None else gelu(dot(xs, params.w_gate))


@dataclasses.dataclass(frozen=True)
class Block(Wrapper):
    """A layer of a deep recurrent network, y = z + mlp(norm(z)) with z = x + mixer(norm(x)): a
    `Mixer` around the cell and a `GatedMLPCell`, each behind a norm and beside a residual
    connection.

    It is a stack of two: parameters and carry are those of `inside`. Several blocks are
    `Stack((Block(cell), Block(cell)))`.

    Args:
        cell: a cell that runs in one direction.
        inner_size: how many features the cell sees; None is as many as x has.
        mlp: the hidden units of the perceptron; None leaves it out.
        norm: "rms" or "layer".
        conv, gate, input_init: as in `Mixer`.

    Source: De et al. 2024, arXiv:2402.19427, section 2. Differs: the gate of the perceptron is
    silu, not gelu.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.wrappers import Block
        >>> block = Block(jaxrnn.cells.MinGRUCell(16), mlp=24)
        >>> params = block.init(jax.random.key(0), input_size=8)
        >>> carry, ys = jaxrnn.unroll(block, params, jax.numpy.ones((5, 2, 8)))
        >>> ys.shape
        (5, 2, 8)
    """

    inner_size: int | None = None
    mlp: int | None = None
    _: dataclasses.KW_ONLY
    norm: str = "rms"
    conv: int | None = 4
    gate: bool = True
    input_init: Initializer = "lecun_normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in tuple(NORMS):
            raise ValueError(f"norm must be one of {tuple(NORMS)}, got {self.norm!r}.")
        if self.mlp is not None:
            check_size("mlp", self.mlp)
        _ = self.inside  # which checks the rest

    @property
    def inside(self) -> Stack:
        """The two layers of which it is made, or one without `mlp`."""
        norm = NORMS[self.norm]
        mixer = Mixer(
            self.cell, self.inner_size, conv=self.conv, gate=self.gate, input_init=self.input_init
        )
        layers: list[Cell] = [Residual(norm(mixer))]
        if self.mlp is not None:
            layers.append(Residual(norm(GatedMLPCell(self.mlp, input_init=self.input_init))))
        return Stack(tuple(layers))

    @property
    def elementwise(self) -> bool:  # pyrefly: ignore[bad-override]
        return False

    def unroll_layers(
        self, run: Run, params: Params, xs: Array, carry: Carry, noise: Noise, reverse: bool
    ) -> tuple[Carry, Array]:
        """Its parts, one after the other."""
        return self.inside.unroll_layers(run, params, xs, carry, noise, reverse)
