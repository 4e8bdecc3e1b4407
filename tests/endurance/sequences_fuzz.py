"""Random cells in random wrappers, run in random ways, against one another.

`python tests/endurance/sequences_fuzz.py --seed 0 --count 1000 --out FILE.json` draws
configurations and writes how many there were, the largest differences, and every case that failed.
A case is what one sequence is run by: a cell and how it is called. What it gives by its method,
values and gradients, is held against the plain scan and against a loop over the steps written here.
"""

import argparse
import collections
import dataclasses
import functools
import json
import os
import time
import traceback
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if __name__ == "__main__":
    import sys

    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "support")]
    import settings_of_scripts  # noqa: F401

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P
from oracles import EVERY

import jaxrnn
from jaxrnn import wrappers

I = 3
BASE = {name: cell for name, cell, _ in EVERY if cell.feature_axes == 1}
# float64 is what is asked of; what 16 and 32 bits round away is larger
TOLERANCE = {"float64": 1e-9, "float32": 2e-3, "bfloat16": 0.3}
NEWTON = 1e-4  # it ends where residuals are below 1e-5


@dataclasses.dataclass(frozen=True)
class Case:
    """How one sequence is run."""

    cell: jaxrnn.Cell
    T: int
    batch: tuple[int, ...]
    dtype: str
    mask: str  # "none", "lengths", "random", "nothing"
    reset: bool
    nan: bool  # in what is masked
    carry: bool  # given
    noise: bool
    reverse: bool
    window: int  # 0 is none
    method: str | None
    remat: str
    under: str  # "plain", "jit", "vmap", "shard_map"
    seed: int


# --- drawing --------------------------------------------------------------------------------------


def wrapped(cell):
    """Wrappers around a cell; some of them refuse some cells, by a TypeError or ValueError."""
    return st.one_of(
        st.builds(functools.partial(wrappers.Zoneout, cell), st.sampled_from([0.0, 0.3])),
        st.just(lambda: wrappers.VariationalDropout(cell, input=0.3, recurrent=0.2)),
        st.just(lambda: wrappers.DropConnect(cell, rate=0.3)),
        st.just(lambda: wrappers.RecurrentDropout(cell, rate=0.3)),
        st.just(lambda: wrappers.LayerNormInput(cell)),
        st.just(lambda: wrappers.RMSNormInput(cell)),
        st.just(lambda: wrappers.LearnedInitialCarry(cell)),
        st.just(lambda: wrappers.Residual(cell)),
        st.just(lambda: wrappers.Skip(cell)),
        st.just(lambda: wrappers.MultiHead(cell, 2)),
        st.just(lambda: wrappers.DaleLaw(cell)),
        st.just(lambda: wrappers.Sparse(cell, 0.5)),
        st.just(lambda: wrappers.Block(cell, mlp=4)),
        st.just(lambda: wrappers.Feedback(cell, output_size=2)),
        st.just(lambda: wrappers.AttentionInput(cell, memory_size=2, slots=3)),
        st.just(lambda: wrappers.Bidirectional(cell)),
    )


def made(make):
    """The cell, or no example where its constructor refuses."""
    try:
        return make() if callable(make) and not isinstance(make, jaxrnn.Cell) else make
    except (TypeError, ValueError):
        hypothesis.reject()


@st.composite
def cells(draw):
    """A cell of the list of all, up to three wrappers deep, or a stack of up to three."""
    layers = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        cell = BASE[draw(st.sampled_from(sorted(BASE)))]
        for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
            cell = made(draw(wrapped(cell)))
        layers.append(cell)
    if len(layers) == 1:
        return layers[0]
    both = draw(st.booleans()) and draw(st.booleans())
    stack = made(lambda: jaxrnn.Stack(tuple(layers), bidirectional=both))
    for _ in range(draw(st.sampled_from([0, 0, 1]))):
        stack = made(draw(wrapped(stack)))
    return stack


@st.composite
def cases(draw):
    """A case that can be run; what a cell refuses is drawn anew."""
    cell = draw(cells())
    under = draw(st.sampled_from(["plain", "jit", "vmap", "shard_map"]))
    batches = [(2,), (4,)] if under == "shard_map" else [(), (1,), (3,), (2, 2)]
    causal = cell.causal
    window = draw(st.sampled_from([0, 0, 1, 2, 4])) if causal else 0
    case = Case(
        cell=cell,
        T=draw(st.sampled_from([1, 2, 5, 8])),
        batch=draw(st.sampled_from(batches)),
        dtype=draw(st.sampled_from(["float64", "float64", "float64", "float32", "bfloat16"])),
        mask=draw(st.sampled_from(["none", "lengths", "random", "nothing"])),
        reset=draw(st.booleans()),
        nan=draw(st.booleans()),
        carry=draw(st.booleans()),
        noise=draw(st.booleans()) and under != "shard_map",
        reverse=draw(st.booleans()) and not window,
        window=window,
        method=draw(st.sampled_from([None, None, None, None, "fused", "newton", "affine"])),
        remat=draw(st.sampled_from(["none", "none", "carry", "sqrt"])),
        under=under,
        seed=draw(st.integers(0, 1000)),
    )
    return case


