"""What the convolutional cells share: the convolution, its options, its parameters,
and the space that it leaves.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, DType, plus, zeros
from jaxrnn.checks import check_size


class ConvParams(NamedTuple):
    w_x: Array  # [*kernel, I, G, H]
    w_h: Array  # [*kernel, H, G, H]
    b: Array | None  # [G * H]


def conv(
    v: Array, w: Array, strides: Any = None, padding: str = "same", dilation: Any = None
) -> Array:
    """The convolution of `v` [..., *space, C] with `w` [*kernel, C, G, D]:
    [..., *space, G, D]; kernels are not mirrored.

    What each entry of the kernel sees stands side by side, and one matrix product follows: inside a
    loop XLA:CPU runs `lax.conv_general_dilated` many times more slowly than outside, and its
    gradients above all.
    """
    kernel = w.shape[:-3]
    space = v.shape[-w.ndim + 2 : -1]
    ones = (1,) * len(kernel)
    windows = list(zip(space, kernel, strides or ones, dilation or ones, strict=True))
    after = [size_after(*window, padding) for window in windows]
    lacking = [
        max((m - 1) * s + d * (k - 1) + 1 - n, 0)
        for m, (n, k, s, d) in zip(after, windows, strict=True)
    ]
    rows = [(0, 0)] * (v.ndim - len(space) - 1)
    v = jnp.pad(v, [*rows, *((n // 2, n - n // 2) for n in lacking), (0, 0)])
    seen = []
    for entry in itertools.product(*map(range, kernel)):
        first = [e * d for e, (_, _, _, d) in zip(entry, windows, strict=True)]
        at = (
            slice(f, f + max((m - 1) * s + 1, 0), s)
            for f, m, (_, _, s, _) in zip(first, after, windows, strict=True)
        )
        seen.append(v[(..., *at, slice(None))])
    return jnp.tensordot(jnp.concatenate(seen, axis=-1), w.reshape(-1, *w.shape[-2:]), 1)


def size_after(n: int, k: int, s: int, d: int, padding: str) -> int:
    """How many of n pixels are left by a kernel of k entries, stride s and dilation d."""
    return -(-(n if padding == "same" else max(n - d * (k - 1), 0)) // s)


def fit_window(cell: Any) -> None:
    """Checks the options of the convolutions, and makes each a tuple with one entry
    for each spatial axis.

    Raises:
        ValueError: an option is no positive integer or tuple of them, or their numbers of axes
            differ.
    """
    _check_choices(cell)
    size = cell.kernel_size
    dims = cell.dims or (len(size) if isinstance(size, tuple | list) else 2)
    for name in ("kernel_size", "strides", "dilation"):
        value = getattr(cell, name)
        value = tuple(value) if isinstance(value, tuple | list) else (value,) * dims
        if len(value) != dims or dims not in (1, 2, 3):
            raise ValueError(
                f"{name}={value} must have one entry for each of dims={dims} spatial axes, "
                "of which there are 1 to 3."
            )
        for entry in value:
            check_size(name, entry)
        object.__setattr__(cell, name, value)
    object.__setattr__(cell, "dims", dims)


def _check_choices(cell: Any) -> None:
    if cell.dims is not None and cell.dims not in (1, 2, 3):
        raise ValueError(f"dims, the number of spatial axes, must be 1, 2 or 3, got {cell.dims!r}.")
    if cell.padding not in ("same", "valid"):
        raise ValueError(f"padding must be 'same' or 'valid', got {cell.padding!r}.")


def draw(cell: Any, key: Array, input_size: int, count: int, dtype: DType) -> ConvParams:
    """The parameters of `count` gates."""
    check_size("input_size", input_size)
    window = cell.kernel_size
    H = cell.hidden_size
    pixels = math.prod(window)
    w_x, w_h, b = initializers.parameters(
        cell, key, pixels * input_size, count, dtype, recurrent_size=pixels * H
    )
    return ConvParams(
        w_x=w_x.reshape(*window, input_size, count, H), w_h=w_h.reshape(*window, H, count, H), b=b
    )


def space_after(cell: Any, space: tuple[int, ...]) -> tuple[int, ...]:
    """The spatial sizes after the input convolution."""
    windows = zip(space, cell.kernel_size, cell.strides, cell.dilation, strict=True)
    return tuple(size_after(*window, cell.padding) for window in windows)


def start(cell: Any, like: Array) -> Array:
    """The zeros that a state begins with."""
    axes = cell.feature_axes
    return zeros(
        like, *space_after(cell, like.shape[-axes:-1]), cell.hidden_size, feature_axes=axes
    )


def project_input(cell: Any, params: ConvParams, xs: Array) -> Array:
    """W_x * x + b. The bias is added in the carry dtype: its gradient, a sum over all pixels,
    is then a wide one.

    Raises:
        ValueError: without padding nothing is left of the space.
    """
    space = xs.shape[-cell.feature_axes : -1]
    # a single pixel may stand for any space, where features are counted
    if 0 in space_after(cell, space) and max(space) > 1:
        raise ValueError(
            f"xs has the space {space}, too small for kernel_size={cell.kernel_size}, "
            f"dilation={cell.dilation} and no padding."
        )
    us = conv(xs, params.w_x, cell.strides, cell.padding, cell.dilation)
    return plus(us, None if params.b is None else params.b.reshape(us.shape[-2:]))
