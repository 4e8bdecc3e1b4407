"""Newton's method: its result is that of the loop whatever the iterations do, its gradients are
those of the solution, and the form of its matrices is what derivatives say.
"""

import dataclasses
import functools
import re
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import slow
import torture
from jax.sharding import AxisType, PartitionSpec
from oracles import EVERY, assert_close, inputs, parameters, randomised
from places import DOCS

import jaxrnn
from jaxrnn import cells
from jaxrnn.cells import (
    ConvLSTMCell,
    CoRNNCell,
    IndRNNCell,
    LEMCell,
    MinGRUCell,
    ParaGRUCell,
    ParaLSTMCell,
    SRUCell,
)
from jaxrnn.diagnostics import newton_convergence
from jaxrnn.methods import Newton
from jaxrnn.running.newton.structure import Coupling
from jaxrnn.wrappers import Block, LearnedInitialCarry, Residual, Zoneout

pytestmark = pytest.mark.usefixtures("quick_compilation")
T, BATCH = 11, (3,)
RNG = np.random.default_rng(4)
MASK = RNG.random((T, *BATCH)) < 0.8
RESET = RNG.random((T, *BATCH)) < 0.2
EXACT = Newton(tolerance=1e-13, iterations=30)

CELLS = {
    "paragru": ParaGRUCell(4),
    "paralstm": ParaLSTMCell(3),
    "indrnn": IndRNNCell(4),
    "sru": SRUCell(4),
    "lstm": jaxrnn.LSTMCell(3),
    "lem": LEMCell(4),
    "gru": jaxrnn.GRUCell(4),
    "linear": MinGRUCell(4),
    "oscillators": CoRNNCell(4),
    "learned": LearnedInitialCarry(ParaGRUCell(4)),
    "zoneout": Zoneout(ParaLSTMCell(3), h=0.2, c=0.1),
    "stack": jaxrnn.Stack((ParaGRUCell(4), Residual(jaxrnn.GRUCell(4)))),
    "block": Block(ParaGRUCell(4), mlp=5),
}


def setting(cell, batch=BATCH, steps=T):
    p, xs = parameters(cell), inputs(cell, steps, batch)
    with jax.enable_x64(True):
        first = jaxrnn.initial_carry(cell, p, batch)
    return p, xs, randomised(first)


def slopes(cell, p, xs, carry, method, **options):
    """The result, and the gradients of a sum of it with a weight for every entry."""

    def loss(p, xs, carry):
        result = jaxrnn.unroll(cell, p, xs, carry, method=method, **options)
        waves = (jnp.cos(jnp.arange(a.size, dtype=a.dtype)) for a in jax.tree.leaves(result))
        pairs = zip(jax.tree.leaves(result), waves, strict=True)
        return sum(jnp.vdot(w, jnp.sin(a).ravel()) for a, w in pairs), result

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(p, xs, carry)


@pytest.mark.parametrize(
    "name", slow.some(CELLS, {"paralstm", "lstm", "block"}.__contains__, "the same with others")
)
def test_values_and_all_gradients_are_those_of_the_loop(name, x64):
    cell = CELLS[name]
    p, xs, carry = setting(cell)
    xs = np.where(MASK[..., None], xs, np.nan)
    options = {"mask": MASK, "reset": RESET, "reverse": len(name) % 2 == 0}
    options["noise"] = cell.noise(jax.random.key(1), T, jnp.asarray(xs[0]))
    got = slopes(cell, p, xs, carry, EXACT, **options)
    assert_close(got, slopes(cell, p, xs, carry, "scan", **options), 1e-11)


@pytest.mark.parametrize("name", ["paragru", "gru"])
@pytest.mark.parametrize("batch", [(), (2, 2)], ids=str)
def test_any_number_of_batch_axes_and_steps(name, batch, x64):
    cell = CELLS[name]
    p, xs, carry = setting(cell, batch, 2)
    for steps in (0, 1, 2):
        got = jaxrnn.unroll(cell, p, xs[:steps], carry, method=EXACT)
        assert_close(got, jaxrnn.unroll(cell, p, xs[:steps], carry, method="scan"), 1e-12)


