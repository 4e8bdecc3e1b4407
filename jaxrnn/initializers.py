"""Initialisers of kernels, applied per gate:
each gate's [I, H] matrix of a kernel [I, G, H] is drawn for itself.

(An orthogonal draw of the fused [H, 4*H] kernel would leave each gate's block with singular values
from 0 to 0.9 instead of 1.) Initialisers are given by name or as one of the frozen dataclasses
below, so that equal configurations are equal and hash alike. Kernels are drawn in at least float32
and then cast, since QR has no 16-bit form.
"""

import dataclasses
import difflib
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, DType, carry_dtype
from jaxrnn.checks import check_float, check_number, check_size

Initializer = str | Callable[[Array, tuple[int, ...], Any], Array]


@dataclasses.dataclass(frozen=True)
class Orthogonal:
    """A random (semi-)orthogonal matrix times `scale` (Saxe et al. 2014, arXiv:1312.6120)."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_number("scale", self.scale)

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
        # One after another under vmap: two batched QR in one program can wait for each other for
        # ever, each on the thread pool that it waits for (jaxlib 0.10.2 on a CPU; 8 seeds of 4
        # kernels hung after 65 calls).
        draw = jax.nn.initializers.orthogonal(self.scale)
        return jax.custom_batching.sequential_vmap(lambda key: draw(key, shape, dtype))(key)


@dataclasses.dataclass(frozen=True)
class GlorotUniform:
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
        return jax.nn.initializers.glorot_uniform()(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class LecunNormal:
    """A normal distribution cut at two sigma, of variance 1 / fan_in (LeCun et al. 1998)."""

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
        return jax.nn.initializers.lecun_normal()(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Identity:
    """The identity times `scale` (Le et al. 2015, arXiv:1504.00941);
    ones on the diagonal where the matrix is not square.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_number("scale", self.scale)

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
        return self.scale * jnp.eye(*shape, dtype=dtype)


