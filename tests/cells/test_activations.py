"""Activations that are saved in place of the sums behind them, and what need not be saved."""

import dataclasses
import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from oracles import CELLS, assert_close, inputs, parameters
from tracing import traced

import jaxrnn
from jaxrnn.cells import CIFGCell, JANETCell, LayerNormRNNCell, PeepholeLSTMCell
from jaxrnn.running.fused.activations import _Values, with_activations
from jaxrnn.running.fused.reading import read

saved = importlib.import_module("jaxrnn.running.fused.saved")
jitted = importlib.import_module("jaxrnn.running.unroll").jitted

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
BY_NAME = {name: cell for name, cell, *_ in CELLS}
FEW = {"lstm", "gru", "rnn", "layer_norm"}
MASK = np.arange(14).reshape(7, 2) % 5 != 3
RESET = np.arange(14).reshape(7, 2) % 6 == 4


def of(cell):
    """The reading of a step with two rows, and its trace."""
    one, _ = traced(cell, None)
    return with_activations(read(one, rows=1), one), one


@pytest.mark.parametrize(
    "cell, activations",
    [
        (jaxrnn.LSTMCell(8), "logistic logistic tanh logistic"),  # not tanh(c): it stands for none
        (jaxrnn.GRUCell(8), "logistic logistic tanh"),
        (jaxrnn.RNNCell(8), "tanh"),
        (PeepholeLSTMCell(8), "logistic logistic tanh logistic"),
        (CIFGCell(8), "logistic tanh logistic"),
        (JANETCell(8), ""),  # two of one sum
        (LayerNormRNNCell(8), ""),  # the norm needs its sum
        (jaxrnn.RNNCell(8, nonlinearity="relu"), ""),
    ],
)
def test_an_activation_is_saved_where_it_takes_the_place_of_a_sum(cell, activations):
    found, _ = of(cell)
    assert [a.name for a in found.activations] == activations.split()


@pytest.mark.parametrize("name", BY_NAME)
def test_no_cell_saves_more_numbers_than_without_activations(name):
    found, one = of(BY_NAME[name])
    values = _Values(found, one)
    assert values.size(list(found.activations)) <= values.size([])


class Params(NamedTuple):
    w_x: Any  # [I, H]
    w_h: Any  # [H, H]


class Carry(NamedTuple):
    h: Any


@jax.custom_jvp
def shifted(x):
    """The derivative of a square, though it only adds."""
    return x + 1.0


shifted.defjvp(lambda primals, tangents: (shifted(*primals), 2 * primals[0] * tangents[0]))


@jax.custom_jvp
def value_of(x, y):
    """The value of one, with the derivative of the other."""
    return x


value_of.defjvp(lambda primals, tangents: (primals[0], tangents[1]))


@jax.jit
def gate(a):
    s = jax.nn.sigmoid(a)
    return s, 1 - s


@dataclasses.dataclass(frozen=True)
class Odd(jaxrnn.Cell):
    kind: str

    def init(self, key, input_size, dtype=jnp.float32):
        one, other = jax.random.split(key)
        return Params(
            jax.random.normal(one, (input_size, 3), dtype),
            jax.random.normal(other, (3, 3), dtype) / 2,
        )

    def init_carry(self, params, like):
        return Carry(h=jaxrnn.zeros(like, 3))

    def project(self, params, xs, noise=None):
        return jaxrnn.dot(xs, params.w_x)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        a = dot(carry.h, params.w_h)
        if self.kind == "linear":
            h = u + a
        elif self.kind == "the derivative is its own":
            h = jnp.tanh(shifted(u + a))
        elif self.kind == "exp of tanh":
            h = jnp.exp(jnp.tanh(u + a)) / 4
        elif self.kind == "an activation of a product alone, used twice":
            r = jnp.tanh(a)
            h = r * u + jax.nn.sigmoid(u) * r**2
        elif self.kind == "the sum is used beside":
            h = jnp.tanh(u + a) + 0.1 * jnp.cos(u + a)
        elif self.kind == "a value with the derivative of another":
            h = value_of(jnp.tanh(u), jnp.tanh(u + a) * params.w_h[0])
        elif self.kind == "a call with two results":
            keep, new = gate(u + a)
            h = keep * carry.h + new * jnp.tanh(u)
        elif self.kind == "divided":
            h = jnp.tanh(u + a) / (2 + jax.nn.sigmoid(dot(jnp.tanh(a), params.w_h)))
        return Carry(h=h), h


ODD = [
    "linear",
    "the derivative is its own",
    "exp of tanh",
    "an activation of a product alone, used twice",
    "the sum is used beside",
    "divided",
    "a value with the derivative of another",
    "a call with two results",
]


def slopes(cell, method, **options):
    p, xs = parameters(cell), inputs(cell, 7, (2,))
    noise = cell.noise(jax.random.key(3), 7, jnp.asarray(xs[0]))

    def loss(p, xs):
        carry, ys = jaxrnn.unroll(cell, p, xs, noise=noise, method=method, **options)
        leaves = [*jax.tree.leaves(ys), *jax.tree.leaves(carry)]
        return sum(jnp.sum(jnp.sin(a)) for a in leaves if jnp.issubdtype(a.dtype, jnp.inexact))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(p, xs)


@pytest.mark.parametrize(
    "remat", slow.some(["none", "carry", "sqrt"], "none".__eq__, "less is saved")
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ODD)
def test_gradients_of_odd_steps_are_those_of_the_scan(kind, masked, remat):
    options = {"mask": MASK, "reset": RESET} if masked else {}
    got = slopes(Odd(kind), "fused", remat=remat, **options)
    assert_close(got, slopes(Odd(kind), "scan", **options))


@pytest.mark.parametrize(
    "name", slow.some([*BY_NAME, *ODD], FEW.__contains__, "cells made of the same activations")
)
def test_what_is_not_saved_has_no_part_in_any_gradient(name, monkeypatch):
    cell = BY_NAME[name] if name in BY_NAME else Odd(name)
    want = slopes(cell, "fused", reset=RESET)
    monkeypatch.setattr(saved, "_zero", lambda arrays: jnp.asarray(jnp.nan))
    jitted.clear_cache()
    assert_close(slopes(cell, "fused", reset=RESET), want)
    jitted.clear_cache()


def test_without_any_carry_too():
    @dataclasses.dataclass(frozen=True)
    class Free(Odd):
        def init_carry(self, params, like):
            return ()

        def step(self, params, carry, u, dot=jaxrnn.dot):
            return (), jnp.tanh(dot(u, params.w_h))

    assert_close(slopes(Free("free"), "fused"), slopes(Free("free"), "scan"))
