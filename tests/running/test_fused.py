"""`method="fused"` against the plain scan: every cell, over several chunks and a rest, whatever is
saved."""

import dataclasses
import functools
import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from oracles import CELLS, assert_close, inputs, parameters

import jaxrnn
from jaxrnn.cells import LSTMPCell, RNNCarry
from jaxrnn.running.chunks import cut, join
from jaxrnn.running.fused import layout
from jaxrnn.running.fused import method as fused_method

jitted = importlib.import_module("jaxrnn.running.unroll").jitted

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
T, BATCH = (
    37,
    (3,),
)  # in the CPU's form two chunks of 16, and a rest of 5; in "sqrt" six chunks of 6, and a rest of 1
RNG = np.random.default_rng(11)
MASK, RESET = RNG.random((T, *BATCH)) < 0.8, RNG.random((T, *BATCH)) < 0.1
CASES = [
    (*case[:2], remat)
    for case, remat in zip(CELLS, itertools.cycle(["none", "carry", "sqrt"]), strict=False)
]
OUTPUTS = ["lstm", "gru", "rnn_relu", "lstmp", "lem"]
CARRIES = pytest.mark.slow(
    "between the other two: less is saved than by one, more than by the other"
)
DEFAULT = {"gru", "gru_reset_before", "zoneout"}  # the others are slow tests
BY_NAME = {case[0]: case[1] for case in CELLS}
CASES += [("lstm", jaxrnn.LSTMCell(4), remat) for remat in ("none", "carry", "sqrt")]


@pytest.fixture(
    params=[
        "cpu",
        pytest.param("columns", marks=pytest.mark.slow("a layout that two tests hold by default")),
        "default",
    ]
)
def platform(request, monkeypatch):
    """Runs a test in each layout of the loops; all are correct on every platform."""

    def chosen(problem, reading):
        columns = request.param == "columns" and layout.can_turn(problem, reading)
        cpu = layout.Layout(project_inside=True, chunk=16, columns=columns, sum_inside=True)
        default = layout.all_at_once(problem.T)
        return (default if request.param == "default" else cpu,) * 2

    monkeypatch.setattr(fused_method, "layouts", chosen)
    monkeypatch.setattr(
        layout, "cpu_only", lambda: True
    )  # no branches for other platforms in the program
    jitted.clear_cache()
    yield request.param
    jitted.clear_cache()


def slopes(cell, p, xs, *, method, remat, **options):
    """The results of a run and the gradients of parameters and inputs."""

    def loss(p, xs):
        after, ys = jaxrnn.unroll(cell, p, xs, method=method, remat=remat, **options)
        leaves = [ys, *jax.tree.leaves(after)]
        return sum(
            (a * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)).sum() for a in leaves
        ), (after, ys)

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(p, xs)


def marked(number):
    name, _, remat = CASES[number]
    quick = name in DEFAULT or number >= len(CELLS)
    return pytest.param(
        number,
        id=f"{number}-{name}-{remat}",
        marks=[] if quick else [pytest.mark.slow("cells whose steps are made of the same parts")],
    )


def whole(name, reverse, method, remat):
    cell = BY_NAME[name]
    p, xs = parameters(cell), inputs(cell, T, BATCH)
    noise = cell.noise(jax.random.key(3), T, jnp.asarray(xs[0], jnp.float32))
    return slopes(
        cell,
        p,
        xs,
        method=method,
        remat=remat,
        mask=MASK,
        reset=RESET,
        noise=noise,
        reverse=reverse,
    )


@functools.cache
def scanned(name, reverse):
    """The plain scan, which knows no form of the loops and saves everything: once for all of
    them."""
    return whole(name, reverse, "scan", "none")


@pytest.mark.parametrize("number", [marked(number) for number in range(len(CASES))])
def test_values_and_gradients_are_those_of_the_scan(number, platform):
    name, _, remat = CASES[number]
    reverse = number % 2 == 1
    assert_close(whole(name, reverse, "fused", remat), scanned(name, reverse))


def test_without_batch_and_for_one_step():
    cell = jaxrnn.GRUCell(4)
    for steps, batch in ((1, (2,)), (40, ()), (33, (2, 2))):
        p, xs = parameters(cell), inputs(cell, steps, batch)
        assert_close(*(slopes(cell, p, xs, method=m, remat="none") for m in ("fused", "scan")))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("remat", ["none", "sqrt", pytest.param("carry", marks=CARRIES)])
@pytest.mark.parametrize("name", slow.some(OUTPUTS, {"lstm", "gru"}.__contains__, "read alike"))
def test_the_outputs_stand_for_the_state_in_every_chunk(name, remat, reverse, platform):
    cell = BY_NAME[name]
    p, xs = parameters(cell), inputs(cell, T, BATCH)
    first = jax.tree.map(lambda a: 0.3 + a, jaxrnn.initial_carry(cell, p, BATCH))

    def run(method):
        def loss(p, xs, first):
            after, ys = jaxrnn.unroll(
                cell, p, xs, first, reset=RESET, reverse=reverse, method=method, remat=remat
            )
            return sum(
                (a * jnp.cos(jnp.arange(a.size)).reshape(a.shape)).sum()
                for a in [ys, *jax.tree.leaves(after)]
            )

        remat = "none" if method == "scan" else kind
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(p, xs, first)

    kind = remat
    assert_close(run("fused"), run("scan"))


