"""`explain` says what runs: held against what `unroll` then does."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxrnn
from jaxrnn.cells import BlockGRUCell, ExpRNNCell, IndRNNCell, LSTMPCell, PeepholeLSTMCell
from jaxrnn.methods import Fused, Scan
from jaxrnn.running.fused.method import ALONE, PLAIN
from jaxrnn.wrappers import MultiHead, Zoneout

SHAPE = (64, 8, 5)


def only(*args, **options):
    (found,) = jaxrnn.explain(*args, **options)
    return found


class Nested(jaxrnn.RNNCell):
    """Multiplies inside a loop of its own."""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        a = lax.fori_loop(0, 2, lambda _, h: jnp.tanh(jnp.squeeze(dot(h, params.w_h), -2)), carry.h)
        return super().step(params, carry._replace(h=a), u, dot)


class Attending(jaxrnn.RNNCell):
    """Looks back at its state by an operation that is no product of `dot`."""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        seen = jnp.einsum("...i,...i->...", carry.h, jnp.cos(carry.h))[..., None]
        return super().step(params, carry._replace(h=carry.h * jax.nn.sigmoid(seen)), u, dot)


REASONS = {
    jaxrnn.LSTMCell(16): ("fused", "its step has products, which it takes apart"),
    IndRNNCell(4): ("scan", "its step has no product"),
    Nested(4): ("scan", "its step calls dot inside a loop, branch or transform of its own"),
}


@pytest.mark.parametrize("cell", REASONS, ids=lambda cell: type(cell).__name__)
def test_the_method_that_is_named_is_the_one_that_runs(cell, monkeypatch):
    method, why = REASONS[cell]
    found = only(cell, SHAPE)
    assert found.method == method and why in found.why and why in str(found)
    ran = []
    for kind in (Fused, Scan):

        def note(self, plan, problem, run=kind.run):
            ran.append(self.name)
            return run(self, plan, problem)

        monkeypatch.setattr(kind, "run", note)
    jaxrnn.unroll(cell, cell.init(jax.random.key(0), 5), jnp.zeros((7, 3, 5)))
    assert ran == [method]


def test_a_cell_without_products_is_scanned_whatever_is_saved():
    assert {
        only(IndRNNCell(4), SHAPE, remat=remat).method for remat in ("none", "carry", "sqrt")
    } == {"scan"}


def test_nothing_to_run_over_is_a_reason():
    assert "nothing to run over" in only(jaxrnn.GRUCell(4), (0, 8, 5)).why


PAYS = {  # at (64, 8, 32): what runs by default, and why
    jaxrnn.LSTMCell(32): ("fused", "its step has products"),
    jaxrnn.RNNCell(32): ("fused", "its step has products"),
    jaxrnn.RNNCell(4): ("scan", "its products are too narrow"),
    BlockGRUCell(256, blocks=8): ("scan", "several products of blocks"),
    IndRNNCell(32): ("scan", "its step has no product"),
    Attending(32): ("scan", "beside `dot`"),
}


@pytest.mark.parametrize("cell", PAYS, ids=repr)
def test_the_default_takes_the_fused_method_where_it_pays(cell):
    method, why = PAYS[cell]
    found = only(cell, (64, 8, 32))
    assert found.method == method and why in found.why
    assert only(cell, (64, 8, 32), method="fused").method == "fused"


def test_gates_take_the_fast_forward_loop_even_where_the_backward_pass_is_that_of_scan():
    narrow, wide = (str(only(jaxrnn.LSTMCell(H), (64, 8, 32))) for H in (8, 32))
    assert "the backward pass is that of lax.scan" in narrow and "lax.scan" not in wide


def test_one_row_without_gates_is_scanned():
    why = "its step has one row, and no product with a gate axis."
    assert only(ExpRNNCell(32), (64, 1, 32)).why == why
    assert only(jaxrnn.RNNCell(32), (64, 1, 32)).method == "fused"
    assert only(ExpRNNCell(32), (64, 2, 32)).method == "fused"


def test_a_cell_in_chunks_of_two_lengths_is_told_once():
    assert only(jaxrnn.LSTMCell(32), (10, 4, 8), remat="sqrt").method == "fused"
    stack = jaxrnn.Stack((jaxrnn.LSTMCell(32),) * 2)
    assert len(jaxrnn.explain(stack, (10, 4, 8), remat="sqrt")) == 2


def test_what_runs_without_a_gradient_is_told():
    said = "a run of which no gradient is taken is lax.scan"
    assert said in str(only(jaxrnn.RNNCell(64), (128, 16, 64)))
    assert said not in str(only(jaxrnn.LSTMCell(64), (128, 16, 64)))


def test_where_the_default_is_the_scan_both_are_the_same_program():
    cell = jaxrnn.RNNCell(4)
    p, xs = cell.init(jax.random.key(0), 5), jnp.zeros(SHAPE)

    def text(method):
        loss = lambda p, xs: jaxrnn.unroll(cell, p, xs, method=method)[1].sum()  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(p, xs).as_text()

    assert text(None) == text("scan") != text("fused")


def test_an_asked_for_method_is_the_one_explained():
    assert only(jaxrnn.LSTMCell(4), SHAPE, method="scan").method == "scan"
    assert only(jaxrnn.LSTMCell(4), SHAPE, method="fused").why == "it was asked for."


def test_the_form_follows_the_shape():
    text = {batch: str(only(jaxrnn.LSTMCell(64), (1024, batch, 64))) for batch in (1, 32)}
    assert "from all 1024 steps at once" in text[1] and "from chunks of 64 steps" in text[32]
    assert "from all 32 steps" in str(
        only(jaxrnn.LSTMCell(64), (1024, 32, 64), remat="sqrt")
    )  # sqrt(1024)
    assert "the batch last in memory" in str(only(jaxrnn.LSTMCell(512), (16, 32, 64)))


def test_what_acts_elementwise_is_named():
    assert "parameters that act elementwise: p_i, p_f, p_o" in str(only(PeepholeLSTMCell(4), SHAPE))


def test_a_stack_is_explained_cell_by_cell_with_its_noise():
    stack = jaxrnn.Stack(
        (Zoneout(jaxrnn.GRUCell(4), 0.1), IndRNNCell(3)),
        bidirectional=True,
        dropout=0.5,
    )
    found = jaxrnn.explain(stack, SHAPE, mask=True, reset=True, noise=True)
    assert [(e.cell, e.method) for e in found] == [(stack.cells[0], "fused")] * 2 + [
        (stack.cells[1], "scan")
    ] * 2
    assert str(found[0]).startswith("Zoneout(cell=GRUCell(hidden_size=4), h=0.1): fused")


def test_why_others_cannot_is_said_beside():
    assert (
        only(jaxrnn.GRUCell(4), SHAPE).refused["cudnn"].startswith("it is no LSTM as cuDNN has it")
    )
    assert "reset begins" in only(jaxrnn.LSTMCell(4), SHAPE, reset=True).refused["cudnn"]
    assert "2 products" in only(LSTMPCell(4, 2), SHAPE).refused["persistent"]


@dataclasses.dataclass(frozen=True)
class Graded(jaxrnn.RNNCell):
    """A cell with a number for each of its units, of which there must be five."""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        after, h = super().step(params, carry, u, dot)
        h = h * jnp.array([0.1, 0.2, 0.3, 0.4, 0.5], h.dtype)
        return after._replace(h=h), h


def test_a_step_that_does_not_run_on_one_unit_is_explained_all_the_same():
    found = only(Graded(5), SHAPE, method="fused")
    assert (
        found.method == "fused"
        and "does not run on a single hidden unit" in found.refused["persistent"]
    )


def test_noise_of_no_steps_is_explained():
    assert only(Zoneout(jaxrnn.GRUCell(4), 0.1), (0, 8, 5), noise=True).method == "scan"


@dataclasses.dataclass(frozen=True)
class Bare(jaxrnn.Cell):
    """A cell whose parameters come from elsewhere."""

    def project(self, params, xs, noise=None):
        return xs

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = jnp.tanh(u + dot(carry, params))
        return h, h

    def init_carry(self, params, like):
        return jaxrnn.zeros(like, 5)


def test_parameters_may_be_given_for_a_cell_that_draws_none():
    shape = jax.ShapeDtypeStruct((5, 5), jnp.float32)
    assert only(Bare(), SHAPE, params=shape, method="fused").method == "fused"


def test_what_unroll_refuses_is_refused_here():
    with pytest.raises(ValueError, match="method must be one of"):
        jaxrnn.explain(jaxrnn.LSTMCell(4), SHAPE, method="fastest")
    with pytest.raises(TypeError, match=r"cell must be a jaxrnn\.Cell"):
        jaxrnn.explain(jaxrnn.LSTMCell, SHAPE)
    with pytest.raises(TypeError, match=r"dtype must be a dtype of floating point, got .*int32"):
        jaxrnn.explain(jaxrnn.LSTMCell(4), SHAPE, jnp.int32)
    with pytest.raises(ValueError, match="at least 2 axes"):
        jaxrnn.explain(jaxrnn.LSTMCell(4), (5,))


@pytest.mark.parametrize(
    ("cell", "shape", "forward", "backward"),
    [
        # blocks as one matrix, of 64 rows by 128 x 512 and by 128 x 384
        (MultiHead(jaxrnn.LSTMCell(128), 4), (64, 64, 32), True, False),
        (MultiHead(jaxrnn.GRUCell(128), 4), (64, 64, 32), True, True),
        (MultiHead(jaxrnn.LSTMCell(128), 4), (64, 32, 64), True, True),
        # gates of one product, one row, an input weight of 32 x 192 and of 32 x 96
        (jaxrnn.GRUCell(64), (300, 1, 32), False, True),
        (jaxrnn.GRUCell(32), (1024, 1, 32), True, True),
        (jaxrnn.GRUCell(64), (300, 8, 32), True, True),
    ],
)
def test_each_loop_is_the_one_that_was_measured_to_be_faster(cell, shape, forward, backward):
    (found,) = jaxrnn.explain(cell, shape)
    assert found.method == "fused"
    assert (ALONE not in found.details) == forward
    assert (PLAIN not in found.details) == backward
