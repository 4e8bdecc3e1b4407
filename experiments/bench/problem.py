"""One problem for all peers: random weights, inputs and cotangents, and the answers in float64."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.bench.shapes import GATES, Job
from jaxrnn import GRUCell, LSTMCell, RNNCell, Stack
from jaxrnn.cells import GRUCarry, GRUParams, LSTMCarry, LSTMParams, RNNCarry, RNNParams

# of the batch: their outputs and gradients are compared, which keeps the float64 run short
CHECKED_ROWS = 32
CELLS = {"lstm": LSTMCell, "gru": GRUCell, "rnn": RNNCell}
CARRIES: dict[str, Any] = {"lstm": LSTMCarry, "gru": GRUCarry, "rnn": RNNCarry}


class Weights(NamedTuple):
    """The parameters of one layer and direction. The GRU's b_hn is zero for all:
    Flax NNX has none.
    """

    w_x: Any  # [I, G, H], gates i f g o, r z n
    w_h: Any  # [H, G, H]
    b: Any  # [G, H]


class Outputs(NamedTuple):
    ys: Any  # [T, B, directions * H]
    state: tuple[Any, ...]  # h, and c for an LSTM: [layers * directions, B, H] each


class Answers(NamedTuple):
    outputs: Outputs
    weights: tuple[Weights, ...]  # the gradients, from here on
    xs: Any
    state: tuple[Any, ...]


class Problem(NamedTuple):
    job: Job
    weights: tuple[Weights, ...]  # indexed layer * directions + direction
    xs: np.ndarray  # [T, B, I]
    state: tuple[np.ndarray, ...]  # the initial state: h, and c for an LSTM
    lengths: np.ndarray | None  # [B] int32
    cotangents: Outputs  # what the backward pass starts from; zero in the padding


def draw(job: Job, seed: int) -> Problem:
    """Random numbers everywhere; weights and biases as torch draws them, from U(+-1/sqrt(H))."""
    rng = np.random.default_rng(seed)
    B, T, I, H, layers, *_ = job.shape
    normal = functools.partial(rng.standard_normal, dtype=np.float32)
    D = job.shape.directions
    G = GATES[job.cell]
    sizes = [[(width, G, H), (H, G, H), (G, H)] for width in job.widths for _ in range(D)]
    weights = tuple(
        Weights(*((rng.uniform(-1, 1, size) / H**0.5).astype(np.float32) for size in three))
        for three in sizes
    )
    state = tuple(normal((layers * D, B, H)) for _ in range(job.states))
    lengths = rng.integers(max(T // 4, 1), T + 1, B, dtype=np.int32) if job.shape.ragged else None
    cotangents = Outputs(
        normal((T, B, D * H)), tuple(normal((layers * D, B, H)) for _ in range(job.states))
    )
    if lengths is not None:
        lengths[0] = T
        cotangents.ys[np.arange(T)[:, None] >= lengths] = 0
    return Problem(job, weights, normal((T, B, I)), state, lengths, cotangents)


def checked_rows(problem: Problem) -> np.ndarray:
    """The rows of the batch that are compared, the first and the last among them."""
    B = problem.job.shape.B
    return np.unique(np.linspace(0, B - 1, min(B, CHECKED_ROWS)).astype(int))


def masked(problem: Problem) -> Outputs:
    """The cotangents with zeros in the rows that are not compared,
    so that they do not enter the gradients of the weights.
    """
    keep = np.isin(np.arange(problem.job.shape.B), checked_rows(problem))[:, None]
    return jax.tree.map(lambda a: np.where(keep, a, np.zeros_like(a)), problem.cotangents)


def our_params(job: Job, weights: tuple[Weights, ...]) -> tuple[Any, ...]:
    """The weights as the parameters of `our_stack`."""
    weights = tuple(w._replace(b=w.b.reshape(-1)) for w in weights)
    if job.cell == "gru":
        b_hn = jnp.zeros(job.shape.H, weights[0].b.dtype)
        return tuple(GRUParams(*w, b_hn=b_hn) for w in weights)
    return tuple({"lstm": LSTMParams, "rnn": RNNParams}[job.cell](*w) for w in weights)


def our_stack(job: Job) -> Stack:
    return Stack(
        (CELLS[job.cell](job.shape.H),) * job.shape.layers, bidirectional=job.shape.bidirectional
    )


def our_unroll(
    job: Job,
    method: str | None,
    remat: str,
    params: Any,
    xs: Any,
    state: tuple[Any, ...],
    lengths: Any,
) -> Outputs:
    """What `jaxrnn.unroll` computes."""
    mask = None if lengths is None else jaxrnn.lengths_to_mask(lengths, xs.shape[0])
    carry = tuple(CARRIES[job.cell](*arrays) for arrays in zip(*state, strict=True))
    after, ys = jaxrnn.unroll(
        our_stack(job), params, xs, carry, mask=mask, method=method, remat=remat
    )
    return Outputs(ys, tuple(jnp.stack(arrays) for arrays in zip(*after, strict=True)))


def reference(problem: Problem) -> Answers:
    """The answers for the checked rows: `method="scan"` in float64 on the CPU."""
    rows = checked_rows(problem)
    job = problem.job
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        wide = functools.partial(jax.tree.map, lambda a: np.asarray(a, np.float64))
        take = functools.partial(jax.tree.map, lambda a: np.asarray(a[:, rows], np.float64))
        lengths = None if problem.lengths is None else problem.lengths[rows]

        @jax.jit
        def answers(weights: Any, xs: Any, state: Any, cotangents: Any) -> Answers:
            def run(weights: Any, xs: Any, state: Any) -> Outputs:
                return our_unroll(job, "scan", "none", our_params(job, weights), xs, state, lengths)

            outputs, pull = jax.vjp(run, weights, xs, state)
            return Answers(outputs, *pull(cotangents))

        found = answers(
            wide(problem.weights), take(problem.xs), take(problem.state), take(problem.cotangents)
        )
        return jax.tree.map(np.asarray, found)


def error(problem: Problem, given: Answers, wanted: Answers) -> float:
    """The largest difference in any array, relative to the larger of 1
    and the wanted array's largest entry; NaN counts.

    Outputs in the padding do not count: the peers put different things there.
    """
    rows = checked_rows(problem)
    given = given._replace(outputs=jax.tree.map(lambda a: a[:, rows], given.outputs))
    given = given._replace(xs=given.xs[:, rows], state=tuple(s[:, rows] for s in given.state))
    if problem.lengths is not None:
        padding = np.arange(problem.job.shape.T)[:, None] >= problem.lengths[rows]
        ys = np.where(padding[..., None], wanted.outputs.ys, given.outputs.ys)
        given = given._replace(outputs=given.outputs._replace(ys=ys))
    errors = jax.tree.map(_difference, given, wanted)
    return float(np.max(jax.tree.leaves(errors)))


def _difference(given: np.ndarray, wanted: np.ndarray) -> float:
    if given.shape != wanted.shape:
        return float("inf")
    return float(np.max(np.abs(given - wanted)) / max(1.0, np.max(np.abs(wanted))))
