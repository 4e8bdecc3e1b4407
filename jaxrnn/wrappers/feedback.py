"""A cell whose own output is its next input."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import softmax

from jaxrnn import initializers
from jaxrnn.cell import (
    Array,
    Carry,
    Dot,
    DType,
    Noise,
    Params,
    carry_dtype,
    dot,
    select,
    zeros,
)
from jaxrnn.checks import check_flag, check_size
from jaxrnn.initializers import Initializer
from jaxrnn.wrappers.base import Wrapper, output_size, own, projects_by_w_x


class FeedbackParams(NamedTuple):
    inner: Params
    w_o: Array  # [H, O]
    b_o: Array | None  # [O]


class FeedbackCarry(NamedTuple):
    inner: Carry
    fed: Array  # [..., O], what the last output is as an input


class FeedbackNoise(NamedTuple):
    inner: Noise
    gumbel: Array | None  # [T, *batch, O], of samples


class FeedbackInput(NamedTuple):
    given: Any  # the projection of the input that is given
    beside: Any  # the projection without it; of cells whose projection is not one product, inputs
    use: Array  # [...], True where the given input counts
    noise: FeedbackNoise | None


@dataclasses.dataclass(frozen=True)
class Feedback(Wrapper):
    """A cell with a readout, whose output is its next input where none is given: decoders,
    forecasts, controlled systems.

        o_t = W_o h_t + b_o
        x_t = given_t where use_t, else feed(o_(t-1))

    One step's input is [given, use, beside]: what is given, of as many features as the output, a
    number above 1/2 where it counts, and inputs that always count; `inputs` puts them together.
    With `use` everywhere it is teacher forcing, without any free running, and scheduled sampling
    with a random one. Before the first output, and after a reset, feed(o) is 0.

    Args:
        cell: a cell or stack that runs in one direction, on vectors.
        output_size: O.
        feed: what the next input is of an output: "linear" (itself), "softmax", "one_hot" (of the
            largest), or a function [..., O] -> [..., O].
        sample: whether "one_hot" is drawn from softmax(o) where there is noise; without noise it is
            the largest.
        bias: False leaves b_o out.
        output_init: initialiser of w_o.

    Raises:
        ValueError: a cell of both directions or of pictures; an unknown `feed`; `sample` with
            another one than "one_hot".

    Source: Williams and Zipser 1989 (teacher forcing); Bengio et al. 2015, arXiv:1506.03099
    (scheduled sampling).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> cell = jaxrnn.wrappers.Feedback(jaxrnn.GRUCell(16), output_size=2)
        >>> params = cell.init(jax.random.key(0), input_size=3)  # given and use
        >>> series = jax.random.normal(jax.random.key(1), (20, 4, 2))
        >>> told = jnp.arange(20)[:, None] < 10  # then it goes on by itself
        >>> carry, ys = jaxrnn.unroll(cell, params, cell.inputs(series, told))
        >>> ys.shape, carry.fed.shape
        ((20, 4, 2), (4, 2))
    """

    output_size: int
    _: dataclasses.KW_ONLY
    feed: str | Callable[[Array], Array] = "linear"
    sample: bool = False
    bias: bool = True
    output_init: Initializer = "lecun_normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("output_size", self.output_size)
        check_flag("bias", self.bias)
        check_flag("sample", self.sample)
        initializers.resolve(self.output_init, "output_init")
        if not self.cell.causal or self.cell.feature_axes != 1:
            raise ValueError(
                f"Feedback needs a cell for vectors that runs in one direction, got {self.cell}."
            )
        if not callable(self.feed) and self.feed not in ("linear", "softmax", "one_hot"):
            raise ValueError(
                f"feed must be 'linear', 'softmax', 'one_hot' or a function, got {self.feed!r}."
            )
        if self.sample and self.feed != "one_hot":
            raise ValueError(f"sample=True goes with feed='one_hot', got {self.feed!r}.")

    @property
    def elementwise(self) -> bool:  # pyrefly: ignore[bad-override]
        return False

    def inputs(self, given: Array, use: Array | None = None, beside: Array | None = None) -> Array:
        """One array of what a step sees.

        Args:
            given: [..., O]; what stands where `use` is False (NaN too) does not count.
            use: booleans that fit [...]; None is True everywhere.
            beside: [..., E], inputs that always count; None is none.

        Returns:
            [..., O + 1 + E].
        """
        use = jnp.broadcast_to(jnp.asarray(True if use is None else use), given.shape[:-1])
        parts = [given, use[..., None].astype(given.dtype)]
        return jnp.concatenate(parts if beside is None else [*parts, beside], axis=-1)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> FeedbackParams:
        check_size("input_size", input_size, least=self.output_size + 1)
        key, key_o = jax.random.split(key)
        H = output_size(self.cell, input_size - 1)
        O = self.output_size
        return FeedbackParams(
            inner=self.cell.init(key, input_size - 1, dtype),
            w_o=initializers.kernel(self.output_init, key_o, H, 1, O, dtype)[:, 0],
            b_o=jnp.zeros(O, dtype) if self.bias else None,
        )

    def input_size(self, params: FeedbackParams) -> int | None:
        inner = self.cell.input_size(own(self, params, FeedbackParams).inner)
        return None if inner is None else inner + 1

    def prepare(self, params: FeedbackParams) -> FeedbackParams:
        return params._replace(inner=self.cell.prepare(params.inner))

    def absorb(
        self, params: FeedbackParams, noise: FeedbackNoise
    ) -> tuple[FeedbackParams, FeedbackNoise]:
        if noise.inner is None:
            return params, noise
        inner, left = self.cell.absorb(params.inner, noise.inner)
        return params._replace(inner=inner), noise._replace(inner=left)

    def init_carry(self, params: FeedbackParams, like: Array) -> FeedbackCarry:
        fed = zeros(like, self.output_size)
        return FeedbackCarry(inner=self.cell.init_carry(params.inner, like[..., 1:]), fed=fed)

    def noise(self, key: Array, T: int, like: Array) -> FeedbackNoise | None:
        key, key_g = jax.random.split(key)
        inner = self.cell.noise(key, T, like[..., 1:])
        if not self.sample:
            return None if inner is None else FeedbackNoise(inner, None)
        here = zeros(like, self.output_size).astype(carry_dtype(like.dtype))
        gumbel = jax.random.gumbel(key_g, (T, *here.shape), here.dtype) + here
        return FeedbackNoise(inner, gumbel)

    def project(
        self, params: FeedbackParams, xs: Array, noise: FeedbackNoise | None = None
    ) -> FeedbackInput:
        O = self.output_size
        use = xs[..., O] > 0.5
        beside = xs[..., O + 1 :]
        inner = None if noise is None else noise.inner
        given = jnp.concatenate([select(use, xs[..., :O], 0), beside], axis=-1)
        nothing = jnp.concatenate([jnp.zeros_like(xs[..., :O]), beside], axis=-1)
        linear = projects_by_w_x(self.cell, params.inner)
        return FeedbackInput(
            given=self.cell.project(params.inner, given, inner),
            beside=self.cell.project(params.inner, nothing, inner) if linear else beside,
            use=use,
            noise=noise,
        )

    def step(
        self, params: FeedbackParams, carry: FeedbackCarry, u: FeedbackInput, dot: Dot = dot
    ) -> tuple[FeedbackCarry, Array]:
        inner = None if u.noise is None else u.noise.inner
        if projects_by_w_x(self.cell, params.inner):
            fed = u.beside + dot(carry.fed, params.inner.w_x[: self.output_size])
        else:
            x = jnp.concatenate([carry.fed, u.beside], axis=-1)
            fed = self.cell.project(params.inner, x, inner)
        v = select(u.use, u.given, fed)
        after, y = self.cell.step(params.inner, carry.inner, v, dot)
        o = dot(y, params.w_o)
        o = o if params.b_o is None else o + params.b_o
        gumbel = None if u.noise is None else u.noise.gumbel
        return FeedbackCarry(inner=after, fed=self._next(o, gumbel)), o

    def _next(self, o: Array, gumbel: Array | None) -> Array:
        if self.feed == "one_hot":
            chosen = jnp.argmax(o if gumbel is None else o + gumbel, axis=-1)
            return jax.nn.one_hot(chosen, self.output_size, dtype=o.dtype)
        if self.feed == "softmax":
            return softmax(o)
        return self.feed(o) if callable(self.feed) else o
