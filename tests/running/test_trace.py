"""What is read from the trace of one step, and that a step of any kind keeps its gradients."""

import dataclasses
import pathlib
import traceback
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CELLS, assert_close, inputs, parameters
from tracing import traced

import jaxrnn
from jaxrnn.cell import dot
from jaxrnn.running.fused.reading import Part, read

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
NAMED = {case[0]: case[1] for case in CELLS}
WHOLE = ((Part(0, None), Part(0, None)),)
GATES = tuple((Part(0, gate), Part(0, gate)) for gate in (0, 1))


def of(cell, params=None):
    found, params = traced(cell, params)
    return read(found, rows=1), params


@pytest.mark.parametrize(
    "name, sums, acting",
    [
        ("lstm", WHOLE, ()),
        ("rnn_relu", WHOLE, ()),
        ("gru", GATES, ("b_hn",)),  # n needs its two parts apart: r multiplies the product
        (
            "gru_reset_before",
            (*GATES, (Part(1, None), Part(0, 2))),
            (),
        ),  # the second product meets the third gate after it is taken apart
        ("peephole", WHOLE, ("p_i", "p_f", "p_o")),
        (
            "layer_norm",
            (),
            ("scale_hi", "scale_hf", "scale_hg", "scale_ho", "scale_c", "b_c"),
        ),  # the product is normalised before it meets the input
        ("diagonal", (), ("w_h",)),
    ],
)
def test_sums_and_acting_parameters_are_found(name, sums, acting):
    found, params = of(NAMED[name])
    fields = [
        field for field, value in zip(params._fields, params, strict=True) if value is not None
    ]
    assert found.sums == sums
    assert tuple(field for field, acts in zip(fields, found.acting, strict=True) if acts) == acting
    assert all(found.recorded)


class Params(NamedTuple):
    w_x: Any  # [I, 2, H]
    w_h: Any  # [H, 2, H]


class Carry(NamedTuple):
    h: Any  # [..., H]
    a: Any  # [..., H, H], fast weights


@dataclasses.dataclass(frozen=True)
class Odd(jaxrnn.Cell):
    """The base of cells that no equation asks for: two gates, and whatever `mix` makes of them."""

    def init(self, key, input_size, dtype=jnp.float32):
        return Params(
            jax.random.normal(key, (input_size, 2, 3), dtype),
            jax.random.normal(key, (3, 2, 3), dtype) / 2,
        )

    def init_carry(self, params, like):
        return Carry(h=jaxrnn.zeros(like, 3), a=jaxrnn.zeros(like, 3, 3))

    def project(self, params, xs, noise=None):
        return dot(xs, params.w_x)

    def step(self, params, carry, u, dot=dot):
        h, a = self.mix(params, carry, u, dot)
        return Carry(h=h, a=a), h

    def mix(self, params, carry, u, dot):
        raise NotImplementedError


class GatePutOut(Odd):
    """A gate of the product, and one of the input, that meet in a sum and are the carry or the
    vector of another product too."""

    def mix(self, params, carry, u, dot):
        (u_a, u_b), (a, b) = jaxrnn.gates(u), jaxrnn.gates(dot(carry.h, params.w_h))
        c = dot(a, params.w_h[:, 0])
        return jnp.tanh(u_a + a) * jax.nn.sigmoid(u_b + b) + jnp.tanh(c), carry.a + u_b[
            ..., None
        ] * 0.1


class GateAlone(GatePutOut):
    """The same, where the gate itself is put out."""

    def step(self, params, carry, u, dot=dot):
        (u_a, u_b), (a, b) = jaxrnn.gates(u), jaxrnn.gates(dot(carry.h, params.w_h))
        return Carry(h=jnp.tanh(u_a + a) * jax.nn.sigmoid(u_b + b), a=carry.a), a


class FastWeights(Odd):
    """Ba et al. 2016, arXiv:1610.06258, without layer norm: the second product's weight is part of
    the carry."""

    def mix(self, params, carry, u, dot):
        a, b = jaxrnn.gates(u + dot(carry.h, params.w_h))
        a = jnp.tanh(a + dot(carry.h, carry.a, lambda v, w: jnp.einsum("...i,...ij->...j", v, w)))
        return a, 0.9 * carry.a + 0.1 * a[..., None] * jnp.tanh(b)[..., None, :]


