"""`method="persistent"` against the plain scan, interpreted on the CPU; that it lowers for a GPU;
and what it refuses.

On a GPU a float32 run multiplies in TF32; the interpreter multiplies in float32: the tolerances
here are those of float32.
"""

import dataclasses
import functools
import importlib
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close, inputs, parameters, randomised

import jaxrnn
from jaxrnn.cells import (
    GRUCarry,
    IndRNNCell,
    LayerNormLSTMCell,
    LSTMCarry,
    LSTMPCell,
    PeepholeLSTMCell,
    RNNCarry,
)
from jaxrnn.hardware.persistent import blocks, kernel
from jaxrnn.running.method import DEFAULT
from jaxrnn.wrappers import VariationalDropout, Zoneout

persistent = importlib.import_module("jaxrnn.hardware.persistent.method")
jitted = importlib.import_module("jaxrnn.running.unroll").jitted

pytestmark = pytest.mark.usefixtures("quick_compilation")
new = pytest.mark.skipif(
    jax.__version_info__ < persistent.OLDEST, reason="the Mosaic GPU of this jax is another"
)
T, B = 4, 10  # two blocks, of which the second is not full


class Params(NamedTuple):
    w_x: Any  # [I, 2, H]
    w_h: Any  # [H, 2, H]
    s: Any  # [H]
    rate: Any  # []


@dataclasses.dataclass(frozen=True)
class Users(jaxrnn.Cell):
    """A cell that a user might write, whose numbers are not finite where s is zero: y = c', h' =
    tanh(c' / s)."""

    hidden_size: int

    def init(self, key, input_size, dtype=jnp.float32):
        I, H = input_size, self.hidden_size
        shapes = Params((I, 2, H), (H, 2, H), (H,), ())
        keys = jax.random.split(key, 4)
        leaves = [
            1 + 0.1 * jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=True)
        ]
        return Params(*leaves)

    def init_carry(self, params, like):
        return LSTMCarry(
            h=jaxrnn.zeros(like, self.hidden_size), c=jaxrnn.zeros(like, self.hidden_size)
        )

    def project(self, params, xs, noise=None):
        return jaxrnn.dot(xs, params.w_x)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        a, b = jaxrnn.gates(dot(carry.h * params.s, params.w_h))
        u_a, u_b = jaxrnn.gates(u)
        c = params.rate * carry.c + jax.nn.sigmoid(a * u_a) * jnp.tanh(b + u_b)
        h = jnp.tanh(c / params.s)
        return LSTMCarry(h=h, c=c), c


@dataclasses.dataclass(frozen=True)
class Learned(jaxrnn.GRUCell):
    """A GRU whose first state is its bias of the update gate: resets have a gradient."""

    def init_carry(self, params, like):
        return GRUCarry(h=jaxrnn.zeros(like, self.hidden_size) + params.b.reshape(3, -1)[1])


CELLS = {
    "lstm": jaxrnn.LSTMCell(20),
    "gru": jaxrnn.GRUCell(70),  # two warpgroups
    "gru_no_bias": jaxrnn.GRUCell(64, bias=False),  # none of whose tiles is padded
    "rnn": jaxrnn.RNNCell(5),
    "rnn_relu": jaxrnn.RNNCell(130, "relu"),  # three
    "peephole": PeepholeLSTMCell(20),
    "users": Users(20),
    "learned": Learned(7),
    "dropout": VariationalDropout(jaxrnn.LSTMCell(6), recurrent=0.4),
    "zoneout": Zoneout(jaxrnn.LSTMCell(6), h=0.3),
}


@pytest.fixture(autouse=True)
def clear():
    """No program that one test has made is found by another, which may run it elsewhere."""
    jitted.clear_cache()
    yield
    jitted.clear_cache()


@pytest.fixture
def interpreted(monkeypatch):
    """Interprets kernels, and raises where two warpgroups touch the same memory without a barrier
    in between."""
    from jax.experimental.pallas import mosaic_gpu as plgpu

    def wgmma(acc, a, b, multiply=plgpu.wgmma):
        # The interpreter looks for races in reads like these, but not in those of its wgmma.
        _ = a[...]
        _ = b[...]
        multiply(acc, a, b)

    monkeypatch.setattr(plgpu, "wgmma", wgmma)
    with persistent.interpreted(plgpu.InterpretGPUParams(detect_races=True)):
        yield


