"""The affine method: what it reads from a step is so, and what it runs is what the scan gives."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import slow
import torture
from oracles import EVERY, LINEAR, assert_close, inputs, parameters, randomised

import jaxrnn
from jaxrnn.cells import (
    CausalConvCell,
    GatedMLPCell,
    HGRNCell,
    LRUCell,
    MinGRUCell,
    MinLSTMCell,
    QRNNCell,
    RGLRUCell,
    S5Cell,
    SRUCell,
)
from jaxrnn.wrappers import (
    Block,
    LayerNormInput,
    LearnedInitialCarry,
    Residual,
    Skip,
    VariationalDropout,
    Zoneout,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
T, BATCH = 9, (3,)
MASK = np.arange(27).reshape(9, 3) % 5 != 3
RESET = np.arange(27).reshape(9, 3) % 7 == 4
AROUND = {
    "zoneout": Zoneout(MinGRUCell(4), h=0.3),
    "residual": Residual(MinLSTMCell(3)),
    "skip": Skip(HGRNCell(4)),
    "layer norm of the input": LayerNormInput(RGLRUCell(4)),
    "learned start": LearnedInitialCarry(LRUCell(4, 3)),
    "dropout": VariationalDropout(MinGRUCell(4), input=0.2, output=0.3),
    "torture": next(cell for name, cell, _ in EVERY if name == "diagonal"),
}
CELLS = {name: cell for name, cell, _ in LINEAR} | AROUND
CONSTANT = {"lru", "s5", "learned start", "torture"}
# a stack is read layer by layer
ALONE = [
    (name, cell)
    for name, cell, _ in EVERY
    if not hasattr(cell, "unroll_layers") and name not in ("dense", "gated_mlp")
]
# linear in their state though nothing was written to make them so
ALSO = {"diagonal", "causal_conv"}


def refused(cell, shape=(T, *BATCH, 3), **options):
    (found,) = jaxrnn.explain(cell, shape, **options)
    return found.refused.get("affine")


def leaves(tree):
    return [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]


def slopes(cell, p, xs, carry, method, weights=jnp.cos, **options):
    """The results and the gradients of everything."""

    def loss(p, xs, carry):
        result = jaxrnn.unroll(cell, p, xs, carry, method=method, **options)
        total = sum(
            jnp.vdot(weights(jnp.arange(a.size, dtype=a.dtype)), jnp.sin(a).ravel())
            for a in leaves(result)
        )
        return total, result

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(p, xs, carry)


def setting(cell, batch=BATCH, T=T):
    p, xs = parameters(cell), inputs(cell, T, batch)
    with jax.enable_x64(True):
        first = jaxrnn.initial_carry(cell, p, batch)
    return p, xs, randomised(first)


@pytest.mark.parametrize(
    "rows",
    slow.some(
        ["mask and reset", "whole", "mask", "reset"],
        "mask and reset".__eq__,
        "less to do; one matrix for all steps is in the next test too",
    ),
)
@pytest.mark.parametrize("name", CELLS)
def test_values_and_all_gradients_are_those_of_the_scan(name, rows, x64):
    cell = CELLS[name]
    mask = MASK if "mask" in rows else None
    reset = RESET if "reset" in rows else None
    p, xs, carry = setting(cell)
    if mask is not None:
        xs = np.where(mask[..., None], xs, np.nan)
    noise = cell.noise(jax.random.key(3), T, jnp.asarray(xs[0]))
    reverse = len(name) % 2 == 0
    options = {"mask": mask, "reset": reset, "reverse": reverse, "noise": noise}
    got = slopes(cell, p, xs, carry, "affine", **options)
    assert_close(got, slopes(cell, p, xs, carry, "scan", **options), 1e-10)


class Carry(NamedTuple):
    h: jax.Array
    c: jax.Array


@dataclasses.dataclass(frozen=True)
class OutOfOrder(torture.LinearDiagonal):
    """h is c of one step before, and c of two inputs: the order of leaves is not that of time."""

    def init_carry(self, params, like):
        return Carry(*(jaxrnn.zeros(like, self.hidden_size) for _ in "hc"))

    def step(self, params, carry, u, dot=jaxrnn.dot):
        return Carry(h=carry.c, c=jnp.sin(u)), carry.h * u + carry.c**2


MOVED = {
    "convolution": CausalConvCell(4),
    "windows": QRNNCell(4, width=3),
    "no state": GatedMLPCell(5),
    "a block": Block(SRUCell(4, peepholes=False), mlp=5),
    "out of order": OutOfOrder(3),
    "learned start": LearnedInitialCarry(CausalConvCell(3)),
}


OTHER_WAY = pytest.mark.slow("the other direction of each: by default every second is reversed")
BOTH_WAYS = [
    pytest.param(name, reverse, marks=[] if reverse == (k % 2 == 1) else OTHER_WAY)
    for k, name in enumerate(MOVED)
    for reverse in (False, True)
]


@pytest.mark.parametrize("name, reverse", BOTH_WAYS)
def test_states_that_only_move_on_are_not_scanned(name, reverse, x64):
    """What comes before a reset is not seen, whatever it is; a mask leaves it to the loop."""
    cell = MOVED[name]
    p, xs, carry = setting(cell)
    reset = np.zeros((T, *BATCH), bool)
    reset[3] = True
    reset[5, 1] = True
    for options in ({"reset": reset}, {}, {"mask": MASK, "reset": reset}):
        given = {"reverse": reverse, **options}
        got = slopes(cell, p, xs, carry, None, **given)
        assert_close(got, slopes(cell, p, xs, carry, "scan", **given), 1e-10)
        run = jax.make_jaxpr(lambda xs, given=given: jaxrnn.unroll(cell, p, xs, carry, **given))
        scanned = " scan[" in str(run(xs))
        assert scanned == (
            name in ("windows", "a block") or ("mask" in options and name != "no state")
        )
    xs[2 if not reverse else 3] = np.nan
    after, ys = (
        jaxrnn.unroll(cell, p, xs, carry, reset=reset, reverse=reverse, method=method)
        for method in (None, "scan")
    )
    jax.tree.map(np.testing.assert_allclose, after, ys)
    assert np.isfinite(ys[1][4:] if not reverse else ys[1][:3]).all()


@dataclasses.dataclass(frozen=True)
class HeldFactor(torture.LinearDiagonal):
    """h' = c * h + u; no step changes c, but a reset does, where another one was given."""

    def init_carry(self, params, like):
        zero = jaxrnn.zeros(like, self.hidden_size)
        return Carry(h=zero, c=zero + 0.5)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = carry.c * carry.h + u
        return Carry(h=h, c=carry.c), h


