"""Steps that use their products and inputs in ways that no cell of the library does: by every
method as by the plain scan."""

import dataclasses
import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from oracles import assert_close

import jaxrnn

columns = importlib.import_module("jaxrnn.running.fused.columns")
layout = importlib.import_module("jaxrnn.running.fused.layout")
fused = importlib.import_module("jaxrnn.running.fused.method")
forward = importlib.import_module("jaxrnn.running.fused.forward")
jitted = importlib.import_module("jaxrnn.running.unroll").jitted

pytestmark = pytest.mark.usefixtures("quick_compilation")
H = 8


class Params(NamedTuple):
    w_x: Any  # [I, H]
    w_h: Any  # [H, H]
    a: Any  # [H]


class Carry(NamedTuple):
    h: Any


@dataclasses.dataclass(frozen=True)
class Odd(jaxrnn.Cell):
    """h' of one of the steps below."""

    kind: str
    hidden_size: int = H

    def init(self, key, input_size, dtype=jnp.float32):
        size = self.hidden_size
        shapes = ((input_size, size), (size, size), (size,))
        keys = jax.random.split(key, 3)
        pairs = zip(keys, shapes, strict=True)
        return Params(*(jax.random.normal(k, s, dtype) / np.sqrt(size) for k, s in pairs))

    def init_carry(self, params, like):
        return Carry(h=jaxrnn.zeros(like, self.hidden_size) + 0.5 * params.a)

    def project(self, params, xs, noise=None):
        return jaxrnn.dot(xs, params.w_x)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = STEPS[self.kind](params, carry.h, u, dot)
        return Carry(h=h), h


def _unused_sum(p, h, u, dot):
    q = dot(h, p.w_h)
    _ = q + u
    return jnp.tanh(u + 0.5) * jnp.cos(q)


def _shown_sum(p, h, u, dot):
    q = dot(h, p.w_h)
    jax.debug.callback(lambda a: None, q + u)
    return jnp.tanh(u + 0.5) * jnp.cos(q)


def _vector_as_weight(p, h, u, dot):
    return jnp.tanh(u + dot(h, p.w_h) + dot(h, p.a)[..., None])


def _unused_product(p, h, u, dot):
    _ = dot(h, p.a)
    return jnp.tanh(u + dot(h, p.w_h))


def _outer_product(p, h, u, dot):
    outer = jnp.einsum("...i,...j->...ij", h[..., :2], u[..., :2])
    weights = jnp.arange(4.0).reshape(2, 2)
    mixed = jnp.sum(outer * weights, (-2, -1))
    return jnp.tanh(u + dot(h, p.w_h) + mixed[..., None])


STEPS = {
    "a sum that nobody uses": _unused_sum,
    "a sum that is only shown": _shown_sum,
    "a vector as a weight": _vector_as_weight,
    "a product that nobody uses": _unused_product,
    "an outer product": _outer_product,
}


def results(cell, method, batch=(2,), T=3, **options):
    params = cell.init(jax.random.key(0), 5)
    xs = jax.random.normal(jax.random.key(1), (T, *batch, 5))

    def loss(params, xs):
        carry, ys = jaxrnn.unroll(cell, params, xs, method=method, **options)
        total = jnp.sum(ys * jnp.cos(jnp.arange(ys.size)).reshape(ys.shape))
        return total + sum(map(jnp.sum, jax.tree.leaves(carry))), (carry, ys)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs)


@pytest.mark.parametrize("remat", ["none", "carry", "sqrt"])
@pytest.mark.parametrize(
    "batch", slow.some([(2,), (), (2, 3)], (2,).__eq__, "more batch axes, or none")
)
@pytest.mark.parametrize("kind", STEPS)
def test_values_and_gradients_are_those_of_the_scan(kind, batch, remat):
    cell = Odd(kind)
    for method in ("fused", None):
        got = results(cell, method, batch, remat=remat)
        assert_close(got, results(cell, "scan", batch), 1e-5)


@pytest.mark.parametrize("kind", STEPS)
def test_with_the_batch_last_in_memory_too(kind, monkeypatch):
    whole = layout.layouts

    def turned(problem, reading):
        cpu, other = whole(problem, reading)
        return cpu._replace(columns=layout.can_turn(problem, reading)), other

    monkeypatch.setattr(fused, "layouts", turned)
    monkeypatch.setattr(layout, "cpu_only", lambda: True)
    seen = []
    real = columns.step_in_columns
    monkeypatch.setattr(forward, "step_in_columns", lambda *args: seen.append(kind) or real(*args))
    jitted.clear_cache()
    assert_close(results(Odd(kind), "fused"), results(Odd(kind), "scan"), 1e-5)
    # What is shown is shown once a step, not once a row.
    assert bool(seen) == (kind != "a sum that is only shown")
    jitted.clear_cache()


class Two(NamedTuple):
    h: Any
    c: Any


@dataclasses.dataclass(frozen=True)
class Constants(Odd):
    """A leaf of the carry becomes one constant and the output is another."""

    kind: str = ""

    def init_carry(self, params, like):
        h = jaxrnn.zeros(like, self.hidden_size)
        return Two(h=h, c=h + params.a)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = jnp.tanh(u + carry.c * dot(carry.h, params.w_h))
        c, y = (np.full(self.hidden_size, number, np.float32) for number in (2.0, 5.0))
        return Two(h=h, c=c), y


def test_two_constants_are_not_one_array():
    got = results(Constants(), "fused", (), T=5)
    assert_close(got, results(Constants(), "scan", (), T=5), 1e-5)