# --- running --------------------------------------------------------------------------------------


def step_by_step(case, cell, params, xs, carry, mask, reset, noise):
    """The loop that `unroll` stands for, from the cell's functions alone."""
    wide = jaxrnn.carry_dtype(xs.dtype)
    cast = lambda tree, dtype: jax.tree.map(  # noqa: E731
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.inexact) else a, tree
    )
    prepared = cell.prepare(cast(params, wide))
    first = cell.init_carry(prepared, jnp.zeros_like(xs[0], wide))
    carry = first if carry is None else jax.tree.map(lambda a, b: a.astype(b.dtype), carry, first)
    absorbed, left = (prepared, None) if noise is None else cell.absorb(prepared, noise)
    T = len(xs)
    order = range(T - 1, -1, -1) if case.reverse else range(T)
    if reset is not None and case.reverse:
        reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])
    ys = [None] * T
    for k, t in enumerate(order):
        if case.window and k % case.window == 0 and k:
            carry = jax.lax.stop_gradient(carry)
        if reset is not None:
            carry = rows(reset[t], first, carry)
        x = xs[t] if mask is None else rows(mask[t], xs[t], jnp.zeros_like(xs[t]))
        drawn = at(left, t)
        u = cast(cell.project(cast(absorbed, xs.dtype), x, cast(drawn, xs.dtype)), wide)
        after, y = cell.step(absorbed, carry, u)
        if mask is not None:
            after = rows(mask[t], after, carry)
            y = rows(mask[t], y, jax.tree.map(jnp.zeros_like, y))
        carry = after
        ys[t] = cast(y, xs.dtype)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ys)


def at(noise, t):
    """What is drawn for a step; what is held over time is the same for all."""
    return jax.tree.map(lambda a: a[min(t, len(a) - 1)], noise)


def rows(which, yes, no):
    def choose(a, b):
        return jnp.where(which.reshape(which.shape + (1,) * (a.ndim - which.ndim)), a, b)

    return jax.tree.map(choose, yes, no)


def weighted(tree, seed):
    """A number that depends on every entry of a tree, each in its own way."""
    total = jnp.zeros((), jnp.float64)
    for k, leaf in enumerate(jax.tree.leaves(tree)):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        weight = np.random.default_rng((seed, k)).normal(size=leaf.shape)
        parts = [leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf]
        for part in parts:
            total += jnp.vdot(jnp.asarray(weight), part.astype(jnp.float64))
    return total


class Drawn:
    """The arrays of a case."""

    def __init__(self, case: Case):
        random = np.random.default_rng(case.seed)
        dtype = jnp.dtype(case.dtype)
        size = 3 + (isinstance(case.cell, wrappers.Feedback))
        like = jnp.zeros((*case.batch, size), dtype)
        shapes = jax.eval_shape(lambda key: case.cell.init(key, size), jax.random.key(0))
        self.params = jax.tree.map(
            lambda a: jnp.asarray(0.4 * random.normal(size=a.shape), dtype), shapes
        )
        xs = random.normal(size=(case.T, *case.batch, size))
        self.mask = self.reset = self.noise = self.carry = None
        if case.mask == "lengths":
            lengths = random.integers(0, case.T + 1, size=case.batch)
            self.mask = np.arange(case.T).reshape((-1,) + (1,) * len(case.batch)) < lengths
        elif case.mask in ("random", "nothing"):
            share = 0.6 if case.mask == "random" else 0.0
            self.mask = random.random((case.T, *case.batch)) < share
        if self.mask is not None:
            if case.nan:
                xs[~self.mask] = np.nan
            self.mask = jnp.asarray(self.mask)
        if case.reset:
            self.reset = jnp.asarray(random.random((case.T, *case.batch)) < 0.3)
        if case.noise:
            self.noise = case.cell.noise(jax.random.key(case.seed), case.T, like)
        self.xs = jnp.asarray(xs, dtype)
        if case.carry:
            first = jaxrnn.initial_carry(case.cell, self.params, case.batch)
            self.carry = jax.tree.map(lambda a: _random_like(random, a), first)

    @property
    def traced(self):
        return (self.params, self.xs, self.carry)

    @property
    def rest(self):
        return (self.mask, self.reset, self.noise)


def _random_like(random, a):
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        return a
    return jnp.asarray(0.5 * random.normal(size=a.shape), a.dtype)


def gradients(run, case, traced, rest):
    """(carry, ys) and the gradients of a number made of both, by parameters, inputs and carry."""

    def loss(traced):
        found = run(*traced, *rest)
        return weighted(found, case.seed), found

    (_, found), grads = jax.value_and_grad(loss, has_aux=True, allow_int=True)(traced)
    return found, grads


