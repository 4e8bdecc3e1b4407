"""Recurrent PPO with resets, in the form that PureJaxRL gave it: a `ScannedRNN` written by hand,
and a module of ours in its place."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxrnn
import jaxrnn.linen as rnn
from jaxrnn.interop import from_linen

pytestmark = pytest.mark.usefixtures("standard_promotion")
ENVS, STEPS, UNITS, LENGTH, EPOCHS = 32, 20, 16, 5, 4
GAMMA, LAMBDA, CLIP = 0.9, 0.95, 0.2


class Env(NamedTuple):
    """A cue at the first step of an episode is asked for at the last, LENGTH - 1 steps later."""

    cue: jax.Array  # [ENVS], 0 or 1
    clock: jax.Array  # [ENVS]


def start(key):
    return Env(jax.random.bernoulli(key, shape=(ENVS,)).astype(jnp.int32), jnp.zeros(ENVS, int))


def observe(env):
    first = (env.clock == 0)[:, None]
    last = (env.clock == LENGTH - 1)[:, None]
    return jnp.concatenate([jax.nn.one_hot(env.cue, 2) * first, last, ~last], axis=1)


def act(key, env, action):
    """(env, reward, done): an episode that is over begins again at once."""
    done = env.clock == LENGTH - 1
    reward = jnp.where(done, jnp.where(action == env.cue, 1.0, -1.0), 0.0)
    cue = jax.random.bernoulli(key, shape=(ENVS,)).astype(jnp.int32)
    return Env(jnp.where(done, cue, env.cue), jnp.where(done, 0, env.clock + 1)), reward, done


class ScannedRNN(nn.Module):
    """What is written by hand today."""

    @functools.partial(
        nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False}
    )
    @nn.compact
    def __call__(self, carry, x):
        ins, dones = x
        carry = jnp.where(dones[:, None], jnp.zeros_like(carry), carry)
        carry, y = nn.GRUCell(UNITS, name="gru")(carry, ins)
        return carry, y


class ByHand(nn.Module):
    @nn.compact
    def __call__(self, state, observations, dones):
        x = nn.tanh(nn.Dense(UNITS, name="embed")(observations))
        state, y = ScannedRNN(name="rnn")(state, (x, dones))
        return state, nn.Dense(2, name="actor")(y), nn.Dense(1, name="critic")(y)[..., 0]

    @staticmethod
    def initial_state():
        return jnp.zeros((ENVS, UNITS))


class ActorCritic(nn.Module):
    @nn.compact
    def __call__(self, state, observations, dones):
        x = nn.tanh(nn.Dense(UNITS, name="embed")(observations))
        y, state = rnn.GRU(UNITS, UNITS, name="rnn")(x, state, reset=dones)
        return state, nn.Dense(2, name="actor")(y), nn.Dense(1, name="critic")(y)[..., 0]

    @staticmethod
    def initial_state():
        return rnn.GRU(UNITS, UNITS).initial_state(ENVS)


class Rollout(NamedTuple):
    observation: jax.Array  # [STEPS, ENVS, 4]
    began: jax.Array  # whether an episode began with this step
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


def play(model, params, key, env, state, began):
    """STEPS steps of all environments."""

    def step(carry, key):
        env, state, began = carry
        k_action, k_env = jax.random.split(key)
        seen = observe(env)
        state, logits, value = model.apply(params, state, seen[None], began[None])
        action = jax.random.categorical(k_action, logits[0])
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits[0]), action[:, None], 1)[:, 0]
        env, reward, done = act(k_env, env, action)
        row = Rollout(seen, began, action, log_prob, value[0], reward, done)
        return (env, state, done), row

    return jax.lax.scan(step, (env, state, began), jax.random.split(key, STEPS))


def advantages(rollout, last):
    def back(carry, row):
        later, value = carry
        going = 1.0 - row.done
        delta = row.reward + GAMMA * value * going - row.value
        advantage = delta + GAMMA * LAMBDA * going * later
        return (advantage, row.value), advantage

    return jax.lax.scan(back, (jnp.zeros(ENVS), last), rollout, reverse=True)[1]


def loss(params, model, rollout, state, advantage):
    _, logits, value = model.apply(params, state, rollout.observation, rollout.began)
    log_probs = jax.nn.log_softmax(logits)
    log_prob = jnp.take_along_axis(log_probs, rollout.action[..., None], -1)[..., 0]
    ratio = jnp.exp(log_prob - rollout.log_prob)
    normal = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    actor = -jnp.minimum(ratio * normal, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * normal).mean()
    critic = ((value - (advantage + rollout.value)) ** 2).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    return actor + 0.5 * critic - 0.01 * entropy


@functools.partial(jax.jit, static_argnums=(0, 3))
def train(model, params, key, updates):
    """The mean reward of the last step of an episode, update by update, and the losses."""
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(5e-3))

    def update(carry, key):
        params, memory, env, state, began = carry
        (env, after, done), rollout = play(model, params, key, env, state, began)
        last = model.apply(params, after, observe(env)[None], done[None])[2][0]
        advantage = advantages(rollout, last)

        def epoch(carry, _):
            params, memory = carry
            value, gradients = jax.value_and_grad(loss)(params, model, rollout, state, advantage)
            updates, memory = optimizer.update(gradients, memory, params)
            return (optax.apply_updates(params, updates), memory), value

        (params, memory), values = jax.lax.scan(epoch, (params, memory), length=EPOCHS)
        reward = (rollout.reward * rollout.done).sum() / rollout.done.sum()
        return (params, memory, env, after, done), (reward, values)

    key, k_env = jax.random.split(key)
    began = jnp.ones(ENVS, bool)
    first = (params, optimizer.init(params), start(k_env), model.initial_state(), began)
    return jax.lax.scan(update, first, jax.random.split(key, updates))[1]


def converted(params):
    """The parameters of the hand-written network in ours."""
    own = dict(params["params"])
    gru = from_linen(jaxrnn.GRUCell(UNITS), own["rnn"]["gru"])
    own["rnn"] = rnn.GRU(UNITS, UNITS).load((gru,))["params"]
    return {"params": own}


def initial():
    """Parameters of both networks, the same function."""
    model = ByHand()
    shapes = (model.initial_state(), jnp.zeros((1, ENVS, 4)), jnp.zeros((1, ENVS), bool))
    params = model.init(jax.random.key(3), *shapes)
    return params, converted(params)


def test_both_networks_are_one_function_with_resets():
    theirs, ours = initial()
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(STEPS, ENVS, 4)).astype(np.float32)
    dones = rng.random((STEPS, ENVS)) < 0.3
    state = rng.normal(size=(ENVS, UNITS)).astype(np.float32)
    want = ByHand().apply(theirs, state, observations, dones)
    after, *got = ActorCritic().apply(ours, state[None], observations, dones)
    for a, b in zip((after[0], *got), want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_ppo_takes_the_same_updates_and_learns_what_needs_memory():
    theirs, ours = initial()
    key = jax.random.key(0)
    reward, losses = train(ActorCritic(), ours, key, 60)
    want, wanted = train(ByHand(), theirs, key, 4)
    np.testing.assert_allclose(losses[:4], wanted, atol=1e-4)
    np.testing.assert_array_equal(reward[:4], want)
    assert abs(reward[:3].mean()) < 0.5 and reward[-10:].mean() > 0.9
