"""What all ways of learning online share: layers, masks, resets, noise and the last step."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import (
    Array,
    Carry,
    Cell,
    Dot,
    Noise,
    Params,
    as_cell,
    carry_dtype,
    cast,
    select,
    single_step,
)
from jaxrnn.checks import as_array, as_arrays, check_boolean, check_features, check_noise, fit_carry
from jaxrnn.stack import Stack
from jaxrnn.structure import check_params, features_of, fit_params


class State(NamedTuple):
    """What goes from step to step."""

    carry: Carry
    traces: tuple[Any, ...]  # of each layer: how its carry depends on its parameters


class Moment(NamedTuple):
    """One step, as `gradients` needs it. It holds the traces from before the step."""

    carry: tuple[Carry, ...]  # of each layer, before the step
    traces: tuple[Any, ...]
    xs: tuple[Array, ...]  # the input of each layer
    mask: Array | None
    noise: Noise


class Layer(NamedTuple):
    """A cell with what it computes with."""

    cell: Cell
    params: Params  # prepared, with the draws that act on them
    noise: Noise  # one step of what is left

    def run(
        self, params: Params, carry: Carry, x: Array, product: "Product | None" = None
    ) -> tuple[Carry, Any]:
        """One step."""
        dot = None if product is None else product()
        return single_step(self.cell, params, carry, x, noise=self.noise, dot=dot)

    def first(self, params: Params, x: Array) -> Carry:
        return self.cell.init_carry(params, jnp.zeros_like(x, carry_dtype(x.dtype)))


Product = Callable[[], Dot]  # makes the `dot` of one call of a step


@dataclasses.dataclass(frozen=True)
class Learner:
    """A cell whose gradients are known at every step, without its past.

    `init`, `step` and `gradients` are pure functions of arrays, for `jax.jit` and `lax.scan`.
    Gradients are those with respect to parameters that stayed as they are; where they are updated
    on the way, as is usual, traces are a little old.

    Layers of a `Stack` are learned each by itself: what a layer hands to the next in the same step
    is differentiated, what it hands on through the next one's state is not.
    """

    cell: Cell

    # whether the layers of a stack are learned each by itself, or all as one carry
    layered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        cell = as_cell(self.cell)
        object.__setattr__(self, "cell", cell)
        if not cell.causal:
            raise ValueError("a cell that runs in both directions is not learned as time goes on.")
        if cell.feature_axes != 1:
            raise ValueError(f"{type(cell).__name__} has spatial axes, which no method here takes.")

    def init(self, params: Params, like: Array, noise: Noise = None) -> State:
        """The first carry and its traces.

        Args:
            params: of the cell, from `cell.init`.
            like: one step's input, [*batch, I], of which shape and dtype count.
            noise: one step of what `cell.noise` draws, as `step` gets it.

        Raises:
            ValueError: parameters that do not fit, or a cell that this method does not take; the
                message says why.
        """
        params, like = self._checked(params, like)
        whole, left = self._prepared(params, like, noise)
        carry = []
        traces = []
        x = jnp.zeros_like(like)
        for layer in self._layers(whole, left):
            first, trace = self._begin(layer, x)
            carry.append(first)
            traces.append(trace)
            x = jnp.zeros_like(layer.run(layer.params, first, x)[1])
        return State(self._as_carry(carry), tuple(traces))

    def step(
        self,
        params: Params,
        state: State,
        x: Array,
        *,
        mask: Array | None = None,
        reset: Array | None = None,
        noise: Noise = None,
    ) -> tuple[State, Array, Moment]:
        """One step.

        Args:
            params: of the cell.
            state: from `init` or the step before.
            x: [*batch, I].
            mask: [*batch] booleans. Where False nothing changes, and y is 0.
            reset: [*batch] booleans. Where True a new sequence begins with this step.
            noise: one step of what `cell.noise` draws; None at evaluation.

        Returns:
            (state, y, moment): y as `jaxrnn.unroll` gives it, and what `gradients` takes.

        Raises:
            TypeError, ValueError: arguments that do not fit.
        """
        params, x = self._checked(params, x)
        mask = _rows("mask", mask, x)
        reset = _rows("reset", reset, x)
        whole, left = self._prepared(params, x, noise)
        carry: list[Carry] = []
        traces: list[Any] = []
        before: list[tuple[Carry, Any, Array]] = []
        layers = self._layers(whole, left)
        for index, layer in enumerate(layers):
            if mask is not None:  # what is masked may be NaN
                x = select(mask, x, 0)
            trace = state.traces[index]
            first, none = self._begin(layer, x)
            start = fit_carry(self._parts(state.carry)[index], first)
            if reset is not None:
                start = select(reset, first, start)
                trace = self._select(reset, none, trace)
            before.append((start, trace, x))
            after, y, moved = self._advance(layer, start, trace, x)
            if mask is not None:
                after = select(mask, after, start)
                moved = self._select(mask, moved, trace)
                y = select(mask, y, 0)
            carry.append(after)
            traces.append(moved)
            x = self._between(y, noise, index + 1) if index + 1 < len(layers) else y
        starts, old, inputs = map(tuple, zip(*before, strict=True))
        moment = Moment(starts, old, inputs, mask, noise)
        return State(self._as_carry(carry), tuple(traces)), x, moment

    def gradients(
        self, params: Params, moment: Moment, dy: Array | None = None, dcarry: Carry = None
    ) -> Params:
        """The gradients of a loss of one step's results in all parameters, over the whole history.

        Args:
            params: of the cell, as `step` had them.
            moment: from `step`.
            dy: the derivative of the loss in y, summed over the batch by what follows.
            dcarry: that in the carry after the step, in its structure.

        Returns:
            Gradients in the structure of `params`. The sum of those of all steps is the gradient of
            the sum of all losses.
        """
        params, x = self._checked(params, moment.xs[0])
        (whole, left), pull = jax.vjp(lambda p: self._prepared(p, x, moment.noise), params)
        layers = self._layers(whole, left)
        given = [None] * len(layers) if dcarry is None else self._parts(dcarry)
        found: list[Params] = []
        for index, layer in reversed(list(enumerate(layers))):
            direction, dx = self._of_layer(layer, moment, index, given[index], dy)
            found.insert(0, direction)
            dy = self._between(dx, moment.noise, index) if index else None
        total = found[0] if not self._is_layered() else tuple(found)
        (result,) = pull((total, jax.tree.map(_no_direction, left)))
        return result

    def _of_layer(
        self, layer: Layer, moment: Moment, index: int, dcarry: Carry, dy: Array | None
    ) -> tuple[Params, Array]:
        """The gradients in the parameters of a layer and in its input."""
        start = moment.carry[index]
        x = moment.xs[index]
        product = self._product(layer, x)
        (after, y), pull = jax.vjp(
            lambda p, c, x: layer.run(p, c, x, product), layer.params, start, x
        )
        dy = jnp.zeros_like(y) if dy is None else jnp.asarray(dy, y.dtype)
        none = jax.tree.map(jnp.zeros_like, after)
        dcarry = none if dcarry is None else jax.tree.map(jnp.asarray, fit_carry(dcarry, after))
        held = None
        if moment.mask is not None:
            held = select(moment.mask, none, dcarry)
            dcarry = select(moment.mask, dcarry, none)
            dy = select(moment.mask, dy, 0)
        direct, before, dx = pull((dcarry, dy))
        if held is not None:
            before = jax.tree.map(jnp.add, before, held)
        past = self._through(layer, x, moment.traces[index], before)
        return jax.tree.map(_plus, direct, past, is_leaf=_is_none), dx

    # What a method defines.

    def _product(self, layer: Layer, x: Array) -> Product | None:
        """The products whose derivatives the method takes; None is all of them."""
        return None

    def _begin(self, layer: Layer, x: Array) -> tuple[Carry, Any]:
        """The first carry and its traces."""
        raise NotImplementedError

    def _advance(
        self, layer: Layer, carry: Carry, traces: Any, x: Array
    ) -> tuple[Carry, Array, Any]:
        """`(carry, y, traces)` after a step."""
        raise NotImplementedError

    def _through(self, layer: Layer, x: Array, traces: Any, dcarry: Carry) -> Params:
        """The gradients in the parameters, of what is given by the carry; None of some is 0."""
        raise NotImplementedError

    def _select(self, rows: Array, yes: Any, no: Any) -> Any:
        """The traces of some rows."""
        return select(rows, yes, no)

    # The layers.

    def _is_layered(self) -> bool:
        return self.layered and isinstance(self.cell, Stack)

    def _parts(self, carry: Carry) -> Sequence[Carry]:
        return carry if self._is_layered() else (carry,)

    def _as_carry(self, parts: Sequence[Carry]) -> Carry:
        return tuple(parts) if self._is_layered() else parts[0]

    def _layers(self, params: Params, noise: Noise) -> list[Layer]:
        if not self._is_layered():
            return [Layer(self.cell, params, noise)]
        assert isinstance(self.cell, Stack)
        cells = self.cell.cells
        own = [None] * len(cells) if noise is None else noise.cells
        return [Layer(*each) for each in zip(cells, params, own, strict=True)]

    def _between(self, y: Array, noise: Noise, layer: int) -> Array:
        """The output of a layer as the input of the next, or the way back, which is the same."""
        assert isinstance(self.cell, Stack)
        return self.cell.dropped(y, noise, layer)

    # Arguments.

    def _checked(self, params: Params, x: Any) -> tuple[Params, Array]:
        params = check_params(self.cell, fit_params(self.cell, params, features_of(x)))
        return params, jnp.asarray(check_features(self.cell, params, x, axes="..."))

    def _prepared(self, params: Params, x: Array, noise: Noise) -> tuple[Params, Noise]:
        """What a step computes with: parameters in the dtype of the carry, and the noise left."""
        whole = self.cell.prepare(cast(params, carry_dtype(x.dtype)))
        if noise is None:
            return whole, None
        drawn = jax.tree.map(lambda n: n[None], as_arrays("noise", noise))
        check_noise(self.cell, drawn, x[None])
        whole, left = self.cell.absorb(whole, drawn)
        return whole, jax.tree.map(lambda n: n[0], left)


def _rows(name: str, given: Any, x: Array) -> Array | None:
    if given is None:
        return None
    rows = jnp.asarray(as_array(name, given))
    check_boolean(name, rows)
    if rows.shape != x.shape[:-1]:
        raise ValueError(
            f"{name} has shape {rows.shape}, expected {x.shape[:-1]}: that of a batch."
        )
    return rows


def by_rows(function: Any, batch: int, fixed: int = 0) -> Any:
    """A function of one row for rows along `batch` leading axes; its first arguments have none."""

    def rows(*arguments: Any) -> Any:
        axes = (*[None] * fixed, *[0] * (len(arguments) - fixed))
        each = function
        for _ in range(batch):
            each = jax.vmap(each, axes)
        return each(*arguments)

    return rows


TOGETHER = 16


def sum_of_rows(function: Any, batch: tuple[int, ...], *arguments: Any) -> Any:
    """The sum of a function of each row over all of them.

    XLA:CPU sums along the first axis entry by entry, across all of memory: sixteen rows at a time,
    written out, took a twentieth of the time (130 kB a row, jax 0.10).
    """
    count = math.prod(batch)
    size = next(k for k in range(min(TOGETHER, max(count, 1)), 0, -1) if count % k == 0)
    rows = jax.tree.map(lambda a: a.reshape(count // size, size, *a.shape[len(batch) :]), arguments)

    def part(rows: Any) -> Any:
        each = [function(*jax.tree.map(lambda a, k=k: a[k], rows)) for k in range(size)]
        return functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), each)

    if count == size:
        return part(jax.tree.map(lambda a: a[0], rows))

    def body(total: Any, rows: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, part(rows)), None

    shapes = jax.eval_shape(lambda: part(jax.tree.map(lambda a: a[0], rows)))
    none = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(body, none, rows)[0]


def _no_direction(a: Array) -> Any:
    if jnp.issubdtype(a.dtype, jnp.floating):
        return jnp.zeros_like(a)
    return np.zeros(a.shape, jax.dtypes.float0)


def _plus(a: Any, b: Any) -> Any:
    return a if b is None else a + b


def _is_none(a: Any) -> bool:
    return a is None
