"""How much of the past a gradient reaches, and how much of it a state holds."""

import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Cell, Params
from jaxrnn.checks import as_array, check_key, check_number, check_size
from jaxrnn.running import unroll
from jaxrnn.structure import fit_params


class MemoryCapacity(NamedTuple):
    # [], at most the number of outputs of the cell, but for what a fit to noise explains
    total: Array
    delays: Array  # [K], the share of u(t - k) that is known at t, for k from 1 to K


def effective_memory(log10_norms: Array, share: float = 0.01) -> Array:
    """How many lags back gradients reach: at how many lags their norm exceeds `share`
    of that at lag 0.

    Args:
        log10_norms: [..., T + 1], indexed by the lag, as `carry_jacobian_norms` gives them, or
            `jnp.log10(carry_gradient_norms(...).whole[::-1])`, whose lag is on the first axis:
            transpose it.
        share: between 0 and 1.

    Returns:
        [...], from 0 to T. T means that they reach beyond the sequence.

    Raises:
        ValueError: `share` is not between 0 and 1, or norms without an axis, or with NaN, which
            under `jax.jit` counts as not reached.
        TypeError: norms that are not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.diagnostics import effective_memory
        >>> log_norms = jnp.arange(100.0) * jnp.log10(0.9)
        >>> int(effective_memory(log_norms))  # 0.9^43 = 0.0108, 0.9^44 = 0.0097
        43
    """
    if not (isinstance(share, numbers.Real) and 0 < share < 1):
        raise ValueError(f"share must be between 0 and 1, got {share!r}.")
    log10_norms = jnp.asarray(as_array("log10_norms", log10_norms))
    if log10_norms.ndim == 0:
        raise ValueError("log10_norms has no axis, expected [..., T + 1].")
    if not jnp.issubdtype(log10_norms.dtype, jnp.floating):
        raise TypeError(f"log10_norms must be floating point, got dtype {log10_norms.dtype}.")
    if not isinstance(log10_norms, jax.core.Tracer) and bool(jnp.isnan(log10_norms).any()):
        raise ValueError("log10_norms holds NaN: these gradients have no norm to compare.")
    relative = log10_norms[..., 1:] - log10_norms[..., :1]
    return jnp.sum(relative > jnp.log10(jnp.asarray(share, log10_norms.dtype)), axis=-1)


def memory_capacity(
    cell: Cell,
    params: Params,
    key: Array,
    delays: int,
    *,
    carry: Carry = None,
    steps: int = 4000,
    scale: float = 0.5,
    ridge: float = 1e-9,
) -> MemoryCapacity:
    """Jaeger's linear memory capacity: how much of a random input
    of the past a linear readout of the outputs recovers.

    The cell hears u(t) ~ U[-scale, scale], the same in all of its inputs. For each delay k a ridge
    regression with a bias gives u(t - k) from the outputs at t, and

        MC_k = r^2(u(t - k), readout_k(t)),    MC = sum of MC_k <= number of outputs,

    the bound being exact for infinitely many steps; with finitely many a fit to noise adds about
    (outputs / steps) per delay.

    Args:
        cell: the cell, with a vector input.
        params: its parameters.
        key: of the input.
        delays: K, the longest.
        carry: the carry before the first step; None means the cell's own.
        steps: T, how many are fitted, after a washout of K steps; many more than there are outputs.
        scale: of the input; small inputs keep a tanh linear.
        ridge: the penalty of the regression, relative to the mean square of the outputs.

    Returns:
        `total` [] and `delays` [K].

    Raises:
        ValueError: `delays` or `steps` is less than 1, `scale` or `ridge` no such number.

    Source: Jaeger 2001, GMD report 152, definition 1 and proposition 2.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.diagnostics import memory_capacity
        >>> cell = jaxrnn.RNNCell(hidden_size=8)
        >>> params = cell.init(jax.random.key(0), input_size=1)
        >>> memory_capacity(cell, params, jax.random.key(1), delays=16).delays.shape
        (16,)
    """
    check_size("delays", delays)
    check_size("steps", steps)
    for name, value in (("scale", scale), ("ridge", ridge)):
        if not isinstance(value, jax.core.Tracer):
            check_number(name, value, least=0)
    check_key(key)
    params = fit_params(cell, params)
    dtype = jax.tree.leaves(params)[0].dtype
    u = jax.random.uniform(key, (steps + delays,), dtype, -scale, scale)
    size = cell.input_size(params) or 1
    _, ys = unroll(cell, params, jnp.broadcast_to(u[:, None], (len(u), size)), carry)
    exact = dtype if dtype.itemsize > 2 else jnp.float32  # there are no singular values in 16 bits
    u = u.astype(exact)
    ys = ys.astype(exact)
    ys = ys[delays:] - jnp.mean(ys[delays:], axis=0, keepdims=True)
    past = jnp.stack([u[delays - k : len(u) - k] for k in range(1, delays + 1)], axis=1)
    past = past - jnp.mean(past, axis=0, keepdims=True)
    # By the singular values of ys: its Gram matrix would square their range, and lose the weak
    # memories of float32.
    left, values, _ = jnp.linalg.svd(ys, full_matrices=False)
    whole = jnp.sum(values**2)
    kept = values**2 / jnp.where(whole == 0, 1, values**2 + ridge * whole)
    explained = kept[:, None] * (left.T @ past)
    known = left @ explained
    overlap = jnp.sum(known * past, axis=0) ** 2
    sizes = jnp.sum(known**2, axis=0) * jnp.sum(past**2, axis=0)
    # 0 / 0 of an output that never moves is a share of 0; NaN of a state that is lost stays NaN.
    shares = jnp.where(sizes == 0, 0, overlap / jnp.where(sizes == 0, 1, sizes))
    return MemoryCapacity(total=jnp.sum(shares), delays=shares)