@dataclasses.dataclass(frozen=True)
class Held(HeldFactor):
    """All of the carry is held."""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        return carry, carry.c * u + carry.h


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", [HeldFactor(3), Held(3)], ids=["one leaf", "all"])
def test_what_is_held_changes_at_a_reset(cell, reverse, x64):
    p, xs, carry = setting(cell)
    reset = np.zeros((T, *BATCH), bool)
    reset[3, :2] = True
    for given in ({"reset": reset}, {}, {"reset": reset, "mask": MASK}):
        want = slopes(cell, p, xs, carry, "scan", reverse=reverse, **given)
        for method in (None,) if isinstance(cell, Held) else (None, "affine"):
            assert_close(slopes(cell, p, xs, carry, method, reverse=reverse, **given), want, 1e-10)
    with pytest.raises(ValueError, match="it has no carry that changes"):
        jaxrnn.unroll(Held(3), p, xs, method="affine")


@pytest.mark.parametrize("batch", [(), (2, 2)], ids=str)
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", ["mingru", "lru"])
def test_any_number_of_batch_axes_and_steps(name, steps, batch, x64):
    cell = CELLS[name]
    p, xs, carry = setting(cell, batch, steps)
    got = slopes(cell, p, xs, carry, "affine")
    assert_close(got, slopes(cell, p, xs, carry, "scan"), 1e-10)
    nothing = jaxrnn.unroll(cell, p, xs[:0], carry, method="affine")
    assert_close(nothing, jaxrnn.unroll(cell, p, xs[:0], carry, method="scan"), 0)


