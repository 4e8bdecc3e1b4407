"""A prompt, and then steps whose input is made of the output before."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Array, Carry, Cell, Params, select
from jaxrnn.checks import check_size
from jaxrnn.running.stepper import stepper
from jaxrnn.running.unroll import unroll
from jaxrnn.sequences.outputs import last_output


class Generated(NamedTuple):
    """What `generate` made."""

    tokens: Any  # [steps, *batch, ...]
    ended: Array  # [*batch], True where `stop` was chosen
    carry: Carry  # that has seen the prompt and all tokens, up to `stop`


class _State(NamedTuple):
    carry: Carry
    y: Array
    ended: Array


def generate(
    cell: Cell,
    params: Params,
    xs: Array,
    steps: int,
    choose: Callable[[Array, Array], tuple[Any, Array]],
    *,
    key: Array,
    carry: Carry = None,
    mask: Array | None = None,
    stop: int | None = None,
) -> Generated:
    """Reads a prompt, and goes on by itself: text, music, a forecast, a sampled trajectory.

    Each step chooses a token from the last output, and sees it as its next input. It runs under
    `jax.jit` with `cell`, `steps`, `choose` and `stop` static, as one loop.

    Args:
        cell: the cell or stack, in one direction.
        params: its parameters.
        xs: [T, *batch, I], the prompt, of at least one step.
        steps: how many tokens are chosen.
        choose: of a key and an output [*batch, H] the token [*batch, ...] and, as the next input,
            [*batch, I]. The head, the temperature and the embedding are its business.
        key: split once for each step.
        carry: before the prompt; None is the first.
        mask: [T, *batch] booleans, for prompts of different length: each goes on behind its own
            last step. A row without any is at its carry, and its output counts as 0.
        stop: a token, behind which a row's tokens are all `stop` and its carry is held; None goes
            on to the end.

    Returns:
        `Generated`.

    Raises:
        TypeError, ValueError: as `unroll`; an empty prompt; `stop` with tokens that are no whole
            numbers [*batch].

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> cell = jaxrnn.GRUCell(hidden_size=5)  # of five symbols; its output is its logits
        >>> params = cell.init(jax.random.key(0), input_size=5)
        >>> def choose(key, y):
        ...     token = jax.random.categorical(key, y)
        ...     return token, jax.nn.one_hot(token, 5)
        >>> prompt = jax.nn.one_hot(jnp.array([[0, 1], [2, 3]]), 5)  # two steps, two rows
        >>> made = jaxrnn.generate(cell, params, prompt, 7, choose, key=jax.random.key(1), stop=4)
        >>> made.tokens.shape
        (7, 2)
    """
    check_size("steps", steps)
    xs = jnp.asarray(xs)
    if xs.ndim < 1 or xs.shape[0] == 0:
        raise ValueError(f"the prompt must have at least one step, got shape {xs.shape}.")
    carry, ys = unroll(cell, params, xs, carry, mask=mask)
    y = ys[-1] if mask is None else last_output(ys, mask)
    one = stepper(cell, params, dtype=xs.dtype)

    def step(state: _State, key: Array) -> tuple[_State, Any]:
        token, x = choose(key, state.y)
        ended = state.ended
        if stop is not None:
            _check_token(token, ended)
            token = jnp.where(ended, jnp.asarray(stop, token.dtype), token)
            ended = ended | (token == stop)
        after, y = one(state.carry, jnp.asarray(x, xs.dtype))
        if stop is not None:
            after = select(state.ended, state.carry, after)
        return _State(after, y, ended), token

    first = _State(carry, y, jnp.zeros(y.shape[: xs.ndim - 1 - cell.feature_axes], jnp.bool_))
    end, tokens = lax.scan(step, first, jax.random.split(key, steps))
    return Generated(tokens, end.ended, end.carry)


def _check_token(token: Any, ended: Array) -> None:
    shape = jnp.shape(token)
    if shape != ended.shape or not jnp.issubdtype(jnp.result_type(token), jnp.integer):
        raise ValueError(
            f"stop needs tokens that are whole numbers of shape {ended.shape}, got shape {shape} "
            f"and dtype {jnp.result_type(token)}."
        )
