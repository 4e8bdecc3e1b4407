"""Programs made by `jax.export` with symbols for the number of steps and sequences:
one file serves every size.

T, B = export.symbolic_shape("T, B")
xs = jax.ShapeDtypeStruct((T, B, 3), jnp.float32)
exported = export.export(jax.jit(f))(shapes of the parameters, xs)
blob = exported.serialize(vjp_order=1)  # needs the package flatbuffers
ys = export.deserialize(blob).call(params, xs)
"""

import functools
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export
from oracles import GRU, LSTM, LSTMP, assert_close, drive, inputs, learned, parameters, rnn, zoneout

import jaxrnn
import jaxrnn.nnx
from jaxrnn.cells import LSTMCarry, LSTMParams, LSTMPCell
from jaxrnn.wrappers import LearnedInitialCarry, Zoneout

pytestmark = pytest.mark.usefixtures("quick_compilation")
jaxrnn.interop.register_for_export()
SIZES = [(1, 1), (5, 2), (3, 4), (2, 1)]
LSTM_CELL, GRU_CELL = jaxrnn.LSTMCell(4), jaxrnn.GRUCell(4)
CELLS = {
    "rnn": (jaxrnn.RNNCell(4), rnn(np.tanh)),
    "lstm": (LSTM_CELL, LSTM),
    "lstmp": (LSTMPCell(4, 2), LSTMP),
    "gru": (GRU_CELL, GRU),
    "learned_zoneout": (
        LearnedInitialCarry(Zoneout(LSTM_CELL, 0.3, 0.1)),
        learned(zoneout(LSTM, {"h": 0.3, "c": 0.1})),
    ),
}
STACKS = {
    "stack": (jaxrnn.Stack((LSTM_CELL, jaxrnn.GRUCell(5))), [(LSTM, 4), (GRU, 5)]),
    "bidirectional": (
        jaxrnn.Stack((LSTM_CELL, GRU_CELL), bidirectional=True),
        [(LSTM, 4), (GRU, 4)],
    ),
}


def exported(f, *args, vjp_order=0):
    """`f` written to bytes and read back; leaves with two axes or more
    in `args[1:]` have symbols for the first two.
    """
    T, B = export.symbolic_shape("T, B")
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args[0])
    others = jax.tree.map(lambda a: jax.ShapeDtypeStruct((T, B, *a.shape[2:]), a.dtype), args[1:])
    blob = export.export(jax.jit(f), platforms=["cpu", "cuda", "tpu"])(shapes, *others).serialize(
        vjp_order=vjp_order
    )
    return export.deserialize(blob)


def problem(cell, T, B):
    """Inputs, a mask with padding in the middle too, and resets."""
    random = np.random.default_rng(T * 10 + B)
    return inputs(cell, T, (B,)), random.random((T, B)) < 0.7, random.random((T, B)) < 0.3


def by_layers(layers, params, xs, mask, reset, directions):
    """A stack run by the NumPy loop: each layer over the whole sequence, in each direction."""
    carries, index = [], 0
    for oracle, _ in layers:
        outputs = []
        for direction in range(directions):
            carry, ys = drive(
                oracle, params[index], xs, mask=mask, reset=reset, reverse=direction == 1
            )
            carries.append(carry)
            outputs.append(ys)
            index += 1
        xs = np.concatenate(outputs, axis=-1)
    return tuple(carries), xs


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_an_exported_cell_gives_the_numbers_of_its_equations_at_every_size(name, reverse, x64):
    cell, oracle = CELLS[name]
    params = parameters(cell)

    def f(params, xs, mask, reset):
        return jaxrnn.unroll(cell, params, xs, mask=mask, reset=reset, reverse=reverse)

    program = exported(f, params, *problem(cell, 2, 2))
    for T, B in SIZES:
        xs, mask, reset = problem(cell, T, B)
        got = program.call(params, xs, mask, reset)
        assert_close(got, drive(oracle, params, xs, mask=mask, reset=reset, reverse=reverse))


