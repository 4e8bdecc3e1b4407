"""Every cell and initialiser in every floating-point dtype, with 64-bit numbers on and off."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from oracles import CELLS, EVERY, inputs

import jaxrnn
from jaxrnn.initializers import NAMES, Chrono, Normal, TorchUniform

pytestmark = pytest.mark.usefixtures("quick_compilation")
DTYPES = ["bfloat16", "float16", "float32", "float64"]
WIDE = {"bfloat16": "float32", "float16": "float32", "float32": "float32", "float64": "float64"}
KEY = jax.random.key(5)


def dtypes(tree):
    return {
        str(leaf.dtype)
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


def check(cell, param_dtype, dtype):
    p = jax.eval_shape(lambda: cell.init(KEY, 3, param_dtype))
    xs = jax.ShapeDtypeStruct(inputs(cell, 3, (2,)).shape, dtype)

    def run(p, xs):
        return jaxrnn.unroll(
            cell, p, xs, noise=cell.noise(KEY, 3, xs[0]), mask=jnp.ones((3, 2), bool)
        )

    def loss(p, xs):
        carry, ys = run(p, xs)
        return sum(leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves((carry, ys))), (
            carry,
            ys,
        )

    (d_p, d_xs), (carry, ys) = jax.eval_shape(jax.grad(loss, argnums=(0, 1), has_aux=True), p, xs)
    assert (dtypes(p), dtypes(d_p)) == ({param_dtype}, {param_dtype})
    wide = {WIDE[dtype]} if jax.tree.leaves(carry) else set()
    assert (dtypes(carry), dtypes(ys), dtypes(d_xs)) == (wide, {dtype}, {dtype})


@pytest.mark.parametrize(
    "number",
    slow.some(
        range(len(CELLS)),
        lambda k: k % 3 == 0,
        "made of the same operations",
        name=lambda k: CELLS[k][0],
    ),
)
def test_parameters_outputs_carries_and_gradients_have_their_dtypes(number):
    with jax.enable_x64(True):
        # each dtype of parameters with one of inputs, others for the next cell
        for k, param_dtype in enumerate(DTYPES):
            check(CELLS[number][1], param_dtype, DTYPES[(k + number) % 4])


@pytest.mark.slow("every cell at every pair of dtypes; some of each by default")
@pytest.mark.parametrize("wide", [True, False], ids=["x64", "x32"])
@pytest.mark.parametrize("name, cell", [case[:2] for case in EVERY])
def test_every_pair_of_dtypes(name, cell, wide):
    with jax.enable_x64(wide):
        known = DTYPES if wide else DTYPES[:3]
        for param_dtype, dtype in itertools.product(known, known):
            check(cell, param_dtype, dtype)


@pytest.mark.parametrize("wide", [True, False], ids=["x64", "x32"])
@pytest.mark.parametrize(
    "init", [*NAMES.values(), Normal(0.3), TorchUniform(16), Chrono(50)], ids=str
)
def test_an_initialiser_draws_in_every_dtype(init, wide):
    cell = jaxrnn.LSTMCell(16, input_init=init, recurrent_init=init)

    def make(dtype):
        return cell.init(KEY, 16, dtype)

    with jax.enable_x64(wide):
        for dtype in DTYPES if wide else DTYPES[:3]:
            p, want = make(dtype), make("float32")
            assert dtypes(p) == {dtype} and all(
                np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in p
            )
            spreads = [
                [float(jnp.std(leaf.astype("float32"))) for leaf in tree] for tree in (p, want)
            ]
            # 64-bit draws are other numbers of the same distribution
            np.testing.assert_allclose(*spreads, rtol=0.1)
