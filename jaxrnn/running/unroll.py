"""The public entries: a sequence, one with the carries of all steps, and one in windows."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Array, Carry, Cell, Noise, Params, as_cell
from jaxrnn.checks import (
    as_array,
    as_arrays,
    as_floating,
    check_features,
    check_flag,
    check_noise,
    check_size,
    fit_carry,
    fit_rows,
)
from jaxrnn.running.chunks import scan_chunks
from jaxrnn.running.forward_mode import MESSAGE, is_refusal
from jaxrnn.running.method import Method, resolve
from jaxrnn.running.run import Run, prepare, start
from jaxrnn.running.scan import Scan
from jaxrnn.structure import features_of, fit_params


def unroll(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    noise: Noise = None,
    reverse: bool = False,
    method: str | Method | None = None,
    remat: str = "none",
) -> tuple[Carry, Array]:
    """Runs a cell, or a stack of cells, over a sequence.

    Args:
        cell: the cell.
        params: its parameters, from `cell.init`.
        xs: [T, *batch, I], floating point. Its dtype is the compute dtype; the carry is float32
            when that has 16 bits.
        carry: the carry before the first step; None means `cell.init_carry`. It is never what a
            reset returns to. A leaf that no step changes is kept once, not T times.
        mask: [T, *batch] booleans. Where False, the carry is held, the output is 0, and nothing
            that stands in `xs` (NaN too) reaches values or gradients. `lengths_to_mask` makes one.
        reset: [T, *batch] booleans. Where True a new sequence begins: the carry is replaced by
            `cell.init_carry` before that step is seen, on a masked step too. With `reverse` the
            same boundaries hold, between t - 1 and t.
        noise: None for evaluation; `cell.noise(key, T, like)` for training, with one step's input
            as `like`.
        reverse: whether time runs from T - 1 to 0. Outputs stay aligned with the inputs.
        method: how it is run, which never changes the result beyond rounding: a name, or an object
            of `jaxrnn.methods` or of your own. None takes the fastest that can run the cell, which
            is "affine", "fused" or "scan"; `jaxrnn.explain` says which, and why.

            - "scan": plain `lax.scan` and automatic differentiation, in any mode.
            - "affine": one affine scan, for cells that are linear in their carry, unit by unit; all
              derivatives.
            - "newton": all steps at once, for cells whose units keep to themselves and for small
              ones, meant for GPUs and TPUs; the loop where that does not converge; all
              derivatives.
            - "fused": a backward pass of its own, with one matmul per product and step and one
              per weight and chunk of steps. It refuses `jvp` and `jacfwd` of the run itself
              (`hessian`, and `jvp` of a gradient, work).
            - "cudnn": cuDNN's LSTM, on an NVIDIA GPU, for float32 inputs without resets, in TF32
              unless `jax.default_matmul_precision` is "highest"; no `vmap`, no second derivatives.
            - "persistent": one kernel for all steps, for a Hopper GPU and jax 0.11 or newer, in
              TF32; no second derivatives.

            A method that was asked for and cannot run the cell raises, with the reason.
        remat: "none" saves what the backward pass needs; "carry" saves the carries only and
            computes the rest again, in about a third of the memory where T is long; "sqrt" saves
            the carry before each of about sqrt(T) chunks. "cudnn" and "persistent" have "none"
            only.

    Returns:
        (carry, ys): the carry after the last step, and the outputs [T, *batch, ...] in the dtype
        of `xs`.

    Raises:
        TypeError: `cell` is no cell, `method` is not hashable by value, or a dtype is wrong.
        ValueError: shapes, structures or options that do not fit; the message says what was
            expected.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.LSTMCell(hidden_size=20)
        >>> params = cell.init(jax.random.key(0), input_size=10)
        >>> xs = jax.random.normal(jax.random.key(1), (15, 5, 10))  # time, batch, features
        >>> mask = jaxrnn.lengths_to_mask([15, 7, 0, 1, 3], T=15)
        >>> carry, ys = jaxrnn.unroll(cell, params, xs, mask=mask)
        >>> ys.shape, carry.h.shape
        ((15, 5, 20), (5, 20))
    """
    cell, arrays = _given(cell, params, xs, carry, mask, reset, noise)
    check_flag("reverse", reverse)
    options = (resolve(method, remat), remat, bool(reverse))
    return compiled(_sequence, cell, options, *arrays)


def unroll_carries(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    noise: Noise = None,
    reverse: bool = False,
    method: str | Method | None = None,
    remat: str = "none",
) -> tuple[Carry, Array]:
    """The carries after every step, for those who need the c of an LSTM or the states of all
    layers; else as `unroll`.

    Args:
        cell, params, xs, carry, mask, reset, noise, reverse, method, remat: as in `unroll`.

    Returns:
        (carries, ys): a carry of which every leaf is [T, *batch, ...], in the carry's dtype and
        held at masked steps, and the outputs. `carries[t]` is the carry after step t has been
        seen, whichever way time runs.

    Raises:
        TypeError, ValueError: as `unroll`.
    """
    cell, arrays = _given(cell, params, xs, carry, mask, reset, noise)
    check_flag("reverse", reverse)
    options = (resolve(method, remat), remat, bool(reverse))
    return compiled(_carries, cell, options, *arrays)


def unroll_windows(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry = None,
    *,
    window: int,
    mask: Array | None = None,
    reset: Array | None = None,
    noise: Noise = None,
    method: str | Method | None = None,
    remat: str = "none",
) -> tuple[Carry, Array]:
    """Truncated backpropagation through time: `unroll` in windows, of which each hands its carry
    on without its gradient.

    The values are those of `unroll`. Gradients flow inside a window, and to a given or learned
    carry in the first window and from the resets of all; no gradient flows from one window to the
    window before. It is one program, whose memory grows with T as that of `unroll`; an endless
    stream takes a call of `unroll` for each window, with the carry of the last.

    Args:
        cell, params, xs, carry, mask, reset, method, remat: as in `unroll`. The cell runs forward
            in time.
        window: the steps of a window; the last may be shorter.
        noise: as in `unroll`, for all T steps: what is held over time is held over the windows too.

    Returns:
        (carry, ys) as `unroll`; gradients of the carry reach the last window.

    Raises:
        TypeError, ValueError: as `unroll`; a window below 1; a cell that runs in both directions.

    Source: Williams and Peng 1990, "An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories"; here the gradient reaches back to the beginning of the window.
    """
    cell, arrays = _given(cell, params, xs, carry, mask, reset, noise)
    check_size("window", window)
    if not cell.causal:
        raise ValueError(
            "a cell that runs in both directions sees the whole sequence at once; it has no "
            "windows."
        )
    options = (resolve(method, remat), remat, window)
    return compiled(_windows, cell, options, *arrays)


def _given(
    cell: Cell, params: Params, xs: Any, carry: Any, mask: Any, reset: Any, noise: Any
) -> tuple[Cell, tuple[Any, ...]]:
    """What an entry is given, as a cell and arrays: of a list each number would be an argument of
    the jit, and of what is no array the jit's error would say nothing."""
    cell = as_cell(cell)
    xs = as_floating(xs)
    params = fit_params(cell, params, features_of(xs))
    mask = None if mask is None else as_array("mask", mask)
    reset = None if reset is None else as_array("reset", reset)
    return cell, (params, xs, as_arrays("carry", carry), mask, reset, as_arrays("noise", noise))