@pytest.mark.parametrize("name", ["minlstm", "s5"])
def test_both_modes_and_second_derivatives(name, x64):
    cell = CELLS[name]
    p, xs, carry = setting(cell)

    def loss(method, xs):
        after, ys = jaxrnn.unroll(cell, p, xs, carry, method=method, mask=MASK)
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(a**2) for a in leaves(after))

    way = jnp.cos(jnp.arange(xs.size, dtype=xs.dtype)).reshape(xs.shape)

    def everything(method, xs):
        f = lambda xs: loss(method, xs)  # noqa: E731
        forward = jax.jvp(f, (xs,), (way,))
        reverse = jax.grad(lambda xs: jnp.vdot(jax.grad(f)(xs), way))(xs)
        mixed = jax.jvp(jax.grad(f), (xs,), (way,))
        return forward, reverse, mixed

    run = jax.jit(everything, static_argnums=0)
    assert_close(run("affine", xs), run("scan", xs), 1e-10)


def test_under_vmap_in_windows_and_with_the_carries_of_all_steps(x64):
    cell = RGLRUCell(4)
    p, xs, carry = setting(cell, (2, 3))
    got = jax.vmap(lambda xs: jaxrnn.unroll(cell, p, xs, method="affine"), 1)(xs)
    assert_close(got, jax.vmap(lambda xs: jaxrnn.unroll(cell, p, xs, method="scan"), 1)(xs))
    for run in (jaxrnn.unroll_carries, jaxrnn.unroll):
        several = [run(cell, p, xs, carry, method=method) for method in ("affine", "scan")]
        assert_close(*several)
    windows = [
        jaxrnn.unroll_windows(cell, p, xs, carry, window=4, method=method)
        for method in ("affine", "scan")
    ]
    assert_close(*windows)


def test_chunks_and_stacks_run_by_it_too(x64):
    stack = jaxrnn.Stack((MinGRUCell(4), LRUCell(4, 3)), bidirectional=True)
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    carry = randomised(jaxrnn.initial_carry(stack, p, BATCH))
    want = slopes(stack, p, xs, carry, "scan", mask=MASK)
    for remat in ("none", "sqrt"):
        assert_close(slopes(stack, p, xs, carry, "affine", mask=MASK, remat=remat), want, 1e-10)
    found = jaxrnn.explain(stack, (T, *BATCH, 3), method="affine")
    assert [one.method for one in found] == ["affine"] * 4


@pytest.mark.parametrize("name", CELLS)
def test_in_16_bits_the_state_is_float32_and_close_to_that_of_the_scan(name):
    cell = CELLS[name]
    p, xs, _ = setting(cell)
    p, xs = (jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), tree) for tree in (p, xs))
    got, want = (jaxrnn.unroll(cell, p, xs, method=method) for method in ("affine", "scan"))
    assert {a.dtype for a in leaves(got[0])} == {jnp.dtype("float32")}
    assert got[1].dtype == jnp.bfloat16
    assert_close(got[0], want[0], 1e-5)
    assert_close(got[1], want[1], 1e-2)


