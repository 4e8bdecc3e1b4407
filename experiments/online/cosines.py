"""How near approximate gradients are to the exact one, and what all of them cost."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.bench import measure, stats
from experiments.cells import CELLS
from experiments.online.config import OnlineConfig
from experiments.online.learners import FORWARD
from jaxrnn import online

LAGS = (1, 2, 5, 10, 20, 50)
METHODS = ("snap1", "eprop", "uoro")
STACKED = ("lru", "mingru", "indrnn")
# H, B, cell: RTRL beside backpropagation through 100 steps
COSTS = ((32, 1, "mingru"), (32, 16, "mingru"), (128, 1, "mingru"), (128, 16, "mingru"))
COSTS += ((128, 1, "lru"), (128, 16, "lru"))
STEPS = 100
ROWS = 32


def cosines(config: OnlineConfig, name: str) -> list[dict[str, Any]]:
    """Of a loss of the last of some steps, in all parameters of a cell as it is drawn: for each
    method the cosine to the exact gradient, by number of steps."""
    cell = CELLS[name].make(config.hidden_size, max(config.lags))
    learners: dict[str, online.Learner] = {method: FORWARD[method](cell) for method in METHODS}
    return list(_compared(config, name, learners, {"": _whole}))


def stacks(config: OnlineConfig) -> Iterator[dict[str, Any]]:
    """The same of `RTRL` in stacks, whose layers are learned each by itself: of the gradient of all
    parameters, and of those of the lowest layer."""
    parts: dict[str, Callable[[Any], Any]] = {"": _whole, ", lowest layer": _lowest}
    for name, layers in itertools.product(STACKED, (2, 3)):
        cell = jaxrnn.Stack((CELLS[name].make(config.hidden_size, max(config.lags)),) * layers)
        yield from _compared(config, f"{layers} x {name}", {"rtrl": online.RTRL(cell)}, parts)


def _compared(
    config: OnlineConfig,
    name: str,
    learners: dict[str, online.Learner],
    parts: dict[str, Callable[[Any], Any]],
) -> Iterator[dict[str, Any]]:
    """A row for each number of steps, learner and part of the parameters."""
    cell = next(iter(learners.values())).cell
    exact = jax.jit(jax.grad(functools.partial(_last, cell)))
    near = {method: jax.jit(functools.partial(forward, own)) for method, own in learners.items()}
    for lag in LAGS:
        problems = [_problem(cell, lag, config.seed + k) for k in range(config.seeds)]
        wanted = [exact(*problem) for problem in problems]
        for method, run in near.items():
            found = [run(*problem) for problem in problems]
            for part, of in parts.items():
                pairs = zip(found, wanted, strict=True)
                values = [round(_cosine(of(got), of(want)), 4) for got, want in pairs]
                yield {"cell": name, "lag": lag, "method": method + part, "cosines": values}


def _whole(gradient: Any) -> Any:
    return gradient


def _lowest(gradient: Any) -> Any:
    """Of a stack."""
    return gradient[0]


def _cosine(got: Any, want: Any) -> float:
    a = _flat(got)
    b = _flat(want)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def forward(learner: online.Learner, params: Any, xs: Any, weights: Any) -> Any:
    """The gradient of a weighted sum of the last outputs."""
    asked = jnp.arange(len(xs)) == len(xs) - 1

    def loss(_: Any, y: Any, now: Any) -> Any:
        return jnp.where(now, jnp.sum(y * weights), 0.0)

    return online.learn(learner, params, xs, asked, loss).gradients[0]


def _last(cell: jaxrnn.Cell, params: Any, xs: Any, weights: Any) -> Any:
    return jnp.sum(jaxrnn.unroll(cell, params, xs)[1][-1] * weights)


def _problem(cell: jaxrnn.Cell, steps: int, seed: int) -> tuple[Any, Any, Any]:
    k_params, k_xs, k_weights = jax.random.split(jax.random.key(seed), 3)
    params = cell.init(k_params, input_size=4)
    xs = jax.random.normal(k_xs, (steps, ROWS, 4))
    size = jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs)[1]).shape[-1]
    return params, xs, jax.random.normal(k_weights, (size,))


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(a).ravel() for a in jax.tree.leaves(tree)])


def costs(config: OnlineConfig) -> list[dict[str, Any]]:
    """Time and memory of the gradient of a loss at each of 100 steps, by `RTRL` as they come and
    by backpropagation when they are over."""
    rows = []
    for size, batch, name in COSTS:
        cell = CELLS[name].make(size, STEPS)
        key = jax.random.key(config.seed)
        xs = jax.random.normal(key, (STEPS, batch, size))
        params = cell.init(key, input_size=size)
        runs = {"rtrl": _rtrl(cell, xs), "bptt": _backward(cell, xs)}
        programs = {k: run.lower(params).compile() for k, run in runs.items()}
        calls: list[Callable[[], Any]] = [
            functools.partial(_finished, program, params) for program in programs.values()
        ]
        times = measure.in_turn(calls, [1] * len(calls), [1] * len(calls), 15, config.seed)
        row: dict[str, Any] = {"cell": name, "hidden_size": size, "batch": batch}
        for k, (method, program) in enumerate(programs.items()):
            row[f"{method}_us"] = round(float(np.median(times[:, k])) / STEPS * 1e6, 1)
            row[f"{method}_bytes"] = program.memory_analysis().temp_size_in_bytes
        row["ratio"] = [round(float(r), 3) for r in stats.ratio(times[:, 0], times[:, 1])]
        rows.append(row)
    return rows


def _rtrl(cell: jaxrnn.Cell, xs: Any) -> Any:
    def loss(_: Any, y: Any, __: Any) -> Any:
        return jnp.sum(jnp.square(y))

    return jax.jit(
        lambda params: online.learn(online.RTRL(cell), params, xs, None, loss).gradients[0]
    )


def _backward(cell: jaxrnn.Cell, xs: Any) -> Any:
    return jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(jaxrnn.unroll(cell, p, xs)[1]))))


def _finished(program: Any, params: Any) -> None:
    jax.block_until_ready(program(params))