class SumUsedTwice(Odd):
    """The product is used once more beside its sum with the input."""

    def mix(self, params, carry, u, dot):
        product = dot(carry.h, params.w_h)
        a, b = jaxrnn.gates(u + product)
        return jnp.tanh(a) * jax.nn.sigmoid(b) + 0.1 * jnp.sin(product[..., 0, :]), carry.a


class GatesCrossed(Odd):
    """The first gate of the input meets the second of the product."""

    def mix(self, params, carry, u, dot):
        (u_a, u_b), (a, b) = jaxrnn.gates(u), jaxrnn.gates(dot(carry.h, params.w_h))
        return jnp.tanh(u_a + b) * jax.nn.sigmoid(u_b + a), carry.a


class Bypass(Odd):
    """A product without `dot`, the weight of another used elementwise, and a product whose operand
    is computed from one."""

    def mix(self, params, carry, u, dot):
        a, b = jaxrnn.gates(u + dot(jnp.tanh(carry.h @ params.w_h[:, 1]), params.w_h))
        return jnp.tanh(a) * params.w_h[0, 0] + dot(jax.nn.sigmoid(b), params.w_h[:, 0]), carry.a


class OpWithParameter(Odd):
    """The operation brings a parameter of its own, so that the product is no function of vector and
    weight alone."""

    def mix(self, params, carry, u, dot):
        a, b = jaxrnn.gates(
            u + dot(carry.h, params.w_h, lambda v, w: jnp.tensordot(v, w * params.w_h, 1))
        )
        return jnp.tanh(a) * jax.nn.sigmoid(b), carry.a


class ProductOfParameters(Odd):
    """A weight of low rank, multiplied out in the step."""

    def mix(self, params, carry, u, dot):
        a, b = jaxrnn.gates(u)
        return jnp.tanh(a + dot(carry.h, dot(params.w_h[:, 0], params.w_h[:, 1]))) * jax.nn.sigmoid(
            b
        ), carry.a


class ProductInLoop(Odd):
    """Zilly et al. 2017, arXiv:1607.03474: several products deep, in a loop of its own."""

    def mix(self, params, carry, u, dot):
        deepen = lambda _, h: jnp.tanh(jnp.sum(u, axis=-2) + dot(h, params.w_h[:, 0]))  # noqa: E731
        return jax.lax.fori_loop(0, 3, deepen, carry.h), carry.a


class BiasedParams(NamedTuple):
    w_x: Any  # [I, 2, H]
    w_h: Any  # [H, 2, H]
    whole: Any  # [2, H]
    gate: Any  # [H]
    twice: Any  # [H]
    one: Any  # [1]


class Biased(Odd):
    """Biases inside the step: of a product as a whole, of one of its gates, one used once more, and
    one for all units."""

    def init(self, key, input_size, dtype=jnp.float32):
        p, (a, b) = super().init(key, input_size, dtype), jax.random.normal(key, (2, 3), dtype)
        return BiasedParams(*p, whole=a + jnp.stack([a, b]), gate=a, twice=b, one=a[:1])

    def mix(self, params, carry, u, dot):
        a, b = jaxrnn.gates(u * (dot(carry.h, params.w_h) + params.whole))
        c, d = jaxrnn.gates(dot(jnp.tanh(a), params.w_h))
        e, f = jaxrnn.gates(dot(jnp.tanh(b), params.w_h))
        c, d = jnp.sin(c + params.gate), jax.nn.sigmoid(d + params.twice) * params.twice
        return jnp.tanh(c * d + (e + params.one) * f), carry.a


ODD = {
    OpWithParameter: ((), ()),  # its product is none that could be taken out of the step
    ProductOfParameters: (((Part(0, None), Part(0, 0)),), (False, True)),
    FastWeights: (WHOLE, (True, False)),
    SumUsedTwice: ((), (True,)),
    GatesCrossed: (((Part(0, 1), Part(0, 0)), (Part(0, 0), Part(0, 1))), (True,)),
    Bypass: (WHOLE, (True, True)),
    GatePutOut: ((), (True, True)),
    GateAlone: (GATES[1:], (True,)),
}


