"""How the loops of the fused method are laid out, by platform and static shape."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.backend
from jax import lax

from jaxrnn.cell import dot, rows_in_one
from jaxrnn.running.fused.reading import Reading, has_gates
from jaxrnn.running.problem import Problem

SMALL = 2**21  # bytes of arrays that stay in the cache


class Layout(NamedTuple):
    project_inside: bool  # inputs are projected step by step in the loop, not all at once
    chunk: int  # steps of a chunk of the backward pass
    columns: bool  # forward, the rows of the batch stand last in each array
    sum_inside: bool  # gradients of acting parameters add up in the loop, not after it


def layouts(problem: Problem, reading: Reading) -> tuple[Layout, Layout]:
    """The layouts for XLA:CPU and for all other platforms."""
    cpu = Layout(
        project_inside=_projects_inside(problem, reading),
        chunk=chunk_length(problem, reading),
        columns=_takes_columns(problem, reading),
        sum_inside=_sums_inside(),
    )
    return cpu, all_at_once(problem.T)


def all_at_once(T: int) -> Layout:
    """The layout on a GPU.

    On an H200, LSTM and GRU from (1024,1,256,256) to (256,64,512,512): projecting inputs in the
    loop took 1.2 to 1.5 times as long forward, chunks of T / 4 and T / 16 steps 1.07 to 1.2 times
    as long forward and backward, and adding gradients of acting parameters in the loop 1.1 times.
    """
    return Layout(project_inside=False, chunk=T, columns=False, sum_inside=False)


def _sums_inside() -> bool:
    """Whether gradients of acting parameters add up in the loop.

    After it, the elementwise part of a step runs once more for them: a layer-norm LSTM took 1.3
    times as long at (16,128,64,64) forward and backward. But where the batch may be split over
    devices, a sum over it in the loop is a message between them at each step.
    """
    return rows_in_one()


def _projects_inside(problem: Problem, reading: Reading) -> bool:
    """Whether a CPU projects inputs in the loop.

    Where gates are read together, all at once took 1.2 to 2.5 times as long forward, since each
    is read from an array of all inputs. But with one row per step the loop would
    read all input weights at each step: at (512,1,256,256), where they are 1 MB, all at once is 2.6
    times as fast forward; at (512,1,128,128) as fast. Without such gates all at once is 1.0 to 1.3
    times as fast, forward and backward too, as long as the projected inputs are few: at
    (512,32,128,128), where they are 8 MB, the loop is 1.2 times as fast forward and backward. And
    one row that meets a small input weight is projected in the loop, which is one kernel then: an
    RNN at (1024,1,32,32) is 1.15 times as fast forward.

    On a mesh the features of a second layer may be split: the loop would add their products up
    between the devices at each step.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if set(mesh.axis_names) - set(mesh.manual_axes):
        return False
    rows, features, weight = input_sizes(problem, reading)
    if gates_meet(reading):
        return rows > 1 or weight < 2**17
    return projects_one_row(problem, reading) or problem.T * rows * features * 4 > 2 * SMALL


def gates_meet(reading: Reading) -> bool:
    """Whether several gates of the inputs are read at once: there are more than products, between
    which each might be read alone."""
    gates = [u[-2] for u in reading.us if has_gates(u, reading.rows)]
    return max(gates, default=1) > max(sum(reading.recorded), 1)


def projects_one_row(problem: Problem, reading: Reading) -> bool:
    """Whether a step has one row, which meets a small input weight."""
    rows, _, weight = input_sizes(problem, reading)
    return rows == 1 and weight <= 2**10


def input_sizes(problem: Problem, reading: Reading) -> tuple[int, int, int]:
    """The rows of a step, pixels of a convolutional cell counted, the features that they are
    projected to, and the entries of the weight that does it."""
    *rows, I = problem.steps.xs.shape[1:]
    features = sum(math.prod(u[reading.rows :]) for u in reading.us)
    return math.prod(rows), features, I * features


def can_turn(problem: Problem, reading: Reading) -> bool:
    """Whether the rows of the batch can stand last in each array."""
    trace = problem.trace
    plain = problem.dot is dot and all(product.op is None for product in trace.products)
    leading = {leaf.shape[: 1 + reading.rows] for leaf in jax.tree.leaves(problem.steps)}
    meshless = not jax.sharding.get_abstract_mesh().explicit_axes
    return plain and not trace.unmarked and not trace.effects and len(leading) == 1 and meshless


def _takes_columns(problem: Problem, reading: Reading) -> bool:
    """Whether the rows of the batch stand last, so that XLA:CPU multiplies a kernel with columns.

    With 4 MB of kernel and few rows it is faster: forward 1.45 times for an LSTM at (32,32,768,768)
    and 1.2 times with the backward pass, GRU 1.1, RNN as before; at H = 512 as before (on jax 0.10
    LSTM 1.3). Nothing was gained from 64 rows on, at H = 384, and with 4 rows.
    """
    largest = max((product.w.aval.size for product in problem.trace.products), default=0)
    rows = math.prod(problem.batch)
    return 8 <= rows <= 48 and largest >= 2**20 and can_turn(problem, reading)


def chunk_length(problem: Problem, reading: Reading) -> int:
    """The steps of a chunk of the backward pass on a CPU.

    All at once is fastest where the cotangents of all products are 2 MB or less: 1.2 times at
    (128,16,64,64) against four chunks. Beyond, chunks of 32 steps to a sixteenth of T are as fast;
    fewer and longer ones take more memory, since a chunk of all that was saved is copied.
    """
    T = problem.T
    bytes_per_step = 4 * sum(map(math.prod, reading.products))
    if problem.remat == "carry":
        most = max(T // 16, 8)
    elif T * bytes_per_step <= SMALL:
        return T
    else:
        most = max(T // 16, 32)
    most = min(most, T)
    return next((n for n in range(most, most // 2, -1) if T % n == 0), most)


def on_platform(run: Callable[..., Any], layouts: tuple[Layout, Layout], *args: Any) -> Any:
    """`run(layout, *args)` with the layout for the platform that the program is compiled for.

    Forward and backward pass choose apart: what is kept has one structure in all layouts.
    """
    cpu, default = layouts
    # Nothing to choose from: half of the tracing is saved.
    if cpu_only():
        return run(cpu, *args)
    runs = {"cpu": functools.partial(run, cpu), "default": functools.partial(run, default)}
    return lax.platform_dependent(*args, **runs)


def cpu_only() -> bool:
    """Whether this process has no device but CPUs.

    A program that it exports for others is as correct there, and slower.
    """
    return set(jax.extend.backend.backends()) == {"cpu"}
