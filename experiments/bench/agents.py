"""The `ScannedRNN` of agents beside the one that they write by hand: over a window with resets,
with the backward pass, and step by step as in a rollout."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import jaxrnn.linen as rnn
from experiments.bench import calls
from experiments.bench.calls import FLAX, OURS, Calls
from experiments.bench.config import BenchConfig
from experiments.bench.shapes import Shape, parse
from experiments.report.prose import aligned
from experiments.training import folder

SHAPES = tuple(f"{B}x{T}x{H}x{H}" for T in (16, 32, 128) for B in (4, 64, 256) for H in (64, 128))
CELLS = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
DONE = 0.05  # the share of steps with which an episode begins


class ByHand(nn.Module):
    """What PureJaxRL, JaxMARL, Stoix and Mava have, with the cell's own first carry."""

    kind: Any
    units: int

    @functools.partial(
        nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False}
    )
    @nn.compact
    def __call__(self, carry: Any, inputs: tuple[Any, Any]) -> tuple[Any, Any]:
        xs, began = inputs
        cell = self.kind(self.units)
        first = cell.initialize_carry(jax.random.key(0), xs.shape)
        kept = jax.tree.map(lambda a, b: jnp.where(began[:, None], a, b), first, carry)
        return cell(kept, xs)


def run(config: BenchConfig, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Times both, and writes agents.json into the folder `path` after each shape.

    Returns:
        What agents.json holds: for each shape, cell and way the microseconds, and the time of the
        module by hand over ours with its interval.
    """
    env = json.loads((path / "env.json").read_text())
    results: dict[str, Any] = {"env": env, "rows": []}
    for shape in map(parse, config.shapes or SHAPES):
        for cell in CELLS:
            results["rows"] += calls.race(shape, made(cell, shape), config)
        folder.write_json(path / "agents.json", results)
        say(f"{shape}: done")
    return results


def made(cell: str, shape: Shape) -> Calls:
    """Calls without arguments, by way and library."""
    rng = np.random.default_rng(0)
    xs = jnp.asarray(rng.normal(size=(shape.T, shape.B, shape.I)).astype(np.float32))
    began = jnp.asarray(rng.random((shape.T, shape.B)) < DONE)
    weights = jnp.asarray(rng.normal(size=(shape.T, shape.B, shape.H)).astype(np.float32))
    ways: Calls = {f"{cell} {way}": {} for way in ("forward", "backward", "rollout")}
    modules = {OURS: rnn.ScannedRNN(shape.H, cell), FLAX: ByHand(CELLS[cell], shape.H)}
    for library, module in modules.items():
        carry = _first(module, xs[0])
        params = jax.jit(module.init)(jax.random.key(0), carry, (xs, began))
        runs = _programs(module, weights)
        for way, program in zip(ways, runs, strict=True):
            ways[way][library] = functools.partial(program, params, carry, xs, began)
    return ways


def _programs(module: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Forward, with all gradients, and one step at a time, each as one compiled program."""

    def forward(params: Any, carry: Any, xs: Any, began: Any) -> Any:
        return module.apply(params, carry, (xs, began))

    def loss(params: Any, carry: Any, xs: Any, began: Any) -> Any:
        return jnp.sum(module.apply(params, carry, (xs, began))[1] * weights)

    def rollout(params: Any, carry: Any, xs: Any, began: Any) -> Any:
        def step(carry: Any, seen: Any) -> Any:
            x, first = seen
            carry, ys = module.apply(params, carry, (x[None], first[None]))
            return carry, ys[0]

        return jax.lax.scan(step, carry, (xs, began))

    return jax.jit(forward), jax.jit(jax.value_and_grad(loss, (0, 1, 2))), jax.jit(rollout)


def _first(module: Any, x: Any) -> Any:
    if isinstance(module, ByHand):
        return module.kind(module.units).initialize_carry(jax.random.key(0), x.shape)
    return module.initialize_carry(x.shape[0], module.hidden_size, module.cell)


def report(results: dict[str, Any]) -> str:
    """The table."""
    head = ("shape", "way", "us", "by hand us", "by hand / jaxrnn")
    return "\n".join(
        [
            "ScannedRNN, B x T x I x H: microseconds of a window, the median over the rounds, and "
            "the time of the module by hand over it, with its 95 % interval.",
            "",
            *aligned([head, *map(calls.line, results["rows"])]),
        ]
    )
