"""A template for a cell of your own: the chaos-free network of Laurent and von Brecht. Copy it,
and change the equations.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

import jaxrnn


class CFNParams(NamedTuple):
    w_x: jax.Array  # [I, 3, H], gates forget, input, and the candidate
    w_h: jax.Array  # [H, 2, H], the two gates only
    b: jax.Array  # [3 * H]


class CFNCarry(NamedTuple):
    h: jax.Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class CFNCell(jaxrnn.Cell):
    """The chaos-free network: without input, every unit of h decays to zero; y = h'.

        f = sigmoid(W_xf x + W_hf h + b_f)
        i = sigmoid(W_xi x + W_hi h + b_i)
        h' = f * tanh(h) + i * tanh(W_xg x + b_g)

    Source: Laurent and von Brecht 2017, arXiv:1612.06212, eq. 1-3. Differs: the candidate has a
    bias.
    """

    hidden_size: int
    forget_bias: float = 1.0

    def init(self, key: jax.Array, input_size: int, dtype: Any = jnp.float32) -> CFNParams:
        k_x, k_h = jax.random.split(key)
        w_x = jaxrnn.initializers.kernel(
            "lecun_normal", k_x, input_size, 3, self.hidden_size, dtype
        )
        w_h = jaxrnn.initializers.kernel(
            "orthogonal", k_h, self.hidden_size, 2, self.hidden_size, dtype
        )
        H = self.hidden_size
        b = jnp.zeros(3 * H, dtype).at[:H].set(self.forget_bias)
        return CFNParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params: CFNParams, like: jax.Array) -> CFNCarry:
        return CFNCarry(h=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params: CFNParams, xs: jax.Array, noise: Any = None) -> jax.Array:
        return jaxrnn.linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: CFNParams, carry: CFNCarry, u: jax.Array, dot: jaxrnn.cell.Dot = jaxrnn.dot
    ) -> tuple[CFNCarry, jax.Array]:
        u_f, u_i, u_g = jaxrnn.gates(u)
        a_f, a_i = jaxrnn.gates(dot(carry.h, params.w_h))
        h = sigmoid(u_f + a_f) * jnp.tanh(carry.h) + sigmoid(u_i + a_i) * jnp.tanh(u_g)
        return CFNCarry(h=h), h
