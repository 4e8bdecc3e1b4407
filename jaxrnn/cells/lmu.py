"""The Legendre memory unit: a nonlinear state beside a memory of the last theta steps."""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.numpy import tanh

from jaxrnn.cell import Array, Cell, Dot, DType, dot, zeros
from jaxrnn.cells.options import make_float
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer, kernel, resolve

TERMS = 20  # of the series of exp, for a matrix of norm 1/2: the rest is below 1e-24


class LMUParams(NamedTuple):
    w_x: Array  # [I, H]
    w_h: Array  # [H, H]
    w_m: Array  # [D, H]
    w_ux: Array  # [I, 1]
    w_uh: Array  # [H, 1]
    w_um: Array  # [D, 1]


class LMUPrepared(NamedTuple):
    """What a sequence uses: the parameters, and the matrices of the memory."""

    w_x: Array
    w_h: Array
    w_m: Array
    w_ux: Array
    w_uh: Array
    w_um: Array
    keep: Array  # [D, D], from the memory to the next
    write: Array  # [D]


class LMUCarry(NamedTuple):
    h: Array  # [..., H]
    m: Array  # [..., D]


@dataclasses.dataclass(frozen=True)
class LMUCell(Cell):
    """The Legendre memory unit; y = h'.

        u = W_ux x + W_uh h + W_um m
        m' = A m + B u
        h' = tanh(W_x x + W_h h + W_m m')

    The memory m holds the last `theta` values of u as D coefficients of Legendre polynomials. A and
    B are fixed: a linear system in continuous time, over one step with u held.

    Args:
        hidden_size: H.
        memory_size: D, the order of the polynomials and one more.
        theta: how many steps are remembered, above 0.
        input_init: initialiser of `w_ux` and `w_uh`; `w_um` is zeros.
        recurrent_init: initialiser of `w_x`, `w_h` and `w_m`.

    Source: Voelker et al. 2019, "Legendre Memory Units", NeurIPS, eq. 1-2 and 6-7. Differs:
    kernels are drawn by the two initialisers.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.LMUCell(hidden_size=4, memory_size=6, theta=20)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.m.shape
        ((5, 2, 4), (2, 6))
    """

    elementwise: ClassVar[bool] = False  # the memory is mixed by its own matrix

    hidden_size: int
    memory_size: int
    theta: float
    _: dataclasses.KW_ONLY
    input_init: Initializer = "lecun_normal"
    recurrent_init: Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        check_size("memory_size", self.memory_size)
        make_float(self, "theta", zero=False)
        resolve(self.input_init, "input_init")
        resolve(self.recurrent_init, "recurrent_init")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LMUParams:
        check_size("input_size", input_size)
        keys = jax.random.split(key, 5)
        H = self.hidden_size
        D = self.memory_size
        return LMUParams(
            w_x=kernel(self.recurrent_init, keys[0], input_size, 1, H, dtype)[:, 0],
            w_h=kernel(self.recurrent_init, keys[1], H, 1, H, dtype)[:, 0],
            w_m=kernel(self.recurrent_init, keys[2], D, 1, H, dtype)[:, 0],
            w_ux=kernel(self.input_init, keys[3], input_size, 1, 1, dtype)[:, 0],
            w_uh=kernel(self.input_init, keys[4], H, 1, 1, dtype)[:, 0],
            w_um=jnp.zeros((D, 1), dtype),
        )

    def prepare(self, params: LMUParams) -> LMUPrepared:
        keep, write = _memory(self.memory_size, self.theta)
        dtype = params.w_x.dtype
        return LMUPrepared(*params, jnp.asarray(keep, dtype), jnp.asarray(write, dtype))

    def init_carry(self, params: LMUPrepared, like: Array) -> LMUCarry:
        return LMUCarry(h=zeros(like, self.hidden_size), m=zeros(like, self.memory_size))

    def project(self, params: LMUPrepared, xs: Array, noise: Any = None) -> tuple[Array, Array]:
        return dot(xs, params.w_x), dot(xs, params.w_ux)  # [..., H], [..., 1]

    def step(
        self, params: LMUPrepared, carry: LMUCarry, u: tuple[Array, Array], dot: Dot = dot
    ) -> tuple[LMUCarry, Array]:
        written = u[1] + dot(carry.h, params.w_uh) + dot(carry.m, params.w_um)
        # no weight, so in the dtype of the carry: in 16 bits the memory would be lost
        kept = jnp.einsum("...j,ij->...i", carry.m, params.keep, precision="highest")
        m = kept + params.write * written
        h = tanh(u[0] + dot(carry.h, params.w_h) + dot(m, params.w_m))
        return LMUCarry(h=h, m=m), h


@functools.cache
def _memory(order: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """A [D, D] and B [D]: the system theta m' = a m + b u over one step, u held."""
    i = np.arange(order)
    rows, columns = np.meshgrid(i, i, indexing="ij")
    sign = np.where(rows < columns, -1.0, (-1.0) ** (rows - columns + 1))
    a = (2 * rows + 1) * sign
    b = (2 * i + 1) * (-1.0) ** i
    both = np.zeros((order + 1, order + 1))
    both[:order, :order] = a / theta
    both[:order, order] = b / theta
    exact = _exp(both)
    return exact[:order, :order], exact[:order, order]


def _exp(matrix: np.ndarray) -> np.ndarray:
    """The exponential of a matrix, by its series for 2^-k of it, squared k times."""
    norm = np.abs(matrix).sum(axis=1).max()
    halvings = max(0, int(np.ceil(np.log2(max(norm, 1e-300)))) + 1)
    small = matrix / 2**halvings
    term = np.eye(len(matrix))
    total = term
    for k in range(1, TERMS):
        term = term @ small / k
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total