@pytest.mark.parametrize("name", ["paralstm", "gru"])
def test_both_modes_and_second_derivatives(name, x64):
    cell = CELLS[name]
    p, xs, carry = setting(cell)

    def loss(method, xs):
        after, ys = jaxrnn.unroll(cell, p, xs, carry, method=method, mask=MASK)
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(a**2) for a in jax.tree.leaves(after))

    way = jnp.cos(jnp.arange(xs.size, dtype=xs.dtype)).reshape(xs.shape)

    def everything(method, xs):
        f = functools.partial(loss, method)
        forward = jax.jvp(f, (xs,), (way,))
        reverse = jax.grad(lambda xs: jnp.vdot(jax.grad(f)(xs), way))(xs)
        mixed = jax.jvp(jax.grad(f), (xs,), (way,))
        return forward, reverse, mixed

    run = jax.jit(everything, static_argnums=0)
    assert_close(run(EXACT, xs), run("scan", xs), 1e-9)


@pytest.mark.parametrize("name", ["paragru", "lstm"])
def test_where_it_does_not_converge_the_loop_runs(name, x64):
    cell = CELLS[name]
    p, xs, carry = setting(cell, steps=40)
    wild = jax.tree.map(lambda a: 20 * a, p)
    few = Newton(iterations=2)
    (told,) = newton_convergence(cell, wild, xs, carry, method=few)
    assert not told.converged and told.iterations == 2 and not told.residual <= 1e-5
    got, want = (jaxrnn.unroll(cell, wild, xs, carry, method=m) for m in (few, "scan"))
    assert_close(got, want, 1e-14)
    got, want = (slopes(cell, wild, xs[:6], carry, m) for m in (Newton(iterations=1), "scan"))
    assert_close(got, want, 1e-11)


def test_a_loss_that_is_not_finite_is_the_loops_too():
    cell = CELLS["paragru"]
    p, xs, carry = setting(cell)
    xs[4, 1] = np.nan
    got, want = (jaxrnn.unroll(cell, p, xs, carry, method=m) for m in ("newton", "scan"))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_under_vmap_each_row_is_as_by_itself_and_a_converged_batch_runs_no_loop_beside(x64):
    cell = CELLS["paragru"]
    p, xs, carry = setting(cell, (2,))
    few = Newton(tolerance=1e-9, iterations=3)
    many = jax.tree.map(lambda a: np.stack([a, 0.1 * a, 30 * a]), p)
    run = functools.partial(jaxrnn.unroll, cell, method=few)
    got = jax.vmap(run, (0, None, None))(many, xs, carry)
    told = [
        newton_convergence(cell, jax.tree.map(lambda a, k=k: a[k], many), xs, carry, method=few)[0]
        for k in range(3)
    ]
    assert {bool(t.converged) for t in told} == {True, False}
    for k in range(3):
        alone = run(jax.tree.map(lambda a, k=k: a[k], many), xs, carry)
        assert_close(jax.tree.map(lambda a, k=k: a[k], got), alone, 1e-13)
    twice = jax.vmap(jax.vmap(run, (0, None, None)), (None, 0, None))
    both = twice(many, np.stack([xs, xs + 1]), carry)
    assert_close(jax.tree.map(lambda a: a[0], both), got, 1e-13)
    text = str(jax.make_jaxpr(twice)(many, np.stack([xs, xs + 1]), carry))
    assert re.search(r"\bcond\[", text)  # not both branches and a choice
    gradients = jax.vmap(jax.grad(lambda p: jnp.sum(run(p, xs, carry)[1] ** 2)))(many)
    for k in range(3):
        own = jax.tree.map(lambda a, k=k: a[k], many)
        scan = functools.partial(jaxrnn.unroll, cell, method="scan")
        want = jax.grad(lambda p, scan=scan: jnp.sum(scan(p, xs, carry)[1] ** 2))(own)
        assert_close(jax.tree.map(lambda a, k=k: a[k], gradients), want, 1e-6)


def test_in_windows_and_with_the_carries_of_all_steps(x64):
    cell = CELLS["paralstm"]
    p, xs, carry = setting(cell)
    for run in (
        jaxrnn.unroll_carries,
        functools.partial(jaxrnn.unroll_windows, window=4),
    ):
        got, want = (run(cell, p, xs, carry, reset=RESET, method=m) for m in (EXACT, "scan"))
        assert_close(got, want, 1e-12)