@pytest.mark.parametrize("name", CELLS)
def test_what_multiplies_the_state_is_known_to_be_the_same_at_every_step(name):
    (found,) = jaxrnn.explain(CELLS[name], (T, *BATCH, 3), method="affine")
    same = "every step multiplies its carry by the same numbers" in found.details
    assert same == (name in CONSTANT)
    (found,) = jaxrnn.explain(CELLS[name], (T, *BATCH, 3))
    assert (found.method == "affine") != same
    assert same or found.why == "its carry is linear, unit by unit."


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("name", ["lru", "s5"])
def test_by_default_the_same_numbers_are_multiplied_in_the_loop_however_many_units_there_are(
    name, rows
):
    cell = {"lru": LRUCell(64), "s5": S5Cell(64)}[name]
    (found,) = jaxrnn.explain(cell, (100, rows, 32))
    assert found.method == "scan"
    (conv,) = jaxrnn.explain(CausalConvCell(4), (100, rows, 64), mask=True)
    assert conv.method == "scan"


@pytest.mark.parametrize("name, cell", ALONE, ids=[name for name, _ in ALONE])
def test_what_is_read_of_each_cell_is_what_its_derivatives_say(name, cell, x64):
    """At two points: the same derivative, and none of a unit by another."""
    p, xs = parameters(cell), inputs(cell, 1, ())
    read = refused(cell, xs.shape) is None
    assert read == (name in ALSO or name in {case[0] for case in LINEAR})
    prepared = cell.prepare(p)
    u = cell.project(prepared, xs[0])
    first = cell.init_carry(prepared, jnp.asarray(xs[0]))
    jacobian = jax.jit(jax.jacfwd(lambda carry: cell.step(prepared, carry, u)[0]))
    blocks = [jax.tree.leaves(jacobian(randomised(first, seed))) for seed in (2, 3)]
    linear = all(np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*blocks, strict=True))
    apart = all(units_apart(a) for a in blocks[0])
    assert not read or (linear and apart)
    # what is linear unit by unit is found, but for shapes that differ
    assert read or not (linear and apart)


def units_apart(block):
    half = block.ndim // 2
    if block.shape[:half] != block.shape[half:]:
        return not np.any(block)
    size = int(np.prod(block.shape[:half]))
    matrix = np.asarray(block).reshape(size, size)
    return not np.any(matrix - np.diag(np.diag(matrix)))


@jax.custom_jvp
def doubled(a):
    return 2 * a


doubled.defjvp(lambda primals, tangents: (2 * primals[0], 2 * tangents[0] * primals[0]))

