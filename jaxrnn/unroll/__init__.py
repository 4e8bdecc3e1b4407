"""How a cell runs over time: one file per method, one dispatcher. It knows the contract of a cell, never a cell."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxrnn.typing import Array, Carry, Cell, Noise, Params, check_cell_type, check_size
from jaxrnn.unroll.explain import Explanation, explain
from jaxrnn.unroll.run import carries, check_method, run, windows
from jaxrnn.unroll.sequence import check_lengths, initial_carry, lengths_to_mask

__all__ = [
    "Explanation",
    "check_lengths",
    "check_method",
    "explain",
    "initial_carry",
    "lengths_to_mask",
    "unroll",
    "unroll_carries",
    "unroll_windows",
]


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
    method: str | None = None,
    remat: str = "none",
) -> tuple[Carry, Array]:
    """Runs a cell, or a stack of cells, over a sequence.

    Args:
        cell: the cell.
        params: its parameters, from `cell.init`.
        xs: [T, *batch, I], floating point. Its dtype is the compute dtype; the carry is float32 when that has 16 bits.
        carry: the carry before the first step; None means `cell.init_carry`. It is never what a reset returns to.
        mask: [T, *batch] booleans. Where False, the carry is held, the output is 0, and nothing that stands in `xs` (NaN too)
            reaches values or gradients. `lengths_to_mask` makes one.
        reset: [T, *batch] booleans. Where True a new sequence begins: the carry is replaced by `cell.init_carry` before that
            step is seen, on a masked step too. With `reverse` the same boundaries hold, between t - 1 and t.
        noise: None for evaluation; `cell.noise(key, T, like)` for training, with one step's input as `like`.
        reverse: whether time runs from T - 1 to 0. Outputs stay aligned with the inputs.
        method: how it is run, which never changes the result beyond rounding. None is the fastest, which is "fused": a backward
            pass of its own, with one matmul per product and step, and one per weight and chunk of steps. It refuses `jvp` and
            `jacfwd` of the primal (`hessian`, and `jvp` of a gradient, work). "scan" is plain `lax.scan` and autodiff. "cudnn"
            is cuDNN's LSTM, on an NVIDIA GPU, for float32 inputs without resets, in TF32 unless `jax.default_matmul_precision`
            is "highest"; without `vmap` and second derivatives. "persistent" is one kernel for all steps, for a Hopper GPU and
            jax 0.12; it is experimental, tested in an interpreter only, and raises where it cannot run a cell: one product per
            step, with a weight that fits on chip. `jaxrnn.explain` says what runs, and why.
        remat: "none" saves what the backward pass needs; "carry" saves the carries only and computes the rest again, in about
            a third of the memory where T is long; "sqrt", not for "scan", saves the carry before each of about sqrt(T) chunks;
            "cudnn" and "persistent" have "none" only.

    Returns:
        (carry, ys): the carry after the last step, and the outputs [T, *batch, ...] in the dtype of `xs`.

    Raises:
        TypeError: `cell` is no cell, or a dtype is wrong.
        ValueError: shapes, structures or options that do not fit; the message says what was expected.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.LSTMCell(hidden_size=20)
        >>> params = cell.init(jax.random.key(0), input_size=10)
        >>> xs = jax.random.normal(jax.random.key(1), (15, 5, 10))  # time, batch, features
        >>> carry, ys = jaxrnn.unroll(cell, params, xs, mask=jaxrnn.lengths_to_mask([15, 7, 0, 1, 3], T=15))
        >>> ys.shape, carry.h.shape
        ((15, 5, 20), (5, 20))
    """
    check_cell_type(cell)
    check_method(method, remat)
    options = (("reverse", reverse), ("method", method), ("remat", remat))
    return _jitted(run, cell, options, params, xs, carry, mask, reset, noise)


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
    method: str | None = None,
    remat: str = "none",
) -> tuple[Carry, Array]:
    """The carries after every step, for those who need the c of an LSTM or the states of all layers; else as `unroll`.

    Args:
        cell, params, xs, carry, mask, reset, noise, reverse, method, remat: as in `unroll`.

    Returns:
        (carries, ys): a carry of which every leaf is [T, *batch, ...], in the carry's dtype and held at masked steps, and the
        outputs. `carries[t]` is the carry after step t has been seen, whichever way time runs.

    Raises:
        TypeError, ValueError: as `unroll`.
    """
    check_cell_type(cell)
    check_method(method, remat)
    options = (("reverse", reverse), ("method", method), ("remat", remat))
    return _jitted(carries, cell, options, params, xs, carry, mask, reset, noise)


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
    method: str | None = None,
    remat: str = "none",
) -> tuple[Carry, Array]:
    """Truncated backpropagation through time: `unroll` in windows, of which each hands its carry on without its gradient.

    The values are those of `unroll`. Gradients flow inside a window, and to a given or learned carry in the first window and from
    the resets of all; no gradient flows from one window to the window before. It is one program, whose memory grows with T as
    that of `unroll`; an endless stream takes a call of `unroll` for each window, with the carry of the last.

    Args:
        cell, params, xs, carry, mask, reset, method, remat: as in `unroll`. The cell runs forward in time.
        window: the steps of a window; the last may be shorter.
        noise: as in `unroll`, for all T steps: what is held over time is held over the windows too.

    Returns:
        (carry, ys) as `unroll`; gradients of the carry reach the last window.

    Raises:
        TypeError, ValueError: as `unroll`; a window below 1; a cell that runs in both directions.

    Source: Williams and Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories"; here the gradient reaches back to the beginning of the window.
    """
    check_cell_type(cell)
    check_method(method, remat)
    check_size("window", window)
    if not cell.causal:
        raise ValueError("a cell that runs in both directions sees the whole sequence at once; it has no windows.")
    options = (("window", window), ("method", method), ("remat", remat))
    return _jitted(windows, cell, options, params, xs, carry, mask, reset, noise)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _jitted(
    run: Callable[..., tuple[Carry, Array]],
    cell: Cell,
    options: tuple[tuple[str, Any], ...],
    params: Params,
    xs: Array,
    carry: Carry,
    mask: Array | None,
    reset: Array | None,
    noise: Noise,
) -> tuple[Carry, Array]:
    # An eager lax.scan compiles anew on every call (50-200 ms): this is the library's only jit.
    return run(cell, params, xs, carry, mask=mask, reset=reset, noise=noise, **dict(options))
