"""A cell of ours in Flax's RNN, and a Flax cell in our unroll:
the same numbers and gradients, whoever runs whose cell.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from peers import random

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.cells import LSTMCarry, LSTMPCell
from jaxrnn.wrappers import LearnedInitialCarry

pytestmark = pytest.mark.usefixtures("quick_compilation")
T, B, I, H = 6, 3, 2, 4
RNG = np.random.RandomState(11)
XS = RNG.normal(size=(B, T, I)).astype(np.float32)  # batch-first, as Flax has it
LENGTHS = np.array([6, 1, 4], np.int32)
VALID = np.arange(T) < LENGTHS[:, None]
OURS = [jaxrnn.RNNCell(H), jaxrnn.LSTMCell(H), jaxrnn.GRUCell(H), LSTMPCell(H, 2)]
OURS += [
    LearnedInitialCarry(jaxrnn.GRUCell(H)),
    jaxrnn.Stack((jaxrnn.LSTMCell(3), jaxrnn.GRUCell(H))),
]
LINEN = {
    "LSTMCell": nn.LSTMCell(H),
    "OptimizedLSTMCell": nn.OptimizedLSTMCell(H),
    "GRUCell": nn.GRUCell(H),
    "SimpleCell": nn.SimpleCell(H, residual=True),
    "ConvLSTMCell": nn.ConvLSTMCell(H, (3,)),
}
NNX = {
    "LSTMCell": lambda: nnx.LSTMCell(I, H, rngs=nnx.Rngs(0)),
    "OptimizedLSTMCell": lambda: nnx.OptimizedLSTMCell(I, H, rngs=nnx.Rngs(0)),
    "GRUCell": lambda: nnx.GRUCell(I, H, rngs=nnx.Rngs(0)),
    "SimpleCell": lambda: nnx.SimpleCell(I, H, rngs=nnx.Rngs(0)),
}


def in_linen(cell, params, **options):
    return nn.RNN(jaxrnn.linen.CellForRNN(cell)).apply(
        {"params": {"cell": {"cell": params}}}, XS, return_carry=True, **options
    )


def in_nnx(cell, params, **options):
    module = jaxrnn.nnx.CellForRNN(cell, I, rngs=nnx.Rngs(0))
    module.weights = nnx.data(jax.tree.map(nnx.Param, params))
    return nnx.RNN(module)(XS, return_carry=True, **options)


def assert_same(a, b, tolerance=1e-5):
    """Relative to the larger of 1 and the largest entry."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * max(1, np.abs(y).max()))


def waves(tree):
    """A number that depends on every entry in its own way."""
    return sum(
        jnp.vdot(a, jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape))
        for a in jax.tree.leaves(tree)
    )


@pytest.mark.parametrize("run", [in_linen, in_nnx])
@pytest.mark.parametrize("cell", OURS, ids=lambda cell: type(cell).__name__)
def test_flax_runs_our_cell_with_lengths_to_our_numbers(cell, run):
    params = jax.tree.map(jnp.asarray, random(cell.init(jax.random.key(0), I)))
    carry, ys = jax.jit(lambda params: run(cell, params, seq_lengths=LENGTHS))(params)
    ours, zs = jaxrnn.unroll(cell, params, np.swapaxes(XS, 0, 1), mask=VALID.T)
    assert_same(carry, ours)
    assert jax.tree.structure(carry) == jax.tree.structure(ours)
    assert_same(np.where(VALID[..., None], ys, 0), np.swapaxes(zs, 0, 1))


@pytest.mark.parametrize("run", [in_linen, in_nnx])
def test_flax_runs_our_cell_backwards_from_a_given_carry(run):
    cell = jaxrnn.LSTMCell(H)
    params = jax.tree.map(jnp.asarray, random(cell.init(jax.random.key(0), I)))
    first = LSTMCarry(*jnp.asarray(RNG.normal(size=(2, B, H)), jnp.float32))
    carry, ys = run(cell, params, initial_carry=first, reverse=True, keep_order=True)
    ours, zs = jaxrnn.unroll(cell, params, np.swapaxes(XS, 0, 1), first, reverse=True)
    assert_same((carry, ys), (ours, np.swapaxes(zs, 0, 1)))


def test_linen_makes_the_parameters_of_our_cell_and_takes_gradients_through_it():
    cell = jaxrnn.GRUCell(H)
    module = nn.RNN(jaxrnn.linen.CellForRNN(cell), return_carry=True)
    variables = module.init(jax.random.key(0), XS)
    params = variables["params"]["cell"]["cell"]
    own = jax.tree.map(jnp.shape, cell.init(jax.random.key(0), I)._asdict())
    assert jax.tree.map(jnp.shape, params) == own
    slopes = jax.grad(lambda v: waves(module.apply(v, XS)))(variables)["params"]["cell"]["cell"]

    def ours(params):
        carry, ys = jaxrnn.unroll(cell, params, np.swapaxes(XS, 0, 1))
        return waves((carry, jnp.swapaxes(ys, 0, 1)))

    assert_same(slopes, jax.grad(ours)(params), 1e-5)


