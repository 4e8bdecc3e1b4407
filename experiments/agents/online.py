"""An actor-critic that learns as it acts: at every step it knows the gradients of its recurrent
layer over the whole episode, in memory that does not grow with it.

The error of a step is known with the value of the next: the actor gets it in units of its running
size, as the advantage, and the critic squared.

Sources: Sutton & Barto 2018, chapter 13.5; gradients forward in time for agents are those of
Elelimy et al. 2024, arXiv:2409.01449.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxrnn
from experiments.agents.config import AgentConfig
from experiments.agents.environments import Environment, advance
from jaxrnn import online
from jaxrnn.cell import Array

MEMORY = 0.99  # of the running mean of the squared errors, a step


class Head(NamedTuple):
    """From what a recurrent layer puts out, and what is seen, to actions and a value."""

    hidden: tuple[Array, Array]  # kernel [D + features, N], bias [N]
    policy: tuple[Array, Array]  # [N, actions]
    value: tuple[Array, Array]  # [N, 1]


class Whole(NamedTuple):
    """The parameters of an agent."""

    cell: Any
    head: Head


@dataclasses.dataclass(frozen=True)
class Agent:
    """A recurrent layer on what is seen, with a way to learn it, and a head."""

    learner: online.Learner
    actions: int
    features: int
    hidden_size: int

    def init(self, key: Array) -> Whole:
        k_cell, *keys = jax.random.split(key, 4)
        params = self.learner.cell.init(k_cell, input_size=self.features)
        like = jax.ShapeDtypeStruct((1, 1, self.features), jnp.float32)
        ys = jax.eval_shape(lambda xs: jaxrnn.unroll(self.learner.cell, params, xs)[1], like)
        wide = ys.shape[-1] + self.features
        N = self.hidden_size
        layers = [(wide, N, 2**0.5), (N, self.actions, 0.01), (N, 1, 1.0)]
        made = [_dense(k, *layer) for k, layer in zip(keys, layers, strict=True)]
        return Whole(params, Head(*made))

    def check(self) -> None:
        """Raises ValueError where the learner does not take the cell, with the reason."""
        like = jax.ShapeDtypeStruct((1, self.features), jnp.float32)
        params = jax.eval_shape(lambda: self.init(jax.random.key(0)).cell)
        jax.eval_shape(self.learner.init, params, like)

    def apply(self, params: Whole, carry: Any, seen: Array, began: Array) -> tuple[Any, ...]:
        """[T, *batch, features] and [T, *batch] to (carry, [T, *batch, actions], [T, *batch])."""
        carry, ys = jaxrnn.unroll(self.learner.cell, params.cell, seen, carry, reset=began)
        return carry, *self.judge(params.head, ys, seen)

    def judge(self, head: Head, y: Array, seen: Array) -> tuple[Array, Array]:
        """The logits of actions, and the value."""
        z = jnp.tanh(_linear(head.hidden, jnp.concatenate([y, seen], axis=-1)))
        return _linear(head.policy, z), _linear(head.value, z)[..., 0]

    def first_carry(self, rows: int) -> Any:
        """Of so many environments: anything of the right shapes, since all episodes begin."""
        cell = self.learner.cell

        def first() -> Any:
            params = cell.init(jax.random.key(0), input_size=self.features)
            return jaxrnn.initial_carry(cell, params, (rows,))

        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(first))


class Step(NamedTuple):
    """A step whose error is not known yet."""

    moment: online.Moment
    y: Array  # [E, D]
    seen: Array
    action: Array
    reward: Array
    done: Array


class Acting(NamedTuple):
    """What goes on from step to step, of all environments."""

    states: Any
    memory: online.State
    began: Array  # [E], whether an episode begins with the next step
    returned: Array  # [E], the rewards of this episode so far
    size: Array  # the running mean of the squared errors


def train(environment: Environment, agent: Agent, config: AgentConfig, key: Array) -> Any:
    """Trains one agent, with an update after every `config.steps` steps.

    Returns:
        (params, curve): curve [updates] is the mean return of the episodes that ended before each
        update and after the one before, NaN where none did.
    """
    rate = optax.linear_schedule(config.learning_rate, 0.0, config.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate, eps=1e-5))

    def step(now: Any, inputs: Any) -> Any:
        params, acting, late, total = now
        key, weight, known = inputs
        acting, after, value, ended = _act(environment, agent, params, acting, key)
        expected = jnp.where(late.done, 0.0, config.discount * value)
        found, squared = _learn(agent, params, late, late.reward + expected, acting.size, weight)
        size = jnp.where(known, MEMORY * acting.size + (1 - MEMORY) * squared, acting.size)
        total = jax.tree.map(lambda a, b: a + jnp.where(known, b, 0.0), total, found)
        return (params, acting._replace(size=size), after, total), ended

    def update(now: Any, inputs: Any) -> Any:
        params, progress, acting, late = now
        none = jax.tree.map(jnp.zeros_like, params)
        (_, acting, late, total), ended = jax.lax.scan(step, (params, acting, late, none), inputs)
        changes, progress = optimizer.update(total, progress, params)
        params = optax.apply_updates(params, changes)
        earned, count = map(jnp.sum, ended)
        return (params, progress, acting, late), earned / count  # NaN of nothing

    k_params, k_first, k_act, k_steps = jax.random.split(key, 4)
    params = agent.init(k_params)
    acting = _first(environment, agent, params, config.environments, k_first)
    _, late, _, _ = _act(environment, agent, params, acting, k_act)  # of its shapes only
    shape = (config.updates, config.steps)
    keys = jax.random.split(k_steps, shape)
    weights = config.entropy * (1 - jnp.arange(config.updates) / config.updates)
    weights = jnp.broadcast_to(weights[:, None], shape)
    known = jnp.ones(shape, bool).at[0, 0].set(False)  # nothing is late at first
    now = (params, optimizer.init(params), acting, late)
    (params, *_), curve = jax.lax.scan(update, now, (keys, weights, known))
    return params, curve


def _first(environment: Environment, agent: Agent, params: Whole, rows: int, key: Array) -> Acting:
    states = jax.vmap(environment.reset)(jax.random.split(key, rows))
    seen = jax.vmap(environment.observe)(states)
    memory = agent.learner.init(params.cell, seen)
    return Acting(states, memory, jnp.ones(rows, bool), jnp.zeros(rows), jnp.ones(()))


def _act(
    environment: Environment, agent: Agent, params: Whole, acting: Acting, key: Array
) -> tuple[Acting, Step, Array, tuple[Array, Array]]:
    """A step: (what goes on, the step, its value [E], the returns and number of what ended)."""
    k_action, *keys = jax.random.split(key, 3)
    seen = jax.vmap(environment.observe)(acting.states)
    memory, y, moment = agent.learner.step(params.cell, acting.memory, seen, reset=acting.began)
    logits, value = agent.judge(params.head, y, seen)
    action = jax.random.categorical(k_action, logits)
    states, reward, done = advance(environment, tuple(keys), acting.states, action)
    returned = acting.returned + reward
    ended = (jnp.sum(returned, where=done), jnp.sum(done))
    goes_on = Acting(states, memory, done, jnp.where(done, 0.0, returned), acting.size)
    return goes_on, Step(moment, y, seen, action, reward, done), value, ended


def _learn(
    agent: Agent, params: Whole, step: Step, target: Array, size: Array, entropy: Array
) -> tuple[Whole, Array]:
    """The gradients of a step whose value should have been `target` [E], and its mean squared
    error."""

    def loss(head: Head, y: Array) -> tuple[Array, Array]:
        logits, value = agent.judge(head, y, step.seen)
        log_probs = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_probs, step.action[:, None], axis=-1)[:, 0]
        error = target - value
        advantage = jax.lax.stop_gradient(error) / jnp.sqrt(size + 1e-8)
        spread = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        each = -advantage * chosen + 0.5 * error**2 - entropy * spread
        return jnp.mean(each), jnp.mean(error**2)

    (dhead, dy), squared = jax.grad(loss, (0, 1), has_aux=True)(params.head, step.y)
    return Whole(agent.learner.gradients(params.cell, step.moment, dy), dhead), squared


def _dense(key: Array, inputs: int, outputs: int, scale: float) -> tuple[Array, Array]:
    kernel = jax.nn.initializers.orthogonal(scale)(key, (inputs, outputs))
    return kernel, jnp.zeros(outputs)


def _linear(layer: tuple[Array, Array], x: Array) -> Array:
    return x @ layer[0] + layer[1]
