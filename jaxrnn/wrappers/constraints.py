"""Constraints on recurrent weights: signs of units, and which units are connected."""

import dataclasses
import math
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array, DType, Params
from jaxrnn.checks import check_flag, check_size, check_text
from jaxrnn.wrappers.base import Wrapper, check_names


@dataclasses.dataclass(frozen=True)
class Mask:
    """Which of H units connect to which of H, as a plain value.

    Args:
        size: H.
        bits: H x H bits, row by row, in hexadecimal.
    """

    size: int
    bits: str

    def __post_init__(self) -> None:
        check_size("size", self.size)
        check_text("bits", self.bits)
        digits = 2 * math.ceil(self.size**2 / 8)
        if len(self.bits) != digits or set(self.bits) - set("0123456789abcdef"):
            raise ValueError(f"bits must be {digits} hexadecimal digits for {self.size} units.")

    @classmethod
    def of(cls, connected: Any) -> Self:
        """The mask of an array [from, to] of booleans, or of zeros and ones."""
        array = np.asarray(connected)
        square = array.ndim == 2 and array.shape[0] == array.shape[1] > 0
        if not square or not np.isin(array, (0, 1)).all():
            raise ValueError(
                "mask must be a square array of booleans, [from, to], got shape "
                f"{array.shape} and dtype {array.dtype}."
            )
        return cls(array.shape[0], np.packbits(array.astype(bool)).tobytes().hex())

    def array(self) -> np.ndarray:
        """Booleans [from, to]."""
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(self.bits), np.uint8))
        return bits[: self.size**2].reshape(self.size, self.size).astype(bool)


@dataclasses.dataclass(frozen=True)
class Sparse(Wrapper):
    """A cell of which only some units are connected: the others' weights are held at 0.

    Args:
        cell: a cell with a recurrent kernel [H, ..., H].
        mask: [from, to], an array of booleans, or of zeros and ones; None connects all.
        self_connections: False holds the weight of each unit to itself at 0 too.
        names: the kernels.

    Raises:
        ValueError: a mask that is no square of booleans, or of another size than a kernel.

    Example:
        >>> import jax, jaxrnn
        >>> ring = jax.numpy.roll(jax.numpy.eye(8), 1, axis=1)
        >>> cell = jaxrnn.wrappers.Sparse(jaxrnn.cells.LeakyRNNCell(8), ring)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> int((cell.prepare(params).w_h != 0).sum())
        8
    """

    mask: Mask | None = None
    _: dataclasses.KW_ONLY
    self_connections: bool = True
    names: tuple[str, ...] = ("w_h",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("self_connections", self.self_connections)
        check_names(self)
        if self.mask is not None and not isinstance(self.mask, Mask):
            object.__setattr__(self, "mask", Mask.of(self.mask))

    def prepare(self, params: Any) -> Params:
        def masked(name: str, w: Array) -> Array:
            size = w.shape[0]
            if self.mask is not None and self.mask.size != size:
                raise ValueError(f"mask is of {self.mask.size} units, {name} of {size}.")
            keep = np.ones((size, size), bool) if self.mask is None else self.mask.array()
            if not self.self_connections:
                keep = keep & ~np.eye(size, dtype=bool)
            return jnp.where(_between(keep, w), w, jnp.zeros_like(w))

        return self.cell.prepare(_changed(self, params, masked))


@dataclasses.dataclass(frozen=True)
class DaleLaw(Wrapper):
    """A cell whose units are excitatory or inhibitory: all recurrent weights of a unit have one
    sign, its own, and the size of what is trained.

    Kernels begin positive, those of inhibitory units larger, so that the two kinds balance on
    average.

    Args:
        cell: a cell with a recurrent kernel [H, ..., H] and rates that are not negative ("relu",
            "softplus"); with others the law says nothing.
        excitatory: the share of the units that excite, above 0 and below 1; they come first.
        names: the kernels.

    Source: Song et al. 2016, doi:10.1371/journal.pcbi.1004792, eq. 12-18. Differs: sizes are
    absolute values, where there negative ones count as 0 and are no longer trained.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.wrappers.DaleLaw(jaxrnn.cells.LeakyRNNCell(10), excitatory=0.8)
        >>> w_h = cell.prepare(cell.init(jax.random.key(0), input_size=3)).w_h
        >>> bool((w_h[:8] >= 0).all() and (w_h[8:] <= 0).all())
        True
    """

    excitatory: float = 0.8
    _: dataclasses.KW_ONLY
    names: tuple[str, ...] = ("w_h",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names(self)
        if not isinstance(self.excitatory, float) or not 0 < self.excitatory < 1:
            raise ValueError(f"excitatory is a share above 0 and below 1, got {self.excitatory!r}.")

    def signs(self, size: int) -> np.ndarray:
        """1 of each unit that excites, -1 of each that inhibits; at least one of both."""
        excite = min(max(round(self.excitatory * size), 1), size - 1)
        return np.where(np.arange(size) < excite, 1.0, -1.0)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> Params:
        def balanced(name: str, w: Array) -> Array:
            signs = self.signs(w.shape[0])
            share = (signs > 0).sum() / (signs < 0).sum()
            sizes = np.where(signs > 0, 1.0, share)
            return abs(w) * jnp.asarray(sizes, w.dtype).reshape(-1, *[1] * (w.ndim - 1))

        return _changed(self, self.cell.init(key, input_size, dtype), balanced)

    def prepare(self, params: Any) -> Params:
        def signed(name: str, w: Array) -> Array:
            signs = jnp.asarray(self.signs(w.shape[0]), w.dtype)
            return abs(w) * signs.reshape(-1, *[1] * (w.ndim - 1))

        return self.cell.prepare(_changed(self, params, signed))


def _changed(wrapper: Any, params: Any, change: Any) -> Params:
    """Parameters of which the named kernels are changed.

    Raises:
        ValueError: no such kernel, or one that does not go from H units to H.
    """
    for name in wrapper.names:
        w = getattr(params, name, None)
        if w is None or w.ndim < 2 or w.shape[0] != w.shape[-1]:
            shape = "no such parameter" if w is None else f"one of shape {w.shape}"
            raise ValueError(
                f"{type(wrapper).__name__} needs a kernel {name} [H, ..., H]; {wrapper.cell} has "
                f"{shape}."
            )
        params = params._replace(**{name: change(name, w)})
    return params


def _between(keep: np.ndarray, w: Array) -> Array:
    """[from, to] with the axes of `w` between."""
    return jnp.asarray(keep).reshape(keep.shape[0], *[1] * (w.ndim - 2), keep.shape[1])