@pytest.mark.parametrize("name", LINEN)
def test_our_unroll_of_a_linen_cell_is_that_of_linen_with_its_gradients(name):
    cell = jaxrnn.linen.FromLinen(LINEN[name])
    xs = XS if cell.feature_axes == 1 else RNG.normal(size=(B, T, 5, I)).astype(np.float32)
    params = jax.tree.map(jnp.asarray, random(cell.init(jax.random.key(0), I)))

    def theirs(params, xs):
        module = nn.RNN(LINEN[name], return_carry=True)
        return module.apply({"params": {"cell": params["params"]}}, xs, seq_lengths=LENGTHS)

    def ours(params, xs):
        carry, ys = jaxrnn.unroll(cell, params, jnp.swapaxes(xs, 0, 1), mask=VALID.T)
        return carry, jnp.swapaxes(ys, 0, 1)

    compare(ours, theirs, params, xs)


@pytest.mark.parametrize("name", NNX)
def test_our_unroll_of_an_nnx_cell_is_that_of_nnx_with_its_gradients(name):
    graph, state = nnx.split(NNX[name]())
    params = jax.tree.map(jnp.asarray, random(state))
    cell = jaxrnn.nnx.FromNnx(graph)

    def theirs(params, xs):
        return nnx.RNN(nnx.merge(graph, params))(xs, return_carry=True, seq_lengths=LENGTHS)

    def ours(params, xs):
        carry, ys = jaxrnn.unroll(cell, params, jnp.swapaxes(xs, 0, 1), mask=VALID.T)
        return carry, jnp.swapaxes(ys, 0, 1)

    compare(ours, theirs, params, XS)


def compare(ours, theirs, params, xs):
    """Values and gradients; Flax does not zero the outputs of padding."""
    shown = jnp.asarray(VALID).reshape(B, T, *(1,) * (xs.ndim - 2))

    def slopes(run):
        def loss(*at):
            carry, ys = run(*at)
            return waves((carry, jnp.where(shown, ys, jnp.zeros_like(ys)))), (carry, ys)

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, xs)

    (got, (carry, ys)), (want, (their_carry, zs)) = slopes(ours), slopes(theirs)
    assert_same((carry, ys), (their_carry, np.where(shown, zs, 0)))
    assert_same(got, want, 1e-5)


@pytest.mark.slow("the whole contract for each of Flax's cells; its numbers are tested by default")
@pytest.mark.parametrize("name", ["GRUCell", "ConvLSTMCell"])
def test_a_linen_cell_keeps_the_contract_of_a_cell(name):
    jaxrnn.testing.check_cell(jaxrnn.linen.FromLinen(LINEN[name]))


def test_a_linen_cell_of_16_bits_draws_wide_and_rounds():
    cells = [
        jaxrnn.linen.FromLinen(nn.LSTMCell(H, param_dtype=dtype))
        for dtype in (jnp.bfloat16, jnp.float32)
    ]
    half, wide = (cell.init(jax.random.key(0), I, jnp.bfloat16) for cell in cells)
    assert {a.dtype for a in jax.tree.leaves(half)} == {jnp.dtype(jnp.bfloat16)}
    for a, b in zip(jax.tree.leaves(half), jax.tree.leaves(wide), strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))


def test_cells_of_equal_flax_modules_are_equal():
    assert jaxrnn.linen.FromLinen(nn.GRUCell(H)) == jaxrnn.linen.FromLinen(nn.GRUCell(H))
    a, b = (jaxrnn.nnx.FromNnx(nnx.split(NNX["GRUCell"]())[0]) for _ in range(2))
    assert a == b and hash(a) == hash(b)


def test_what_is_no_flax_cell_is_refused_by_name():
    with pytest.raises(TypeError, match=r"must be a cell of flax\.linen"):
        jaxrnn.linen.FromLinen(nn.Dense(3))
    with pytest.raises(TypeError, match=r"first part of nnx\.split\(module\), got GRUCell"):
        jaxrnn.nnx.FromNnx(NNX["GRUCell"]())
    with pytest.raises(TypeError, match=r"cell must be a jaxrnn\.Cell"):
        jaxrnn.linen.CellForRNN(nn.GRUCell(H))
    with pytest.raises(TypeError, match=r"cell must be a jaxrnn\.Cell"):
        jaxrnn.nnx.CellForRNN(nnx.GRUCell, I, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("run", [in_linen, in_nnx])
def test_sixteen_bit_inputs_are_computed_in_the_dtype_of_the_parameters(run):
    cell = jaxrnn.LSTMCell(H)
    params = jax.tree.map(
        lambda a: jnp.asarray(a, jnp.bfloat16), random(cell.init(jax.random.key(0), I))
    )
    carry, ys = run(cell, params)
    assert carry.c.dtype == jnp.float32 and ys.dtype == jnp.float32
