"""How `unroll` runs a cell, or one part of a cell after another: from what a user gives to what a
method is given, and back."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Array, Carry, Cell, Noise, Params, Tree, carry_dtype, cast, select
from jaxrnn.checks import check_features, check_noise, fit_carry, fit_noise, fit_rows
from jaxrnn.running.chunks import in_chunks
from jaxrnn.running.method import Choice, Method, Refusal, choose
from jaxrnn.running.problem import Problem, Steps
from jaxrnn.running.scan import Scan
from jaxrnn.running.trace import trace, unchanged
from jaxrnn.structure import check_params


class Run(NamedTuple):
    """One call of `unroll`: what it has in common for every part of a stack."""

    mask: Array | None = None  # [T, *batch]
    reset: Array | None = None
    method: Method | None = None
    remat: str = "none"
    prepared: bool = False  # whether params are prepared already, in the carry dtype
    collected: list[Carry] | None = None  # where carries after every step go, part by part
    note: Callable[[Problem, Choice], None] | None = None  # told what runs, part by part

    def __call__(
        self, cell: Cell, params: Params, xs: Array, carry: Carry, *, noise: Noise, reverse: bool
    ) -> tuple[Carry, Any]:
        """Runs a cell over one direction, a stack part by part: `(carry, ys)`."""
        xs = check_features(cell, params, xs, axes="T, ...")
        # Padding is cleaned before the first equation sees it: NaN there would reach gradients,
        # whatever `Problem.around` selects after the step.
        mask = _rows("mask", self.mask, xs, cell)
        reset = _rows("reset", self.reset, xs, cell)
        if mask is not None:
            xs = select(mask, xs, 0)
        if noise is not None:
            check_noise(cell, noise, xs)
        layers: Any = getattr(cell, "unroll_layers", None)
        # Over nothing the scan runs, which has no step of a stack in both directions.
        parts = noise is not None or xs.size == 0
        if layers is not None and (parts or self._refuses(cell, params, xs, mask, reset, reverse)):
            return layers(self, params, xs, carry, noise=noise, reverse=reverse)
        if layers is None and not cell.causal:
            raise ValueError(
                f"{cell} runs step by step, which a bidirectional stack cannot; wrap the cell of "
                "each of its layers."
            )
        steps = Steps(xs=xs, mask=mask, reset=reset, noise=noise)
        problem = self._problem(cell, params, steps, carry, reverse, stack=layers is not None)
        return self._solve(problem)

    def _refuses(self, cell: Cell, params: Params, *rows: Any) -> bool:
        """Whether no method takes this stack whole; then it is run in parts."""
        if self.method is None or not self.method.takes_stacks:
            return True
        xs, mask, reset, reverse = rows
        steps = Steps(xs=xs, mask=mask, reset=reset)
        problem = self._problem(cell, params, steps, None, reverse, stack=True)
        return isinstance(self.method.plan(problem), Refusal)

    def _problem(
        self, cell: Cell, params: Params, steps: Steps, carry: Carry, reverse: bool, stack: bool
    ) -> Problem:
        """Prepares parameters, carries, noise and resets."""
        # `prepare` before `absorb`: noise acts on what the loop uses. The first carry is made of
        # parameters without noise.
        if not self.prepared:
            params = prepare(cell, params, steps.xs)
        noise = steps.noise
        first = start(cell, params, steps, carry)
        if noise is not None:
            params, noise = cell.absorb(params, noise)
        reset = steps.reset
        if reset is not None and reverse:  # the boundary of t - 1 and t comes before step t - 1
            reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])
        steps = steps._replace(reset=reset, noise=fit_noise(noise, steps.xs.shape[0]))
        given = first if carry is None else fit_carry(carry, first)
        params, first, given = _varying((params, first, given), steps.xs)
        nothing = jax.tree.map(lambda a: None, first)
        problem = Problem(
            params=params,
            steps=steps,
            carry=given,
            held=nothing,
            first=first,
            consts=[],
            cell=cell,
            trace=None,
            reverse=reverse,
            collect=self.collected is not None,
            remat=self.remat,
        )
        if stack or steps.xs.size == 0:
            return problem
        traced, consts = trace(problem)
        problem = dataclasses.replace(problem, trace=traced, consts=consts)
        return _hold(problem, own=carry is None)

    def _solve(self, problem: Problem) -> tuple[Carry, Any]:
        """Chooses a method, runs it, and puts the carry together again."""
        carry, out = self._method(problem)
        ys = out[0] if problem.collect else out
        began = problem.steps.began
        last = None if began is None else began[0 if problem.reverse else -1]
        if self.collected is not None:
            self.collected.append(_all(problem, out[1]))
        return problem.whole(carry, last), ys

    def _method(self, problem: Problem) -> tuple[Carry, Any]:
        # What a scan gives, whatever was asked for; there is no trace, and no method sees T = 0.
        if problem.steps.xs.size == 0:
            choice = Choice(Scan(), None, "there is nothing to run over.")
            if self.note is not None:
                self.note(problem, choice)
            return choice.run(problem)
        if problem.remat == "sqrt" and isinstance(problem.T, int):
            told = self._replace(note=_first_only(self.note))
            return in_chunks(told._method, problem)
        if problem.remat == "sqrt":  # a symbol of `jax.export` has no root
            problem = dataclasses.replace(problem, remat="carry")
        choice = choose(problem, self.method)
        if self.note is not None:
            self.note(problem, choice)
        return choice.run(problem)


def _first_only(
    note: Callable[[Problem, Choice], None] | None,
) -> Callable[[Problem, Choice], None]:
    """The chunks of a run, of which there may be two lengths, are told once."""
    left = [] if note is None else [note]

    def told(problem: Problem, choice: Choice) -> None:
        if left:
            left.pop()(problem, choice)

    return told


def prepare(cell: Cell, params: Params, xs: Array) -> Params:
    """Prepared parameters in the carry dtype, for inputs like `xs`."""
    return cell.prepare(cast(check_params(cell, params), carry_dtype(xs.dtype)))


def start(cell: Cell, params: Params, *others: Any) -> Carry:
    """The carry of a cell with prepared parameters before the first step.

    It varies over the manual mesh axes (`jax.shard_map`) of everything given, so that it fits the
    loop. `others` begins with what has xs [T, ...] first; no index into time, so T = 0 works.
    """
    xs, *rest = jax.tree.leaves(others)
    like = jnp.zeros_like(jnp.sum(xs, axis=0))
    for leaf in jax.tree.leaves((params, rest)):
        if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.extended):  # random keys do not add
            like = like + jnp.zeros_like(jnp.sum(leaf).real).astype(like.dtype)
    return cell.init_carry(params, like.astype(carry_dtype(like.dtype)))


def _varying(tree: Tree, xs: Array) -> Tree:
    """Under `jax.shard_map`, makes what is the same on all devices vary as `xs` does, so that one
    reduction follows the loop instead of one in each step."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return tree
    zero = jnp.zeros_like(jnp.sum(xs))
    return jax.tree.map(lambda a: a + zero.astype(a.dtype), tree)