def test_a_batch_may_be_split_over_devices():
    cell = CELLS["gru"]
    p, xs, carry = setting(cell, (4,))
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec(None, "x")

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(PartitionSpec(), rows, PartitionSpec("x")),
        out_specs=(PartitionSpec("x"), rows),
    )
    def run(p, xs, carry):
        return jaxrnn.unroll(cell, p, xs, carry, method="newton")

    def loss(run, p):
        return jnp.sum(run(p, xs, carry)[1] ** 2)

    plain = functools.partial(jaxrnn.unroll, cell, method="scan")
    got, want = (jax.jit(jax.value_and_grad(functools.partial(loss, r)))(p) for r in (run, plain))
    assert_close(got, want, 1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_inputs_of_sixteen_bits_have_states_of_float32(dtype):
    cell = CELLS["paragru"]
    p, xs, _ = setting(cell)
    xs = jnp.asarray(xs, dtype)
    (carry, ys), (want, outputs) = (
        jaxrnn.unroll(cell, p, xs, method=m) for m in ("newton", "scan")
    )
    assert carry.h.dtype == jnp.float32 and ys.dtype == dtype
    assert_close((carry, ys), (want, outputs), 0.02)


ALONE = {
    name: cell
    for name, cell, _ in EVERY
    if not hasattr(cell, "unroll_layers") and cell.causal and cell.feature_axes == 1
}


def coupling(cell, steps=3):
    """What `explain` says of its matrices, or why there are none."""
    (told,) = jaxrnn.explain(cell, (steps, *BATCH, 3))
    return told.refused.get("newton")


@pytest.mark.parametrize("name", slow.some(ALONE, set(CELLS).__contains__, "the others"))
def test_the_form_of_a_cells_matrices_is_what_its_derivative_says(name, x64):
    cell = ALONE[name]
    p, xs, _ = setting(cell, ())
    prepared = cell.prepare(p)
    first = cell.init_carry(prepared, jnp.asarray(xs[0]))
    leaves = jax.tree.leaves(first)
    try:
        (told,) = jaxrnn.explain(cell, xs.shape, method="newton")
    except ValueError as error:
        refused = str(error)
        assert "several axes" in refused
        return
    if "no state" in told.details[0]:
        assert not leaves
        return
    u = cell.project(prepared, xs[0])
    jacobian = jax.jacfwd(lambda carry: cell.step(prepared, carry, u)[0])
    blocks = [
        np.asarray(block)
        for seed in (2, 3)
        for block in jax.tree.leaves(jacobian(randomised(first, seed)))
    ]
    moving = [b for b in blocks if b.shape[: b.ndim // 2] == b.shape[b.ndim // 2 :]]
    apart = len(moving) == len(blocks) and all(
        not np.any(b - np.diag(np.diag(b))) if b.ndim == 2 else False for b in moving
    )
    by_units = "keep to themselves" in told.details[1]
    assert not by_units or apart
    # what keeps to itself is seen to, if no leaf stays as it is
    assert by_units or not apart or len(leaves) > 1


class Carry(NamedTuple):
    h: jax.Array


@jax.custom_jvp
def crossed(a):
    """Each unit by itself, but for the derivative that it claims."""
    return jnp.tanh(a)


crossed.defjvp(lambda a, da: (jnp.tanh(a[0]), jnp.roll(da[0], 1, -1)))


@dataclasses.dataclass(frozen=True)
class Odd(torture.LinearDiagonal):
    kind: str = "crossed"

    def init_carry(self, params, like):
        return Carry(jaxrnn.zeros(like, self.hidden_size))

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = {
            "crossed": lambda: crossed(0.5 * carry.h) + u,
            "rolled": lambda: jnp.tanh(jnp.roll(carry.h, 1, -1)) + u,
            "looped": lambda: jax.lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h) + u, carry.h),
            "by itself": lambda: jnp.where(u > 0, jax.nn.relu(carry.h), jnp.sin(carry.h)) + u,
        }[self.kind]()
        return Carry(h), h


@pytest.mark.parametrize("kind", ["crossed", "rolled", "looped", "by itself"])
def test_odd_steps_have_the_gradients_of_the_loop(kind, x64):
    cell = Odd(3, kind)
    p, xs, carry = setting(cell)
    (told,) = jaxrnn.explain(cell, xs.shape, method="newton")
    assert ("keep to themselves" in told.details[1]) == (kind == "by itself")
    got = slopes(cell, p, xs, carry, dataclasses.replace(EXACT, iterations=60))
    assert_close(got, slopes(cell, p, xs, carry, "scan"), 1e-10)


def test_what_it_cannot_run_says_why():
    assert coupling(jaxrnn.GRUCell(33)) == (
        "its units act on each other, and it has 33, more than 32."
    )
    assert coupling(jaxrnn.LSTMCell(17)).startswith("its units act on each other, and it has 34")
    assert coupling(ParaGRUCell(1000)) is None
    (told,) = jaxrnn.explain(ConvLSTMCell(2), (3, 2, 8, 8, 3))
    assert "several axes of them" in told.refused["newton"]
    p = jaxrnn.GRUCell(40).init(jax.random.key(0), 3)
    with pytest.raises(ValueError, match='method="newton" cannot run GRUCell: its units act on'):
        jaxrnn.unroll(jaxrnn.GRUCell(40), p, jnp.zeros((3, 2, 3)), method="newton")
    with pytest.raises(ValueError, match="remat must be one of"):
        jaxrnn.unroll(jaxrnn.GRUCell(4), p, jnp.zeros((3, 2, 3)), method="newton", remat="carry")
    symbols = jax.export.symbolic_shape("T")
    cell = ParaGRUCell(4)
    p = cell.init(jax.random.key(0), 3)
    with pytest.raises(ValueError, match="sizes are symbols"):
        jax.export.export(jax.jit(lambda xs: jaxrnn.unroll(cell, p, xs, method="newton")[1]))(
            jax.ShapeDtypeStruct((*symbols, 3), jnp.float32)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0}, "tolerance must be a finite number above 0"),
        ({"tolerance": float("nan")}, "tolerance must be a finite number above 0"),
        ({"iterations": 0}, "iterations must be an integer of at least 1"),
        ({"guess": "zero"}, "guess must be one of"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Newton(**options)


def test_its_name_is_the_object_and_nothing_takes_it_by_itself():
    assert jaxrnn.explain(ParaGRUCell(4), (9, 2, 3), method="newton")[0].method == "newton"
    assert jaxrnn.explain(ParaGRUCell(4), (9, 2, 3))[0].method != "newton"
    assert hash(Newton()) == hash(Newton(1e-5, 8)) and Newton() == Newton(1e-5, 8, "input")
    assert Coupling(None, 3) == Coupling(None, 3)


PAGE = (DOCS / "linear_recurrences.md").read_text()
TABLE = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("name", "few", "many"), TABLE)
def test_iterations_are_those_of_the_page(name, few, many):
    cell = getattr(cells, name, None) or getattr(jaxrnn, name)
    cell = cell(16)
    p = cell.init(jax.random.key(0), 8)
    for steps, wanted in ((256, few), (2048, many)):
        xs = jax.random.normal(jax.random.key(1), (steps, 4, 8))
        (told,) = newton_convergence(cell, p, xs, method=Newton(iterations=30))
        few_more = 1 if int(wanted) > 10 else 0  # where each step is small, rounding decides
        assert bool(told.converged) and abs(int(told.iterations) - int(wanted)) <= few_more


def test_the_page_has_a_table():
    assert len(TABLE) >= 8


def test_convergence_of_each_part_of_a_stack():
    cell = CELLS["stack"]
    p, xs, _ = setting(cell)
    told = newton_convergence(cell, p, xs, mask=MASK, reset=RESET)
    assert len(told) == 2 and all(t.converged and t.residual <= 1e-5 for t in told)
    told = newton_convergence(CELLS["block"], *setting(CELLS["block"])[:2])
    assert len(told) == 3 and all(t.converged for t in told) and told[2].iterations == 0
    linear = newton_convergence(MinGRUCell(4), *setting(MinGRUCell(4))[:2])
    assert linear[0].iterations == 1
    with pytest.raises(TypeError, match=r"method must be a jaxrnn\.methods\.Newton"):
        newton_convergence(cell, p, xs, method="newton")
