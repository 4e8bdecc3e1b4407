"""What is run: one cell over one sequence in one direction, checked and prepared once."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax

from jaxrnn.cell import Array, Carry, Cell, Dot, Noise, Params, carry_dtype, cast, dot_in, select


class Steps(NamedTuple):
    """What a loop runs over; every leaf leads with time."""

    xs: Array  # [T, *batch, *features], zero where masked
    mask: Array | None = None  # [T, *batch], False holds the carry and puts out zero
    reset: Array | None = (
        None  # [T, *batch], True replaces the carry before that step, in loop order
    )
    noise: Noise = None
    began: Array | None = (
        None  # [T, *batch], True from the first reset on: where `held` is replaced
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """One cell over one sequence in one direction: what a `Method` is given.

    A carry is kept as what a step changes and what it does not: a leaf that `step` returns as it
    got it is a constant of the loop, so no method saves it T times. In `carry` and `held` None
    stands where the other has a leaf; `whole` puts them together.
    """

    params: Params  # prepared, in the carry dtype
    steps: Steps
    carry: Carry  # before the first step: the leaves that a step changes
    held: Carry  # the leaves that it does not
    first: Carry  # the carry after a reset, whole
    consts: Any  # the constants of `trace`
    cell: Cell = dataclasses.field(metadata={"static": True})
    trace: Any = dataclasses.field(metadata={"static": True})  # one step, a `trace.Trace`
    reverse: bool = dataclasses.field(default=False, metadata={"static": True})
    collect: bool = dataclasses.field(default=False, metadata={"static": True})
    remat: str = dataclasses.field(default="none", metadata={"static": True})

    @property
    def T(self) -> int:
        return self.steps.xs.shape[0]

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch axes."""
        return self.steps.xs.shape[1 : self.steps.xs.ndim - self.cell.feature_axes]

    @property
    def dot(self) -> Dot:
        """The product of a step in the compute dtype, which is that of the inputs."""
        return dot_in(self.steps.xs.dtype)

    def project(self, steps: Steps | None = None) -> Any:
        """The projected inputs of all steps, or of those that are given, in the carry dtype."""
        steps = self.steps if steps is None else steps
        compute = steps.xs.dtype
        us = self.cell.project(cast(self.params, compute), steps.xs, cast(steps.noise, compute))
        return cast(us, carry_dtype(compute))

    def advance(
        self, carry: Carry, u: Any, now: Steps, dot: Dot | None = None
    ) -> tuple[Carry, Any]:
        """One step of the cell with its mask and reset: `(carry, y)`.

        Args:
            carry: as `Problem.carry`.
            u: the projected input of this step.
            now: this step of `Problem.steps`.
            dot: the product; None is that of the compute dtype.
        """

        def step(carry: Carry) -> tuple[Carry, Any]:
            each = self.dot if dot is None else dot
            return self.around(
                lambda start: self.cell.step(self.params, start, u, each), carry, now
            )

        # Where a reset replaces held leaves, autodiff would save what is selected at every step.
        # Not with a given `dot`, which may record, or with effects, which would take place twice.
        if now.began is not None and dot is None and not self.trace.effects:
            step = jax.checkpoint(step, prevent_cse=False, policy=_not_selected)
        return step(carry)

    def around(
        self, step: Callable[[Carry], tuple[Carry, Any]], carry: Carry, now: Steps
    ) -> tuple[Carry, Any]:
        """What mask and reset make of a step, `step(whole carry) -> (whole carry, y)`.

        Any leading axes, so that a whole chunk of steps can be replayed at once.
        """
        # A reset comes before a mask: it acts on masked steps too, whose carry is that of after it.
        if now.reset is not None:
            carry = select(now.reset, self.part(self.first, carry), carry)
        after, y = step(self.whole(carry, now.began))
        after = self.part(after, carry)
        y = cast(y, now.xs.dtype)
        if now.mask is None:
            return after, y
        # `where`, not a product: what a masked step computed may be NaN. Its inputs are zero
        # (`Run`), so that its gradient is not.
        return select(now.mask, after, carry), select(now.mask, y, 0)

    def out(self, after: Carry, y: Any) -> Any:
        """What a loop puts out at each step: y, and with `collect` the carry after it too."""
        return (y, after) if self.collect else y

    def whole(self, carry: Carry, began: Array | None = None) -> Carry:
        """The whole carry, of what a step changes; `began` says where a reset has been."""
        if not jax.tree.leaves(self.held):
            return carry
        held = self.held
        if began is not None:
            held = select(began, self.part(self.first, held), held)
        return jax.tree.map(lambda a, b: b if a is None else a, carry, held, is_leaf=_is_none)

    @staticmethod
    def part(whole: Carry, like: Carry) -> Carry:
        """The leaves of a whole carry that `like` has; None in place of the others."""
        return jax.tree.map(lambda a, b: None if b is None else a, whole, like, is_leaf=_is_none)


def _is_none(a: Any) -> bool:
    return a is None


def _not_selected(primitive: Any, *operands: Any, **options: Any) -> bool:
    """What derivatives save of a step: all but selections, and the conditions spread for them."""
    return primitive not in (lax.select_n_p, lax.broadcast_in_dim_p)
