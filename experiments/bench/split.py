"""The batch split over CPU devices, in the same way for every peer that runs on JAX:
`shard_map` over the batch.

A loop of small products leaves the second core idle for much of the time; two loops over half the
batch each do not.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.bench.peers import BOTH, FORWARD
from experiments.bench.peers.program import Program
from experiments.bench.problem import Outputs

AXIS = "batch"
LEAST_BATCH = 16  # below it a half is too small to be worth a thread


def splits(B: int, devices: int) -> bool:
    return B >= LEAST_BATCH and B % devices == 0


def layouts(batch_first: bool) -> tuple[Any, ...]:
    """How params, xs, state, lengths and cotangents lie over the devices:
    parameters whole on each.
    """
    rows: Any = PartitionSpec(None, AXIS)
    sequence = PartitionSpec(AXIS) if batch_first else rows
    return PartitionSpec(), sequence, rows, PartitionSpec(AXIS), Outputs(sequence, rows)


def place(tree: Any, layout: Any, devices: int) -> Any:
    """The arrays of `tree` spread over the devices as `layout` says, a prefix of it."""
    mesh = mesh_of(devices)
    spread = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        layout,
        is_leaf=lambda a: isinstance(a, PartitionSpec),
    )
    return None if tree is None else jax.device_put(tree, spread)


def mesh_of(devices: int) -> Mesh:
    return Mesh(np.array(jax.devices("cpu")[:devices]), (AXIS,))


def split(
    program: Program, functions: dict[str, Callable[..., Any]], devices: int
) -> dict[str, Callable[..., Any]]:
    """`functions` of a program, by mode, each device with its part of the batch.

    Gradients of the parameters are added up once, after the whole backward pass. Nothing in these
    programs communicates, so `check_vma=False`: with the check, autodiff adds the parameters'
    gradients up in every step for peers that do not mark them as varying.
    """
    params, xs, state, lengths, outputs = layouts(program.batch_first)

    def both(*args: Any) -> Any:
        results, (gradients, *others) = functions[BOTH](*args)
        return results, (lax.psum(gradients, AXIS), *others)

    def over(
        function: Callable[..., Any], inputs: tuple[Any, ...], results: Any
    ) -> Callable[..., Any]:
        return jax.shard_map(
            function, mesh=mesh_of(devices), in_specs=inputs, out_specs=results, check_vma=False
        )

    given = (params, xs, state, lengths)
    return {
        FORWARD: over(functions[FORWARD], given, outputs),
        BOTH: over(both, (*given, outputs), (outputs, (params, xs, state))),
    }