def compiled(
    run: Callable[..., tuple[Carry, Array]], cell: Cell, options: tuple[Any, ...], *arrays: Any
) -> tuple[Carry, Array]:
    """`run(cell, options, *arrays)`, compiled once for each cell, options and shapes.

    An eager `lax.scan` compiles anew on every call (50-200 ms): this is the library's only jit.
    """
    try:
        return jitted(run, cell, options, *arrays)
    except TypeError as error:
        if is_refusal(error) and not isinstance(options[0], Scan):
            raise TypeError(MESSAGE) from error
        raise


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def jitted(
    run: Callable[..., tuple[Carry, Array]],
    cell: Cell,
    options: tuple[Any, ...],
    params: Params,
    xs: Array,
    carry: Carry,
    *rest: Any,
) -> tuple[Carry, Array]:
    return run(cell, options, params, xs, carry, *rest)


def _sequence(
    cell: Cell,
    options: tuple[Method | None, str, bool],
    params: Params,
    xs: Array,
    carry: Carry,
    mask: Array | None,
    reset: Array | None,
    noise: Noise,
) -> tuple[Carry, Array]:
    method, remat, reverse = options
    run = Run(mask=mask, reset=reset, method=method, remat=remat)
    return run(cell, params, xs, carry, noise=noise, reverse=reverse)


