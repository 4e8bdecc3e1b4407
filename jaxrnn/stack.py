"""Several layers, one or both directions, and dropout between layers: itself a cell."""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Cell, Dot, DType, Noise, Params, dot, drop, zeros
from jaxrnn.checks import check_flag, in_order
from jaxrnn.directions import MERGES, merged
from jaxrnn.running import unroll


class StackNoise(NamedTuple):
    cells: tuple[Noise, ...]  # the noise of each cell, indexed layer * directions + direction
    # for each layer but the last: [T, ..., width], True where its output is kept
    keep: tuple[Array | None, ...]


class StackInput(NamedTuple):
    u: Any  # the projected input of the first layer
    noise: StackNoise | None


@dataclasses.dataclass(frozen=True)
class Stack(Cell):
    """Layers of cells; the input of each is the output of the one before,
    in both directions where bidirectional.

    `stack(params, carry, x)` is one step (one direction only), `unroll(stack, params, xs)` a
    sequence, run layer by layer. Parameters and carry are tuples with one entry per cell, indexed
    `layer * directions + direction`.

    Args:
        cells: one cell per layer. A bidirectional layer uses its cell twice, with parameters of
            their own.
        bidirectional: whether a second direction reads the sequence from its end.
        merge: how the outputs of both directions become one: "concat" (forward first), "sum",
            "mean", "mul", or "apart", [..., 2, H], for a single layer.
        dropout: the probability of dropping each entry of every layer's output but the last, drawn
            anew for each step. It acts where `noise` is given, and kept entries are scaled by
            1 / (1 - dropout).

    Raises:
        ValueError: no cells, cells of different input ranks, or dropout outside [0, 1].

    Source: `torch.nn.LSTM(num_layers, dropout, bidirectional)`.

    Example:
        >>> import jax, jaxrnn
        >>> stack = jaxrnn.Stack((jaxrnn.GRUCell(8), jaxrnn.GRUCell(4)), bidirectional=True)
        >>> params = stack.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(stack, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, [c.h.shape for c in carry]
        ((5, 2, 8), [(2, 8), (2, 8), (2, 4), (2, 4)])
    """

    cells: tuple[Cell, ...]
    bidirectional: bool = False
    dropout: float = 0.0
    _: dataclasses.KW_ONLY
    merge: str = "concat"

    def __post_init__(self) -> None:
        self._check_slips()
        cells = tuple(self.cells) if isinstance(self.cells, Iterable) else ()
        if not cells or not all(isinstance(cell, Cell) for cell in cells):
            raise ValueError(
                f"Stack(cells) needs a tuple with one jaxrnn.Cell per layer, got {self.cells!r}."
            )
        object.__setattr__(self, "cells", cells)
        if len({cell.feature_axes for cell in self.cells}) > 1:
            raise ValueError("the cells of a Stack must agree in feature_axes.")
        if not isinstance(self.dropout, numbers.Real) or not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout is a probability between 0 and 1, got {self.dropout!r}.")
        # a NumPy scalar is not weakly typed
        object.__setattr__(self, "dropout", float(self.dropout))
        self._check_merge()

    def _check_slips(self) -> None:
        """What else was meant by two cells, or a number where a flag stands."""
        if isinstance(self.cells, Cell) and isinstance(self.bidirectional, Cell):
            raise TypeError("Stack takes one tuple of cells, as in Stack((a, b)), not Stack(a, b).")
        check_flag("bidirectional", self.bidirectional)
        object.__setattr__(self, "bidirectional", bool(self.bidirectional))
        if isinstance(self.dropout, bool):
            raise ValueError(
                f"dropout is a probability between 0 and 1, got {self.dropout!r}; flags go by "
                "name, as in Stack(cells, bidirectional=True)."
            )

    def _check_merge(self) -> None:
        if any(getattr(cell, "merge", "concat") == "apart" for cell in self.cells[:-1]):
            raise ValueError(
                "a layer whose directions stay apart has no next layer: it has an axis more."
            )
        if self.merge not in tuple(MERGES) or (self.merge != "concat" and not self.bidirectional):
            raise ValueError(
                f"merge joins the directions of a bidirectional stack by one of {tuple(MERGES)}, "
                f"got {self.merge!r}."
            )
        if self.merge == "apart" and len(self.cells) > 1:
            raise ValueError(
                'merge="apart" is for a single layer, such as the last of a stack of stacks.'
            )

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def feature_axes(self) -> int:  # pyrefly: ignore[bad-override]
        return self.cells[0].feature_axes

    @property
    def elementwise(self) -> bool:  # pyrefly: ignore[bad-override]
        # the projection of a second layer is no `dot` of `step`
        return len(self.cells) == 1 and self.cells[0].elementwise

    @property
    def causal(self) -> bool:  # pyrefly: ignore[bad-override]
        return not self.bidirectional and all(cell.causal for cell in self.cells)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> tuple[Params, ...]:
        keys = jax.random.split(key, (len(self.cells), self.directions))
        shapes = self._inputs((1,) * (self.feature_axes - 1) + (input_size,))
        return tuple(
            cell.init(k, shape[-1], dtype)
            for cell, layer, shape in zip(self.cells, keys, shapes, strict=True)
            for k in layer
        )

    def input_size(self, params: tuple[Params, ...]) -> int | None:
        return self.cells[0].input_size(params[0])

    def prepare(self, params: tuple[Params, ...]) -> tuple[Params, ...]:
        return tuple(
            cell.prepare(p) for (_, _, cell), p in zip(self._indexed(), params, strict=True)
        )

    def absorb(
        self, params: tuple[Params, ...], noise: StackNoise
    ) -> tuple[tuple[Params, ...], StackNoise]:
        pairs = [
            (p, own) if own is None else cell.absorb(p, own)
            for (_, _, cell), p, own in zip(self._indexed(), params, noise.cells, strict=True)
        ]
        return tuple(p for p, _ in pairs), noise._replace(cells=tuple(own for _, own in pairs))

    def init_carry(self, params: tuple[Params, ...], like: Array) -> tuple[Carry, ...]:
        carries: list[Carry] = []
        for layer, (cell, shape) in enumerate(self._layers(like.shape)):
            like = self._like(like, shape)
            carries += [
                cell.init_carry(p, like)
                for p in params[layer * self.directions : (layer + 1) * self.directions]
            ]
        return tuple(carries)

    def noise(self, key: Array, T: int, like: Array) -> StackNoise | None:
        keys = jax.random.split(key, (len(self.cells), self.directions + 1))
        cells: list[Noise] = []
        keep: list[Array | None] = []
        for layer, (cell, shape) in enumerate(self._layers(like.shape)):
            if layer > 0:
                key = keys[layer - 1, -1]
                rows = (T, *shape)
                keep.append(
                    jax.random.bernoulli(key, 1 - self.dropout, rows) if self.dropout else None
                )
            like = self._like(like, shape)
            cells += [cell.noise(k, T, like) for k in keys[layer, :-1]]
        noise = StackNoise(cells=tuple(cells), keep=tuple(keep))
        return noise if jax.tree.leaves(noise) else None

    def project(
        self, params: tuple[Params, ...], xs: Array, noise: StackNoise | None = None
    ) -> StackInput:
        own = None if noise is None else noise.cells[0]
        return StackInput(u=self.cells[0].project(params[0], xs, own), noise=noise)

    def step(
        self, params: tuple[Params, ...], carry: tuple[Carry, ...], u: StackInput, dot: Dot = dot
    ) -> tuple[tuple[Carry, ...], Array]:
        if not self.causal:
            raise ValueError(
                "a bidirectional stack has no single step: "
                "its second direction starts at the end. Use unroll."
            )
        y: Any = None
        carries = []
        v = u.u
        for layer, cell in enumerate(self.cells):
            if layer > 0:
                own = None if u.noise is None else u.noise.cells[layer]
                v = cell.project(params[layer], self.dropped(y, u.noise, layer), own)
            after, y = cell.step(params[layer], carry[layer], v, dot)
            carries.append(after)
        return tuple(carries), y

    def unroll_layers(
        self,
        run: Callable[..., tuple[Carry, Array]],
        params: tuple[Params, ...],
        xs: Array,
        carry: tuple[Carry, ...] | None,
        noise: StackNoise | None,
        reverse: bool,
    ) -> tuple[tuple[Carry, ...], Array]:
        """What `unroll` calls: `run` unrolls one cell over one direction, with the masks,
        resets and method of the whole.
        """
        self._check_entries("params", params)
        carry = in_order(carry, [str(index) for index in range(len(params))])
        self._check_entries("carry", carry)
        carries = []
        outputs = []
        for index, (layer, direction, cell) in enumerate(self._indexed()):
            if direction == 0 and layer > 0:
                xs = self.dropped(merged(self.merge, outputs), noise, layer)
                outputs = []
            given, own = (None if t is None else t[index] for t in (carry, noise and noise.cells))
            after, ys = run(
                cell, params[index], xs, given, noise=own, reverse=reverse != (direction == 1)
            )
            carries.append(after)
            outputs.append(ys)
        return tuple(carries), merged(self.merge, outputs)

    def _check_entries(self, name: str, entries: Any) -> None:
        count = len(self.cells) * self.directions
        if entries is not None and (not isinstance(entries, tuple) or len(entries) != count):
            raise ValueError(
                f"{name} of this stack must be a tuple of {count}: "
                f"{len(self.cells)} layers x {self.directions}."
            )

    def _indexed(self) -> list[tuple[int, int, Cell]]:
        return [
            (layer, d, cell)
            for layer, cell in enumerate(self.cells)
            for d in range(self.directions)
        ]

    def dropped(self, ys: Array, noise: StackNoise | None, layer: int) -> Array:
        """The input of `layer`: the output of the layer before, dropped where there is noise."""
        return drop(ys, None if noise is None else noise.keep[layer - 1], self.dropout)

    def _layers(self, shape: tuple[int, ...]) -> zip:
        """Each cell with the shape of its input, where one step's input has that shape."""
        return zip(self.cells, self._inputs(shape), strict=True)

    def _inputs(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        shapes = [shape]
        for layer, cell in enumerate(self.cells[:-1]):
            (*leading, width) = _output_shape(cell, shapes[-1])
            if len(leading) != len(shape) - 1:
                raise ValueError(
                    f"the outputs of layer {layer} have other axes than its inputs, such as those "
                    "of directions that stay apart; they cannot be the inputs of a next layer."
                )
            shapes.append((*leading, width * (self.directions if self.merge == "concat" else 1)))
        return shapes

    def _like(self, like: Array, shape: tuple[int, ...]) -> Array:
        """The input of a layer of that shape, of which only what is around the numbers counts."""
        features = shape[len(shape) - self.feature_axes :]
        if like.shape == shape:
            return like
        return zeros(like, *features, feature_axes=self.feature_axes)


@functools.lru_cache(maxsize=1024)
def _output_shape(cell: Cell, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a cell's output for one step's input of that shape, found without computing."""

    def one() -> Array:
        x = jnp.zeros((1, *shape), jnp.float32)
        params = cell.init(jax.random.key(0), shape[-1], jnp.float32)
        return unroll(cell, params, x, method="scan")[1]

    out = jax.eval_shape(one)
    if not hasattr(out, "shape"):
        raise ValueError(f"{cell} puts out a tree of arrays, so that no layer may follow it.")
    return out.shape[1:]
