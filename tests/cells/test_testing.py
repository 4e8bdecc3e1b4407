"""check_cell passes every cell of ours, and tells what is broken in a broken one."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from oracles import EVERY

import jaxrnn
from jaxrnn.cells import GRUCarry, RNNCarry
from jaxrnn.testing import check_cell
from jaxrnn.wrappers import LearnedInitialCarry

pytestmark = pytest.mark.usefixtures("quick_compilation")


LONG = {
    "stack",
    "learned_stack",
    "orthogonal",
    "conv",
    "learned_zoneout_dropout_lstmp",
    "layer_norm",
    "heads",
    "lem",
    "lstmp",
}
CONTRACT = pytest.mark.slow("the sequence of each cell is tested by default")
QUICK = {"rnn", "gru", "zoneout", "peephole", "residual", "mingru", "s5", "diagonal"}
MARKED = [
    pytest.param(cell, id=name, marks=[] if name in QUICK else [CONTRACT])
    for name, cell, _ in EVERY
]


@pytest.mark.parametrize("cell", MARKED)
def test_every_cell_keeps_the_contract(cell):
    check_cell(cell)


def broken(**methods):
    """A GRU with a fault."""
    return dataclasses.dataclass(frozen=True)(type("Broken", (jaxrnn.GRUCell,), methods))(4)


def after(change):
    """A step whose result is changed: change(cell, params, carry, u, h) -> h."""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        _, h = jaxrnn.GRUCell.step(self, params, carry, u, dot)
        h = change(self, params, carry, u, h)
        return GRUCarry(h=h), h

    return {"step": step}


def rooted(self, params, xs, noise=None):
    """A projection with no derivative at an input of 0."""
    us = jaxrnn.linear(xs, params.w_x, params.b)
    return us + jnp.sqrt(jaxrnn.dot(xs, params.w_x) ** 2)


@jax.custom_vjp
def wrong_slope(h):
    return h


wrong_slope.defvjp(lambda h: (h, None), lambda _, d_h: (2 * d_h,))


def stepped(step):
    return {"step": step}


def private_product(self, params, carry, u, dot=jaxrnn.dot):
    return jaxrnn.GRUCell.step(self, params, carry, u, jaxrnn.dot)


def quadratic_product(self, params, carry, u, dot=jaxrnn.dot):
    return jaxrnn.GRUCell.step(
        self,
        params,
        carry,
        u,
        lambda v, w, op=None: dot(v, w, op=lambda v, w: jnp.tensordot(v**2, w, 1)),
    )


def renamed_carry(self, params, carry, u, dot=jaxrnn.dot):
    after, h = jaxrnn.GRUCell.step(self, params, carry, u, dot)
    return RNNCarry(h=after.h), h


def narrow_init(self, key, input_size, dtype=jnp.float32):
    return jaxrnn.GRUCell.init(self, key, input_size, jnp.float32)


def wide_carry(self, params, like):
    return GRUCarry(h=jnp.zeros((*like.shape[:-1], 4), jnp.float32))


def mixing_project(self, params, xs, noise=None):
    return jaxrnn.GRUCell.project(self, params, jnp.cumsum(xs, axis=0))


FAULTS = {
    "batch": (
        broken(**after(lambda self, p, carry, u, h: h - jnp.mean(h, axis=0, keepdims=True))),
        "never mix entries",
    ),
    "steps": (broken(project=mixing_project), "project never mixes steps"),
    "hidden_size": (
        broken(**after(lambda self, p, carry, u, h: h / jnp.ones(self.hidden_size, h.dtype))),
        "never hidden_size",
    ),
    "silent_hidden_size": (
        broken(**after(lambda self, p, carry, u, h: h / self.hidden_size * h.shape[-1])),
        "never hidden_size",
    ),
    "mixed_units": (
        broken(**after(lambda self, p, carry, u, h: h - jnp.mean(h, -1, keepdims=True))),
        "set elementwise = False",
    ),
    "private_product": (broken(**stepped(private_product)), "put every product through dot"),
    "quadratic": (broken(**stepped(quadratic_product)), "not linear in its vector"),
    "dtype_drift": (
        broken(**after(lambda self, p, carry, u, h: h.astype(jnp.float32))),
        "step keeps the structure, shapes and dtypes",
    ),
    "carry_structure": (broken(**stepped(renamed_carry)), "step keeps the structure"),
    "fixed_dtype": (
        broken(init_carry=wide_carry),
        "step keeps the structure, shapes and dtypes|no available implicit dtype promotion",
    ),
    "init_dtype": (broken(init=narrow_init), "asked for bfloat16, got .*w_x.*float32"),
    "input_size": (
        broken(input_size=lambda self, params: 7),
        r"input_size\(params\) is 7; override it",
    ),
    "gradient": (
        broken(**after(lambda self, p, carry, u, h: wrong_slope(h))),
        "Gradients are those of finite differences",
    ),
    "zero_input": (
        broken(project=rooted),
        "differentiable at an input of 0",
    ),
    "sixteen_bits": (
        broken(**after(lambda self, p, carry, u, h: h * jnp.ones((), jnp.float64))),
        "In bfloat16 .*no equation mixes dtypes",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_cell_is_told_what_is_broken(fault):
    cell, message = FAULTS[fault]
    with pytest.raises(
        AssertionError, match=f"(?s)Broken breaks the contract of a cell.*({message})"
    ):
        check_cell(cell)


@dataclasses.dataclass
class Thawed(jaxrnn.GRUCell.__base__):
    hidden_size: int


@dataclasses.dataclass(frozen=True)
class Listed(jaxrnn.Cell):
    sizes: list


@pytest.mark.parametrize(
    "cell, message",
    [
        (Thawed(3), "its fields can be set: write @dataclasses.dataclass"),
        (Listed([3]), "Listed breaks .*hashable.*unhashable type: 'list'"),
        (jaxrnn.Cell(), "put @dataclasses.dataclass"),
        (4, "derive it from jaxrnn.Cell"),
        (Listed((3,)), r"Listed does not define init\(key, input_size, dtype\)"),
    ],
)
def test_something_that_is_no_cell_is_told_so(cell, message):
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check_cell(cell)


class Counted(NamedTuple):
    h: Any  # [..., H]
    count: Any  # [..., 1] integers
    flag: Any  # [..., 1] booleans
    phase: Any  # [..., 1] complex numbers


@dataclasses.dataclass(frozen=True)
class Counting(jaxrnn.RNNCell):
    """Counts its steps, remembers whether it has counted two, and turns a phase."""

    elementwise = False  # its phase acts on all units

    def init_carry(self, params, like):
        h = super().init_carry(params, like).h
        one = jaxrnn.zeros(like, 1)
        phase = jax.lax.complex(one + 1, one)
        return Counted(h, one.astype(jnp.int32), one.astype(jnp.bool_), phase)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        turned = carry.phase * jax.lax.complex(0.8, 0.6).astype(carry.phase.dtype)
        (a,) = jaxrnn.gates(u + dot(carry.h, params.w_h))
        h = jnp.tanh(a + turned.real * carry.count.astype(a.dtype))
        h = jnp.where(carry.flag, h, jnp.sin(h))
        return Counted(h, carry.count + 1, carry.count > 0, turned), h


def test_a_carry_may_hold_a_counter_a_flag_and_a_complex_number():
    check_cell(Counting(3))


@pytest.mark.parametrize("method", ["scan", "fused"])
def test_a_wrapper_leaves_what_is_no_floating_point_number_alone(method):
    cell = LearnedInitialCarry(Counting(3))
    params = cell.init(jax.random.key(0), 2)
    assert params.first.count is None and params.first.flag is None and params.first.phase is None
    carry, ys = jaxrnn.unroll(cell, params, jnp.ones((4, 2, 2)), method=method)
    assert carry.count.tolist() == [[4], [4]] and carry.flag.all() and ys.shape == (4, 2, 3)