STEPS = {  # what a step makes of (h, c, u); and whether that is linear, unit by unit
    "filled": (lambda h, c, u: (h * jax.nn.sigmoid(u) + jax.nn.sigmoid(-u), c), True),
    "sums": (lambda h, c, u: (h + c - u, -c), True),
    "a shift": (lambda h, c, u: (u, h), True),
    "the input chooses": (lambda h, c, u: (jnp.where(u > 0, h, 2 * c), c * u), True),
    "a call": (lambda h, c, u: jax.jit(lambda h, c: (h * u, c / 3))(h, c), True),
    "an axis more and less": (lambda h, c, u: (h[None].sum(0) * u, jnp.stack([h, c])[1]), True),
    "axes there and back": (lambda h, c, u: ((h.T * 2).T, c.reshape(1, *c.shape)[0]), True),
    "gates of the state": (
        lambda h, c, u: tuple(jnp.unstack(jnp.stack([h, c], -2) * u[..., None, :], axis=-2)),
        True,
    ),
    "a checkpoint": (lambda h, c, u: jax.checkpoint(lambda h: (h * u, c))(h), True),
    "a comparison": (lambda h, c, u: (h - (h > 1).astype(h.dtype), c), False),
    "a whole number": (lambda h, c, u: (jnp.floor(h).astype(int).astype(h.dtype), -c), False),
    "turned by its sizes": (
        lambda h, c, u: (jax.lax.reshape(h, h.shape, dimensions=(1, 0)), -c),
        False,
    ),
    "a product with what never changes": (lambda h, c, u: (h * c, c), True),
    "a product": (lambda h, c, u: (h * c, -c), False),
    "a square": (lambda h, c, u: (h**2, -c), False),
    "divided by it": (lambda h, c, u: (u / (3 + h), -c), False),
    "it chooses": (lambda h, c, u: (jnp.where(h > 0, h, c), -c), False),
    "relu": (lambda h, c, u: (jax.nn.relu(h), -c), False),
    "a size": (lambda h, c, u: (jnp.abs(h), -c), False),
    "the largest": (lambda h, c, u: (jnp.maximum(h, c), -c), False),
    "rounded": (lambda h, c, u: (h.astype(jnp.bfloat16).astype(h.dtype), -c), False),
    "a derivative of its own": (lambda h, c, u: (doubled(h), -c), False),
    "no derivative": (lambda h, c, u: (jax.lax.stop_gradient(h) + c, -c), False),
    "units turned round": (lambda h, c, u: (h[..., ::-1], -c), False),
    "units rolled": (lambda h, c, u: (jnp.roll(h, 1, -1), -c), False),
    "a mean of units": (lambda h, c, u: (h - h.mean(-1, keepdims=True), -c), False),
    "a sum of rows": (lambda h, c, u: (h + h.sum(0), -c), False),
    "a turned matrix": (lambda h, c, u: (h.T.reshape(h.shape), -c), False),
    "units in pairs": (
        lambda h, c, u: (h.reshape(*h.shape[:-1], 2, 2).sum(-1).repeat(2, -1), -c),
        False,
    ),
    "running sums": (lambda h, c, u: (jnp.cumsum(h, -1), -c), False),
    "a loop of its own": (
        lambda h, c, u: (jax.lax.fori_loop(0, 2, lambda i, h: h * u, h), -c),
        False,
    ),
    "a branch": (lambda h, c, u: (jax.lax.cond(True, lambda h: h * u, lambda h: h, h), -c), False),
}


@dataclasses.dataclass(frozen=True)
class Odd(jaxrnn.Cell):
    kind: str
    output: Callable[..., jax.Array] | None = None

    def init(self, key, input_size, dtype=jnp.float32):
        return {"w": jnp.zeros((input_size, 4), dtype)}

    def input_size(self, params):
        return params["w"].shape[0]

    def init_carry(self, params, like):
        return Carry(h=jaxrnn.zeros(like, 4), c=jaxrnn.zeros(like, 4))

    def project(self, params, xs, noise=None):
        return jaxrnn.dot(xs, params["w"])

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h, c = STEPS[self.kind][0](*carry, u)
        y = jnp.tanh(h) * c + carry.h if self.output is None else self.output(h, c, u)
        return Carry(h=h, c=c), y


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_is_taken_where_it_is_linear_unit_by_unit_and_nowhere_else(kind, x64):
    cell = Odd(kind)
    assert (refused(cell) is None) == STEPS[kind][1]
    p, xs = parameters(cell), inputs(cell, 6, (4,))  # as many rows as units
    carry = randomised(jaxrnn.initial_carry(cell, p, (4,)))
    mask = MASK[:6, :1].repeat(4, 1)
    reset = np.arange(24).reshape(6, 4) % 7 == 3
    options = {"mask": mask, "reset": reset} if len(kind) % 2 else {}
    got = slopes(cell, p, xs, carry, "affine" if STEPS[kind][1] else None, **options)
    assert_close(got, slopes(cell, p, xs, carry, "scan", **options), 1e-10)


@pytest.mark.parametrize("method", ["affine", None])
def test_an_output_that_compares_the_state_or_has_no_derivative_at_zero(method, x64):
    def output(h, c, u):
        return jnp.sqrt(h) + (h > 0.6).astype(h.dtype)

    cell = Odd("filled", output)
    p, xs = parameters(cell), inputs(cell, 6, (4,))
    carry = jax.tree.map(jnp.zeros_like, jaxrnn.initial_carry(cell, p, (4,)))
    mask = MASK[:6, :1].repeat(4, 1)
    mask[0] = False  # the state that is held there is zero
    got, want = (
        slopes(cell, p, xs, carry, one, mask=mask, reset=mask ^ True) for one in (method, "scan")
    )
    assert_close(got, want, 1e-10)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["mingru", "lru"])