def _rows(name: str, rows: Any, xs: Array, cell: Cell) -> Array | None:
    return None if rows is None else fit_rows(name, rows, xs, cell.feature_axes)


def _hold(problem: Problem, *, own: bool) -> Problem:
    """The problem with those leaves of its carry held that no step changes.

    Where resets return to another value than the one given (not to the cell's `own`), a leaf has
    two values in each row: that from before the first reset and that from then on.
    """
    same = unchanged(problem.trace)
    if not any(same):
        return problem
    # None is a leaf of neither tree, so that each is carried, summed and cut as it is.
    leaves, tree = jax.tree.flatten(problem.carry)
    held = [leaf if still else None for leaf, still in zip(leaves, same, strict=True)]
    moving = [None if still else leaf for leaf, still in zip(leaves, same, strict=True)]
    steps = problem.steps
    if steps.reset is not None and not own:
        # Of the whole sequence, before it is cut: a chunk cannot see the resets before it.
        began = lax.cummax(steps.reset.astype(jnp.int8), axis=0, reverse=problem.reverse)
        steps = steps._replace(began=began.astype(jnp.bool_))
    return dataclasses.replace(
        problem,
        steps=steps,
        carry=jax.tree.unflatten(tree, moving),
        held=jax.tree.unflatten(tree, held),
    )


def _all(problem: Problem, after: Carry) -> Carry:
    """The whole carries after every step, [T, ...]."""

    def through_time(tree: Carry) -> Carry:
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (problem.T, *a.shape)), tree)

    everywhere = dataclasses.replace(
        problem, held=through_time(problem.held), first=through_time(problem.first)
    )
    return everywhere.whole(after, problem.steps.began)