@pytest.mark.slow("exporting with sizes as symbols traces every program several times")
@pytest.mark.parametrize("name", STACKS)
def test_an_exported_stack_gives_the_numbers_of_its_equations_at_every_size(name, x64):
    stack, layers = STACKS[name]
    params = parameters(stack)

    def f(params, xs, mask, reset):
        return jaxrnn.unroll(stack, params, xs, mask=mask, reset=reset)

    program = exported(f, params, *problem(stack, 2, 2))
    for T, B in SIZES:
        xs, mask, reset = problem(stack, T, B)
        assert_close(
            program.call(params, xs, mask, reset),
            by_layers(layers, params, xs, mask, reset, stack.directions),
        )


@pytest.mark.slow("a gradient of each exported program is a second export")
@pytest.mark.parametrize(
    "name, remat", [("gru", "none"), ("lstm", "sqrt"), ("bidirectional", "carry")]
)
def test_gradients_of_an_exported_program_are_those_of_plain_scan(name, remat, x64):
    cell = (CELLS | STACKS)[name][0]
    params = parameters(cell)

    def loss(method, remat, params, xs, mask):
        carry, ys = jaxrnn.unroll(cell, params, xs, mask=mask, method=method, remat=remat)
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(a**2) for a in jax.tree.leaves(carry))

    program = exported(
        functools.partial(loss, None, remat), params, *problem(cell, 2, 2)[:2], vjp_order=1
    )
    for T, B in [(1, 1), (5, 2)]:
        xs, mask, _ = problem(cell, T, B)
        got, want = (
            jax.jit(jax.grad(f, argnums=(0, 1)))(params, xs, jnp.asarray(mask))
            for f in (program.call, functools.partial(loss, "scan", "none"))
        )
        assert_close(got, want, 1e-10)


def test_a_given_carry_and_lengths_export_with_a_symbolic_batch(x64):
    params, carry = (
        parameters(LSTM_CELL),
        LSTMCarry(*np.random.default_rng(3).normal(size=(2, 3, 4))),
    )

    def f(params, carry, xs, lengths):
        return jaxrnn.unroll(
            LSTM_CELL, params, xs, carry, mask=jaxrnn.lengths_to_mask(lengths, xs.shape[0])
        )

    T, B = export.symbolic_shape("T, B")
    f64, struct = jnp.float64, jax.ShapeDtypeStruct
    shapes = jax.tree.map(lambda a: struct(a.shape, f64), params)
    row = struct((B, 4), f64)
    made = export.export(jax.jit(f))(
        shapes, LSTMCarry(row, row), struct((T, B, 3), f64), struct((B,), jnp.int32)
    )
    xs, lengths = inputs(LSTM_CELL, 4, (3,)), np.array([2, 0, 4], np.int32)
    got = export.deserialize(made.serialize()).call(params, carry, xs, lengths)
    assert_close(got, drive(LSTM, params, xs, carry, mask=np.arange(4)[:, None] < lengths))


def test_carries_after_every_step_export(x64):
    params = parameters(GRU_CELL)
    program = exported(
        lambda p, xs, mask: jaxrnn.unroll_carries(GRU_CELL, p, xs, mask=mask),
        params,
        *problem(GRU_CELL, 2, 2)[:2],
    )
    for T, B in SIZES:
        xs, mask, _ = problem(GRU_CELL, T, B)
        carries, _ = program.call(params, xs, mask)
        for t in range(T):
            assert_close(
                jax.tree.map(lambda a, t=t: a[t], carries),
                drive(GRU, params, xs[: t + 1], mask=mask[: t + 1])[0],
            )


