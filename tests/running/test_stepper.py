"""A prepared stepper gives what `unroll` gives, resets and noise included, and prepares once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from jax import lax
from oracles import CELLS, assert_close, inputs, parameters

import jaxrnn
from jaxrnn.cells import ExpRNNCell, RNNCarry
from jaxrnn.wrappers import DropConnect

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
T, BATCH = 5, (2,)
RESET = np.random.default_rng(5).random((T, *BATCH)) < 0.4
STEPPED = {case[0]: case[1] for case in CELLS if case[1].causal}


def setting(cell):
    p, xs = parameters(cell), jnp.asarray(inputs(cell, T, BATCH))
    noise = cell.noise(jax.random.key(3), T, jnp.asarray(xs[0], jnp.float32))
    first = jaxrnn.initial_carry(cell, p, BATCH, spatial_shape=xs.shape[2:-1])
    carry = jax.tree.map(
        lambda a: a + jnp.cos(jnp.arange(a.size)).reshape(a.shape).astype(a.dtype), first
    )
    return jax.tree.map(jnp.asarray, p), xs, carry, noise


def by_steps(cell, p, xs, carry, noise):
    step = jaxrnn.stepper(cell, p)

    def body(carry, now):
        t, x, reset = now
        return step(carry, x, reset=reset, noise=step.noise_at(noise, t))

    return lax.scan(body, carry, (jnp.arange(T), xs, RESET))


def weighed(tree):
    leaves = jax.tree.leaves(tree)
    return sum(
        (a * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)).sum() for a in leaves
    )


@pytest.mark.parametrize(
    "name",
    slow.some(STEPPED, set(list(STEPPED)[::3]).__contains__, "made of the same operations"),
)
def test_steps_are_those_of_unroll_with_resets_and_noise(name):
    cell = STEPPED[name]
    p, xs, carry, noise = setting(cell)
    want = jax.jit(lambda *a: jaxrnn.unroll(cell, *a, reset=RESET, noise=noise))(p, xs, carry)
    assert_close(jax.jit(lambda *a: by_steps(cell, *a, noise))(p, xs, carry), want)


@pytest.mark.parametrize("name", ["lstm", "gru", "orthogonal", "layer_norm", "zoneout"])
def test_gradients_through_steps_are_those_of_unroll(name):
    cell = STEPPED[name]
    p, xs, carry, noise = setting(cell)
    own = jax.grad(lambda *a: weighed(by_steps(cell, *a, noise)), argnums=(0, 1, 2))
    whole = jax.grad(
        lambda *a: weighed(jaxrnn.unroll(cell, *a, reset=RESET, noise=noise)), argnums=(0, 1, 2)
    )
    assert_close(jax.jit(own)(p, xs, carry), jax.jit(whole)(p, xs, carry))


def test_nothing_is_prepared_inside_a_loop_of_steps_nor_in_its_gradient():
    cell = ExpRNNCell(4)
    p, xs, carry, _ = setting(cell)

    def loss(p):
        return weighed(lax.scan(jaxrnn.stepper(cell, p), carry, xs))

    program = jax.make_jaxpr(jax.grad(loss))(p)
    loops = [str(e.params["jaxpr"]) for e in program.eqns if e.primitive.name == "scan"]
    assert len(loops) == 2 and not any("triangular_solve" in loop for loop in loops)
    assert "triangular_solve" in str(program)  # of the matrix exponential, before and after them


def test_a_stepper_is_an_argument_of_jit_and_scan():
    cell = jaxrnn.LSTMCell(4)
    p, xs, carry, _ = setting(cell)
    step = jaxrnn.stepper(cell, p)
    run = jax.jit(lambda step, x, carry: step(carry, x))
    assert_close(run(step, xs[0], carry), cell(p, carry, xs[0]))
    assert_close(run(jaxrnn.stepper(cell, p), xs[1], carry), cell(p, carry, xs[1]))
    assert run._cache_size() == 1
    (_, last), _ = lax.scan(
        lambda state, x: ((state[0], state[0](state[1], x)[0]), ()), (step, carry), xs
    )
    assert_close(last, jaxrnn.unroll(cell, p, xs, carry)[0])


@pytest.mark.parametrize("dtype, other", [(jnp.bfloat16, jnp.float64), (jnp.float64, jnp.float32)])
def test_a_stepper_is_for_the_inputs_it_was_made_for(dtype, other):
    cell = jaxrnn.GRUCell(4)
    step = jaxrnn.stepper(cell, cell.init(jax.random.key(0), 3), dtype)
    carry, y = step(step.first((2,)), jnp.ones((2, 3), dtype))
    assert y.dtype == dtype and carry.h.dtype == jaxrnn.carry_dtype(dtype)
    with pytest.raises(TypeError, match=r"stepper\(cell, params, dtype=float"):
        step(None, jnp.ones((2, 3), other))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda s: s(None, jnp.ones((2, 4))), "xs has 4 features but .* input_size=3"),
        (
            lambda s: s(None, jnp.ones((2, 3)), reset=jnp.ones(2)),
            "reset must be boolean, got dtype float64",
        ),
        (
            lambda s: s(None, jnp.ones((2, 3)), reset=jnp.ones(3, bool)),
            r"reset has shape \(3,\), expected \(2,\)",
        ),
        (lambda s: s.first((2,), spatial_shape=(3,)), "needs 0 spatial axes"),
        (lambda s: jaxrnn.stepper(jaxrnn.GRUCell(5), s.params), "params do not fit"),
        (lambda s: jaxrnn.stepper(jaxrnn.GRUCell, s.params), r"cell must be a jaxrnn\.Cell"),
        (
            lambda s: jaxrnn.stepper(jaxrnn.Stack((s.cell,), bidirectional=True), s.params),
            "both directions has no single",
        ),
    ],
)
def test_a_mistake_is_told(wrong, message):
    cell = jaxrnn.GRUCell(4)
    step = jaxrnn.stepper(cell, cell.init(jax.random.key(0), 3, jnp.float64))
    with pytest.raises((TypeError, ValueError), match=message):
        wrong(step)


@dataclasses.dataclass(frozen=True)
class LearnedStart(jaxrnn.RNNCell):
    """Its first carry is a row of the weight that DropConnect acts on."""

    def init_carry(self, params, like):
        return RNNCarry(h=jaxrnn.zeros(like, self.hidden_size) + params.w_h[0, 0])


def test_the_first_carry_is_made_of_parameters_without_noise():
    cell = DropConnect(LearnedStart(6), 0.5)
    params = cell.init(jax.random.key(0), 4, jnp.float32)
    xs = jax.random.normal(jax.random.key(1), (1, 3, 4), jnp.float32)
    noise = cell.noise(jax.random.key(2), 1, xs[0])
    carry, ys = jaxrnn.unroll(cell, params, xs, noise=noise)
    step = jaxrnn.stepper(cell, params)
    for given in ({}, {"reset": jnp.ones(3, bool)}):
        got = step(None, xs[0], noise=step.noise_at(noise, 0), **given)
        assert_close(got, (carry, ys[0]), 1e-6)
