"""Proximal policy optimisation of an agent with a recurrent layer, as one pure function.

The actor carries its state across rollouts and begins anew where an episode ended. The learner
begins each window with the carry that the actor had there.

Source: Schulman et al. 2017, arXiv:1707.06347.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import jaxrnn.linen as rnn
from experiments.agents.config import AgentConfig
from experiments.agents.environments import Environment, advance
from jaxrnn.cell import Array, Cell

EPISODES = 128  # that a trained agent is judged by


class Agent(nn.Module):
    """Observations to the logits of actions and a value, through a recurrent layer or without."""

    actions: int
    hidden_size: int
    cell: Cell | None

    @nn.compact
    def __call__(self, carry: Any, observations: Array, began: Array) -> tuple[Any, Array, Array]:
        """[T, *batch, features] and [T, *batch] to (carry, [T, *batch, actions], [T, *batch])."""
        y = nn.tanh(nn.Dense(self.hidden_size)(observations))
        if self.cell is None:
            y = nn.tanh(nn.Dense(self.hidden_size)(y))
        else:
            carry, y = rnn.ScannedRNN(cell=self.cell)(carry, (y, began))
        small = nn.initializers.orthogonal(0.01)
        logits = nn.Dense(self.actions, kernel_init=small)(y)
        return carry, logits, nn.Dense(1)(y)[..., 0]

    @nn.nowrap
    def first_carry(self, rows: int) -> Any:
        """Of so many environments."""
        if self.cell is None:
            return ()
        size = self.hidden_size
        return rnn.ScannedRNN.initialize_carry(rows, cell=self.cell, input_size=size)


class Acting(NamedTuple):
    """What goes on from rollout to rollout, of all environments."""

    states: Any
    carry: Any
    began: Array  # [E], whether an episode begins with the next step
    returned: Array  # [E], the rewards of this episode so far


class Rollout(NamedTuple):
    """What happened, [T, E, ...]."""

    observation: Array
    began: Array
    action: Array
    log_prob: Array
    value: Array
    reward: Array
    done: Array
    returned: Array  # the return of the episode that ended with this step


class Learner(NamedTuple):
    params: Any
    optimizer: Any
    acting: Acting


def train(environment: Environment, agent: Agent, config: AgentConfig, key: Array) -> Any:
    """Trains one agent.

    Returns:
        (params, curve): curve [updates] is the mean return of the episodes that ended in each
        rollout, NaN where none did.
    """
    rate = optax.linear_schedule(
        config.learning_rate, 0.0, config.updates * config.epochs * config.minibatches
    )
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate, eps=1e-5))

    def update(learner: Learner, key: Array) -> tuple[Learner, Array]:
        k_play, k_learn = jax.random.split(key)
        acting, rollout = play(agent, environment, learner.params, learner.acting, k_play, config)
        _, _, last = _look(agent, learner.params, acting, _observe(environment, acting))
        gained = advantages(rollout, last, config)
        given = (learner.acting.carry, rollout, gained)
        step = (learner.params, learner.optimizer)
        params, state = learn(agent, optimizer, step, given, k_learn, config)
        mean = jnp.mean(rollout.returned, where=rollout.done)  # NaN of nothing
        return Learner(params, state, acting), mean

    k_first, k_params, k_updates = jax.random.split(key, 3)
    acting = first_acting(agent, environment, config.environments, k_first)
    seen = _observe(environment, acting)
    params = agent.init(k_params, acting.carry, seen[None], acting.began[None])
    learner = Learner(params, optimizer.init(params), acting)
    learner, curve = jax.lax.scan(update, learner, jax.random.split(k_updates, config.updates))
    return learner.params, curve


def evaluate(agent: Any, environment: Environment, params: Any, key: Array) -> Array:
    """The mean return of the most probable actions, of `EPISODES` episodes. `agent` is of any kind
    that has `apply` and `first_carry`."""
    k_first, k_steps = jax.random.split(key)
    acting = first_acting(agent, environment, EPISODES, k_first)

    def step(carried: Any, key: Array) -> tuple[Any, None]:
        acting, total, is_going = carried
        seen = _observe(environment, acting)
        carry, logits, _ = _look(agent, params, acting, seen)
        action = jnp.argmax(logits, axis=-1)
        keys = jax.random.split(key, EPISODES)
        states, reward, done = jax.vmap(environment.step)(keys, acting.states, action)
        after = Acting(states, carry, jnp.zeros(EPISODES, bool), acting.returned)
        return (after, total + jnp.where(is_going, reward, 0.0), is_going & ~done), None

    start = (acting, jnp.zeros(EPISODES), jnp.ones(EPISODES, bool))
    keys = jax.random.split(k_steps, environment.horizon)
    (_, total, _), _ = jax.lax.scan(step, start, keys)
    return jnp.mean(total)


def first_acting(agent: Any, environment: Environment, rows: int, key: Array) -> Acting:
    """New episodes everywhere."""
    states = jax.vmap(environment.reset)(jax.random.split(key, rows))
    return Acting(states, agent.first_carry(rows), jnp.ones(rows, bool), jnp.zeros(rows))


def play(
    agent: Agent,
    environment: Environment,
    params: Any,
    acting: Acting,
    key: Array,
    config: AgentConfig,
) -> tuple[Acting, Rollout]:
    """A rollout; an episode that is over begins again at once."""

    def step(acting: Acting, key: Array) -> tuple[Acting, Rollout]:
        k_action, k_step, k_reset = jax.random.split(key, 3)
        seen = _observe(environment, acting)
        carry, logits, value = _look(agent, params, acting, seen)
        action = jax.random.categorical(k_action, logits)
        keys = (k_step, k_reset)
        states, reward, done = advance(environment, keys, acting.states, action)
        returned = acting.returned + reward
        log_prob = _log_prob(logits, action)
        row = (seen, acting.began, action, log_prob, value, reward, done, returned)
        return Acting(states, carry, done, jnp.where(done, 0.0, returned)), Rollout(*row)

    return jax.lax.scan(step, acting, jax.random.split(key, config.steps))


def advantages(rollout: Rollout, last: Array, config: AgentConfig) -> Array:
    """Generalised advantages [T, E]; `last` [E] values what comes after the rollout.

    Source: Schulman et al. 2016, arXiv:1506.02438.
    """

    def back(later: tuple[Array, Array], row: Rollout) -> tuple[tuple[Array, Array], Array]:
        advantage, value = later
        going = jnp.where(row.done, 0.0, config.discount)
        delta = row.reward + going * value - row.value
        advantage = delta + going * config.trace * advantage
        return (advantage, row.value), advantage

    return jax.lax.scan(back, (jnp.zeros_like(last), last), rollout, reverse=True)[1]


def learn(
    agent: Agent,
    optimizer: optax.GradientTransformation,
    step: tuple[Any, Any],
    given: tuple[Any, Rollout, Array],
    key: Array,
    config: AgentConfig,
) -> tuple[Any, Any]:
    """(params, optimizer's state) after all epochs; `given` is the carry at the beginning, what
    happened, and the advantages."""

    def epoch(step: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], None]:
        order = jax.random.permutation(key, config.environments)
        parts = order.reshape(config.minibatches, -1)
        return jax.lax.scan(minibatch, step, parts)

    def minibatch(step: tuple[Any, Any], rows: Array) -> tuple[tuple[Any, Any], None]:
        params, state = step
        carry = jax.tree.map(lambda a: a[rows], given[0])
        rollout, gained = jax.tree.map(lambda a: a[:, rows], given[1:])
        gradient = jax.grad(loss)(params, agent, (carry, rollout, gained), config)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(epoch, step, jax.random.split(key, config.epochs))[0]


def loss(
    params: Any, agent: Agent, given: tuple[Any, Rollout, Array], config: AgentConfig
) -> Array:
    """Of a part of the environments: the clipped surrogate, half of the squared error of the
    values, and the entropy."""
    carry, rollout, gained = given
    if config.burn_in:
        early = jax.tree.map(lambda a: a[: config.burn_in], rollout)
        carry, _, _ = _window(agent, params, carry, early)
        carry = jax.lax.stop_gradient(carry)
        rollout, gained = jax.tree.map(lambda a: a[config.burn_in :], (rollout, gained))
    _, logits, value = _window(agent, params, carry, rollout)
    target = gained + rollout.value
    gained = (gained - jnp.mean(gained)) / (jnp.std(gained) + 1e-8)
    ratio = jnp.exp(_log_prob(logits, rollout.action) - rollout.log_prob)
    near = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
    policy = -jnp.mean(jnp.minimum(ratio * gained, near * gained))
    log_probs = jax.nn.log_softmax(logits)
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1))
    return policy + 0.5 * jnp.mean((value - target) ** 2) - config.entropy * entropy


def _observe(environment: Environment, acting: Acting) -> Array:
    return jax.vmap(environment.observe)(acting.states)


def _look(agent: Any, params: Any, acting: Acting, seen: Array) -> tuple[Any, Array, Array]:
    """One step: (carry, logits [E, actions], value [E])."""
    looked: Any = agent.apply(params, acting.carry, seen[None], acting.began[None])
    carry, logits, value = looked
    return carry, logits[0], value[0]


def _window(agent: Agent, params: Any, carry: Any, rollout: Rollout) -> Any:
    return agent.apply(params, carry, rollout.observation, rollout.began)


def _log_prob(logits: Array, action: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]