@pytest.mark.slow("one more export, of a stack with dropout")
def test_dropout_inside_an_exported_program_is_that_of_the_program_itself(x64):
    stack = jaxrnn.Stack((LSTM_CELL, Zoneout(GRU_CELL)), dropout=0.5)
    params = parameters(stack)

    def f(params, xs, keys):
        noise = stack.noise(
            jax.random.wrap_key_data(keys[0, 0]), xs.shape[0], jnp.zeros_like(xs[0])
        )
        return jaxrnn.unroll(stack, params, xs, noise=noise)

    keys = np.array([[[7, 9]]], np.uint32)
    program = exported(f, params, inputs(stack, 2, (2,)), keys)
    for T, B in SIZES:
        xs = inputs(stack, T, (B,))
        got = program.call(params, xs, np.broadcast_to(keys, (T, B, 2)))
        assert_close(got, f(params, xs, keys))


def test_windows_export_with_a_symbolic_batch_and_say_that_time_must_be_known(x64):
    params, xs = parameters(LSTM_CELL), inputs(LSTM_CELL, 5, (3,))
    (B,) = export.symbolic_shape("B")
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params)

    def f(params, xs):
        return jaxrnn.unroll_windows(LSTM_CELL, params, xs, window=2)

    program = export.export(jax.jit(f))(shapes, jax.ShapeDtypeStruct((5, B, 3), jnp.float64))
    assert_close(program.call(params, xs), drive(LSTM, params, xs))
    with pytest.raises(ValueError, match="windows need a known number of steps, got the symbol T"):
        exported(f, params, xs)


class Own(NamedTuple):
    w: Any


def test_a_users_tuple_is_registered_by_name_and_twice_is_once(x64):
    with pytest.raises(ValueError, match="unregistered type"):
        exported(lambda own, xs: xs @ own.w, Own(np.ones((3, 3))), np.ones((2, 2, 3)))
    jaxrnn.interop.register_for_export(Own)
    jaxrnn.interop.register_for_export(Own)
    w = np.random.default_rng(0).normal(size=(3, 3))
    program = exported(lambda own, xs: xs @ own.w, Own(w), np.ones((2, 2, 3)))
    np.testing.assert_allclose(program.call(Own(w), np.ones((4, 1, 3)))[0, 0], w.sum(0), atol=1e-12)


def test_an_exported_module_gives_the_state_of_the_module():
    jaxrnn.interop.register_for_export(LSTMParams)  # ours, which is no duplicate
    graph, state = nnx.split(jaxrnn.nnx.LSTM(3, 4, rngs=nnx.Rngs(0)))
    xs = np.random.default_rng(1).normal(size=(5, 2, 3)).astype(np.float32)
    leaves, tree = jax.tree.flatten(state)

    def f(leaves, xs):
        return nnx.merge(graph, jax.tree.unflatten(tree, leaves))(xs)

    ys, (h_n, c_n) = exported(f, leaves, xs).call(leaves, xs)
    params = nnx.merge(graph, state).params[0]
    carry, want = drive(LSTM, params, xs)
    assert_close((ys, h_n[0], c_n[0]), (want, carry.h, carry.c), 1e-5)


READER = """
import pathlib, sys, numpy as np, jaxrnn
from jax import export
jaxrnn.interop.register_for_export()
program = export.deserialize(bytearray(pathlib.Path(sys.argv[1]).read_bytes()))
carry, ys = program.call(np.ones((4, 3, 3), np.float32))
np.savez(sys.argv[2], ys=ys, h=carry.h, c=carry.c)
"""


def test_another_process_runs_the_program_and_names_its_carry(tmp_path):
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), parameters(LSTM_CELL))
    xs = jax.ShapeDtypeStruct((*export.symbolic_shape("T, B"), 3), jnp.float32)
    blob = export.export(jax.jit(lambda xs: jaxrnn.unroll(LSTM_CELL, params, xs)))(xs).serialize()
    (tmp_path / "program").write_bytes(blob)
    root = pathlib.Path(jaxrnn.__file__).parent.parent
    command = [sys.executable, "-c", READER, str(tmp_path / "program"), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True, cwd=root)
    carry, ys = drive(LSTM, parameters(LSTM_CELL), np.ones((4, 3, 3)))
    with np.load(tmp_path / "out.npz") as out:
        assert_close({**out}, {"ys": ys, "h": carry.h, "c": carry.c}, 1e-5)
