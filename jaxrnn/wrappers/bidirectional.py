"""A layer in both directions, of two cells that may differ."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Cell, Dot, DType, Noise, Params, check_cell_type, dot
from jaxrnn.checks import in_order
from jaxrnn.directions import MERGES, merged
from jaxrnn.wrappers.base import Run, own


class BidirectionalParams(NamedTuple):
    forward: Params
    backward: Params


class BidirectionalCarry(NamedTuple):
    forward: Carry
    backward: Carry


class BidirectionalNoise(NamedTuple):
    forward: Noise
    backward: Noise


@dataclasses.dataclass(frozen=True)
class Bidirectional(Cell):
    """Two cells over one sequence, the second from its end: a layer in both directions, for
    `unroll`, or in a `Stack`. `Stack(cells, bidirectional=True)` does the same with equal cells.

    Args:
        forward: the cell that reads the sequence from its beginning.
        backward: the one that reads it from its end; None means one like `forward`. Each has
            parameters of its own.
        merge: how both outputs become one: "concat" (forward first), "sum", "mean", "mul", or
            "apart", [..., 2, H]; all but "concat" need outputs of one shape.

    Raises:
        TypeError: a direction is no cell.
        ValueError: `merge` is unknown, or the cells differ in the axes of their inputs.

    Source: Schuster and Paliwal 1997, "Bidirectional recurrent neural networks"; Keras's
    `Bidirectional(layer, backward_layer=...)`, Flax's `Bidirectional(forward_rnn, backward_rnn)`.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.wrappers import Bidirectional
        >>> cell = Bidirectional(jaxrnn.LSTMCell(8), jaxrnn.GRUCell(4))
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.forward.c.shape, carry.backward.h.shape
        ((5, 2, 12), (2, 8), (2, 4))
    """

    forward: Cell
    backward: Cell | None = None
    merge: str = "concat"
    causal = False

    def __post_init__(self) -> None:
        if self.backward is None:
            object.__setattr__(self, "backward", self.forward)
        for cell in self.directions:
            check_cell_type(cell)
        if len({cell.feature_axes for cell in self.directions}) > 1:
            raise ValueError(
                "both directions read the same inputs; their cells must agree in axes."
            )
        if self.merge not in tuple(MERGES):
            raise ValueError(f"merge must be one of {tuple(MERGES)}, got {self.merge!r}.")

    @property
    def directions(self) -> tuple[Cell, Cell]:
        assert self.backward is not None
        return (self.forward, self.backward)

    @property
    def feature_axes(self) -> int:  # pyrefly: ignore[bad-override]
        return self.forward.feature_axes

    @property
    def elementwise(self) -> bool:  # pyrefly: ignore[bad-override]
        return all(cell.elementwise for cell in self.directions)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> BidirectionalParams:
        pairs = zip(self.directions, jax.random.split(key), strict=True)
        return BidirectionalParams(*(cell.init(k, input_size, dtype) for cell, k in pairs))

    def input_size(self, params: BidirectionalParams) -> int | None:
        return self.forward.input_size(own(self, params, BidirectionalParams).forward)

    def prepare(self, params: BidirectionalParams) -> BidirectionalParams:
        return BidirectionalParams(*self._each("prepare", params))

    def absorb(
        self, params: BidirectionalParams, noise: BidirectionalNoise
    ) -> tuple[BidirectionalParams, BidirectionalNoise]:
        found = [
            (p, n) if n is None else cell.absorb(p, n)
            for cell, p, n in zip(self.directions, params, noise, strict=True)
        ]
        params = BidirectionalParams(*(p for p, _ in found))
        return params, BidirectionalNoise(*(n for _, n in found))

    def init_carry(self, params: BidirectionalParams, like: Array) -> BidirectionalCarry:
        return BidirectionalCarry(*self._each("init_carry", params, like))

    def noise(self, key: Array, T: int, like: Array) -> BidirectionalNoise | None:
        pairs = zip(self.directions, jax.random.split(key), strict=True)
        noise = BidirectionalNoise(*(cell.noise(k, T, like) for cell, k in pairs))
        return noise if jax.tree.leaves(noise) else None

    def project(self, params: BidirectionalParams, xs: Array, noise: Noise = None) -> Any:
        raise ValueError(_NO_STEP)

    def step(
        self, params: BidirectionalParams, carry: BidirectionalCarry, u: Any, dot: Dot = dot
    ) -> tuple[BidirectionalCarry, Array]:
        raise ValueError(_NO_STEP)

    def unroll_layers(
        self,
        run: Run,
        params: BidirectionalParams,
        xs: Array,
        carry: BidirectionalCarry | None,
        noise: BidirectionalNoise | None,
        reverse: bool,
    ) -> tuple[BidirectionalCarry, Array]:
        """Both directions over the whole sequence, merged."""
        params = own(self, params, BidirectionalParams)
        carry = in_order(carry, BidirectionalCarry._fields)
        if carry is not None and len(carry) != 2:
            raise ValueError(
                f"carry must be BidirectionalCarry(forward=..., backward=...), got {carry}."
            )
        carries = []
        outputs = []
        for index, cell in enumerate(self.directions):
            given, drawn = (None if tree is None else tree[index] for tree in (carry, noise))
            back = reverse != (index == 1)
            after, ys = run(cell, params[index], xs, given, noise=drawn, reverse=back)
            carries.append(after)
            outputs.append(ys)
        self._check_widths([ys.shape[-1] for ys in jax.tree.leaves(outputs)])
        return BidirectionalCarry(*carries), merged(self.merge, outputs)

    def _each(self, name: str, params: Any, *rest: Any) -> list[Any]:
        pairs = zip(self.directions, params, strict=True)
        return [getattr(cell, name)(p, *rest) for cell, p in pairs]

    def _check_widths(self, widths: list[int]) -> None:
        half = len(widths) // 2
        if self.merge != "concat" and widths[:half] != widths[half:]:
            raise ValueError(
                f"merge={self.merge!r} needs outputs of one size, those of forward and backward "
                f"are {', '.join(map(str, widths))}; merge='concat' takes any."
            )


_NO_STEP = (
    "a cell that runs in both directions has no single step: its second direction starts at the "
    "end. Use unroll."
)
