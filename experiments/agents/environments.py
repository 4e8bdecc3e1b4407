"""Environments in which an agent must remember: pure functions of one environment each, for
`jax.vmap`, with the best return that there is and, where it is known, the best without memory."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, select


@dataclasses.dataclass(frozen=True)
class Environment:
    """What all have in common.

    Args:
        length: how far apart what is seen and what is done are, in steps.
    """

    length: int
    actions: ClassVar[int]
    features: ClassVar[int]
    optimum: ClassVar[float] = 1.0
    memoryless: ClassVar[float | None] = None  # the expected return of the best such policy

    @property
    def horizon(self) -> int:
        """The most steps of an episode."""
        return self.length + 1

    def reset(self, key: Array) -> Any:
        """The first state of an episode."""
        raise NotImplementedError

    def observe(self, state: Any) -> Array:
        """What the agent sees, [features]."""
        raise NotImplementedError

    def step(self, key: Array, state: Any, action: Array) -> tuple[Any, Array, Array]:
        """(state, reward, done) after an action."""
        raise NotImplementedError


def advance(
    environment: Environment, keys: tuple[Array, Array], states: Any, action: Array
) -> tuple[Any, Array, Array]:
    """(states, reward, done) of many after an action of each; what is over begins again at once."""
    rows = len(action)
    k_step, k_reset = keys
    after, reward, done = jax.vmap(environment.step)(jax.random.split(k_step, rows), states, action)
    fresh = jax.vmap(environment.reset)(jax.random.split(k_reset, rows))
    return select(done, fresh, after), reward, done


class Maze(NamedTuple):
    goal: Array  # 0 or 1
    place: Array  # along the corridor, length is the junction
    clock: Array


@dataclasses.dataclass(frozen=True)
class TMaze(Environment):
    """A corridor of `length` cells, at whose beginning a sign says whether to turn left or right at
    its end. To stand still costs 1 / length a step; the right turn at the last step gives 1.

    Source: Bakker 2001, "Reinforcement learning with long short-term memory"; the passive form of
    Ni et al. 2023, arXiv:2307.03864. Differs: who is late pays for each step of which they are
    behind, as there, but never turns.
    """

    actions = 4  # on, back, left, right
    features = 4
    memoryless = 0.5

    def reset(self, key: Array) -> Maze:
        zero = jnp.zeros((), jnp.int32)
        return Maze(jax.random.bernoulli(key).astype(jnp.int32), zero, zero)

    def observe(self, state: Maze) -> Array:
        sign = jnp.where(state.place == 0, jax.nn.one_hot(state.goal, 2), 0.0)
        at_end = state.place == self.length
        return jnp.concatenate([sign, jnp.stack([at_end, ~at_end]).astype(sign.dtype)])

    def step(self, key: Array, state: Maze, action: Array) -> tuple[Maze, Array, Array]:
        done = state.clock == self.length
        moved = jnp.where(action == 0, 1, jnp.where(action == 1, -1, 0))
        place = jnp.clip(state.place + moved, 0, self.length)
        turned = (state.place == self.length) & (action == state.goal + 2)
        late = place < state.clock + 1
        at_end = jnp.where(turned, 1.0, 0.0)
        reward = jnp.where(done, at_end, jnp.where(late, -1.0 / self.length, 0.0))
        return Maze(state.goal, place, state.clock + 1), reward, done


class Row(NamedTuple):
    symbols: Array  # [length + 1], the last is seen now
    clock: Array


@dataclasses.dataclass(frozen=True)
class RepeatPrevious(Environment):
    """Of four symbols, which one was seen `length` steps ago? Each of 32 answers gives or costs
    1 / 32.

    Source: Morad et al. 2023, "POPGym", arXiv:2303.01859, "Repeat Previous". Differs: symbols are
    drawn anew instead of from a deck, so that the past says nothing but itself.
    """

    actions = 4
    features = 4
    memoryless = -0.5
    asked: ClassVar[int] = 32

    @property
    def horizon(self) -> int:
        return self.length + self.asked

    def reset(self, key: Array) -> Row:
        return Row(jax.random.randint(key, (self.length + 1,), 0, 4), jnp.zeros((), jnp.int32))

    def observe(self, state: Row) -> Array:
        return jax.nn.one_hot(state.symbols[-1], 4)

    def step(self, key: Array, state: Row, action: Array) -> tuple[Row, Array, Array]:
        is_right = action == state.symbols[0]
        answer = jnp.where(is_right, 1.0, -1.0) / self.asked
        reward = jnp.where(state.clock >= self.length, answer, 0.0)
        done = state.clock == self.horizon - 1
        symbols = jnp.append(state.symbols[1:], jax.random.randint(key, (), 0, 4))
        return Row(symbols, state.clock + 1), reward, done


class Cue(NamedTuple):
    cue: Array  # 0 to 3
    left: Array  # steps until the question
    is_first: Array
    noise: Array  # [2], what there is to see meanwhile


@dataclasses.dataclass(frozen=True)
class CueAndDelay(Environment):
    """One of four cues, a delay of half of `length` to `length` steps with two flickering lights,
    and the question which it was: 1 for the right answer, -1 for a wrong one.

    Source: the delayed response of behavioural neuroscience; Wayne et al. 2018, arXiv:1803.10760,
    have such tasks. The numbers are ours.
    """

    actions = 4
    features = 7
    memoryless = -0.5

    def reset(self, key: Array) -> Cue:
        k_cue, k_delay, k_noise = jax.random.split(key, 3)
        delay = jax.random.randint(k_delay, (), max(self.length // 2, 1), self.length + 1)
        cue = jax.random.randint(k_cue, (), 0, 4)
        return Cue(cue, delay, jnp.ones((), bool), jax.random.bernoulli(k_noise, shape=(2,)))

    def observe(self, state: Cue) -> Array:
        cue = jnp.where(state.is_first, jax.nn.one_hot(state.cue, 4), 0.0)
        rest = jnp.append(state.noise, state.left == 0)
        return jnp.concatenate([cue, rest.astype(cue.dtype)])

    def step(self, key: Array, state: Cue, action: Array) -> tuple[Cue, Array, Array]:
        done = state.left == 0
        answer = jnp.where(action == state.cue, 1.0, -1.0)
        reward = jnp.where(done, answer, 0.0)
        noise = jax.random.bernoulli(key, shape=(2,))
        return Cue(state.cue, state.left - 1, jnp.zeros((), bool), noise), reward, done


class Pole(NamedTuple):
    place: Array  # metres
    speed: Array
    angle: Array  # radians from upright
    turning: Array
    clock: Array


@dataclasses.dataclass(frozen=True)
class CartPole(Environment):
    """A pole on a cart, of which places are seen and speeds are not: 1 / length for each step of
    `length` in which it stands.

    Source: Barto, Sutton & Anderson 1983, with the constants of Gymnasium's CartPole-v1; without
    speeds as in Morad et al. 2023, arXiv:2303.01859.
    """

    actions = 2
    features = 2

    @property
    def horizon(self) -> int:
        return self.length

    def reset(self, key: Array) -> Pole:
        first = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return Pole(*first, clock=jnp.zeros((), jnp.int32))

    def observe(self, state: Pole) -> Array:
        return jnp.stack([state.place / 2.4, state.angle / 0.21])

    def step(self, key: Array, state: Pole, action: Array) -> tuple[Pole, Array, Array]:
        mass = 0.1
        total = 1.1
        half = 0.5  # of the length of the pole
        dt = 0.02
        force = jnp.where(action == 1, 10.0, -10.0)
        sin = jnp.sin(state.angle)
        cos = jnp.cos(state.angle)
        push = (force + mass * half * state.turning**2 * sin) / total
        turn = (9.8 * sin - cos * push) / (half * (4 / 3 - mass * cos**2 / total))
        slide = push - mass * half * turn * cos / total
        after = Pole(
            state.place + dt * state.speed,
            state.speed + dt * slide,
            state.angle + dt * state.turning,
            state.turning + dt * turn,
            state.clock + 1,
        )
        fell = (jnp.abs(after.place) > 2.4) | (jnp.abs(after.angle) > 12 * jnp.pi / 180)
        return after, jnp.asarray(1.0 / self.length), fell | (after.clock == self.length)


ENVIRONMENTS: dict[str, type[Environment]] = {
    "t_maze": TMaze,
    "repeat_previous": RepeatPrevious,
    "cue_and_delay": CueAndDelay,
    "cart_pole": CartPole,
}
