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
from jaxrnn.online.units import behind
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
    begin: Params  # prepared, without them: the first carry is made of these

    def run(
        self, params: Params, carry: Carry, x: Array, product: "Product | None" = None
    ) -> tuple[Carry, Any]:
        """One step."""
        dot = None if product is None else product()
        return single_step(self.cell, params, carry, x, noise=self.noise, dot=dot)

    def first(self, params: Params, x: Array) -> Carry:
        """The first carry. Where draws act on parameters, they act on none that it is made of."""
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

    def init(
        self, params: Params, like: Array, noise: Noise = None, *, carry: Carry = None
    ) -> State:
        """The first carry and its traces.

        Args:
            params: of the cell, from `cell.init`.
            like: one step's input, [*batch, I], of which shape and dtype count.
            noise: one step of what `cell.noise` draws, as `step` gets it.
            carry: a carry to begin with instead, which does not depend on the parameters.

        Raises:
            ValueError: parameters that do not fit, or a cell that this method does not take; the
                message says why.
        """
        params, like = self._checked(params, like)
        prepared = self._prepared(params, like, noise)
        given = None if carry is None else self._parts(carry)
        carries = []
        traces = []
        x = jnp.zeros_like(like)
        for index, layer in enumerate(self._layers(prepared)):
            first = layer.first(layer.params, x)
            _check_floating(self, layer.params, first)
            first, trace = self._begin(layer, x)
            if given is not None:
                first = fit_carry(given[index], first)
                trace = self._forgotten(trace)
            carries.append(first)
            traces.append(trace)
            x = jnp.zeros_like(layer.run(layer.params, first, x)[1])
        return State(self._as_carry(carries), tuple(traces))

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
        if not isinstance(state, State):
            raise TypeError(f"state must be what init returns, got {type(state).__name__}.")
        mask = _rows("mask", mask, x)
        reset = _rows("reset", reset, x)
        prepared = self._prepared(params, x, noise)
        starts_given = self._parts(state.carry)
        carry: list[Carry] = []
        traces: list[Any] = []
        before: list[tuple[Carry, Any, Array]] = []
        layers = self._layers(prepared)
        for index, layer in enumerate(layers):
            if mask is not None:  # what is masked may be NaN
                x = select(mask, x, 0)
            trace = state.traces[index]
            first, none = self._begin(layer, x, trace)
            start = fit_carry(starts_given[index], first)
            if reset is not None:
                start = select(reset, first, start)
                trace = select(reset, none, trace)
            before.append((start, trace, x))
            after, y, moved = self._advance(layer, start, trace, x)
            if mask is not None:
                after = select(mask, after, start)
                moved = select(mask, moved, trace)
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
            Gradients in the structure that `cell.init` makes. The sum of those of all steps is the
            gradient of the sum of all losses.
        """
        params, x = self._checked(params, moment.xs[0])
        prepared, pull = jax.vjp(lambda p: self._prepared(p, x, moment.noise), params)
        layers = self._layers(prepared)
        given = [None] * len(layers) if dcarry is None else self._parts(dcarry)
        found: list[Params] = []
        for index, layer in reversed(list(enumerate(layers))):
            direction, dx = self._of_layer(layer, moment, index, given[index], dy)
            found.insert(0, direction)
            dy = self._between(dx, moment.noise, index) if index else None
        total = found[0] if not self._is_layered() else tuple(found)
        none = jax.tree.map(_no_direction, prepared)
        (result,) = pull(none._replace(params=total))
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
        if dy.shape != y.shape:
            raise ValueError(f"dy has shape {dy.shape}, expected {y.shape}: that of y.")
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

    def _begin(self, layer: Layer, x: Array, traces: Any = None) -> tuple[Carry, Any]:
        """The first carry and its traces; `traces` are those of before, if any."""
        raise NotImplementedError

    def _advance(
        self, layer: Layer, carry: Carry, traces: Any, x: Array
    ) -> tuple[Carry, Array, Any]:
        """`(carry, y, traces)` after a step."""
        raise NotImplementedError

    def _through(self, layer: Layer, x: Array, traces: Any, dcarry: Carry) -> Params:
        """The gradients in the parameters, of what is given by the carry; None of some is 0."""
        raise NotImplementedError

    def _forgotten(self, traces: Any) -> Any:
        """The traces of a carry that does not depend on the parameters."""
        return jax.tree.map(jnp.zeros_like, traces)

    # The layers.

    def _is_layered(self) -> bool:
        return self.layered and isinstance(self.cell, Stack)

    def _parts(self, carry: Carry) -> Sequence[Carry]:
        if not self._is_layered():
            return (carry,)
        assert isinstance(self.cell, Stack)
        count = len(self.cell.cells)
        if not isinstance(carry, tuple) or len(carry) != count:
            raise ValueError(
                f"a carry of this stack must be a tuple of {count}, one of each layer."
            )
        return carry

    def _as_carry(self, parts: Sequence[Carry]) -> Carry:
        return tuple(parts) if self._is_layered() else parts[0]

    def _layers(self, prepared: "Prepared") -> list[Layer]:
        if not self._is_layered():
            return [Layer(self.cell, *prepared)]
        assert isinstance(self.cell, Stack)
        cells = self.cell.cells
        own = [None] * len(cells) if prepared.noise is None else prepared.noise.cells
        each = zip(cells, prepared.params, own, prepared.begin, strict=True)
        return [Layer(*parts) for parts in each]

    def _between(self, y: Array, noise: Noise, layer: int) -> Array:
        """The output of a layer as the input of the next, or the way back, which is the same."""
        assert isinstance(self.cell, Stack)
        return self.cell.dropped(y, noise, layer)

    # Arguments.

    def _checked(self, params: Params, x: Any) -> tuple[Params, Array]:
        params = check_params(self.cell, fit_params(self.cell, params, features_of(x)))
        return params, jnp.asarray(check_features(self.cell, params, x, axes="..."))

    def _prepared(self, params: Params, x: Array, noise: Noise) -> "Prepared":
        begin = self.cell.prepare(cast(params, carry_dtype(x.dtype)))
        if noise is None:
            return Prepared(begin, None, begin)
        drawn = jax.tree.map(lambda n: jnp.asarray(n)[None], as_arrays("noise", noise))
        check_noise(self.cell, drawn, x[None])
        whole, left = self.cell.absorb(begin, drawn)
        left = jax.tree.map(lambda n: n[0], left)
        if any(n.shape[: x.ndim - 1] != x.shape[:-1] or n.ndim < x.ndim for n in _leaves(left)):
            raise ValueError(f"the noise of {self.cell} has no axes of the batch.")
        self._check_begin(begin, whole, x)
        return Prepared(whole, left, begin)

    def _check_begin(self, begin: Params, whole: Params, x: Array) -> None:
        """Raises ValueError where draws act on what the first carry is made of."""
        leaves, tree = jax.tree.flatten(begin)
        pairs = zip(leaves, _leaves(whole), strict=True)
        drawn = {k for k, (a, b) in enumerate(pairs) if a is not b}

        def first(leaves: list[Array], x: Array) -> list[Array]:
            return _leaves(self.cell.init_carry(tree.unflatten(leaves), x))

        if drawn & behind(first, leaves, x):
            raise ValueError(f"the noise of {self.cell} acts on what its first carry is made of.")


class Prepared(NamedTuple):
    """What a step computes with, in the dtype of the carry."""

    params: Params  # with the draws that act on them
    noise: Noise  # what is left of it
    begin: Params  # without draws


def _check_floating(learner: Learner, params: Params, carry: Carry) -> None:
    leaves = (*_leaves(params), *_leaves(carry))
    if not all(jnp.issubdtype(a.dtype, jnp.floating) for a in leaves):
        raise ValueError(
            f"{type(learner).__name__} does not take {learner.cell}: a parameter, or a leaf of its "
            "carry, is not floating-point."
        )


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree)


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
    written out, are many times as fast.
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
