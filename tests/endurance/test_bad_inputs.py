"""What calls with one wrong argument found: a message of ours that names it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import cells, diagnostics, interop, online, sequences, wrappers

CELL = jaxrnn.LSTMCell(4)
PARAMS = CELL.init(jax.random.key(0), 3)
XS = jnp.ones((5, 2, 3))
PACKED = sequences.pack([np.ones((3, 1)), np.ones((2, 1))], 4)
LEAVES = {
    "float": (1.5, r"params.*w_h must be an array, got float"),
    "str": ("this", r"params.*w_h must be an array, got str"),
    "object": (object(), r"params.*w_h must be an array, got object"),
    "objects": (np.full((4, 4, 4), None), r"params.*w_h must be an array, got ndarray"),
    "tuple": ((PARAMS.w_h,), r"params have structure"),
    "integers": (jnp.ones((4, 4, 4), int), r"params.*w_h has dtype int32, expected floating"),
    "complex": (jnp.ones((4, 4, 4), complex), r"params.*w_h has dtype complex64, expected"),
}
TAKERS = {
    "unroll": lambda params: jaxrnn.unroll(CELL, params, XS),
    "call": lambda params: CELL(params, None, XS[0]),
    "stepper": lambda params: jaxrnn.stepper(CELL, params),
    "initial_carry": lambda params: jaxrnn.initial_carry(CELL, params, (2,)),
    "lyapunov": lambda params: diagnostics.largest_lyapunov_exponent(CELL, params, XS[:, 0]),
    "c": lambda params: interop.to_c(CELL, params),
    "linen": lambda params: interop.to_linen(CELL, params),
    "keras": lambda params: interop.to_keras(CELL, params),
    "online": lambda params: online.learn(
        online.DenseRTRL(CELL), params, XS, jnp.ones(5), lambda head, y, t: jnp.sum(y)
    ),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("leaf", LEAVES)
def test_a_parameter_that_is_none_is_named(leaf, taker):
    value, message = LEAVES[leaf]
    with pytest.raises((TypeError, ValueError), match=message):
        TAKERS[taker](PARAMS._replace(w_h=value))


@pytest.mark.parametrize("leaf", ["w_x", "b"])
def test_a_shape_without_numbers_is_no_parameter_of_a_step(leaf):
    given = PARAMS._replace(**{leaf: jax.ShapeDtypeStruct((3, 4, 4), jnp.float32)})
    with pytest.raises(TypeError, match=rf"{leaf} must be an array, got a shape without numbers"):
        CELL(given, None, XS[0])


@pytest.mark.parametrize("key", [0, None, "key", jnp.zeros(2)])
def test_what_is_no_key_is_named(key):
    for cell in (CELL, wrappers.Residual(cells.GRUCell(3)), jaxrnn.Stack((CELL, CELL))):
        with pytest.raises(TypeError, match=r"key must be one of jax\.random\.key"):
            cell.init(key, 3)
        with pytest.raises(TypeError, match=r"key must be one of jax\.random\.key"):
            cell.init(key=key, input_size=3)


def test_several_keys_are_refused_and_both_kinds_of_one_are_taken():
    with pytest.raises(ValueError, match=r"key must be one key, got an array \(3,\)"):
        CELL.init(jax.random.split(jax.random.key(0), 3), 3)
    old = CELL.init(jax.random.PRNGKey(0), 3)
    assert jax.tree.map(np.shape, old) == jax.tree.map(np.shape, PARAMS)
    many = jax.vmap(lambda key: CELL.init(key, 3))(jax.random.split(jax.random.key(0), 2))
    assert many.w_h.shape == (2, 4, 4, 4)


NEWS = jax.ShapeDtypeStruct((5, 2, 3), jnp.float32)
CALLS = {
    "a shape as inputs": (lambda: jaxrnn.unroll(CELL, PARAMS, NEWS), "xs must be an array"),
    "a shape as a mask": (
        lambda: jaxrnn.unroll(CELL, PARAMS, XS, mask=NEWS),
        "mask must be an array",
    ),
    "a word for a flag": (
        lambda: jaxrnn.affine_scan(XS, XS, XS[0], reverse="yes"),
        "reverse must be True or False",
    ),
    "nothing to scan": (lambda: jaxrnn.affine_scan(None, XS, XS[0]), "a must be an array"),
    "a word for a flag of explain": (
        lambda: jaxrnn.explain(CELL, (5, 2, 3), reset="yes"),
        "reset must be True or False",
    ),
    "no dtype": (lambda: jaxrnn.explain(CELL, (5, 2, 3), "float33"), "dtype must be a dtype"),
    "no names": (lambda: wrappers.DropConnect(CELL, 0.1, ()), "names must be different names"),
    "a name twice": (
        lambda: wrappers.Sparse(CELL, names=("w_h", "w_h")),
        "names must be different names",
    ),
    "an endless range": (
        lambda: cells.IndRNNCell(4, recurrent_range=(0.0, float("inf"))),
        "each of recurrent_range must be a finite number",
    ),
    "targets of other steps": (
        lambda: online.learn(
            online.RTRL(cells.MinGRUCell(4)),
            cells.MinGRUCell(4).init(jax.random.key(0), 3),
            XS,
            jnp.ones(4),
            lambda head, y, t: jnp.sum(y),
        ),
        r"targets has shape \(4,\), expected one for each of the 5 steps of xs",
    ),
    "no cell": (lambda: interop.to_c(None, PARAMS), "must be a jaxrnn.Cell"),
    "rows of nothing": (
        lambda: sequences.unpack(PACKED._replace(reset=PACKED.reset[:1]), PACKED.xs),
        "packed must be what pack returned",
    ),
    "rows of another kind": (
        lambda: sequences.unpack(PACKED._replace(segment_ids=None), PACKED.xs),
        r"packed\.segment_ids must be an array",
    ),
    "blocks without units": (lambda: wrappers.Block(CELL, mlp=0), "mlp must be an integer"),
    "a list as a norm": (lambda: wrappers.Block(CELL, norm=["rms"]), "norm must be one of"),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_one_wrong_argument_found_is_named(name):
    call, message = CALLS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
