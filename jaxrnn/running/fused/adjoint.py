"""The adjoint of the carry through a chunk of steps, and the gradients that follow from it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax

from jaxrnn.cell import Array, Carry, Params
from jaxrnn.running.derivative import add
from jaxrnn.running.fused import activations, products, saved
from jaxrnn.running.fused.forward import Kept
from jaxrnn.running.fused.reading import Reading
from jaxrnn.running.fused.recorded import at, flat, multiplying, numbers, operation, outs
from jaxrnn.running.fused.saved import Saved
from jaxrnn.running.problem import Problem, Steps


class Constants(NamedTuple):
    """What is the same in all steps and acts in them: its gradients add up in the loop."""

    params: list[Array] | None  # those that act; None where their gradients are taken after it
    held: Carry
    first: Carry | None  # None where nothing is reset


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


class Adjoint(NamedTuple):
    """The backward pass of a chunk."""

    reading: Reading
    problem: Problem
    weights: list[Array]  # as a step has them, of which the gradients are
    matrices: list[Array]  # as the loop multiplies by them
    turned: list[Array | None]  # those, transposed

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
            step = saved.complete(self.reading, now.kept.step, now.kept.carry)
            found, _ = saved.restore(self.reading, step)

            def replay(carry: Carry, us: Any, found: list[Array], constants: Constants) -> Any:
                return self.replay(constants, step._replace(us=us), found, carry, now.steps)

            # The recorded products are arguments: their cotangents are what the weights need, and
            # `products.replay` sends them on to the vectors, last product first.
            _, pull = jax.vjp(replay, now.kept.carry, step.us, found, constants)
            d_carry, d_us, d_products, more = pull((d_after, d_y))
            d_products = [flat(self.reading, k, d) for k, d in enumerate(d_products)]
            found = Found(d_products, d_us, d_after if after_it else None)
            return (d_carry, add(d_constants, more)), found

        return lax.scan(body, state, chunk, reverse=not self.problem.reverse)

    def replay(
        self, constants: Constants, step: Saved, found: list[Array], carry: Carry, now: Steps
    ) -> tuple[Carry, Any]:
        """A step with its recorded products: its equations but for the weights of products.

        No gradient reaches a weight from here: all of it is `weight_gradients`. A parameter that
        acts besides has the rest by way of `constants`.
        """
        reading = self.reading
        trace = self.problem.trace
        problem = _with(reading, self.problem, constants)
        _, us = saved.restore(reading, step)
        given = at(reading, list(zip(found, self.turned, strict=True)))
        pairs = zip(reading.activations, step.activations, strict=True)
        replays = [functools.partial(activations.replay, a.name, value) for a, value in pairs]
        replaced = dict(zip(outs(reading, trace), replays, strict=True))

        def multiply(k: int, v: Array, w: Array) -> Array:
            op = operation(reading, trace, k)
            if given[k] is None:
                return problem.dot(v, w, op)
            product, turned = given[k]
            return products.replay(problem.dot, op, product, w, turned, v)

        def step_on(start: Carry) -> tuple[Carry, Any]:
            known = trace.known(problem.consts, problem.params, start, us)
            given = at(reading, self.matrices)
            return trace.step(known, multiply, given, replaced=replaced)[:2]

        return problem.around(step_on, carry, now)

    def weight_gradients(self, chunk: Chunk, found: Found) -> list[Array]:
        """The gradient of every weight from a whole chunk: one matmul each."""
        dot = self.problem.dot
        vectors = self._vectors(chunk)
        gradients = []
        for k, (number, v) in enumerate(zip(numbers(self.reading), vectors, strict=True)):
            op = self.problem.trace.products[number].op
            d = self._unflat(k, found.d_products[k])
            gradients.append(products.weight_gradient(dot, op, v, self.weights[k], d))
        return gradients

    def _unflat(self, k: int, d_product: Array) -> Array:
        shape = self.reading.products[k]
        return d_product.reshape(*d_product.shape[:1], *shape)

    def _vectors(self, chunk: Chunk) -> list[Array]:
        """What each recorded product multiplied its weight by, of all steps of a chunk."""
        reading = self.reading
        problem = self.problem
        trace = problem.trace
        targets = [trace.products[number].v for number in numbers(reading)]

        def one(now: Steps, kept: Kept) -> list[Array]:
            whole = saved.complete(reading, kept.step, kept.carry)
            found, us = saved.restore(reading, whole)
            vectors: list[Array] = []

            def step(start: Carry) -> tuple[Carry, Any]:
                known = trace.known(problem.consts, problem.params, start, us)
                of_products = [trace.products[number].out for number in numbers(reading)]
                known.update(zip(of_products, found, strict=True))
                known.update(zip(outs(reading, trace), kept.step.activations, strict=True))
                vectors.extend(trace.evaluate(known, targets, multiplying(problem)))
                return start, ()

            # Resets change what a product sees; a mask only changes what is made of it.
            problem.around(step, kept.carry, now._replace(mask=None))
            return vectors

        return each_step(one, chunk.steps, chunk.kept)

    def acting_gradients(self, chunk: Chunk, found: Found) -> list[Array]:
        """The gradients of acting parameters, from a whole chunk.

        In the loop each is a sum over the batch at each step; where the batch is on several
        devices, that is a message between them at each step.
        """
        problem = self.problem
        constants = Constants(None, problem.held, problem.first)

        def replay(params: list[Array], step: Saved) -> Any:
            def one(now: Steps, carry: Carry, step: Saved) -> Any:
                step = saved.complete(self.reading, step, carry)
                products, _ = saved.restore(self.reading, step)
                given = constants._replace(params=params)
                return self.replay(given, step, products, carry, now)

            return each_step(one, chunk.steps, chunk.kept.carry, step)

        d_ys = chunk.d_out[0] if problem.collect else chunk.d_out
        # In the products too: so the rule of each is used here, not left to a second derivative.
        _, pull = jax.vjp(replay, acting_params(self.reading, problem), chunk.kept.step)
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


def each_step(one: Callable[..., Any], steps: Steps, *others: Any) -> Any:
    """`one(now, *others)` of every step: all at once, but where a reset replaces held leaves.

    Those have a value of their own at each step, and all of them at once are T times their size.
    """
    if steps.began is None:
        return jax.vmap(one)(steps, *others)
    return lax.map(lambda each: one(*each), (steps, *others))


def acting_params(reading: Reading, problem: Problem) -> list[Array]:
    pairs = zip(jax.tree.leaves(problem.params), reading.acting, strict=True)
    return [leaf for leaf, acts in pairs if acts]


def put(reading: Reading, params: Params, acting: list[Array]) -> Params:
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
        params=put(reading, problem.params, constants.params or []),
        held=constants.held,
        first=problem.first if constants.first is None else constants.first,
    )
