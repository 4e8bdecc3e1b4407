"""A method of one's own in one's own file, and what every method leaves to the cell: its effects,
the held leaves of its carry, and one trace of its step.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from modules import APIS
from oracles import assert_close

import jaxrnn
from jaxrnn.methods import Fused, Method, Refusal, Scan
from jaxrnn.running.unroll import jitted

pytestmark = pytest.mark.usefixtures("quick_compilation")
T, BATCH, INPUT, HIDDEN = 13, 3, 5, 4
LSTM = jaxrnn.LSTMCell(HIDDEN)


@dataclasses.dataclass(frozen=True)
class Unrolled(Method):
    """A plain scan, several steps of which are one round of the loop."""

    steps: int

    def run(self, plan, problem):
        def body(carry, inputs):
            after, y = problem.advance(carry, *inputs)
            return after, problem.out(after, y)

        inputs = (problem.project(), problem.steps)
        return lax.scan(body, problem.carry, inputs, reverse=problem.reverse, unroll=self.steps)

    def describe(self, plan):
        return (f"{self.steps} steps are one round of the loop",)


class Short(Unrolled):
    """Has a limit."""

    def plan(self, problem):
        return Refusal("it runs 4 steps at most.") if problem.T > 4 else None


class Setting(NamedTuple):
    params: Any
    xs: Any
    carry: Any
    options: dict[str, Any]


def setting(cell, steps=T, batch=BATCH):
    """Random arrays for a cell, with a mask that has holes and with resets."""
    keys = jax.random.split(jax.random.key(0), 5)
    xs = jax.random.normal(keys[1], (steps, batch, INPUT))
    params = cell.init(keys[0], INPUT, xs.dtype)
    first = jaxrnn.initial_carry(cell, params, (batch,))
    leaves, tree = jax.tree.flatten(first)
    drawn = [
        jax.random.normal(k, a.shape)
        for k, a in zip(jax.random.split(keys[2], len(leaves)), leaves, strict=True)
    ]
    rows = (steps, batch)
    mask = jax.random.bernoulli(keys[3], 0.7, rows)
    reset = jax.random.bernoulli(keys[4], 0.2, rows)
    return Setting(params, xs, jax.tree.unflatten(tree, drawn), {"mask": mask, "reset": reset})


def size(tree):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))


def result(cell, params, xs, carry, **options):
    """Values and all gradients."""

    def loss(params, xs, carry):
        found = jaxrnn.unroll(cell, params, xs, carry, **options)
        return size(found), found

    run = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    return jax.jit(run)(params, xs, carry)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("x64")
def test_ones_own_method_has_the_values_and_gradients_of_the_scan(reverse):
    params, xs, carry, options = setting(LSTM)
    options = options | {"reverse": reverse, "remat": "none"}
    got = result(LSTM, params, xs, carry, method=Unrolled(4), **options)
    want = result(LSTM, params, xs, carry, method="scan", **options)
    assert xs.dtype == jnp.float64
    assert_close(got, want)


@pytest.mark.usefixtures("x64")
def test_ones_own_method_runs_every_direction_of_a_stack():
    stack = jaxrnn.Stack((LSTM, jaxrnn.GRUCell(3)), bidirectional=True)
    params, xs, carry, options = setting(stack)
    got = result(stack, params, xs, carry, method=Unrolled(4), **options)
    assert_close(got, result(stack, params, xs, carry, method="scan", **options))
    found = jaxrnn.explain(stack, xs.shape, method=Unrolled(4))
    assert [each.method for each in found] == ["Unrolled"] * 4


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_ones_own_method_runs_in_a_module(api):
    xs = jax.random.normal(jax.random.key(0), (T, BATCH, INPUT))
    outputs = []
    for method in (Unrolled(4), "scan"):
        module = api("LSTM", INPUT, HIDDEN, bidirectional=True, method=method)
        outputs.append(module(xs, lengths=jnp.asarray([T, 5, 0])))
    assert_close(outputs[0], outputs[1], 1e-5)


def test_ones_own_method_gives_the_carries_of_all_steps_and_runs_in_windows():
    params, xs, carry, options = setting(LSTM)
    for entry in (jaxrnn.unroll_carries, functools.partial(jaxrnn.unroll_windows, window=5)):
        got = entry(LSTM, params, xs, carry, method=Unrolled(4), **options)
        assert_close(got, entry(LSTM, params, xs, carry, method="scan", **options), 1e-5)


def test_explain_names_ones_own_method_and_tells_its_details():
    (found,) = jaxrnn.explain(LSTM, (T, BATCH, INPUT), method=Unrolled(4))
    assert (found.method, found.why) == ("Unrolled", "it was asked for.")
    assert found.details == ("4 steps are one round of the loop",)


def compiled(*methods):
    """How many programs some methods compile, of a cell that no other test has."""
    cell = jaxrnn.LSTMCell(7)
    params = cell.init(jax.random.key(0), 2)
    before = jitted._cache_size()
    for method in methods:
        jaxrnn.unroll(cell, params, jnp.ones((3, 2)), method=method)
    return jitted._cache_size() - before


def test_equal_methods_compile_once_and_others_do_not():
    assert compiled(Unrolled(2), Unrolled(2)) == 1
    assert compiled(Unrolled(2), Unrolled(3)) == 1  # the first is there already


@pytest.mark.parametrize(("name", "method"), [("scan", Scan()), ("fused", Fused())])
def test_a_name_and_its_object_compile_once(name, method):
    assert compiled(name, method, name) == 1


class Plain(Method):
    def run(self, plan, problem):
        return Scan().run(plan, problem)


@dataclasses.dataclass(frozen=True)
class Listed(Plain):
    sizes: list[int]


@pytest.mark.parametrize("method", [Plain(), Listed([1])], ids=["no dataclass", "a list"])
def test_a_method_that_is_not_hashable_by_value_is_refused(method):
    with pytest.raises(TypeError, match="make it a frozen dataclass"):
        jaxrnn.unroll(LSTM, setting(LSTM)[0], jnp.ones((2, INPUT)), method=method)


@pytest.mark.parametrize("method", [Unrolled, Scan])
def test_a_class_in_place_of_an_object_is_refused(method):
    message = rf"method is the class {method.__name__}; make one: {method.__name__}\(\)\."
    with pytest.raises(TypeError, match=message):
        jaxrnn.unroll(LSTM, setting(LSTM)[0], jnp.ones((2, INPUT)), method=method)


def test_a_method_that_refuses_raises_with_its_sentence():
    params, xs, carry, _ = setting(LSTM)
    message = r'method="Short" cannot run LSTMCell: it runs 4 steps at most\.'
    with pytest.raises(ValueError, match=message):
        jaxrnn.unroll(LSTM, params, xs, carry, method=Short(2))
    got = jaxrnn.unroll(LSTM, params, xs[:4], carry, method=Short(2))
    assert_close(got, jaxrnn.unroll(LSTM, params, xs[:4], carry), 1e-5)


# Effects

SEEN: list[float] = []


@dataclasses.dataclass(frozen=True)
class Telling(jaxrnn.LSTMCell):
    """Calls back and prints at each step."""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        after, y = super().step(params, carry, u, dot)
        jax.debug.callback(lambda h: SEEN.append(float(h.sum())), after.h)
        jax.debug.print("h {h}", h=after.h.sum())
        return after, y


def told(run, capfd):
    """How often a run called back, and printed."""
    SEEN.clear()
    jax.block_until_ready(run())
    jax.effects_barrier()
    return len(SEEN), capfd.readouterr().out.count("h ")


@pytest.mark.parametrize("method", ["scan", "fused", None, Unrolled(4)], ids=str)
def test_effects_of_a_step_take_place_once_a_step(method, capfd):
    cell = Telling(32)
    params = cell.init(jax.random.key(0), INPUT)
    xs = jnp.ones((T, BATCH, INPUT))
    assert told(lambda: jaxrnn.unroll(cell, params, xs, method=method), capfd) == (T, T)


@pytest.mark.parametrize("method", ["scan", "fused", None, Unrolled(4)], ids=str)
def test_effects_of_a_step_do_not_take_place_again_in_the_backward_pass(method, capfd):
    cell = Telling(32)
    params = cell.init(jax.random.key(0), INPUT)
    xs = jnp.ones((T, BATCH, INPUT))

    def loss(params):
        return size(jaxrnn.unroll(cell, params, xs, method=method))

    assert told(lambda: jax.value_and_grad(loss)(params), capfd) == (T, T)


# A memory in the carry that no step changes


class AttendingParams(NamedTuple):
    w_x: Any  # [I, H]
    w_h: Any  # [H, H]
    w_a: Any  # [H, H]
    memory: Any  # [M, H], the memory of a new sequence


class AttendingCarry(NamedTuple):
    h: Any  # [..., H]
    memory: Any  # [..., M, H]


@dataclasses.dataclass(frozen=True)
class Attending(jaxrnn.Cell):
    """Looks up, at each step, a memory that is given with the first carry."""

    hidden_size: int
    slots: int
    telling: ClassVar[bool] = False

    def init(self, key, input_size, dtype=jnp.float32):
        H = self.hidden_size
        shapes = ((input_size, H), (H, H), (H, H), (self.slots, H))
        keys = jax.random.split(key, len(shapes))
        pairs = zip(keys, shapes, strict=True)
        return AttendingParams(*(0.3 * jax.random.normal(k, shape, dtype) for k, shape in pairs))

    def init_carry(self, params, like):
        memory = jaxrnn.zeros(like, self.slots, self.hidden_size) + params.memory
        return AttendingCarry(h=jaxrnn.zeros(like, self.hidden_size), memory=memory)

    def project(self, params, xs, noise=None):
        return jaxrnn.linear(xs, params.w_x, None)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        scores = jnp.einsum("...md,...d->...m", carry.memory, carry.h)
        seen = jnp.einsum("...m,...md->...d", jax.nn.softmax(scores), carry.memory)
        h = jnp.tanh(u + dot(carry.h, params.w_h) + dot(seen, params.w_a))
        if self.telling:
            jax.debug.callback(lambda h: SEEN.append(float(h.sum())), h)
        return carry._replace(h=h), h


class TellingAttending(Attending):
    telling: ClassVar[bool] = True


def looked_up(p, xs, carry, reset):
    """The equations of `Attending`, step by step, in NumPy."""
    h, memory = carry
    ys = []
    for x, r in zip(xs, reset, strict=True):
        h = np.where(r[:, None], 0, h)
        memory = np.where(r[:, None, None], p.memory, memory)
        scores = np.exp(np.einsum("bmd,bd->bm", memory, h))
        weights = scores / scores.sum(-1, keepdims=True)
        h = np.tanh(x @ p.w_x + h @ p.w_h + np.einsum("bm,bmd->bd", weights, memory) @ p.w_a)
        ys.append(h)
    return AttendingCarry(h=h, memory=memory), np.stack(ys)


def carried(cell, params, xs, carry, reset):
    """A hand-written scan with the whole carry in it: what a reset means."""
    us = cell.project(params, xs)
    first = cell.init_carry(params, xs[0])

    def body(carry, now):
        u, r = now
        carry = jax.tree.map(
            lambda new, old: jnp.where(r.reshape(-1, *[1] * (old.ndim - 1)), new, old),
            first,
            carry,
        )
        return cell.step(params, carry, u)

    return lax.scan(body, carry, (us, reset))


METHODS = [None, "scan", "fused", Unrolled(4)]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.usefixtures("x64")
def test_a_memory_in_the_carry_is_that_of_a_new_sequence_from_a_reset_on(method):
    cell = Attending(HIDDEN, slots=6)
    params, xs, carry, options = setting(cell)
    reset = options["reset"]
    assert 0 < int(reset.any(0).sum()) and not reset[0].all()
    got = jaxrnn.unroll(cell, params, xs, carry, reset=reset, method=method)
    arrays = jax.tree.map(np.asarray, (params, xs, carry, reset))
    assert_close(got, looked_up(AttendingParams(*arrays[0]), *arrays[1:]))


@pytest.mark.parametrize(
    ("method", "remat"),
    [
        (method, remat)
        for method in METHODS
        for remat in ("none", "carry", "sqrt")
        if remat == "none" or not isinstance(method, Unrolled)
    ],
    ids=str,
)
@pytest.mark.usefixtures("x64")
def test_gradients_reach_a_given_memory_and_that_of_a_new_sequence(method, remat):
    cell = Attending(HIDDEN, slots=6)
    params, xs, carry, options = setting(cell)
    reset = options["reset"]
    got = result(cell, params, xs, carry, reset=reset, method=method, remat=remat)

    def loss(params, xs, carry):
        found = carried(cell, params, xs, carry, reset)
        return size(found), found

    run = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    want = jax.jit(run)(params, xs, carry)
    assert_close(got, want)


def temporaries(run, *args):
    """The bytes of temporary arrays of a gradient, in MB."""

    def loss(*args):
        return jnp.sum(run(*args)[1] ** 2)

    jax.config.update("jax_disable_most_optimizations", False)  # as users have it
    program = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*args).compile()
    jax.config.update("jax_disable_most_optimizations", True)
    return program.memory_analysis().temp_size_in_bytes / 1e6


@pytest.fixture(scope="module")
def by_hand():
    """Of a hand-written scan that closes over the memory: nothing of [T, B, M, H] is saved."""
    cell = Attending(32, slots=64)
    params, xs, carry, options = setting(cell, steps=64, batch=8)

    def run(params, xs, carry):
        def body(h, u):
            after, y = cell.step(params, carry._replace(h=h), u)
            return after.h, y

        return lax.scan(body, carry.h, cell.project(params, xs))

    return cell, (params, xs, carry), options["reset"], temporaries(run, params, xs, carry)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("resets", [False, True])
def test_a_memory_in_the_carry_is_not_saved_at_every_step(method, resets, by_hand):
    cell, (params, xs, carry), reset, hand = by_hand
    options = {"reset": reset if resets else None, "method": method}
    whole = 64 * carry.memory.nbytes / 1e6  # what would be saved
    got = temporaries(lambda p, xs, c: jaxrnn.unroll(cell, p, xs, c, **options), params, xs, carry)
    assert whole > 2 * hand
    assert got <= 1.5 * hand + 0.2


@pytest.mark.parametrize("method", ["scan", "fused", None], ids=str)
def test_effects_take_place_once_a_step_where_resets_replace_a_memory(method):
    cell = TellingAttending(HIDDEN, slots=6)
    params, xs, carry, options = setting(cell)
    SEEN.clear()
    result(cell, params, xs, carry, reset=options["reset"], method=method)
    jax.effects_barrier()
    assert len(SEEN) == T


# One trace

CALLS: list[str] = []


@dataclasses.dataclass(frozen=True)
class Counted(jaxrnn.LSTMCell):
    run: str = ""  # another cell for each count: what is traced once is not traced again

    def step(self, params, carry, u, dot=jaxrnn.dot):
        CALLS.append(self.run)
        return super().step(params, carry, u, dot)


@pytest.mark.parametrize(("run", "most"), [("forward", 2), ("gradient", 4)])
def test_a_step_is_traced_twice_at_most_forward_and_four_times_for_a_gradient(run, most):
    cell = Counted(32, run=run)
    params = cell.init(jax.random.key(0), INPUT)

    def loss(params):
        return size(jaxrnn.unroll(cell, params, jnp.ones((T, 16, INPUT))))

    jax.make_jaxpr(loss if run == "forward" else jax.grad(loss))(params)
    assert 1 <= CALLS.count(run) <= most
