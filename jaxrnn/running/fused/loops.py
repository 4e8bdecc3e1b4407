"""The two loops of the fused method: forward, and the adjoint of the carry backward."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Array, Carry, Params
from jaxrnn.running.chunks import scan_chunks
from jaxrnn.running.derivative import Gradients, add, nothing
from jaxrnn.running.fused import products, saved
from jaxrnn.running.fused.columns import step_in_columns
from jaxrnn.running.fused.layout import Layout
from jaxrnn.running.fused.reading import Reading
from jaxrnn.running.fused.saved import Saved
from jaxrnn.running.fused.shown import Outputs, is_shown, without
from jaxrnn.running.problem import Problem, Steps
from jaxrnn.running.trace import Multiply, Trace

Loop = Callable[..., Any]


class Kept(NamedTuple):
    """What the forward loop keeps of each step for the backward pass."""

    carry: Any  # before the step; on its way to a chunk a list, without what the outputs show
    step: Any  # a `Saved`; None where it is computed again, chunk by chunk
    ys: Array | None = None  # the outputs, where they show a leaf of the carry


def forward(
    reading: Reading, save: bool, layout: Layout, problem: Problem, weights: list[Array]
) -> tuple[tuple[Carry, Any], Kept | None]:
    """The result, and what the backward pass needs of each step."""
    us = None if layout.project_inside else problem.project()
    shown = is_shown(problem)
    keep = save and problem.remat == "none"
    if layout.columns:
        one = step_in_columns(reading, problem, weights, keep)
    else:
        one = functools.partial(_recorded_step, reading, problem, weights, keep)

    def body(carry: Carry, inputs: tuple[Any, Steps]) -> tuple[Carry, Any]:
        after, y, step = one(carry, *inputs)
        kept = Kept(without(carry, shown), step) if save else None
        return after, (problem.out(after, y), kept)

    steps = (us, problem.steps)
    carry, (out, kept) = lax.scan(body, problem.carry, steps, reverse=problem.reverse)
    if save and any(shown):
        kept = kept._replace(ys=out[0] if problem.collect else out)
    return (carry, out), kept


def _recorded_step(
    reading: Reading,
    problem: Problem,
    weights: list[Array],
    keep: bool,
    carry: Carry,
    u: Any,
    now: Steps,
) -> tuple[Carry, Any, Saved | None]:
    """One step, `(carry, y, saved)`; where u is None it is projected here."""
    trace = problem.trace
    u = problem.project(now) if u is None else u
    found: list[Array] = []

    def multiply(k: int, v: Array, w: Array) -> Array:
        product = problem.dot(v, w, operation(reading, trace, k))
        if reading.recorded[k]:
            found.append(product)
        return product

    def step(start: Carry) -> tuple[Carry, Any]:
        known = trace.known(problem.consts, problem.params, start, u)
        return trace.step(known, multiply, _at(reading, weights), effects=True)

    after, y = problem.around(step, carry, now)
    return after, y, saved.save(reading, found, u, reading.rows) if keep else None


def _at(reading: Reading, recorded: list[Any]) -> list[Any]:
    """What there is of each recorded product, as a list of all products."""
    each = iter(recorded)
    return [next(each) if yes else None for yes in reading.recorded]


class Constants(NamedTuple):
    """What is the same in all steps and acts in them: its gradients add up in the loop."""

    params: list[Array] | None  # those that act; None where their gradients are taken after it
    held: Carry
    first: Carry | None  # None where nothing is reset


class Sums(NamedTuple):
    """The gradients that add up over the chunks."""

    params: Params  # by way of the projected input
    weights: list[Array]
    acting: list[Array] | None  # where they do not add up in the loop


class Chunk(NamedTuple):
    """Some steps; every leaf leads with time."""

    times: Array
    steps: Steps
    kept: Kept
    d_out: Any  # the cotangents of what is put out


class Found(NamedTuple):
    """What the adjoint of a chunk puts out; every leaf leads with time."""

    d_products: list[Array]  # [n, *batch, features]
    d_us: Any  # like `Saved.us`
    d_after: Carry | None  # the adjoint after each step, where acting parameters need it


def backward(
    reading: Reading,
    layout: Layout,
    problem: Problem,
    weights: list[Array],
    kept: Kept,
    cotangents: tuple[Carry, Any],
    loop: Loop | None = None,
) -> Gradients:
    """The gradients of everything, chunk by chunk, the last first.

    `loop(adjoint, state, constants, chunk)` may take the place of `Adjoint.run`.
    """
    d_carry, d_out = cotangents
    acting = _acting(reading, problem)
    constants = Constants(
        params=acting if layout.sum_inside else None,
        held=problem.held,
        first=None if problem.steps.reset is None else problem.first,
    )
    adjoint = Adjoint(reading, problem, weights, _turned(reading, problem, weights))
    run = loop or Adjoint.run

    def body(state: Any, chunk: Chunk) -> tuple[Any, Any]:
        *state, sums = state
        chunk = chunk._replace(kept=_with_carry(problem, outputs, chunk))
        if chunk.kept.step is None:
            chunk = chunk._replace(kept=_again(reading, problem, weights, chunk))
        state, found = run(adjoint, tuple(state), constants, chunk)
        d_params, d_xs, d_noise = adjoint.project(chunk, found)
        d_sums = Sums(
            params=d_params,
            weights=adjoint.weight_gradients(chunk, found),
            acting=None if sums.acting is None else adjoint.acting_gradients(chunk, found),
        )
        return (*state, add(sums, d_sums)), (d_xs, d_noise)

    sums = Sums(problem.params, weights, None if layout.sum_inside or not acting else acting)
    start = (d_carry, *jax.tree.map(nothing, (constants, sums)))
    outputs = None if kept.ys is None else Outputs(kept.ys, problem.carry)
    whole = Chunk(jnp.arange(problem.T, dtype=jnp.int32), problem.steps, kept, d_out)
    state, (d_xs, d_noise) = scan_chunks(body, start, whole, layout.chunk, not problem.reverse)
    d_carry, d_constants, sums = state
    d_acting = (d_constants.params if layout.sum_inside else sums.acting) or []
    first = jax.tree.map(nothing, problem.first) if d_constants.first is None else d_constants.first
    return Gradients(
        params=add(sums.params, _put(reading, jax.tree.map(nothing, problem.params), d_acting)),
        xs=d_xs,
        noise=d_noise,
        carry=d_carry,
        held=d_constants.held,
        first=first,
        operands=sums.weights,
    )


class Adjoint(NamedTuple):
    """The backward pass of a chunk."""

    reading: Reading
    problem: Problem
    weights: list[Array]
    turned: list[Array | None]  # the weights, transposed

    def run(self, state: Any, constants: Constants, chunk: Chunk) -> tuple[Any, Found]:
        """Runs the adjoint of the carry through a chunk.

        Returns:
            The state before the chunk, of the adjoint of the carry and the sums for the
            constants; and what it found of each step.
        """
        after_it = constants.params is None and any(self.reading.acting)

        def body(state: Any, now: Chunk) -> tuple[Any, Found]:
            d_after, d_constants = state
            d_y = now.d_out
            if self.problem.collect:
                d_y, d_collected = now.d_out
                d_after = add(d_after, d_collected)
            step = now.kept.step
            found, _ = saved.restore(self.reading, step)

            def replay(carry: Carry, us: Any, found: list[Array], constants: Constants) -> Any:
                return self.replay(constants, step._replace(us=us), found, carry, now.steps)

            _, pull = jax.vjp(replay, now.kept.carry, step.us, found, constants)
            d_carry, d_us, d_products, more = pull((d_after, d_y))
            d_products = [flat(self.reading, k, d) for k, d in enumerate(d_products)]
            found = Found(d_products, d_us, d_after if after_it else None)
            return (d_carry, add(d_constants, more)), found

        return lax.scan(body, state, chunk, reverse=not self.problem.reverse)

    def replay(
        self, constants: Constants, step: Saved, found: list[Array], carry: Carry, now: Steps
    ) -> tuple[Carry, Any]:
        """A step with its recorded products: its equations but for the weights of products."""
        reading, trace = self.reading, self.problem.trace
        problem = _with(reading, self.problem, constants)
        _, us = saved.restore(reading, step)
        given = _at(reading, list(zip(found, self.turned, strict=True)))

        def multiply(k: int, v: Array, w: Array) -> Array:
            op = operation(reading, trace, k)
            if given[k] is None:
                return problem.dot(v, w, op)
            product, turned = given[k]
            return products.replay(problem.dot, op, product, w, turned, v)

        def step_on(start: Carry) -> tuple[Carry, Any]:
            known = trace.known(problem.consts, problem.params, start, us)
            return trace.step(known, multiply, _at(reading, self.weights))

        return problem.around(step_on, carry, now)

    def weight_gradients(self, chunk: Chunk, found: Found) -> list[Array]:
        """The gradient of every weight from a whole chunk: one matmul each."""
        dot = self.problem.dot
        vectors = self._vectors(chunk)
        gradients = []
        for k, (number, v) in enumerate(zip(numbers(self.reading), vectors, strict=True)):
            op = operation(self.reading, self.problem.trace, number)
            d = self._unflat(k, found.d_products[k])
            gradients.append(products.weight_gradient(dot, op, v, self.weights[k], d))
        return gradients

    def _unflat(self, k: int, d_product: Array) -> Array:
        shape = self.reading.products[k]
        return d_product.reshape(*d_product.shape[:1], *shape)

    def _vectors(self, chunk: Chunk) -> list[Array]:
        """What each recorded product multiplied its weight by, of all steps of a chunk."""
        reading, problem, trace = self.reading, self.problem, self.problem.trace
        targets = [trace.products[number].v for number in numbers(reading)]

        def one(now: Chunk) -> list[Array]:
            found, us = saved.restore(reading, now.kept.step)
            vectors: list[Array] = []

            def step(start: Carry) -> tuple[Carry, Any]:
                known = trace.known(problem.consts, problem.params, start, us)
                outs = [trace.products[number].out for number in numbers(reading)]
                known.update(zip(outs, found, strict=True))
                vectors.extend(trace.evaluate(known, targets, _multiply(problem)))
                return start, ()

            problem.around(step, now.kept.carry, now.steps._replace(mask=None))
            return vectors

        return jax.vmap(one)(chunk)

    def acting_gradients(self, chunk: Chunk, found: Found) -> list[Array]:
        """The gradients of acting parameters, from a whole chunk.

        In the loop each is a sum over the batch at each step; where the batch is on several
        devices, that is a message between them at each step.
        """
        problem = self.problem
        constants = Constants(None, problem.held, problem.first)

        def replay(params: list[Array], step: Saved) -> Any:
            def one(now: Chunk, step: Saved) -> Any:
                products, _ = saved.restore(self.reading, step)
                given = constants._replace(params=params)
                return self.replay(given, step, products, now.kept.carry, now.steps)

            return jax.vmap(one)(chunk, step)

        d_ys = chunk.d_out[0] if problem.collect else chunk.d_out
        # In the products too: so the rule of each is used here, not left to a second derivative.
        _, pull = jax.vjp(replay, _acting(self.reading, problem), chunk.kept.step)
        return pull((found.d_after, d_ys))[0]

    def project(self, chunk: Chunk, found: Found) -> tuple[Any, Any, Any]:
        """The cotangents of parameters, inputs and noise by way of the projected inputs."""
        d_wholes = [self._unflat(k, d) for k, d in enumerate(found.d_products)]
        leaves = saved.input_cotangents(self.reading, d_wholes, found.d_us)
        d_us = jax.tree.unflatten(self.problem.trace.trees.u, leaves)

        def project(params: Params, xs: Array, noise: Any) -> Any:
            steps = chunk.steps._replace(xs=xs, noise=noise)
            return dataclasses.replace(self.problem, params=params).project(steps)

        _, pull = jax.vjp(project, self.problem.params, chunk.steps.xs, chunk.steps.noise)
        return pull(d_us)


def _with_carry(problem: Problem, outputs: Outputs | None, chunk: Chunk) -> Kept:
    """What was kept of a chunk, with the whole carry before each step."""
    kept = chunk.kept
    if outputs is None:
        carry = jax.tree.unflatten(jax.tree.structure(problem.carry), kept.carry)
    else:
        carry = outputs.carry_before(kept.carry, kept.ys, chunk.times, problem.reverse)
    return Kept(carry, kept.step)


def _again(reading: Reading, problem: Problem, weights: list[Array], chunk: Chunk) -> Kept:
    """What was not kept of a chunk, from its carries."""

    def one(u: Any, carry: Carry, now: Steps) -> Saved | None:
        return _recorded_step(reading, problem, weights, True, carry, u, now)[2]

    us = problem.project(chunk.steps)
    return chunk.kept._replace(step=jax.vmap(one)(us, chunk.kept.carry, chunk.steps))


def weights(reading: Reading, problem: Problem) -> list[Array]:
    """The weights of the recorded products, from the equations of the step."""
    trace = problem.trace
    targets = [trace.products[k].w for k in numbers(reading)]
    known = trace.known(problem.consts, problem.params)
    found = trace.evaluate(known, targets, _multiply(problem))
    for place, (k, w) in enumerate(zip(numbers(reading), found, strict=True)):
        if reading.dense[k]:
            v = trace.products[k].v.aval
            identity = jnp.eye(v.shape[-1], dtype=v.dtype)
            found[place] = problem.dot(identity, w, trace.products[k].op)
    return found


def operation(reading: Reading, trace: Trace, k: int) -> Any:
    """The operation of a product; None for the plain product, that of a dense matrix included."""
    return None if reading.dense[k] else trace.products[k].op


def _multiply(problem: Problem) -> Multiply:
    """Products as they are."""

    def multiply(k: int, v: Array, w: Array) -> Array:
        return problem.dot(v, w, problem.trace.products[k].op)

    return multiply


def flat(reading: Reading, k: int, product: Array) -> Array:
    """A recorded product with all its axes of features as one."""
    return products.flat(product, len(reading.products[k]) - reading.rows)


def numbers(reading: Reading) -> list[int]:
    """The numbers of the recorded products among all."""
    return [k for k, yes in enumerate(reading.recorded) if yes]


def _turned(reading: Reading, problem: Problem, weights: list[Array]) -> list[Array | None]:
    ops = [operation(reading, problem.trace, k) for k in numbers(reading)]
    each = zip(ops, weights, strict=True)
    return [products.transposed(problem.dot, op, w) for op, w in each]


def _acting(reading: Reading, problem: Problem) -> list[Array]:
    pairs = zip(jax.tree.leaves(problem.params), reading.acting, strict=True)
    return [leaf for leaf, acts in pairs if acts]


def _put(reading: Reading, params: Params, acting: list[Array]) -> Params:
    """`params` with those that act replaced, where there are any given."""
    leaves, tree = jax.tree.flatten(params)
    if acting:
        each = iter(acting)
        pairs = zip(leaves, reading.acting, strict=True)
        leaves = [next(each) if acts else leaf for leaf, acts in pairs]
    return jax.tree.unflatten(tree, leaves)


def _with(reading: Reading, problem: Problem, constants: Constants) -> Problem:
    """The problem with other constants."""
    return dataclasses.replace(
        problem,
        params=_put(reading, problem.params, constants.params or []),
        held=constants.held,
        first=problem.first if constants.first is None else constants.first,
    )