def _carries(
    cell: Cell,
    options: tuple[Method | None, str, bool],
    params: Params,
    xs: Array,
    carry: Carry,
    mask: Array | None,
    reset: Array | None,
    noise: Noise,
) -> tuple[Carry, Array]:
    method, remat, reverse = options
    # Filled part by part: a stack runs its parts in the order in which its carry holds them.
    collected: list[Carry] = []
    run = Run(mask=mask, reset=reset, method=method, remat=remat, collected=collected)
    carry, ys = run(cell, params, xs, carry, noise=noise, reverse=reverse)
    return jax.tree.unflatten(jax.tree.structure(carry), jax.tree.leaves(collected)), ys


def _windows(
    cell: Cell,
    options: tuple[Method | None, str, int],
    params: Params,
    xs: Array,
    carry: Carry,
    mask: Array | None,
    reset: Array | None,
    noise: Noise,
) -> tuple[Carry, Array]:
    method, remat, window = options
    xs = check_features(cell, params, xs, axes="T, ...")
    T = xs.shape[0]
    if _is_one_window(T, window):
        return _sequence(cell, (method, remat, False), params, xs, carry, mask, reset, noise)
    mask, reset = (
        rows if rows is None else fit_rows(name, rows, xs, cell.feature_axes)
        for name, rows in (("mask", mask), ("reset", reset))
    )
    if noise is not None:
        check_noise(cell, noise, xs)
    # A cell of parts that does not prepare them itself leaves it to the run of each part.
    prepared = not hasattr(cell, "unroll_layers") or type(cell).prepare is not Cell.prepare
    own = prepare(cell, params, xs)
    params = own if prepared else params
    first = start(cell, own, xs, carry, mask, reset, noise)
    carry = first if carry is None else fit_carry(carry, first)
    timed, rejoin = _timed(noise, T)

    def body(state: Any, piece: Any) -> tuple[Any, Array]:
        index, carry = state
        xs, mask, reset, drawn = piece
        # Of the first window the carry is the caller's, and its gradient too.
        carry = jax.tree.map(lambda c: jnp.where(index == 0, c, lax.stop_gradient(c)), carry)
        run = Run(mask=mask, reset=reset, method=method, remat=remat, prepared=prepared)
        carry, ys = run(cell, params, xs, carry, noise=rejoin(drawn), reverse=False)
        return (index + 1, carry), ys

    state = (jnp.zeros((), jnp.int32), carry)
    (_, carry), ys = scan_chunks(body, state, (xs, mask, reset, timed), window, reverse=False)
    return carry, ys


def _timed(noise: Noise, T: int) -> tuple[list[Any], Callable[[list[Any]], Noise]]:
    """The leaves of noise that have T steps, None for those that last for all windows; and what
    puts the leaves of a window in their places."""
    leaves, tree = jax.tree.flatten(noise)
    timed = [leaf if leaf.shape[0] == T else None for leaf in leaves]

    def rejoin(drawn: list[Any]) -> Noise:
        pairs = zip(leaves, drawn, strict=True)
        return jax.tree.unflatten(tree, [always if now is None else now for always, now in pairs])

    return timed, rejoin


def _is_one_window(T: int, window: int) -> bool:
    if not isinstance(T, int):
        raise ValueError(
            f"windows need a known number of steps, got the symbol {T}; the values of unroll are "
            "the same."
        )
    return T <= window