@pytest.mark.parametrize("cell", ODD)
def test_an_odd_step_is_read_as_it_is(cell):
    found, _ = of(cell())
    assert (found.sums, found.recorded) == ODD[cell]


@pytest.mark.parametrize(
    "remat",
    [
        "none",
        *(
            pytest.param(remat, marks=pytest.mark.slow("other remat reads the same trace"))
            for remat in ("carry", "sqrt")
        ),
    ],
)
@pytest.mark.parametrize("cell", [*ODD, ProductInLoop, Biased])
def test_an_odd_step_keeps_its_gradients(cell, remat):
    p, xs = parameters(cell()), inputs(cell(), 11, (2,))
    reset = np.arange(22).reshape(11, 2) % 7 == 5

    def slopes(method, remat):
        def loss(p, xs):
            carry, ys = jaxrnn.unroll(cell(), p, xs, reset=reset, method=method, remat=remat)
            return jnp.sum(jnp.sin(ys)) + jnp.sum(carry.a**2)

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(p, xs)

    assert_close(slopes(None if cell is ProductInLoop else "fused", remat), slopes("scan", "none"))


def test_what_acts_beside_the_weights_is_told_from_them():
    assert of(Biased())[0].acting == (False, False, True, True, True, True)
    assert of(Bypass())[0].acting == (False, True)  # a weight, and multiplied without `dot`


class ClockParams(NamedTuple):
    w_x: Any  # [I, H]
    w_h: Any  # [H, H]
    period: Any  # [H] integers


@dataclasses.dataclass(frozen=True)
class Clockwork(jaxrnn.Cell):
    """Koutnik et al. 2014, arXiv:1402.3511, without its block structure: units that change every
    `period` steps; `a` counts."""

    def init(self, key, input_size, dtype=jnp.float32):
        period = jnp.arange(1, 5, dtype=jnp.int32)
        return ClockParams(
            jnp.ones((input_size, 4), dtype), jax.random.normal(key, (4, 4), dtype), period
        )

    def init_carry(self, params, like):
        return Carry(h=jaxrnn.zeros(like, 4), a=jaxrnn.zeros(like, 1).astype(jnp.int32))

    def project(self, params, xs, noise=None):
        return dot(xs, params.w_x)

    def step(self, params, carry, u, dot=dot):
        h = jnp.where(carry.a % params.period == 0, jnp.tanh(u + dot(carry.h, params.w_h)), carry.h)
        return Carry(h=h, a=carry.a + 1), h


@pytest.mark.parametrize("remat", ["none", "carry", "sqrt"])
def test_integers_in_carry_and_parameters_have_no_gradient_and_disturb_none(remat):
    cell, rng = Clockwork(), np.random.default_rng(0)
    p, xs = cell.init(jax.random.key(0), 3, jnp.float64), rng.normal(size=(11, 2, 3))
    reset = rng.random((11, 2)) < 0.2

    def slopes(method, remat):
        def loss(w_h, xs):
            params = p._replace(w_h=w_h)
            _, ys = jaxrnn.unroll(cell, params, xs, reset=reset, method=method, remat=remat)
            return jnp.sum(jnp.sin(ys))

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(p.w_h, xs)

    assert_close(slopes("fused", remat), slopes("scan", "none"))


@dataclasses.dataclass(frozen=True)
class Rows(Odd):
    """One spatial axis and `gates` gates, summed gate by gate: no gates in the sense of
    `has_gates`."""

    gates: int
    feature_axes = 2

    def init(self, key, input_size, dtype=jnp.float32):
        shape = (self.gates, 3)
        return Params(
            jax.random.normal(key, (input_size, *shape), dtype),
            jax.random.normal(key, (3, *shape), dtype) / 2,
        )

    def init_carry(self, params, like):
        spatial = jaxrnn.zeros(like, like.shape[-2], 3, feature_axes=2)
        return Carry(h=spatial, a=spatial)

    def mix(self, params, carry, u, dot):
        pairs = zip(jaxrnn.gates(u), jaxrnn.gates(dot(carry.h, params.w_h)), strict=True)
        return jnp.tanh(sum(jnp.sin(a + b) for a, b in pairs)), carry.a


