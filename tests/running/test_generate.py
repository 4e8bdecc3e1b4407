"""A prompt and what follows: equal to a loop step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn

KEY = jax.random.key(2)
SYMBOLS = 6


def largest(key, y):
    token = jnp.argmax(y[..., :SYMBOLS], axis=-1)
    return token, jax.nn.one_hot(token, SYMBOLS)


def drawn(key, y):
    token = jax.random.categorical(key, 3 * y[..., :SYMBOLS])
    return token, jax.nn.one_hot(token, SYMBOLS)


def network(make=jaxrnn.GRUCell):
    cell = make(8)
    params = cell.init(KEY, SYMBOLS)
    return cell, jax.tree.map(lambda a: 3 * a, params)


def prompt(T=4, B=3):
    return jax.nn.one_hot(jax.random.randint(KEY, (T, B), 0, SYMBOLS), SYMBOLS)


def by_hand(cell, params, xs, steps, choose, keys, carry=None):
    for x in xs:
        carry, y = cell(params, carry, x)
    tokens = []
    for key in keys[:steps]:
        token, x = choose(key, y)
        carry, y = cell(params, carry, x)
        tokens.append(token)
    return jnp.stack(tokens), carry


@pytest.mark.parametrize("make", [jaxrnn.GRUCell, jaxrnn.LSTMCell])
@pytest.mark.parametrize("choose", [largest, drawn])
def test_tokens_and_carry_are_those_of_a_loop(make, choose):
    cell, params = network(make)
    run = jax.jit(functools.partial(jaxrnn.generate, cell, steps=12, choose=choose))
    made = run(params=params, xs=prompt(), key=jax.random.key(9))
    tokens, carry = by_hand(
        cell, params, prompt(), 12, choose, jax.random.split(jax.random.key(9), 12)
    )
    np.testing.assert_array_equal(made.tokens, tokens)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), made.carry, carry)
    assert len(np.unique(tokens)) > 2 and not made.ended.any()


def test_prompts_of_different_length_go_on_behind_their_own_end():
    cell, params = network()
    xs = prompt()
    lengths = jnp.array([1, 4, 2])
    mask = jaxrnn.lengths_to_mask(lengths, T=4)
    holes = jnp.where(mask[..., None], xs, jnp.nan)
    made = jaxrnn.generate(cell, params, holes, 6, largest, key=KEY, mask=mask)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = by_hand(
            cell, params, xs[:length, row : row + 1], 6, largest, jax.random.split(KEY, 6)
        )
        np.testing.assert_array_equal(made.tokens[:, row], alone[:, 0])


def test_behind_the_stop_a_row_is_still_and_the_others_go_on():
    cell, params = network()
    free = jaxrnn.generate(cell, params, prompt(), 20, drawn, key=KEY)
    stop = int(free.tokens[3, 0])
    made = jaxrnn.generate(cell, params, prompt(), 20, drawn, key=KEY, stop=stop)
    for row in range(3):
        said, was = np.asarray(made.tokens[:, row]), np.asarray(free.tokens[:, row])
        ends = np.flatnonzero(was == stop)
        end = ends[0] if len(ends) else 20
        np.testing.assert_array_equal(said[: end + 1], was[: end + 1])
        assert (said[end:] == stop).all() and bool(made.ended[row]) == (end < 20)
    shorter = jaxrnn.generate(cell, params, prompt(), 21, drawn, key=KEY, stop=stop)
    assert made.ended[0] and shorter.tokens.shape == (21, 3)


def test_the_carry_of_a_row_that_has_stopped_is_held():
    cell, params = network()

    def at_once(key, y):
        return jnp.full(3, 2), largest(key, y)[1]

    made, longer = (
        jaxrnn.generate(cell, params, prompt(), steps, at_once, key=KEY, stop=2).carry.h
        for steps in (1, 5)
    )
    np.testing.assert_array_equal(made, longer)


def test_a_forecast_goes_on_from_its_own_outputs():
    cell, params = network()
    made = jaxrnn.generate(
        cell, params, prompt(), 5, lambda key, y: (y[..., :2], y[..., :SYMBOLS]), key=KEY
    )
    assert made.tokens.shape == (5, 3, 2) and jnp.isfinite(made.tokens).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"xs": jnp.zeros((0, 3, SYMBOLS))}, "at least one step"),
        (
            {"stop": 1, "choose": lambda key, y: (y, y[..., :SYMBOLS])},
            r"whole numbers of shape \(3,\), got shape \(3, 8\)",
        ),
        ({"xs": jnp.zeros((2, 3, 5))}, "features"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    cell, params = network()
    given = {"xs": prompt(), "steps": 3, "choose": largest, "key": KEY} | change
    with pytest.raises(ValueError, match=message):
        jaxrnn.generate(cell, params, **given)