def problem(cell, dtype=jnp.float32, steps=T, batch=(B,)):
    """Parameters, inputs and a first carry, random and not zero."""
    p = jax.tree.map(
        lambda a: jnp.asarray(a / np.sqrt(max(a.shape[0], 4)) if a.ndim == 3 else a, jnp.float32),
        parameters(cell),
    )
    p = p._replace(s=jnp.abs(p.s) + 0.5) if isinstance(cell, Users) else p
    xs = jnp.asarray(inputs(cell, steps, batch), dtype)
    first = randomised(jax.eval_shape(lambda: jaxrnn.initial_carry(cell, p, batch, dtype)))
    return p, xs, jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), first)


def results(method, cell, p, xs, first, entry=jaxrnn.unroll, **options):
    """What a run gives, and the gradients of parameters, inputs and first carry."""

    def loss(p, xs, first):
        after, ys = entry(cell, p, xs, first, method=method, **options)
        leaves = [a.astype(jnp.float32) for a in (ys, *jax.tree.leaves(after))]
        loss = sum(
            (a * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)).sum() for a in leaves
        )
        return loss, (after, ys)

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(p, xs, first)


def rows(steps=T, batch=(B,)):
    rng = np.random.default_rng(5)
    return dict(
        mask=jnp.asarray(rng.random((steps, *batch)) < 0.7),
        reset=jnp.asarray(rng.random((steps, *batch)) < 0.3),
    )


def compare(cell, *given, tolerance=1e-5, **options):
    got, want = (results(method, cell, *given, **options) for method in ("persistent", "scan"))
    assert_close(got, want, tolerance)


@new
@pytest.mark.parametrize(
    "name, reverse", [*zip(CELLS, [False, True] * 5, strict=True), ("lstm", True), ("gru", False)]
)
def test_values_and_gradients_are_those_of_the_scan(name, reverse, interpreted):
    cell = CELLS[name]
    p, xs, first = problem(cell)
    noise = cell.noise(jax.random.key(3), T, xs[0])
    compare(cell, p, xs, first, noise=noise, reverse=reverse, **rows())


@new
@pytest.mark.parametrize("options", ["mask", "reset", "both"])
def test_masks_and_resets_each_by_itself(options, interpreted):
    given = {name: a for name, a in rows().items() if options in (name, "both")}
    compare(CELLS["learned"], *problem(CELLS["learned"]), **given)


@new
@pytest.mark.parametrize(
    "name, dtype",
    [
        ("lstm", jnp.bfloat16),
        ("gru", jnp.bfloat16),
        ("peephole", jnp.bfloat16),
        ("rnn", jnp.float16),
    ],
)
def test_a_16_bit_run_has_the_results_of_the_scan_within_its_rounding(name, dtype, interpreted):
    compare(CELLS[name], *problem(CELLS[name], dtype), tolerance=2e-2, **rows())


@new
@pytest.mark.parametrize(
    "steps, batch", [(1, (2,)), (1, ()), (3, (2, 3)), (2, (8,)), (8, (1,)), (0, (2,)), (2, (0,))]
)
def test_any_number_of_steps_and_batch_axes(steps, batch, interpreted):
    compare(CELLS["lstm"], *problem(CELLS["lstm"], steps=steps, batch=batch), **rows(steps, batch))


@new
def test_the_carries_of_all_steps_and_their_gradients(interpreted):
    compare(CELLS["lstm"], *problem(CELLS["lstm"]), entry=jaxrnn.unroll_carries, **rows())


@new
def test_every_direction_of_a_stack_is_a_kernel(interpreted):
    cell = jaxrnn.Stack((jaxrnn.RNNCell(5),), bidirectional=True)
    compare(cell, *problem(cell), mask=rows()["mask"])


@new
def test_a_batch_of_parameters(interpreted):
    cell, (p, xs, _) = CELLS["rnn"], problem(CELLS["rnn"])
    many = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), p)
    got, want = (
        jax.vmap(lambda p, m=m: jaxrnn.unroll(cell, p, xs, method=m))(many)
        for m in ("persistent", "scan")
    )
    assert_close(got, want, 1e-5)


@new
def test_with_one_buffer_for_the_operand_the_warpgroups_meet_twice(interpreted, monkeypatch):
    monkeypatch.setattr(blocks, "SLOTS", (1,))
    compare(CELLS["gru"], *problem(CELLS["gru"]))


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="its interpreter sees no such race")
@pytest.mark.parametrize("missing", ["barrier", "second buffer"])
def test_without_either_there_is_a_race(missing, interpreted, monkeypatch):
    if missing == "barrier":
        monkeypatch.setattr(kernel, "meet", lambda plgpu, barrier: None)
    else:
        monkeypatch.setattr(kernel, "_slot", lambda index, tile: 0 * index)
    p, xs, first = problem(CELLS["gru"])
    with pytest.raises(Exception, match="RACE DETECTED"):
        jax.block_until_ready(jaxrnn.unroll(CELLS["gru"], p, xs, first, method="persistent"))


