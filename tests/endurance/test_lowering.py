"""What cannot be run here is made into a program for GPUs and TPUs at the least."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import export
from oracles import EVERY

import jaxrnn

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")
PLATFORMS = ("tpu", "cuda")
CELLS = {name: cell for name, cell, _ in EVERY}
T, B, I = 16, 4, 3


def shapes(cell, dtype):
    """Of the arguments of `loss`."""
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), I))
    spatial = (4,) * (cell.feature_axes - 1)
    xs = jax.ShapeDtypeStruct((T, B, *spatial, I), dtype)
    return params, xs, jax.ShapeDtypeStruct((T, B), jnp.bool_)


def loss(cell, method, params, xs, mask):
    found = jaxrnn.unroll(cell, params, xs, mask=mask, reset=~mask, method=method)
    leaves = jax.tree.leaves(found)
    return sum(jnp.sum(a.real.astype(jnp.float32)) for a in leaves)


def lowered(cell, method, dtype):
    """The program of a cell's values and gradients."""
    run = jax.value_and_grad(functools.partial(loss, cell, method), argnums=(0, 1))
    program = export.export(jax.jit(run), platforms=PLATFORMS)(*shapes(cell, dtype))
    assert program.platforms == PLATFORMS
    return program.mlir_module()


@pytest.mark.parametrize("name", sorted(CELLS))
def test_the_default_of_every_cell_has_a_program_for_accelerators(name):
    assert "stablehlo" in lowered(CELLS[name], None, jnp.float32)


@pytest.mark.slow("every method of every cell, in three dtypes")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", sorted(CELLS))
def test_every_method_that_takes_a_cell_has_a_program_for_accelerators(name, dtype):
    taken = []
    for method in ("scan", "fused", "affine", "newton"):
        try:
            program = lowered(CELLS[name], method, jnp.dtype(dtype))
        except (TypeError, ValueError) as error:
            assert f'method="{method}" cannot run' in str(error), method
        else:
            assert "stablehlo" in program
            taken.append(method)
    assert "scan" in taken