@dataclasses.dataclass(frozen=True)
class Normal:
    """N(0, stddev^2)."""

    stddev: float

    def __post_init__(self) -> None:
        check_number("stddev", self.stddev, least=0)

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
        return self.stddev * jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class TorchUniform:
    """U(-1/sqrt(H), 1/sqrt(H)) with H = `hidden_size`, whatever the shape:
    what `torch.nn.RNNBase` draws for every parameter.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
        bound = 1 / math.sqrt(self.hidden_size)
        return jax.random.uniform(key, shape, dtype, -bound, bound)


@dataclasses.dataclass(frozen=True)
class Chrono:
    """The chrono initialisation of a gate's bias: b = log U(1, max_lag - 1).

    A forget gate sigmoid(b) then keeps its content for 1 to `max_lag` steps (Tallec & Ollivier
    2018, arXiv:1804.11188, eq. 16).

    Args:
        max_lag: the longest dependency, in steps; above 2.
    """

    max_lag: float

    def __post_init__(self) -> None:
        lag = self.max_lag
        real = isinstance(lag, numbers.Real) and not isinstance(lag, bool) and math.isfinite(lag)
        if not real or not lag > 2:
            raise ValueError(f"Chrono(max_lag) must be above 2 (steps), a number, got {lag!r}.")

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
        return jnp.log(jax.random.uniform(key, shape, dtype, 1.0, self.max_lag - 1.0))


NAMES: dict[str, Callable[[Array, tuple[int, ...], Any], Array]] = {
    "orthogonal": Orthogonal(),
    "glorot_uniform": GlorotUniform(),
    "lecun_normal": LecunNormal(),
    "identity": Identity(),
}


def resolve(
    init: Initializer, field: str = "an initializer"
) -> Callable[[Array, tuple[int, ...], Any], Array]:
    """The initialiser of that name, or `init` itself if it is one; `field` is what messages call
    it.

    Raises:
        ValueError: an unknown name; the message has the nearest known one.
        TypeError: neither a name nor a function.
    """
    if not isinstance(init, str):
        if not callable(init):
            raise TypeError(
                f"{field} must be a name, one of jaxrnn.initializers or a function of "
                f"(key, shape, dtype), got {init!r}."
            )
        return init
    if init not in NAMES:
        near = difflib.get_close_matches(init, NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = f"Known: {', '.join(NAMES)}."
        raise ValueError(f"{field}={init!r} is no known initializer.{hint} {known}")
    return NAMES[init]


def kernel(
    init: Initializer, key: Array, input_size: int, gates: int, output_size: int, dtype: DType
) -> Array:
    """A kernel [input_size, gates, output_size], drawn gate by gate."""
    check_float("dtype", dtype)
    keys = jax.random.split(key, gates)
    draw = resolve(init)
    wide = carry_dtype(dtype)
    shape = (input_size, output_size)
    blocks = [draw(k, shape, wide) for k in keys]
    if jnp.shape(blocks[0]) != shape:
        raise ValueError(
            f"the initializer {init!r} gave shape {jnp.shape(blocks[0])}, expected {shape}."
        )
    return jnp.stack(blocks, axis=1).astype(dtype)


def gate_bias(
    cell: Any,
    key: Array,
    b: Array | None,
    gate: int,
    bias: float | Chrono,
    *,
    keeps: bool = True,
    opposite: int | None = None,
) -> Array | None:
    """`b` with the initial bias of one gate; as it is where there is none, or torch draws it.

    Args:
        cell: has `hidden_size`, and perhaps an `init_scheme`.
        key: of the draw.
        b: [G * H] or None.
        gate: the number of the gate.
        bias: a constant, or a chrono draw.
        keeps: whether an open gate keeps the old state, as `Chrono` means it; where it is a closed
            one, the draw is negated.
        opposite: the number of a gate that gets the negative of a chrono draw.

    Returns:
        [G * H].
    """
    if b is None or getattr(cell, "init_scheme", "jaxrnn") == "torch":
        return b
    H = cell.hidden_size
    blocks = b.reshape(-1, H)
    if not isinstance(bias, Chrono):
        return blocks.at[gate].set(jnp.full(H, bias, b.dtype)).reshape(-1)
    drawn = bias(key, (H,), carry_dtype(b.dtype)).astype(b.dtype)
    blocks = blocks.at[gate].set(drawn if keeps else -drawn)
    if opposite is not None:
        blocks = blocks.at[opposite].set(-drawn)
    return blocks.reshape(-1)


def recurrent_bias(cell: Any, key: Array, dtype: DType) -> Array | None:
    """The bias [H] of a product with h alone: zeros, uniform for the torch scheme, None without
    biases."""
    if not cell.bias:
        return None
    if cell.init_scheme == "torch":
        return TorchUniform(cell.hidden_size)(key, (cell.hidden_size,), dtype)
    return jnp.zeros(cell.hidden_size, dtype)


def parameters(
    cell: Any,
    key: Array,
    input_size: int,
    gates: int,
    dtype: DType,
    recurrent_size: int | None = None,
) -> tuple[Array, Array, Array | None]:
    """The parameters that all built-in cells share, drawn by the cell's options.

    Args:
        cell: has `hidden_size, input_init, recurrent_init, bias, init_scheme`.
        key: a random key.
        input_size: I.
        gates: G.
        dtype: of the parameters.
        recurrent_size: R, the size of h where it is not H (projection).

    Returns:
        w_x [I, G, H], w_h [R, G, H], and b [G * H] (zeros; uniform for the torch scheme; None
        without bias).
    """
    check_size("input_size", input_size)
    hidden = cell.hidden_size
    torch = TorchUniform(cell.hidden_size) if cell.init_scheme == "torch" else None
    key_x, key_h, key_b = jax.random.split(key, 3)
    w_x = kernel(torch or cell.input_init, key_x, input_size, gates, hidden, dtype)
    w_h = kernel(
        torch or cell.recurrent_init, key_h, recurrent_size or hidden, gates, hidden, dtype
    )
    if not cell.bias:
        return w_x, w_h, None
    b = (
        kernel(torch, key_b, 1, gates, hidden, dtype).reshape(-1)
        if torch
        else jnp.zeros(gates * hidden, dtype)
    )
    return w_x, w_h, b
