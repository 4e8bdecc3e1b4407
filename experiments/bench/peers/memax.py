"""The linear recurrent unit of memax (Flax linen), a parallel scan over time."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from memax.linen.semigroups.lru import LRU

from jaxrnn.cells.lru import LRUParams


def lru(params: LRUParams, xs: Array) -> tuple[None, Array]:
    """The outputs, [T, B, H], of as many inputs: those of `LRUCell` where `w_d` is diagonal, of
    which memax has the diagonal alone, and of as many states as outputs, which its annotations
    want. It has no batch: `vmap`."""
    H = xs.shape[-1]
    N = params.nu.shape[0]
    module = LRU(
        algebra=LRU.default_algebra(recurrent_size=N),
        scan=LRU.default_scan(),
        hidden_size=H,
        recurrent_size=N,
    )
    weights = {
        "B_re": params.w_re.T,
        "B_im": params.w_im.T,
        "C_re": params.w_yre.T,
        "C_im": params.w_yim.T,
        "D": jnp.diag(params.w_d),
        "gamma_log": params.gamma,
        "nu_log": params.nu,
        "theta_log": params.theta,
    }
    begins = jnp.zeros(xs.shape[0], bool)

    def one(xs: Array) -> Any:
        return module.apply({"params": weights}, module.zero_carry(), (xs, begins))[1]

    return None, jax.vmap(one, 1, 1)(xs)