@dataclasses.dataclass(frozen=True)
class ManyGates(Rows):
    feature_axes = 1

    def init_carry(self, params, like):
        return Carry(h=jaxrnn.zeros(like, 3), a=jaxrnn.zeros(like, 3))


class UnbatchedCounter(Odd):
    """A leaf of the carry without the batch axes."""

    def init_carry(self, params, like):
        return Carry(h=jaxrnn.zeros(like, 3), a=jnp.zeros((), like.dtype))

    def mix(self, params, carry, u, dot):
        a, b = jaxrnn.gates(u + dot(carry.h / (1 + carry.a), params.w_h))
        return jnp.tanh(a) * jax.nn.sigmoid(b), carry.a + 1


@pytest.mark.parametrize(
    "cell, spatial", [(Rows(2), (4,)), (ManyGates(9), ()), (UnbatchedCounter(), ())]
)
def test_an_odd_shape_keeps_its_gradients(cell, spatial):
    p, xs = (
        cell.init(jax.random.key(0), 4, jnp.float64),
        np.random.default_rng(1).normal(size=(3, 2, *spatial, 4)),
    )

    def slopes(method):
        loss = lambda p, xs: jnp.sum(jnp.sin(jaxrnn.unroll(cell, p, xs, method=method)[1]))  # noqa: E731
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(p, xs)

    assert_close(slopes(None), slopes("scan"))


def test_a_program_with_a_symbolic_batch_can_be_exported():
    cell = jaxrnn.LSTMCell(3)
    p = cell.init(jax.random.key(0), 4, jnp.float64)
    batch = jax.ShapeDtypeStruct(jax.export.symbolic_shape("5, b, 4"), jnp.float64)
    exported = jax.export.export(jax.jit(lambda p, xs: jaxrnn.unroll(cell, p, xs)[1]))(p, batch)
    xs = np.random.default_rng(0).normal(size=(5, 7, 4))
    assert_close(exported.call(p, xs), jaxrnn.unroll(cell, p, xs)[1])


@pytest.mark.parametrize("method", [None, "scan"])
def test_the_gradient_of_a_bias_keeps_growing_in_16_bits(method):
    cell, xs = jaxrnn.GRUCell(3), jnp.ones((512, 32, 4), jnp.bfloat16)
    p = cell.init(jax.random.key(0), 4, jnp.float32)
    slopes = jax.jit(
        jax.grad(
            lambda p: jnp.sum(jaxrnn.unroll(cell, p, xs, method=method)[1].astype(jnp.float32))
        )
    )(p)
    assert_close(slopes.b, slopes.w_x[0].reshape(-1), 2e-2)  # every input is 1


@dataclasses.dataclass(frozen=True)
class Watched(jaxrnn.LSTMCell):
    """Notes by which functions of the library its step is reached."""

    def step(self, params, carry, u, dot=dot):
        frames = traceback.extract_stack()
        own = [f"{pathlib.Path(f.filename).name}:{f.name}" for f in frames if HOME in f.filename]
        CHAINS.append(own)
        return super().step(params, carry, u, dot)


HOME = str(pathlib.Path(jaxrnn.__file__).parent)
CHAINS = []


def test_nine_functions_at_most_stand_between_unroll_and_the_step_that_is_traced_once():
    CHAINS.clear()
    cell = Watched(32)
    p, xs = cell.init(jax.random.key(0), 32), jnp.ones((21, 8, 32), jnp.float32)
    jax.make_jaxpr(jax.grad(lambda p: jaxrnn.unroll(cell, p, xs, method="fused")[1].sum()))(p)
    (chain,) = CHAINS
    print(" - ".join(chain))  # pytest -s shows it
    assert chain[0] == "unroll.py:unroll" and len(chain) <= 10