@pytest.mark.parametrize(
    "cell, arrays", [(jaxrnn.LSTMCell(64), 5), (jaxrnn.GRUCell(64), 4), (jaxrnn.RNNCell(64), 0)]
)
def test_what_is_saved_is_the_parts_of_the_products_and_what_of_the_carry_is_no_output(
    cell, arrays, monkeypatch
):
    monkeypatch.setattr(layout, "cpu_only", lambda: True)
    jitted.clear_cache()
    p, xs = cell.init(jax.random.key(0), 4), jnp.zeros((50, 3, 4))
    program = jax.make_jaxpr(lambda p: jax.vjp(lambda p: jaxrnn.unroll(cell, p, xs)[1], p))(p)
    (loop,) = [outputs for outputs in stacked(program.jaxpr) if outputs]
    assert loop == arrays + 1  # and the outputs


def stacked(jaxpr):
    """Of every loop of a program, how many arrays [50, ...] it writes."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield sum(v.aval.shape[:1] == (50,) for v in equation.outvars)
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr"),
        ):
            yield from (
                stacked(getattr(inner, "jaxpr", inner))
                if hasattr(getattr(inner, "jaxpr", inner), "eqns")
                else ()
            )


@dataclasses.dataclass(frozen=True)
class Mixed(jaxrnn.RNNCell):
    """A state of a dtype of its own, or outputs that are several arrays."""

    pair: bool = False

    def init_carry(self, params, like):
        h = super().init_carry(params, like).h
        return RNNCarry(h=h if self.pair else h.astype(jnp.float32))

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = super().step(params, RNNCarry(h=carry.h.astype(u.dtype)), u, dot)[1]
        h = h if self.pair else h.astype(jnp.float32)
        return RNNCarry(h=h), (h, 2 * h) if self.pair else h


@pytest.mark.parametrize("pair", [False, True])
def test_a_state_of_another_dtype_is_saved_and_outputs_may_be_several_arrays(pair, monkeypatch):
    monkeypatch.setattr(layout, "cpu_only", lambda: True)
    jitted.clear_cache()
    cell = Mixed(4, pair=pair)
    p, xs = parameters(cell), inputs(cell, T, BATCH)

    def run(method):
        def loss(p):
            after, ys = jaxrnn.unroll(cell, p, xs, method=method)
            return sum(
                (a.astype(jnp.float64) * jnp.cos(jnp.arange(a.size)).reshape(a.shape)).sum()
                for a in jax.tree.leaves((after, ys))
            )

        return jax.jit(jax.value_and_grad(loss))(p)

    assert_close(run("fused"), run("scan"), 1e-12 if pair else 1e-5)


def one_row(batch):
    size = 2**17 // 24 + 1
    mask = np.arange(20) < np.full((*batch, 1), 13)
    return (
        parameters(jaxrnn.GRUCell(8), size),
        0.02 * inputs(jaxrnn.GRUCell(8), 20, batch, size),
        np.moveaxis(mask, -1, 0),
    )


@functools.cache
def one_row_scanned(batch):
    p, xs, mask = one_row(batch)
    return slopes(jaxrnn.GRUCell(8), p, xs, method="scan", remat="none", mask=mask)


@pytest.mark.parametrize("remat", ["none", "carry", "sqrt"])
@pytest.mark.parametrize("batch, at_once", [((), True), ((1,), True), ((2,), False)])
def test_one_row_with_large_input_weights_is_projected_all_at_once(
    batch, at_once, remat, monkeypatch
):
    monkeypatch.setattr(layout, "cpu_only", lambda: True)
    jitted.clear_cache()
    p, xs, mask = one_row(batch)
    cell, options = jaxrnn.GRUCell(8), dict(mask=mask, remat=remat)
    program = str(jax.make_jaxpr(lambda p: jaxrnn.unroll(cell, p, xs, **options)[1])(p))
    together = 4 if remat == "sqrt" else 20
    assert (",".join(map(str, (together, *batch, 3, 8))) in program) == at_once
    assert_close(slopes(cell, p, xs, method="fused", **options), one_row_scanned(batch))


@pytest.mark.parametrize(
    "batch, dtype, turned",
    [
        ((8,), "float64", "512,8"),
        ((4, 2), "float64", "512,4,2"),
        ((2,), "float64", None),
        ((8,), "bfloat16", None),
    ],
)
def test_with_a_large_kernel_and_few_rows_the_batch_stands_last(batch, dtype, turned, monkeypatch):
    monkeypatch.setattr(layout, "cpu_only", lambda: True)
    jitted.clear_cache()
    cell = jaxrnn.LSTMCell(512)
    p, xs = parameters(cell, 3), jnp.asarray(inputs(cell, 3, batch, 3), dtype)
    options = dict(
        mask=jnp.ones((3, *batch), bool).at[1].set(False),
        reset=jnp.zeros((3, *batch), bool).at[2].set(True),
    )
    program = str(jax.make_jaxpr(lambda p: jaxrnn.unroll(cell, p, xs, **options)[1])(p))
    assert (
        turned in program if turned else ("[512," + ",".join(map(str, batch)) + "]") not in program
    )
    if dtype == "float64":
        assert_close(
            *(slopes(cell, p, xs, method=m, remat="none", **options) for m in ("fused", "scan"))
        )


def test_no_step_at_all_returns_the_first_carry():
    p, xs = parameters(jaxrnn.GRUCell(4)), inputs(jaxrnn.GRUCell(4), 0, (2,))
    carry, ys = jaxrnn.unroll(jaxrnn.GRUCell(4), p, xs, method="fused")
    assert ys.shape == (0, 2, 4) and (carry.h == 0).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("T", [1, 7, 33, 100])
def test_the_chunks_cover_every_step_once_in_the_order_of_the_loop(T, reverse):
    steps = np.arange(T)
    for length in (1, 6, 32, T):
        pieces = cut(steps, length, reverse)
        order = np.concatenate(
            [chunk for piece in pieces for chunk in (piece[::-1] if reverse else piece)]
        )
        assert (
            order.reshape(-1)[:: -1 if reverse else 1] if length == 1 else np.sort(order)
        ).tolist() == list(range(T))
        assert [int(piece[0, 0]) for piece in pieces] == sorted(
            (int(piece[0, 0]) for piece in pieces), reverse=reverse
        )
        assert join(pieces, reverse).tolist() == list(range(T))


def loops(jaxpr, depth=0):
    """Every loop of a program with its depth, and the products in its own body."""
    for equation in jaxpr.eqns:
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr"),
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                is_loop = equation.primitive.name == "scan"
                if is_loop:
                    yield (
                        depth,
                        sum(e.primitive.name == "dot_general" for e in inner.eqns),
                        equation.params["reverse"],
                    )
                yield from loops(inner, depth + is_loop)


@pytest.mark.parametrize(
    "cell, products",
    [(jaxrnn.LSTMCell(4), 1), (jaxrnn.GRUCell(4), 1), (LSTMPCell(4, 2), 2)],
)
def test_the_innermost_loop_of_the_backward_pass_has_one_matmul_per_product(
    cell, products, platform
):
    p, xs = parameters(cell), inputs(cell, 64, (3,))
    program = jax.make_jaxpr(
        jax.grad(lambda p: jaxrnn.unroll(cell, p, xs, method="fused")[1].sum())
    )(p)
    found = list(loops(program.jaxpr))
    chunks = platform != "default"  # elsewhere there is one chunk, and so no loop over them
    (backward,) = [count for depth, count, reverse in found if depth == chunks and reverse]
    assert backward == products, found


def test_a_program_for_another_platform_projects_all_inputs_at_once(monkeypatch):
    monkeypatch.setattr(layout, "cpu_only", lambda: False)
    jitted.clear_cache()
    cell = jaxrnn.LSTMCell(4)
    p, xs = parameters(cell), inputs(cell, 64, (3,))
    run = jax.jit(lambda p: jaxrnn.unroll(cell, p, xs, method="fused")[1])
    texts = {
        name: run.trace(p).lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")
    }
    assert "64x3x4x4" in texts["cuda"] and "64x3x4x4" not in texts["cpu"]
    assert_close(*(slopes(cell, p, xs, method=m, remat="none") for m in ("fused", "scan")))


def test_memory_beyond_the_outputs_grows_with_the_square_root_of_the_length():
    cell = jaxrnn.GRUCell(16)
    q = cell.init(jax.random.key(0), 4, jnp.float32)

    def beyond(T, method, remat):
        xs = jax.ShapeDtypeStruct((T, 8, 4), jnp.float32)
        grad = jax.grad(
            lambda p, xs: jaxrnn.unroll(cell, p, xs, method=method, remat=remat)[1].sum()
        )
        cpu = jax.sharding.SingleDeviceSharding(
            jax.devices("cpu")[0]
        )  # a GPU's figure holds the workspace of its libraries
        p, xs = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=cpu), (q, xs)
        )
        temporary = jax.jit(grad).lower(p, xs).compile().memory_analysis().temp_size_in_bytes
        return temporary - 4 * T * 8 * 16  # the outputs' cotangent

    assert beyond(4096, "fused", "sqrt") < 2.6 * beyond(1024, "fused", "sqrt")
    assert (
        beyond(4096, "fused", "sqrt")
        < 0.3 * beyond(4096, "fused", "carry")
        < 0.15 * beyond(4096, "scan", "none")
    )
