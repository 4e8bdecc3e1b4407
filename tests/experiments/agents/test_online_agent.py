"""An actor-critic with gradients forward in time: one update against what it is by definition, and
what it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from experiments import cli
from experiments.agents import command, online
from experiments.agents.config import AgentConfig
from experiments.agents.environments import TMaze
from jaxrnn.online import RTRL

pytestmark = pytest.mark.usefixtures("standard_promotion")  # Adam has mixed dtypes
MAZE = TMaze(3)
SMALL = AgentConfig(
    lengths=(3,),
    cells=("lru",),
    learner="rtrl",
    hidden_size=16,
    environments=16,
    steps=16,
    updates=80,
    learning_rate=1e-2,
    seeds=2,
)


def agent(cell):
    return online.Agent(RTRL(cell), MAZE.actions, MAZE.features, 8)


@pytest.mark.parametrize("cell", [jaxrnn.cells.LRUCell(6), jaxrnn.cells.RGLRUCell(6)])
def test_the_gradients_of_steps_are_those_of_backpropagation_through_the_episodes(cell):
    """Seven steps, over the ends of episodes of four, and no update: what is learned from each is
    summed up here, and found by `jax.grad` through `apply` there."""
    model = agent(cell)
    params = model.init(jax.random.key(0))
    noisy = iter(jax.random.split(jax.random.key(1), 99))
    params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(next(noisy), a.shape), params)
    acting = online._first(MAZE, model, params, 5, jax.random.key(2))
    began, steps, values = [], [], []
    for key in jax.random.split(jax.random.key(3), 8):
        began.append(acting.began)
        acting, step, value, _ = online._act(MAZE, model, params, acting, key)
        steps.append(step)
        values.append(value)
    assert any(np.any(flags) for flags in began[1:])
    goes_on = [jnp.where(step.done, 0, 0.9) for step in steps]
    targets = [steps[t].reward + goes_on[t] * values[t + 1] for t in range(7)]
    size = jnp.float32(0.7)
    found = [
        online._learn(model, params, step, target, size, jnp.float32(0.1))[0]
        for step, target in zip(steps, targets, strict=False)
    ]
    found = jax.tree.map(lambda *g: sum(g), *found)
    seen, actions = (jnp.stack([getattr(s, n) for s in steps[:7]]) for n in ("seen", "action"))

    def loss(params):
        _, logits, value = model.apply(params, model.first_carry(5), seen, jnp.stack(began[:7]))
        p = jax.nn.softmax(logits)
        chosen = jnp.take_along_axis(p, actions[..., None], axis=-1)[..., 0]
        error = jnp.stack(targets) - value
        advantage = jax.lax.stop_gradient(error) / jnp.sqrt(0.7)
        entropy = -jnp.sum(p * jnp.log(p), axis=-1)
        each = -advantage * jnp.log(chosen) + error**2 / 2 - 0.1 * entropy
        return jnp.sum(jnp.mean(each, axis=1))

    want = jax.grad(loss)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, want)
    assert max(float(jnp.abs(a).max()) for a in jax.tree.leaves(want.cell)) > 1e-3


def test_it_learns_the_maze():
    assert min(command.train(SMALL, MAZE, "lru")["returns"]) > 0.99


def test_nothing_is_learned_from_before_the_first_step():
    """One update of one step, whose error is not known before the second."""
    config = dataclasses.replace(SMALL, steps=1, updates=1)
    model = agent(jaxrnn.cells.LRUCell(6))
    key = jax.random.key(0)
    params, curve = online.train(MAZE, model, config, key)
    same = model.init(jax.random.split(key, 4)[0])
    jax.tree.map(np.testing.assert_array_equal, params, same)
    assert np.isnan(curve).all()  # no episode ended


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--learner rtlr", "rtrl"),
        ("--learner rtrl --cells lru,memoryless", "memoryless"),
        ("--learner rtrl --cells lru,lstm", "act on each other"),
        ("--learner snap1 --cells gru --epochs 3", "epochs"),
    ],
)
def test_a_wrong_word_is_one_line_and_nothing_is_written(words, said, capsys, tmp_path):
    place = tmp_path / "run"
    assert cli.main(["agents", *words.split(), "--out", str(place)]) == cli.USAGE
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and err.count("\n") == 1
    assert not place.exists()
