"""The recurrent layer of agents: the call of the `ScannedRNN` that they carry along, with its
numbers, in both APIs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from oracles import assert_close

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.interop import from_flax_carry, from_linen, to_flax_carry
from jaxrnn.modules.scanned import cell_names
from jaxrnn.wrappers import LearnedInitialCarry

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")
T, B, INPUTS, H = 9, 4, 3, 5
THEIRS = {
    "GRUCell": jaxrnn.GRUCell(H),
    "LSTMCell": jaxrnn.LSTMCell(H),
    "OptimizedLSTMCell": jaxrnn.LSTMCell(H),
    "SimpleCell": jaxrnn.RNNCell(H),
    "MGUCell": jaxrnn.cells.MGUResetAfterCell(H),
}


class ByHand(nn.Module):
    """What agents carry along, for any cell of Flax."""

    kind: str
    param_dtype: type = jnp.float32

    @functools.partial(
        nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False}
    )
    @nn.compact
    def __call__(self, carry, inputs):
        xs, resets = inputs
        cell = getattr(nn, self.kind)(H, param_dtype=self.param_dtype, name="cell")
        first = cell.initialize_carry(jax.random.key(0), xs.shape)
        carry = jax.tree.map(lambda c, new: jnp.where(resets[:, None], new, c), carry, first)
        return cell(carry, xs)


def randomly(tree, seed, dtype):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), dtype) / 2, tree)


def window(dtype=np.float32, batch=(B,)):
    rng = np.random.default_rng(3)
    xs = jnp.asarray(rng.normal(size=(T, *batch, INPUTS)), dtype)
    return xs, jnp.asarray(rng.random((T, *batch)) < 0.3)


class Linen:
    """A module of linen with its variables, called as one of nnx."""

    initialize_carry = staticmethod(jaxrnn.linen.ScannedRNN.initialize_carry)

    def __init__(self, hidden_size=H, cell="gru", **options):
        self.module = jaxrnn.linen.ScannedRNN(hidden_size, cell, **options)
        self.variables = jax.jit(self.module.init)(jax.random.key(0), None, window())

    def __call__(self, carry, inputs):
        return self.module.apply(self.variables, carry, inputs)

    def load(self, params):
        self.variables = self.module.load(params)


def Nnx(hidden_size=H, cell="gru", **options):
    return jaxrnn.nnx.ScannedRNN(INPUTS, hidden_size, cell, rngs=nnx.Rngs(0), **options)


both = pytest.mark.parametrize("api", [Nnx, Linen], ids=["nnx", "linen"])


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", THEIRS)
def test_the_module_that_agents_carry_along_gives_the_same_numbers_and_gradients(api, kind, dtype):
    with jax.enable_x64(dtype == "float64"):
        cell = THEIRS[kind]
        theirs = ByHand(kind, jnp.dtype(dtype))
        inputs = window(dtype)
        first = jaxrnn.linen.ScannedRNN.initialize_carry(B, cell=cell, dtype=jnp.dtype(dtype))
        carry = randomly(first, 1, dtype)  # what an actor left behind
        flax_carry = to_flax_carry(cell, cell_carry(cell, carry))
        variables = randomly(theirs.init(jax.random.key(0), flax_carry, inputs), 2, dtype)

        def score(after, ys):
            leaves = jax.tree.leaves((after, ys))
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves), (after, ys)

        def their_loss(xs, flax_carry):
            return score(*theirs.apply(variables, flax_carry, (xs, inputs[1])))

        module = api(None, cell, param_dtype=jnp.dtype(dtype))
        module.load(from_linen(cell, variables["params"]["cell"], jnp.dtype(dtype)))

        def our_loss(xs, carry):
            return score(*module(carry, (xs, inputs[1])))

        gradient = functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
        (_, (their_after, their_ys)), (d_xs, d_carry) = gradient(their_loss)(inputs[0], flax_carry)
        (_, (after, ys)), (our_d_xs, our_d_carry) = gradient(our_loss)(inputs[0], carry)
        flat = [to_flax_carry(cell, cell_carry(cell, c)) for c in (after, our_d_carry)]
        tolerance = 1e-4 if dtype == "float32" else 1e-11
        ours = (flat[0], ys, our_d_xs, flat[1])
        assert_close(ours, (their_after, their_ys, d_xs, d_carry), tolerance)


def cell_carry(cell, carry):
    """A carry of ours by name from what the module returned."""
    return carry if isinstance(carry, tuple) else from_flax_carry(cell, carry)


@pytest.mark.parametrize(
    ("api", "name"), [(Nnx, "gru"), (Nnx, "LSTMCell"), *((Linen, name) for name in cell_names())]
)
def test_every_cell_goes_by_its_name_and_a_window_is_its_steps_one_by_one(api, name):
    size = 8 if name == "blockgru" else H
    module = api(size, name)
    xs, resets = window()
    carry = first = module.initialize_carry(B, size, name, input_size=INPUTS)
    after, ys = module(carry, (xs, resets))
    steps = []
    for t in range(T):
        carry, y = module(carry, (xs[t : t + 1], resets[t : t + 1]))
        steps.append(y[0])
    assert_close((carry, jnp.stack(steps)), (after, ys), 1e-4)
    assert jax.tree.structure(first) == jax.tree.structure(after)
    is_one = len(jax.tree.leaves(first)) == 1
    assert isinstance(first, jax.Array) == isinstance(after, jax.Array) == is_one


@both
def test_a_reset_comes_before_its_step_and_hides_even_nan(api):
    module = api()
    xs, _ = window()
    resets = jnp.zeros((T, B), bool).at[0].set(True)
    spoiled = jnp.full((B, H), jnp.nan)
    clean = module(module.initialize_carry(B, H), (xs, jnp.zeros((T, B), bool)))
    assert_close(module(spoiled, (xs, resets)), clean, 0)
    gradient = jax.grad(lambda c: jnp.sum(module(c, (xs, resets))[1]))(spoiled)
    assert not np.any(gradient)


@both
@pytest.mark.parametrize("as_number", [jnp.float32, jnp.int32, np.asarray])
def test_flags_may_be_numbers_and_none_is_the_first_carry(api, as_number):
    module = api()
    xs, resets = window()
    assert_close(module(None, (xs, as_number(resets))), module(jnp.zeros((B, H)), (xs, resets)), 0)


@both
def test_without_a_batch_and_with_two_axes_of_it(api):
    module = api()
    for batch in [(), (2, 3)]:
        xs, resets = window(batch=batch)
        carry, ys = module(module.initialize_carry(batch, H), (xs, resets))
        assert carry.shape == (*batch, H) and ys.shape == (T, *batch, H)


@both
def test_stacks_and_cells_with_options_go_as_objects(api):
    stack = jaxrnn.Stack((jaxrnn.LSTMCell(H), jaxrnn.GRUCell(H)))
    module = api(None, stack)
    carry = module.initialize_carry(B, cell=stack)
    after, ys = module(carry, window())
    assert jax.tree.structure(after) == jax.tree.structure(carry) and ys.shape == (T, B, H)


def test_linen_reads_inputs_and_units_from_what_it_is_given():
    module = jaxrnn.linen.ScannedRNN()
    variables = module.init(jax.random.key(0), jnp.zeros((B, 7)), window())
    shapes = jax.tree.map(jnp.shape, variables["params"]["rnn"]["cell"])
    assert shapes["w_x"] == (INPUTS, 3, 7)


def test_seeds_by_vmap_in_linen_and_one_program_in_nnx():
    xs, resets = window()
    module = jaxrnn.linen.ScannedRNN(H)
    keys = jax.random.split(jax.random.key(0), 3)
    variables = jax.vmap(module.init, (0, None, None))(keys, None, (xs, resets))
    one = jax.vmap(module.apply, (0, None, None))(variables, None, (xs, resets))[1]
    for i in range(3):
        own = jax.tree.map(lambda a, i=i: a[i], variables)
        assert_close(one[i], module.apply(own, None, (xs, resets))[1], 1e-5)
    agent = Nnx()
    whole = nnx.jit(lambda m, c, x: m(c, x))(agent, jnp.zeros((B, H)), (xs, resets))
    assert_close(whole, agent(jnp.zeros((B, H)), (xs, resets)), 1e-6)


@both
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(cell="grru"), "Did you mean 'gru'"),
        (dict(cell="gru", hidden_size=None), "hidden_size"),
        (dict(cell=jaxrnn.GRUCell(H), hidden_size=H + 1), "leave one out"),
        (dict(cell=jaxrnn.GRUCell), "GRUCell"),
        (dict(cell="gru", hidden_size=0), "hidden_size"),
        (dict(cell="gru", hidden_size=H, remat="nothing"), "remat"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_told_when_it_is_made(api, wrong, said):
    with pytest.raises((TypeError, ValueError), match=said):
        api(**wrong)


@both
def test_what_does_not_fit_is_told_by_the_call(api):
    module = api()
    xs, resets = window()
    with pytest.raises(ValueError, match="Are time and batch swapped"):
        module(None, (xs, resets.T))
    with pytest.raises(ValueError, match="carry"):
        module(jnp.zeros((B, H + 1)), (xs, resets))
    learned = LearnedInitialCarry(jaxrnn.GRUCell(H))
    with pytest.raises(ValueError, match="carry=None"):
        module.initialize_carry(B, cell=learned)
    assert api(None, learned)(None, (xs, resets))[1].shape == (T, B, H)
    with pytest.raises(ValueError, match="carry=None"):
        module.initialize_carry(B, cell=jaxrnn.cells.ConvLSTMCell(H, (3, 3)))