def operations(jaxpr, inside=False):
    """The names of all operations, and whether they stand in a loop."""
    for equation in jaxpr.eqns:
        loop = inside or equation.primitive.name in ("scan", "while")
        yield equation.primitive.name, inside
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr"),
        ):
            inner = getattr(inner, "jaxpr", inner)
            yield from operations(inner, loop) if hasattr(inner, "eqns") else ()


@new
def test_the_weight_is_read_once_and_multiplied_in_the_loop(monkeypatch):
    monkeypatch.setattr(persistent, "_capabilities", lambda: {persistent.HOPPER})
    cell, (p, xs, first) = CELLS["gru"], problem(CELLS["gru"])
    traced = jax.make_jaxpr(lambda p: jaxrnn.unroll(cell, p, xs, first, method="persistent"))(p)
    found = list(operations(traced.jaxpr))
    assert [inside for name, inside in found if name == "copy_gmem_to_smem"] == [False]
    multiplied = [inside for name, inside in found if name == "wgmma_ref"]
    assert multiplied == [True] * 3  # one for each gate
    assert "dot_general" not in {name for name, inside in found if inside}


LARGEST = [  # the next does not fit
    (jaxrnn.LSTMCell, jnp.float32, 112),
    (jaxrnn.LSTMCell, jnp.bfloat16, 160),
    (jaxrnn.GRUCell, jnp.float32, 128),
    (jaxrnn.GRUCell, jnp.bfloat16, 192),
    (jaxrnn.RNNCell, jnp.float32, 216),
    (jaxrnn.RNNCell, jnp.bfloat16, 320),
]


def lowered(cell, dtype):
    """The program for a GPU; Mosaic checks layouts and the size of shared memory."""
    p, xs, first = problem(cell, dtype, batch=(200,))
    given = dict(mask=jnp.ones((T, 200), bool), reset=jnp.ones((T, 200), bool))

    def loss(p):
        return (
            jaxrnn.unroll(cell, p, xs, first, method="persistent", **given)[1]
            .astype(jnp.float32)
            .sum()
        )

    return jax.jit(jax.value_and_grad(loss)).trace(p).lower(lowering_platforms=("cuda",)).as_text()


@new
@pytest.mark.parametrize("make, dtype, largest", LARGEST)
def test_the_largest_kernels_lower_for_a_gpu_and_larger_ones_are_refused(
    make, dtype, largest, monkeypatch
):
    monkeypatch.setattr(persistent, "_capabilities", lambda: {persistent.HOPPER})
    assert lowered(make(largest), dtype).count("@mosaic_gpu") == 2
    with pytest.raises(
        ValueError,
        match=r"a weight of shape \(.*\) in .* and its operands do not fit the 227 KB on chip",
    ):
        lowered(make(largest + 1), dtype)


@new
@pytest.mark.slow("the interpreter runs the largest kernels warpgroup by warpgroup")
@pytest.mark.parametrize("make, dtype, largest", LARGEST)
def test_the_largest_kernels_have_the_results_of_the_scan(make, dtype, largest, interpreted):
    compare(
        make(largest),
        *problem(make(largest), dtype),
        tolerance=2e-2 if dtype == jnp.bfloat16 else 1e-5,
        **rows(),
    )


@new
@pytest.mark.parametrize("name", ["users", "dropout", "zoneout", "learned", "peephole"])
def test_the_kernels_of_other_cells_lower_for_a_gpu(name, monkeypatch):
    monkeypatch.setattr(persistent, "_capabilities", lambda: {persistent.HOPPER})
    assert lowered(CELLS[name], jnp.bfloat16).count("@mosaic_gpu") == 2


