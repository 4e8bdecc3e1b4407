"""Recurrent PPO: its parts against what they are by definition, and what it learns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from oracles import assert_close

import jaxrnn
from experiments import cli
from experiments.agents import command, ppo
from experiments.agents.config import AgentConfig
from experiments.agents.environments import TMaze
from experiments.training.folder import read_json
from jaxrnn.interop import from_linen
from jaxrnn.linen import ScannedRNN

pytestmark = pytest.mark.usefixtures("standard_promotion")  # Adam has mixed dtypes
SMALL = AgentConfig(
    lengths=(3,), cells=("gru",), hidden_size=8, environments=6, steps=10, minibatches=3, seeds=1
)
MAZE = TMaze(3)


def agent(cell=True):
    return ppo.Agent(MAZE.actions, 8, jaxrnn.GRUCell(8) if cell else None)


def rollouts(count=2):
    """(params, acting before, rollout, acting after) of several rollouts, one after another."""
    acting = ppo.first_acting(agent(), MAZE, SMALL.environments, jax.random.key(0))
    seen = jax.vmap(MAZE.observe)(acting.states)
    params = agent().init(jax.random.key(1), acting.carry, seen[None], acting.began[None])
    for k in range(count):
        before = acting
        key = jax.random.fold_in(jax.random.key(2), k)
        acting, rollout = ppo.play(agent(), MAZE, params, before, key, SMALL)
    return params, before, rollout, acting


def test_the_learner_sees_the_probabilities_that_the_actor_had_across_rollouts():
    params, before, rollout, after = rollouts()
    assert np.any(before.carry)  # an episode goes on where the second rollout begins
    carry, logits, value = agent().apply(params, before.carry, rollout.observation, rollout.began)
    log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), rollout.action[..., None], -1)
    assert_close((log_prob[..., 0], value), (rollout.log_prob, rollout.value), 1e-5)
    assert_close(carry, after.carry, 1e-5)


class ScannedByHand(nn.Module):
    """What PureJaxRL and others carry along."""

    @functools.partial(
        nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False}
    )
    @nn.compact
    def __call__(self, carry, x):
        ins, began = x
        carry = jnp.where(began[:, None], jnp.zeros_like(carry), carry)
        return nn.GRUCell(8, name="gru")(carry, ins)


class AgentByHand(ppo.Agent):
    @nn.compact
    def __call__(self, carry, observations, began):
        y = nn.tanh(nn.Dense(8)(observations))
        carry, y = ScannedByHand(name="rnn")(carry, (y, began))
        return carry, nn.Dense(self.actions)(y), nn.Dense(1)(y)[..., 0]


def converted(theirs):
    """The parameters of an agent by hand in ours."""
    own = dict(theirs["params"])
    gru = from_linen(jaxrnn.GRUCell(8), own.pop("rnn")["gru"])
    return {"params": own | {"ScannedRNN_0": ScannedRNN(8).load(gru)["params"]}}


def test_with_the_parameters_of_a_hand_written_agent_it_acts_and_learns_alike():
    by_hand = AgentByHand(MAZE.actions, 8, jaxrnn.GRUCell(8))
    acting = ppo.first_acting(by_hand, MAZE, SMALL.environments, jax.random.key(0))
    seen = jax.vmap(MAZE.observe)(acting.states)
    theirs = by_hand.init(jax.random.key(1), acting.carry, seen[None], acting.began[None])
    theirs = randomly(theirs)
    optimizer = optax.adam(1e-2)
    ended = []
    for model, params in [(by_hand, theirs), (agent(), converted(theirs))]:
        carried = acting
        memory = optimizer.init(params)
        for k in range(2):
            before = carried
            key = jax.random.fold_in(jax.random.key(2), k)
            carried, rollout = ppo.play(model, MAZE, params, before, key, SMALL)
            gained = ppo.advantages(rollout, jnp.zeros(SMALL.environments), SMALL)
            given = (before.carry, rollout, gained)
            params, memory = ppo.learn(model, optimizer, (params, memory), given, key, SMALL)
        ended.append((params if model is not by_hand else converted(params), rollout))
    assert_close(ended[0], ended[1], 1e-4)


def randomly(tree):
    """Numbers of the same shapes, biases too."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) / 2, a.dtype), tree)


def test_an_episode_begins_after_each_that_ended_with_nothing_of_it():
    _, before, rollout, after = rollouts()
    began = np.asarray(rollout.began)
    np.testing.assert_array_equal(began[1:], np.asarray(rollout.done)[:-1])
    np.testing.assert_array_equal(began[0], before.began)
    np.testing.assert_array_equal(after.began, rollout.done[-1])
    signs = np.asarray(rollout.observation)[..., :2].sum(axis=-1)
    assert (signs[began] == 1).all()
    # an episode of four steps, summed up here one by one
    total = np.asarray(before.returned)
    for reward, done, said in zip(rollout.reward, rollout.done, rollout.returned, strict=True):
        total = total + np.asarray(reward)
        np.testing.assert_allclose(said, total, atol=1e-6)
        total = np.where(done, 0.0, total)
    assert int(np.sum(rollout.done)) > 6


