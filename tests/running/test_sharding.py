"""Sharded batches and sharded hidden units: the numbers of one device,
and no more communication than there must be.

The compiled program of two CPU devices is read: which collectives stand inside which loop.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from oracles import assert_close, inputs, parameters

import jaxrnn
import jaxrnn.linen
from jaxrnn.cells import PeepholeLSTMCell
from jaxrnn.modules.layers import hidden_last
from jaxrnn.wrappers import VariationalDropout, Zoneout

T, B, I, H = 64, 16, 4, 8  # two chunks of 32 steps in the backward pass
CELLS = {"lstm": jaxrnn.LSTMCell(H), "gru": jaxrnn.GRUCell(H)}
# as hidden units are that are worth sharding
WIDE = {"wide_lstm": jaxrnn.LSTMCell(192), "wide_gru": jaxrnn.GRUCell(216)}
# parameters that act inside the step otherwise than as biases
ELEMENTWISE = {"peephole": PeepholeLSTMCell(H)}
COLLECTIVE = re.compile(
    r" (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations)=\{?%?([\w.\-]+)")


def collectives(text):
    """Of every loop of a compiled program: whether it is an innermost one,
    and the collectives in its body.
    """
    parts = {}
    for line in text.splitlines():
        if line and not line[0].isspace() and line.endswith("{"):
            name = re.match(r"(?:ENTRY )?%?([\w.\-]+)", line)[1]
            parts[name] = lines = []
        elif line.startswith("  "):
            lines.append(line)

    def inside(name):
        """All lines of a computation and of what it calls, loops left out."""
        found = list(parts[name])
        for line in parts[name]:
            if " while(" not in line:
                found += [
                    inner
                    for called in CALLED.findall(line)
                    if called in parts
                    for inner in inside(called)
                ]
        return found

    bodies = {
        name
        for lines in parts.values()
        for line in lines
        for name in re.findall(r"body=%?([\w.\-]+)", line)
    }
    entry = next(
        re.match(r"ENTRY %?([\w.\-]+)", line)[1]
        for line in text.splitlines()
        if line.startswith("ENTRY")
    )
    everything = {name: inside(name) for name in (*bodies, entry)}
    kinds = {
        name: [found for line in lines for found in COLLECTIVE.findall(line)]
        for name, lines in everything.items()
    }
    innermost = {name for name in bodies if not any(" while(" in line for line in everything[name])}
    return {
        "innermost": [kinds[name] for name in innermost],
        "outer": [kinds[name] for name in bodies - innermost],
        "outside": kinds[entry],
    }


def setting(name):
    cell = (CELLS | WIDE | ELEMENTWISE)[name]
    p = jax.tree.map(lambda a: np.asarray(a, np.float32), parameters(cell, I))
    return cell, p, np.asarray(inputs(cell, T, (B,), I), np.float32)


def run(cell, p, xs):
    carry, ys = jaxrnn.unroll(cell, p, xs)
    return (ys**2).mean() + carry.h.mean()


def compiled(function, mesh, *placed):
    """A function of arrays and their specs, compiled for a mesh."""
    arrays = [
        jax.tree.map(lambda a, s: jax.device_put(a, NamedSharding(mesh, s)), tree, specs)
        for tree, specs in placed
    ]
    with jax.set_mesh(mesh):
        program = jax.jit(function).lower(*arrays).compile()
    return program(*arrays), collectives(program.as_text())


def everywhere(tree, spec):
    return jax.tree.map(lambda _: spec, tree)


@pytest.mark.parametrize("name", [*CELLS, *ELEMENTWISE])
def test_a_sharded_batch_needs_nothing_inside_the_loops_over_steps(name):
    cell, p, xs = setting(name)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    grad = jax.value_and_grad(lambda p, xs: run(cell, p, xs), argnums=(0, 1))
    got, found = compiled(grad, mesh, (p, everywhere(p, P())), (xs, P(None, "data")))
    assert_close(jax.tree.leaves(got), jax.tree.leaves(grad(p, xs)), 1e-5)
    assert len(found["innermost"]) == 2 and not any(found["innermost"])
    assert all(
        len(kinds) <= len(jax.tree.leaves(p)) and set(kinds) <= {"all-reduce"}
        for kinds in found["outer"]
    )
    _, found = compiled(
        lambda p, xs: jaxrnn.unroll(cell, p, xs)[1],
        mesh,
        (p, everywhere(p, P())),
        (xs, P(None, "data")),
    )
    assert len(found["innermost"]) == 1 and not any(found["innermost"]) and not found["outside"]


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=lambda a: a.name)
@pytest.mark.parametrize(
    "around",
    [Zoneout, lambda cell: VariationalDropout(cell, 0.3, 0.3, 0.3)],
)
def test_noise_drawn_for_an_unsharded_input_fits_a_sharded_one(around, axis_type):
    cell, (_, p, xs) = around(CELLS["lstm"]), setting("lstm")
    noise = cell.noise(jax.random.key(0), T, xs[0])
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(xs, NamedSharding(mesh, P(None, "data")))
        got = jax.jit(lambda p, xs: jaxrnn.unroll(cell, p, xs, noise=noise)[1])(p, sharded)
    assert_close(got, jaxrnn.unroll(cell, p, xs, noise=noise)[1], 1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_under_shard_map_weight_gradients_are_reduced_once_in_all(name):
    cell, p, xs = setting(name)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.shard_map(
        lambda p, xs: jax.lax.pmean(run(cell, p, xs), "data"),
        mesh=mesh,
        in_specs=(P(), P(None, "data")),
        out_specs=P(),
    )
    got, found = compiled(
        jax.value_and_grad(split), mesh, (p, everywhere(p, P())), (xs, P(None, "data"))
    )
    assert_close(
        jax.tree.leaves(got),
        jax.tree.leaves(jax.value_and_grad(lambda p: run(cell, p, xs))(p)),
        1e-5,
    )
    assert not any(found["innermost"]) and not any(found["outer"])
    # and of the loss
    assert len(found["outside"]) <= len(jax.tree.leaves(p)) + 1 and set(found["outside"]) == {
        "all-reduce"
    }


@pytest.mark.parametrize("name", WIDE)
def test_sharded_hidden_units_need_one_all_gather_per_step_forward(name):
    cell, p, xs = setting(name)  # wide enough that on a CPU the input is not joined to the state
    p = jax.tree.map(lambda a: a / 8, p)  # small enough that rounding errors do not grow
    mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Auto,))
    specs = jax.tree.map(lambda a, axes: P(*axes), p, hidden_last(p, "model"))
    _, found = compiled(lambda p, xs: jaxrnn.unroll(cell, p, xs)[1], mesh, (p, specs), (xs, P()))
    assert found["innermost"] == [["all-gather"]]
    grad = jax.value_and_grad(lambda p, xs: run(cell, p, xs), argnums=(0, 1))
    got, _ = compiled(grad, mesh, (p, specs), (xs, P()))
    assert_close(jax.tree.leaves(got), jax.tree.leaves(grad(p, xs)), 1e-5)


def test_the_reader_of_programs_sees_a_collective_inside_a_loop():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))

    def summed(xs):
        return jax.lax.scan(lambda c, x: (c + jnp.sum(x * c), None), jnp.float32(1), xs)[0]

    _, found = compiled(summed, mesh, (np.ones((4, 8), np.float32), P(None, "data")))
    assert found["innermost"] == [["all-reduce"]] and not found["outer"]


@pytest.mark.parametrize("name, hidden", [("LSTM", 192), ("GRU", 216), ("RNN", 192)])
def test_a_module_with_split_hidden_units_exchanges_the_state_once_a_step_and_nothing_else(
    name, hidden
):
    mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Auto,))
    xs = np.zeros((T, 2, I), np.float32)
    with jax.set_mesh(mesh):
        module = getattr(jaxrnn.linen, name)(I, hidden, 2, hidden_axis="model")
        boxed = module.init(jax.random.key(0), xs)
        specs = nn.get_partition_spec(boxed)
        variables = nn.meta.unbox(boxed)
    (_, found) = compiled(lambda v, xs: module.apply(v, xs)[0], mesh, (variables, specs), (xs, P()))
    assert found["innermost"] == [["all-gather"]] * 2  # a loop for each layer