def test_a_reset_cuts_off_what_is_not_finite(name, wrong):
    cell = CELLS[name]
    p, xs, carry = setting(cell)
    reset = np.arange(27).reshape(9, 3) // 3 == 4
    xs[1] = wrong
    for method in ("affine", None):
        _, ys = jaxrnn.unroll(cell, p, xs, carry, reset=reset, method=method)
        assert np.isfinite(ys[4:]).all() and np.isnan(ys[2:4]).all()

        def loss(p, xs, method=method):
            return jnp.sum(jaxrnn.unroll(cell, p, xs, reset=reset, method=method)[1][4:] ** 2)

        slope = jax.grad(loss, 1)(p, xs)
        assert np.isfinite(slope[4:]).all() and np.abs(slope[4:]).max() > 0.01
    assert jaxrnn.explain(MinGRUCell(4), xs.shape, reset=True)[0].method == "affine"


def test_sizes_may_be_symbols_by_default():
    cell = MinGRUCell(4)
    p = cell.init(jax.random.key(0), 3)
    T, B = jax.export.symbolic_shape("T, B")
    run = jax.jit(lambda xs: jaxrnn.unroll(cell, p, xs)[1])
    made = jax.export.export(run)(jax.ShapeDtypeStruct((T, B, 3), jnp.float32))
    xs = jax.random.normal(jax.random.key(1), (5, 2, 3))
    assert_close(made.call(xs), run(xs), 1e-6)


def test_what_it_does_not_run_says_why():
    assert refused(jaxrnn.LSTMCell(4)) == "its carry is not linear."
    assert refused(jaxrnn.RNNCell(4, "linear")) == "its units act on each other."
    assert refused(Odd("units rolled")) == "its units act on each other."
    assert refused(MinGRUCell(4), remat="carry") == "it saves more than the carries."
    assert refused(SRUCell(4)) == "its carry is not linear."
    xs = jnp.zeros((3, 2, 3))
    for cell, options, words in (
        (jaxrnn.GRUCell(4), {}, 'method="affine" cannot run GRUCell: its carry is not linear.'),
        (MinGRUCell(4), {"remat": "carry"}, r"remat must be one of \('none', 'sqrt'\) for method"),
    ):
        p = cell.init(jax.random.key(0), 3)
        with pytest.raises(ValueError, match=words):
            jaxrnn.unroll(cell, p, xs, method="affine", **options)


@pytest.mark.parametrize("cell", [MinGRUCell(4), S5Cell(4, 3)], ids=["mingru", "s5"])
def test_a_batch_split_over_devices_gives_the_same_numbers(cell):
    p, xs, _ = setting(cell, (4,))
    p, xs = (jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), tree) for tree in (p, xs))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec(None, "data")
    split = jax.device_put(xs, jax.sharding.NamedSharding(mesh, spec))

    def loss(p, xs):
        return jnp.sum(jaxrnn.unroll(cell, p, xs)[1] ** 2)

    want = jax.jit(jax.grad(loss, (0, 1)))(p, xs)
    assert_close(jax.jit(jax.grad(loss, (0, 1)))(p, split), want, 1e-5)

    def shard(p, xs):
        return jax.lax.psum(loss(p, xs), "data")

    mapped = jax.shard_map(
        shard, mesh=mesh, in_specs=(jax.sharding.PartitionSpec(), spec), out_specs=jax.P()
    )
    assert_close(jax.jit(jax.grad(mapped, (0, 1)))(p, xs), want, 1e-5)
