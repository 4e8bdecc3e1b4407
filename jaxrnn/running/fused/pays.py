"""Where the fused method is faster than plain `lax.scan`: the one rule of the default.

It reads static facts of a step only. Measured on two cores with jax 0.12, forward and backward /
forward, scan's time over the fused method's, at (T,B,I,H) = (128,16,64,64), (64,64,32,128) and
(300,1,32,64) unless said:

| fact | without the rule | so |
|---|---|---|
| gates: scan reads each gate from one array of all inputs | 1.1-2.2 / 1.3-7 | both loops |
| no gates | 1.0-1.4 / 1.0 | the backward loop |
| no gate axis, one row: scan is one kernel there | 0.79-1.14 / 1.0 | scan |
| two gates of one product, one row | 1.9-2.1 / 0.83-0.98 | the backward loop |
| the same, an input weight of 32x64 | 2 / 1.22-1.46 | both loops |
| one gate, one row, an input weight of 32x32 | 1.4 / 1.15 | both loops |
| gates of one product, one row, an input weight of 32x192, 128x384 | 1.8 / 0.7-0.8 | backward |
| the same, of 32x96, 32x128 | 2 / 1.1-1.5 | both loops |
| blocks that are no dense matrix (block GRU) | 1.0-1.1 / 0.77-1.08 | the backward loop |
| no product (IndRNN) | 0.91-1.0 / 1.0 | scan |
| products beside `dot` (attention) | 0.84-1.1 / 1.0 | autodiff backward |
| a narrow product (rank 4; 8 units, 128 rows) | 0.8-1.0 / 1.0; 0.9 / 2.3 | autodiff backward |
| inputs wider than products (a product for two gates) | 0.93-0.96 / 2.6 | autodiff backward |
| blocks as a dense matrix, 2^22 multiplications a step | 0.81 / 1.0-1.6 | autodiff backward |
"""

import math

import jax

from jaxrnn.running.fused.layout import cpu_only, gates_meet, input_sizes, projects_one_row
from jaxrnn.running.fused.reading import Reading, has_gates
from jaxrnn.running.problem import Problem

WORK = (  # operations that are computed again in the backward loop, and cost more than an element
    "conv_general_dilated",
    "cond",
    "cumlogsumexp",
    "cumsum",
    "dot_general",
    "fft",
    "product",
    "reduce_window_sum",
    "scan",
    "sort",
    "triangular_solve",
    "while",
)
NARROW = 8  # multiplications for each number that a product reads or writes
ZEROS = 2**22  # multiplications of a step by dense matrices that stand for blocks
CHAIN = 3  # products of blocks in a step: of a block GRU the scan takes 0.76 of the time (16 rows)


def forward_pays(problem: Problem, reading: Reading) -> bool:
    """Whether the forward loop is faster, where nothing is saved for a backward pass."""
    gates = max((u[-2] for u in reading.us if has_gates(u, reading.rows)), default=1)
    if gates > 1:
        rows, _, weight = input_sizes(problem, reading)
        if not _all_plain(problem, reading):
            return False
        return rows > 1 or not gates_meet(reading) or weight <= (2**11 if gates == 2 else 2**12)
    return any(reading.recorded) and projects_one_row(problem, reading)


def may_differ(problem: Problem) -> bool:
    """Whether the forward loop of one method may go with the backward pass of another.

    One row may be one of many, under vmap. Then each has its own gradient of the weights, to be
    summed after the loop, since autodiff does not look into the differentiable shell: 0.75 times as
    fast as plain `lax.scan` with 16 rows at (128,64,64).
    """
    return problem.remat == "none" and math.prod(problem.steps.xs.shape[1:-1]) > 1


def backward_loses(problem: Problem, reading: Reading) -> str | None:
    """Why the backward loop is not faster, as a sentence; None where it is."""
    if not jax.sharding.get_abstract_mesh().empty:  # there scan would reduce at each step
        return None
    if not any(reading.recorded):
        return "its step has no product."
    if problem.remat != "none" or not cpu_only():  # not measured
        return None
    return _loses_by_work(problem, reading) or _loses_by_shape(problem, reading)


def _loses_by_work(problem: Problem, reading: Reading) -> str | None:
    if _works_beside(problem, reading):
        return "its step multiplies or loops beside `dot`, which would be computed again."
    if _features(reading.us, reading) > _features(reading.products, reading):
        return "its inputs are wider than its products."
    return None


def _loses_by_shape(problem: Problem, reading: Reading) -> str | None:
    # Under vmap one row is seen: what is said of one row must not be wrong of many.
    rows = math.prod(problem.steps.xs.shape[1:-1])
    if rows > 1:
        if rows * _dense_entries(problem, reading) >= ZEROS:
            return "its backward products would be of matrices that are mostly zeros."
        if sum(reading.recorded) >= CHAIN and not _all_plain(problem, reading):
            return "its step has several products of blocks, one behind another."
        narrow = _width(problem, reading) < NARROW
        return "its products are too narrow." if narrow else None
    if _multiplies_gates(reading) and _all_plain(problem, reading):
        return None
    return "its step has one row, and no product with a gate axis."


def _multiplies_gates(reading: Reading) -> bool:
    """Whether a product has a gate axis, if of one gate only, or each gate has a product."""
    if any(has_gates(shape, reading.rows) for shape in reading.products):
        return True
    return any(has_gates(u, reading.rows) for u in reading.us) and not gates_meet(reading)


def _features(shapes: tuple[tuple[int, ...], ...], reading: Reading) -> int:
    """The entries of arrays of one row."""
    return sum(math.prod(shape[reading.rows :]) for shape in shapes)


def _all_plain(problem: Problem, reading: Reading) -> bool:
    """Whether every recorded product is one of a vector and a matrix."""
    triples = zip(problem.trace.products, reading.recorded, reading.dense, strict=True)
    return all(dense or product.op is None for product, yes, dense in triples if yes)


def _dense_entries(problem: Problem, reading: Reading) -> int:
    """The entries of the matrices that stand for blocks."""
    pairs = zip(problem.trace.products, reading.dense, strict=True)
    products = (product for product, dense in pairs if dense)
    return sum(p.v.aval.shape[-1] * math.prod(p.out.aval.shape[reading.rows :]) for p in products)


def _works_beside(problem: Problem, reading: Reading) -> bool:
    """Whether a step does more beside its recorded products than elementwise work."""
    graph = problem.trace.graph
    varying = graph.depending_on([*graph.carry, *graph.u])
    needed = graph.behind([*graph.after, *graph.y], reading.recorded)
    for equation in graph.equations:
        own = equation.number is not None and reading.recorded[equation.number]
        used = set(equation.outputs) & needed & varying
        if used and equation.name in WORK and not own:
            return True
    return False


def _width(problem: Problem, reading: Reading) -> float:
    """Multiplications for each number read or written, of all recorded products of a row."""
    multiplied = moved = 0
    for product, yes in zip(problem.trace.products, reading.recorded, strict=True):
        if yes:
            read = math.prod(product.v.aval.shape[reading.rows :])
            written = math.prod(product.out.aval.shape[reading.rows :])
            multiplied += product.w.aval.size if product.op is not None else read * written
            moved += read + written
    return multiplied / moved
