"""A stream as one call: a step, a loss, its gradients, and updates on the way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Array, Cell, Noise, Params, carry_dtype
from jaxrnn.checks import as_arrays, check_features, check_noise, check_size, fit_rows
from jaxrnn.online.learner import Learner, State
from jaxrnn.running.stepper import Stepper
from jaxrnn.structure import fit_params


class Learned(NamedTuple):
    """What `learn` returns, and goes on from."""

    params: Params
    head: Any
    state: State
    optimizer_state: Any
    losses: Array  # [T]
    # of the parameters and the head: the sum of those since the last update, of all without one
    gradients: tuple[Params, Any]


def learn(
    learner: Learner,
    params: Params,
    xs: Array,
    targets: Any,
    loss: Callable[[Any, Array, Any], Array],
    *,
    head: Any = (),
    state: State | None = None,
    optimizer: Any = None,
    optimizer_state: Any = None,
    every: int = 1,
    mask: Array | None = None,
    reset: Array | None = None,
    noise: Noise = None,
    signal: Callable[[Any, Array, Any], Array] | None = None,
) -> Learned:
    """Runs over a stretch of a stream and learns as it goes.

    Memory does not grow with the stretch, beyond its inputs and losses. Under `jax.jit` the
    learner, the functions and the optimizer are static.

    Args:
        learner: `RTRL(cell)`, or another way.
        params: of the cell.
        xs: [T, *batch, I].
        targets: a tree of arrays, [T, ...] each, or None.
        loss: (head, y, target) -> the loss of one step, a scalar.
        head: the parameters of a readout, or whatever else the loss has to learn.
        state: where the stretch before ended; None is the beginning.
        optimizer: with `init` and `update`, as optax has them; None only sums up gradients.
        optimizer_state: where it ended; None begins.
        every: how many steps an update sums up.
        mask: [T, *batch] booleans. Where False the state stays and y is 0.
        reset: [T, *batch] booleans. Where True a new sequence begins.
        noise: what `cell.noise` draws for T steps.
        signal: (head, y, target) -> what takes the place of the derivative of the loss in y: the
            learning signal of e-prop.

    Returns:
        `Learned`. Without an optimizer its gradients are those of the sum of all losses: with
        `RTRL` or `DenseRTRL` what `jax.grad` of `jaxrnn.unroll` gives.

    Raises:
        ValueError: a stretch that is no multiple of `every`, or as `Learner.step`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> learner = jaxrnn.online.RTRL(jaxrnn.cells.IndRNNCell(4))
        >>> params = learner.cell.init(jax.random.key(0), input_size=3)
        >>> def loss(head, y, target):
        ...     return jnp.mean((y - target) ** 2)
        >>> found = jaxrnn.online.learn(learner, params, jnp.ones((9, 2, 3)), jnp.ones(9), loss)
        >>> found.losses.shape, found.gradients[0].w_x.shape
        ((9,), (3, 1, 4))
    """
    check_size("every", every)
    if not isinstance(learner, Learner):
        raise TypeError(f"learner must be one of jaxrnn.online, got {type(learner).__name__}.")
    cell = learner.cell
    params = fit_params(cell, params)
    xs = jnp.asarray(check_features(cell, params, xs, axes="T, ..."))
    T = xs.shape[0]
    if T == 0:
        raise ValueError("xs must have at least one step.")
    _check_targets(targets, T)
    mask, reset = (
        rows if rows is None else fit_rows(name, rows, xs, 1)
        for name, rows in (("mask", mask), ("reset", reset))
    )
    noise = _fitted(cell, noise, xs)
    if optimizer is not None and T % every:
        raise ValueError(f"{T} steps are no multiple of every={every}.")
    if state is None:
        state = learner.init(params, xs[0], Stepper.noise_at(noise, 0))
    whole = (params, head)
    if optimizer is not None and optimizer_state is None:
        optimizer_state = optimizer.init(whole)
    # summed in 32 bits at the least: a sum of many in 16 stops growing
    none = jax.tree.map(lambda p: jnp.zeros_like(p, carry_dtype(p.dtype)), whole)

    def body(now: Any, inputs: Any) -> Any:
        (params, head), state, progress, total = now
        t, x, target, valid, began = inputs
        own = Stepper.noise_at(noise, t)
        state, y, moment = learner.step(params, state, x, mask=valid, reset=began, noise=own)
        value, (dhead, dy) = jax.value_and_grad(loss, (0, 1))(head, y, target)
        if signal is not None:
            dy = signal(head, y, target)
        found = (learner.gradients(params, moment, dy), dhead)
        total = jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, found)
        now = ((params, head), progress, total)
        if optimizer is not None:
            now = lax.cond((t + 1) % every == 0, update, lambda *now: now, *now)
        whole, progress, total = now
        return (whole, state, progress, total), value

    def update(whole: Any, progress: Any, total: Any) -> Any:
        changes, progress = optimizer.update(_as(whole, total), progress, whole)
        whole = jax.tree.map(lambda p, change: p + change.astype(p.dtype), whole, changes)
        return whole, progress, none

    inputs = (jnp.arange(T), xs, targets, mask, reset)
    now, losses = lax.scan(body, (whole, state, optimizer_state, none), inputs)
    (params, head), state, optimizer_state, total = now
    return Learned(params, head, state, optimizer_state, losses, _as(now[0], total))


def _fitted(cell: Cell, noise: Noise, xs: Array) -> Noise:
    if noise is None:
        return None
    noise = jax.tree.map(jnp.asarray, as_arrays("noise", noise))
    check_noise(cell, noise, xs)
    return noise


def _as(like: Any, tree: Any) -> Any:
    """A tree in the dtypes of another."""
    return jax.tree.map(lambda a, b: b.astype(a.dtype), like, tree)


def _check_targets(targets: Any, T: int) -> None:
    """Raises ValueError unless there is one for each of T steps."""
    for path, leaf in jax.tree.leaves_with_path(targets):
        if jnp.shape(leaf)[:1] != (T,):
            name = f"targets{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{name} has shape {jnp.shape(leaf)}, expected one for each of the {T} steps of xs."
            )