@dataclasses.dataclass(frozen=True)
class Odd(jaxrnn.RNNCell):
    """Steps that the kernel refuses."""

    kind: str = ""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        v = carry.h
        if self.kind == "loop":
            (a,) = jaxrnn.gates(
                u + jax.lax.fori_loop(0, 1, lambda _, a: a + dot(v, params.w_h), 0 * u)
            )
        elif self.kind == "op":
            (a,) = jaxrnn.gates(u + dot(v, params.w_h, functools.partial(jnp.tensordot, axes=1)))
        else:
            (a,) = jaxrnn.gates(u + dot(v, params.w_h))
        kinds = {
            "expm1": jnp.expm1,
            "soft_sign": jax.nn.soft_sign,
            "effect": lambda a: jax.debug.callback(lambda a: None, a) or jnp.tanh(a),
            "mean": lambda a: a - jnp.mean(a, -1, keepdims=True),
        }
        h = kinds.get(self.kind, jnp.tanh)(a)
        return RNNCarry(h=h), jnp.stack([h, h], -1) if self.kind == "pair" else h


REFUSED = [
    (
        LSTMPCell(4, 2),
        r"LSTMPCell: its step has 2 products with a weight, expected one. "
        r"method=None runs everything",
    ),
    (
        LayerNormLSTMCell(4),
        r"hidden units act on each other outside `dot` \(elementwise = False\)",
    ),
    (IndRNNCell(4), r"its step has 0 products"),
    (Odd(4, kind="loop"), r"calls `dot` inside a loop"),
    (Odd(4, kind="op"), r"must be `dot\(v, w\)` without `op`"),
    (Odd(4, kind="effect"), r"its step has effects, such as jax.debug.print"),
    (Odd(4, kind="expm1"), r"its step has the operation expm1, which the kernel has not"),
    (Odd(4, kind="soft_sign"), r"its step has the operation integer_pow with a negative exponent"),
    (Odd(4, kind="mean"), r"its step has the operation reduce_sum over the hidden units"),
    (Odd(4, kind="pair"), r"puts out \(1, 2\) for one hidden unit, expected \(\.\.\., 1\)"),
]


@pytest.mark.parametrize("cell, message", REFUSED)
def test_a_cell_that_it_cannot_run_is_refused_with_the_reason(cell, message):
    with pytest.raises(ValueError, match=message):
        jaxrnn.unroll(cell, *problem(cell)[:2], method="persistent")


def test_other_dtypes_and_options_are_refused(x64):
    cell, (p, xs, _) = CELLS["lstm"], problem(CELLS["lstm"])
    with pytest.raises(
        ValueError, match="tensor cores multiply float32 and 16-bit numbers, got xs of float64"
    ):
        jaxrnn.unroll(cell, p, xs.astype(jnp.float64), method="persistent")
    with (
        jax.default_matmul_precision("highest"),
        pytest.raises(ValueError, match="it multiplies in TF32"),
    ):
        jaxrnn.unroll(cell, p, xs, method="persistent")
    with pytest.raises(
        ValueError, match=r"remat must be one of \('none',\) for method='persistent', got 'carry'"
    ):
        jaxrnn.unroll(cell, p, xs, method="persistent", remat="carry")


@new
@pytest.mark.parametrize(
    "found, message", [({}, "here is no GPU"), ({"8.0"}, "here is GPUs of compute capability 8.0")]
)
def test_without_a_hopper_gpu_it_is_an_error(found, message, monkeypatch):
    monkeypatch.setattr(persistent, "_capabilities", lambda: found)
    with pytest.raises(
        ValueError, match=rf"a kernel for NVIDIA GPUs of the Hopper generation .*, and {message}"
    ):
        jaxrnn.unroll(CELLS["lstm"], *problem(CELLS["lstm"])[:2], method="persistent")


@new
@pytest.mark.gpu
@pytest.mark.parametrize(
    "name, dtype, tolerance", [("lstm", jnp.float32, 5e-3), ("gru", jnp.bfloat16, 2e-2)]
)
def test_on_a_gpu_the_results_are_those_of_the_scan_within_its_rounding(name, dtype, tolerance):
    if persistent.HOPPER not in persistent._capabilities():
        pytest.skip("there is no Hopper GPU")
    compare(
        CELLS[name], *problem(CELLS[name], dtype), tolerance=tolerance, **rows()
    )  # 5e-3: TF32 has 10 bits of mantissa


def test_an_older_jax_is_an_error(monkeypatch):
    monkeypatch.setattr(persistent, "OLDEST", (99, 1))
    with pytest.raises(
        ValueError, match=rf"it needs jax 99\.1 or newer, and this is {jax.__version__}"
    ):
        jaxrnn.unroll(CELLS["lstm"], *problem(CELLS["lstm"])[:2], method="persistent")


def test_it_is_never_chosen_by_default_and_pallas_is_not_imported_without_it():
    assert "persistent" not in DEFAULT
    code = "import sys, jaxrnn; sys.exit('jax.experimental.pallas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