def test_the_advantages_are_the_sum_of_later_errors():
    rng = np.random.default_rng(0)
    T, E = 7, 3
    reward, value = rng.normal(size=(2, T, E))
    last = rng.normal(size=E)
    done = rng.random((T, E)) < 0.3
    blank = jnp.zeros((T, E))
    rollout = ppo.Rollout(blank, blank, blank, blank, value, reward, jnp.asarray(done), blank)
    config = dataclasses.replace(SMALL, discount=0.9, trace=0.8)
    found = ppo.advantages(rollout, jnp.asarray(last), config)
    values = np.concatenate([value, last[None]])
    delta = reward + 0.9 * values[1:] * ~done - value
    for e in range(E):
        for t in range(T):
            total, weight = 0.0, 1.0
            for k in range(t, T):
                total += weight * delta[k, e]
                if done[k, e]:
                    break
                weight *= 0.9 * 0.8
            np.testing.assert_allclose(found[t, e], total, rtol=1e-4)


def test_what_is_lost_is_that_of_the_paper_and_burn_in_leaves_its_steps_out():
    params, before, rollout, _ = rollouts()
    gained = jax.random.normal(jax.random.key(3), rollout.value.shape)
    rollout = rollout._replace(log_prob=rollout.log_prob + 0.5 * gained)
    for burn_in in (0, 4):
        config = dataclasses.replace(SMALL, burn_in=burn_in, entropy=0.1)
        found = ppo.loss(params, agent(), (before.carry, rollout, gained), config)
        _, logits, value = agent().apply(params, before.carry, rollout.observation, rollout.began)
        p = np.asarray(jax.nn.softmax(logits), np.float64)[burn_in:]
        action = np.asarray(rollout.action)[burn_in:]
        chosen = np.take_along_axis(p, action[..., None], -1)[..., 0]
        ratio = chosen / np.exp(np.asarray(rollout.log_prob, np.float64)[burn_in:])
        a = np.asarray(gained, np.float64)[burn_in:]
        target = a + np.asarray(rollout.value)[burn_in:]
        a = (a - a.mean()) / a.std()
        surrogate = np.minimum(ratio * a, np.clip(ratio, 0.8, 1.2) * a).mean()
        error = ((np.asarray(value)[burn_in:] - target) ** 2).mean()
        entropy = -(p * np.log(p)).sum(axis=-1).mean()
        np.testing.assert_allclose(found, -surrogate + error / 2 - 0.1 * entropy, rtol=1e-4)


def test_the_first_gradient_is_that_of_the_policy_and_every_part_is_learned_from_once():
    params, before, rollout, _ = rollouts()
    gained = jax.random.normal(jax.random.key(3), rollout.value.shape)
    config = dataclasses.replace(SMALL, epochs=1, minibatches=1)
    optimizer = optax.sgd(0.1)
    given = (before.carry, rollout, gained)
    step = (params, optimizer.init(params))
    after, _ = ppo.learn(agent(), optimizer, step, given, jax.random.key(0), config)
    gradient = jax.grad(ppo.loss)(params, agent(), given, config)
    assert_close(after, jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), 1e-5)


@pytest.mark.parametrize("cell", ["gru", "lru"])
def test_a_cell_solves_the_maze_and_without_one_the_agent_stays_at_its_bound(cell):
    config = dataclasses.replace(
        SMALL, hidden_size=32, environments=32, steps=32, updates=60, minibatches=4, seeds=2
    )
    assert min(command.train(config, MAZE, cell)["returns"]) > 0.99
    bound = command.train(config, MAZE, "memoryless")["returns"]
    assert max(bound) < 0.7 and min(bound) > 0.3


def test_the_command_writes_its_folder_and_says_what_could_be_earned(tmp_path, capsys):
    words = "agents --cells gru,memoryless --lengths 2,3 --hidden_size 8 --environments 8 --steps 8"
    place = tmp_path / "run"
    assert cli.main([*words.split(), "--updates", "2", "--seeds", "2", "--out", str(place)]) == 0
    out = capsys.readouterr().out
    assert "the best return is 1, the best without memory 0.5" in out and "gru" in out
    found = read_json(place / "summary.json")
    assert [(row["cell"], row["length"]) for row in found["rows"]] == [
        ("gru", 2), ("memoryless", 2), ("gru", 3), ("memoryless", 3),
    ]  # fmt: skip
    assert all(np.shape(row["curves"]) == (2, 2) for row in found["rows"])
    assert (place / "returns.png").stat().st_size > 1000
    assert (place / "config.yaml").exists() and (place / "env.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--environment tmaze", "t_maze"),
        ("--cells gru,lst", "lstm"),
        ("--minibatches 5", "minibatches"),
        ("--burn_in 64", "burn_in"),
        ("--lengths 0", "lengths"),
        ("--cells gru,gru", "different"),
        ("--discount 1.5", "discount"),
        ("--lerning_rate 1", "learning_rate"),
        ("--learning_rate 0", "learning_rate"),
        ("--updates 0", "updates"),
    ],
)
def test_a_wrong_word_is_one_line_that_names_the_right_one(words, said, capsys):
    assert cli.main(["agents", *words.split()]) == cli.USAGE
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and err.count("\n") == 1
