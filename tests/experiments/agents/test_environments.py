"""The environments: what they show, what they pay, and that their bounds are bounds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.agents.config import KNOWN
from experiments.agents.environments import ENVIRONMENTS, CartPole, CueAndDelay, TMaze

EPISODES = 400


def episodes(environment, policy, seed=0, count=EPISODES):
    """(returns [count], steps [count], observations [count, horizon, features]) of a policy: a
    function of a key, the observations [horizon, features], of which later ones are zero, and t."""
    horizon = environment.horizon

    def step(carried, t):
        state, seen, key, is_going = carried
        seen = seen.at[t].set(environment.observe(state))
        k_policy, k_step, key = jax.random.split(key, 3)
        state, reward, done = environment.step(k_step, state, policy(k_policy, seen, t))
        row = (jnp.where(is_going, reward, 0.0), is_going)
        return (state, seen, key, is_going & ~done), row

    def episode(key):
        k_reset, key = jax.random.split(key)
        seen = jnp.zeros((horizon, environment.features))
        first = (environment.reset(k_reset), seen, key, jnp.ones((), bool))
        (_, seen, _, is_going), (rewards, going) = jax.lax.scan(step, first, jnp.arange(horizon))
        return jnp.sum(rewards), jnp.sum(going), seen, is_going

    keys = jax.random.split(jax.random.key(seed), count)
    total, steps, seen, is_going = map(np.asarray, jax.jit(jax.vmap(episode))(keys))
    assert not is_going.any()
    return total, steps, seen


def t_maze(key, seen, t):
    goal = jnp.argmax(seen[0][:2])
    return jnp.where(seen[t][2] == 1, goal + 2, 0)


def repeat_previous(key, seen, t):
    return jnp.argmax(seen[jnp.maximum(t - 5, 0)])


def cue_and_delay(key, seen, t):
    return jnp.argmax(seen[0][:4])


BEST = {"t_maze": t_maze, "repeat_previous": repeat_previous, "cue_and_delay": cue_and_delay}


def test_the_names_are_those_of_the_command_line():
    assert tuple(ENVIRONMENTS) == KNOWN


@pytest.mark.parametrize("name", BEST)
def test_who_remembers_earns_the_optimum_in_every_episode(name):
    environment = ENVIRONMENTS[name](5)
    total, steps, seen = episodes(environment, BEST[name])
    np.testing.assert_allclose(total, environment.optimum, atol=1e-5)
    assert seen.shape[-1] == environment.features and steps.max() <= environment.horizon


@pytest.mark.parametrize("name", BEST)
def test_no_answer_from_what_is_seen_now_earns_more_than_the_bound_and_the_best_earns_it(name):
    environment = ENVIRONMENTS[name](5)
    means = []
    # every deterministic policy of what is seen in the decisive steps; the way there is known
    for answers in itertools.product(range(environment.actions), repeat=2):

        def policy(key, seen, t, answers=answers):
            now = seen[t]
            if name == "t_maze":
                return jnp.where(now[2] == 1, answers[0], 0)
            return jnp.where(now[0] == 1, answers[0], answers[1])

        means.append(episodes(environment, policy)[0].mean())
    spread = 4 * (environment.optimum - environment.memoryless) / np.sqrt(EPISODES)
    assert abs(max(means) - environment.memoryless) < spread


def test_the_corridor_shows_its_sign_at_the_beginning_only_and_lateness_costs():
    environment = TMaze(4)
    _, steps, seen = episodes(environment, t_maze)
    assert set(steps) == {5}
    assert (seen[:, 0, :2].sum(axis=-1) == 1).all() and not seen[:, 1:, :2].any()
    assert 0.4 < seen[:, 0, 0].mean() < 0.6
    assert (seen[:, 4, 2] == 1).all() and not seen[:, :4, 2].any()
    # who stands still is late from the first step on
    stays = episodes(environment, lambda key, seen, t: 1)[0]
    np.testing.assert_allclose(stays, -1.0, atol=1e-6)
    # who misses the second step comes late, and does not turn at all
    late = episodes(environment, lambda key, seen, t: jnp.where(t == 1, 1, t_maze(key, seen, t)))
    np.testing.assert_allclose(late[0], -0.75, atol=1e-6)


def test_the_delay_is_of_any_length_from_half_on_and_the_question_comes_once():
    environment = CueAndDelay(6)
    _, steps, seen = episodes(environment, cue_and_delay)
    assert set(steps) == {4, 5, 6, 7}
    asked = seen[..., 6].argmax(axis=1)
    np.testing.assert_array_equal(asked, steps - 1)
    assert not seen[:, 1:, :4].any()
    before = np.arange(environment.horizon) < steps[:, None]
    assert 0.4 < seen[before][:, 4:6].mean() < 0.6


def test_the_cart_pole_is_that_of_gymnasium():
    """Against the equations as they are written in the paper, in NumPy and double precision."""
    environment = CartPole(40)
    rng = np.random.default_rng(0)
    state = environment.reset(jax.random.key(0))
    x, v, angle, turning = (float(part) for part in state[:4])
    for _ in range(20):
        action = int(rng.integers(2))
        force = 10.0 if action else -10.0
        temp = (force + 0.05 * turning**2 * np.sin(angle)) / 1.1
        alpha = (9.8 * np.sin(angle) - np.cos(angle) * temp) / (
            0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1)
        )
        acceleration = temp - 0.05 * alpha * np.cos(angle) / 1.1
        x, v = x + 0.02 * v, v + 0.02 * acceleration
        angle, turning = angle + 0.02 * turning, turning + 0.02 * alpha
        state, _, done = environment.step(None, state, jnp.asarray(action))
        np.testing.assert_allclose(state[:4], (x, v, angle, turning), rtol=1e-4, atol=1e-5)
        assert bool(done) == (abs(x) > 2.4 or abs(angle) > 12 * np.pi / 180)
        seen = environment.observe(state)
        np.testing.assert_allclose(seen, [x / 2.4, angle / 0.21], rtol=1e-4, atol=1e-5)
        if done:
            break


def test_a_pole_that_is_pushed_to_one_side_falls_soon_and_earns_what_it_stood():
    total, steps, _ = episodes(CartPole(40), lambda key, seen, t: 1, count=20)
    assert steps.max() < 15
    np.testing.assert_allclose(total, steps / 40, rtol=1e-5)