def by_unroll(case, method, remat):
    """`unroll`, or `unroll_windows`, with the options of the case."""
    options = {"method": method, "remat": remat}
    if case.window:
        entry = functools.partial(jaxrnn.unroll_windows, window=case.window, **options)
    else:
        entry = functools.partial(jaxrnn.unroll, reverse=case.reverse, **options)

    def run(params, xs, carry, mask, reset, noise):
        return entry(case.cell, params, xs, carry, mask=mask, reset=reset, noise=noise)

    return run


def under(case, run):
    """The run as its users have it."""
    if case.under == "jit":
        return jax.jit(run)
    if case.under == "vmap":

        def twice(params, xs, *rest):
            both = jax.vmap(lambda x: run(params, x, *rest))(jnp.stack([xs, xs]))
            return jax.tree.map(lambda a: a[1], both)

        return twice
    if case.under == "shard_map":
        mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
        time, first = P(None, "d"), P("d")
        spec = (P(), time, first, time, time, P())
        return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=(first, time)))
    return run


def errors(got, want):
    """The largest difference of any leaf, relative to the larger of 1 and the largest entry."""
    assert jax.tree.structure(got) == jax.tree.structure(want), (
        jax.tree.structure(got),
        jax.tree.structure(want),
    )
    worst = 0.0
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, a.dtype, b.shape, b.dtype)
        if a.dtype == jax.dtypes.float0:  # the gradient in what is no number
            continue
        wide = np.complex128 if jnp.iscomplexobj(a) else np.float64
        a = np.asarray(a).astype(wide)
        b = np.asarray(b).astype(wide)
        if not np.isfinite(b).all():
            return None  # it overflowed: nothing is to be compared
        worst = max(worst, float(np.max(np.abs(a - b), initial=0) / max(1, abs(b).max(initial=0))))
        if np.isnan(worst):
            return float("inf")
    return worst


def check(case: Case) -> dict[str, float]:
    """The differences that were found, by what was compared.

    Raises:
        AssertionError: one is larger than rounding explains.
        Refused: the cell does not take it, with the library's own reason.
    """
    try:
        drawn = Drawn(case)
        run = under(case, by_unroll(case, case.method, case.remat))
        got = gradients(run, case, drawn.traced, drawn.rest)
    except (TypeError, ValueError) as error:
        if ours(error):
            raise Refused(str(error)) from error
        raise
    want = gradients(by_unroll(case, "scan", "none"), case, drawn.traced, drawn.rest)
    found = {"scan": errors(got, want)}
    if case.cell.causal:
        loop = functools.partial(step_by_step, case, case.cell)
        found["loop"] = errors(want, gradients(loop, case, drawn.traced, drawn.rest))
    tolerance = TOLERANCE[case.dtype]
    if case.method == "newton":
        tolerance = max(tolerance, NEWTON)
    found = {key: value for key, value in found.items() if value is not None}
    wrong = {key: value for key, value in found.items() if not value <= tolerance}
    assert not wrong, f"{wrong}: {case}"
    return found


class Refused(Exception):
    """The library said that it does not take this, and why."""


def ours(error: BaseException) -> bool:
    """Whether an error was raised by a line of the library's, not by one of JAX's."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.sep}jaxrnn{os.sep}" in last.filename


# --- the long run ---------------------------------------------------------------------------------


def fuzz(seed: int, count: int, minutes: float, out: Path) -> dict:
    """Runs `count` cases, or as many as there are minutes for, and writes what came out."""
    tally = collections.Counter()
    worst: dict[str, tuple[float, str]] = {}
    failed: list[dict[str, str]] = []
    kinds = collections.Counter()
    began = time.monotonic()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(cases())
    def one(case):
        if time.monotonic() - began > 60 * minutes:
            return
        try:
            found = check(case)
        except Refused as reason:
            tally["refused"] += 1
            kinds[str(reason)[:60]] += 1
            return
        except Exception as error:
            tally["failed"] += 1
            failed.append({"case": repr(case), "error": f"{type(error).__name__}: {error}"[:2000]})
            return
        tally["held"] += 1
        for key, value in found.items():
            name = f"{key}, {case.dtype}" + (", newton" * (case.method == "newton"))
            if value >= worst.get(name, (-1.0, ""))[0]:
                worst[name] = (value, repr(case))
        if tally.total() % 100 == 0:
            jax.clear_caches()
            out.write_text(json.dumps(summary(), indent=1) + "\n")
            print(dict(tally), f"{time.monotonic() - began:.0f} s", flush=True)

    def summary():
        return {
            "seed": seed,
            "jax": jax.__version__,
            "seconds": round(time.monotonic() - began),
            **tally,
            "worst": {key: {"error": e, "case": c} for key, (e, c) in sorted(worst.items())},
            "refusals": dict(kinds.most_common(40)),
            "failures": failed,
        }

    one()
    out.write_text(json.dumps(summary(), indent=1) + "\n")
    return summary()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with jax.enable_x64(True):
        found = fuzz(given.seed, given.count, given.minutes, given.out)
    print({k: v for k, v in found.items() if isinstance(v, int)})


if __name__ == "__main__":
    main()
