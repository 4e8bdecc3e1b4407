"""DropConnect: weights are dropped for a whole sequence."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Noise, Params, drop
from jaxrnn.wrappers.base import Wrapper, check_names
from jaxrnn.wrappers.draws import Around, check_rates


@dataclasses.dataclass(frozen=True)
class DropConnect(Wrapper):
    """Weights are dropped, each for the whole sequence and for all of the batch,
    before they are used.

    Args:
        cell: any cell whose parameters are a NamedTuple.
        rate: the probability of dropping an entry; what is kept is scaled by 1 / (1 - rate).
        names: the parameters, by default the recurrent kernel.

    Source: Merity et al. 2017, arXiv:1708.01009, section 2; Wan et al. 2013 for feed-forward
    layers.
    """

    rate: float = 0.0
    names: tuple[str, ...] = ("w_h",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, ("rate",))
        check_names(self)

    def noise(self, key: Array, T: int, like: Array) -> Around | None:
        k_inner, *keys = jax.random.split(key, 1 + len(self.names))
        inner = self.cell.noise(k_inner, T, like)
        shapes = jax.eval_shape(
            lambda: self.cell.init(jax.random.key(0), like.shape[-1], jnp.float32)
        )
        missing = [name for name in self.names if getattr(shapes, name, None) is None]
        if missing:
            raise ValueError(
                f"{self.cell} has no parameters {missing}; it has {getattr(shapes, '_fields', ())}."
            )
        chances = (
            (name, k, getattr(shapes, name).shape) for name, k in zip(self.names, keys, strict=True)
        )
        keep = {
            name: jax.random.bernoulli(k, 1 - self.rate, (1, *shape)) for name, k, shape in chances
        }
        return Around(inner=inner, keep=keep) if self.rate or jax.tree.leaves(inner) else None

    def absorb(self, params: Any, noise: Around) -> tuple[Params, Noise]:
        dropped = {
            name: drop(getattr(params, name), keep[0], self.rate)
            for name, keep in noise.keep.items()
        }
        params = params._replace(**dropped)
        return (params, None) if noise.inner is None else self.cell.absorb(params, noise.inner)
