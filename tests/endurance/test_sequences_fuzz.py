"""Random cells, wrappers and calls against the scan and a loop by hand; and what they found."""

import dataclasses
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sequences_fuzz
from oracles import EVERY, inputs, parameters
from sequences_fuzz import Case, Refused

import jaxrnn
from jaxrnn import wrappers

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
BY_NAME = {name: cell for name, cell, _ in EVERY}
PLAIN = Case(
    cell=jaxrnn.GRUCell(4),
    T=5,
    batch=(2,),
    dtype="float64",
    mask="none",
    reset=False,
    nan=False,
    carry=False,
    noise=False,
    reverse=False,
    window=0,
    method=None,
    remat="none",
    under="plain",
    seed=0,
)
FED = wrappers.RMSNormInput(
    wrappers.Feedback(jaxrnn.cells.SRUCell(4, forget_bias=0.0, bias=False), output_size=2)
)
FOUND = {
    # nothing beside what is fed: an input without features, cut into chunks
    "no features in windows": {"cell": FED, "T": 1, "window": 4, "mask": "nothing", "nan": True},
    "no features in chunks": {"cell": FED, "remat": "sqrt"},
    "newton on a mesh": {"method": "newton", "under": "shard_map", "reset": True},
}


@pytest.mark.parametrize("name", FOUND)
def test_what_random_cases_found_stays_right(name):
    with jax.numpy_rank_promotion("raise"):
        sequences_fuzz.check(dataclasses.replace(PLAIN, **FOUND[name]))


@pytest.mark.slow("60 random cells with random calls, each compiled twice")
@pytest.mark.parametrize("seed", range(3))
def test_random_cells_in_random_calls_are_those_of_the_scan_and_of_a_loop(seed):
    counts = {"held": 0, "refused": 0}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=40,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(sequences_fuzz.cases())
    def one(case):
        try:
            sequences_fuzz.check(case)
        except Refused:
            counts["refused"] += 1
        else:
            counts["held"] += 1

    one()
    assert counts["held"] > counts["refused"]


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_no_cell_asks_of_its_users_how_arrays_of_other_ranks_are_added(name):
    """With `jax_numpy_rank_promotion="raise"`, which many set to find errors of their own."""
    cell = BY_NAME[name]
    p = parameters(cell)
    xs = inputs(cell, 3, (2,))
    mask = np.array([[True, True], [True, False], [True, False]])

    def loss(p, xs, method):
        found = jaxrnn.unroll(cell, p, xs, mask=mask, reset=~mask, method=method)
        return sum(jnp.sum(a.real) for a in jax.tree.leaves(found))

    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(functools.partial(cell.init, input_size=3), jax.random.key(0))
        for method in (None, "scan"):
            jax.eval_shape(jax.grad(functools.partial(loss, method=method), (0, 1)), p, xs)
        if cell.causal:
            jax.eval_shape(cell, p, None, xs[0])


def test_the_loop_of_the_fuzzer_sees_a_wrong_step():
    """What is compared is not one function with itself."""
    wrong = dataclasses.replace(PLAIN, cell=Forgetful(4))
    with pytest.raises(AssertionError, match="loop"):
        sequences_fuzz.check(wrong)


@dataclasses.dataclass(frozen=True)
class Forgetful(jaxrnn.GRUCell):
    """Its projection of several steps is not that of each step."""

    def project(self, params, xs, noise=None):
        return super().project(params, xs, noise) + jnp.asarray(xs.ndim, xs.dtype)
