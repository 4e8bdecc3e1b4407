"""Cells of ours inside Flax linen, and cells of Flax linen here."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrnn.cell import (
    Array,
    Carry,
    Cell,
    Dot,
    DType,
    Noise,
    Params,
    carry_dtype,
    cast,
    check_cell_type,
    dot,
)
from jaxrnn.checks import as_floating
from jaxrnn.modules import stored
from jaxrnn.modules.arguments import check_dtypes
from jaxrnn.modules.call import like_inputs
from jaxrnn.running import initial_carry
from jaxrnn.structure import fit_params


class CellForRNN(nn.RNNCellBase):
    """A cell as a Flax linen cell, for `flax.linen.RNN` and `flax.linen.Bidirectional`,
    without its noise.

    Where nothing in Flax is needed around it, `Recurrent` does the same faster: it takes all
    inputs' products at once.

    Args:
        cell: the cell or stack; one direction, since Flax runs it step by step.
        param_dtype: dtype of the parameters.
        dtype: dtype of the computation; None means `param_dtype`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from flax import linen as nn
        >>> import jaxrnn.linen as rnn
        >>> module = nn.RNN(rnn.CellForRNN(jaxrnn.LSTMCell(20)), return_carry=True)
        >>> xs = jnp.ones((5, 15, 10))
        >>> variables = module.init(jax.random.key(0), xs)
        >>> carry, ys = module.apply(variables, xs, seq_lengths=jnp.array([15, 7, 1, 2, 3]))
        >>> ys.shape, carry.c.shape
        ((5, 15, 20), (5, 20))
    """

    cell: Cell
    param_dtype: DType = jnp.float32
    dtype: DType | None = None

    def __post_init__(self) -> None:
        check_cell_type(self.cell)
        check_dtypes(self.param_dtype, self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """One step: `inputs` [*batch, features] to `(carry, y)`."""
        if self.has_variable("params", "cell"):
            params = nn.meta.unbox(self.get_variable("params", "cell"))
        else:
            params = self.param("cell", self._init, inputs.shape[-1])
        params = fit_params(self.cell, params, inputs.shape[-1])
        return self.cell(params, carry, as_floating(inputs).astype(self.dtype or self.param_dtype))

    def _init(self, key: Array, input_size: int) -> dict[str, Any]:
        return stored.as_dicts(self.cell.init(key, input_size, self.param_dtype))

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Carry:
        """The carry before the first step, for inputs of one step's shape, [*batch, features];
        learned where the cell's is.
        """
        if self.scope is not None and self.has_variable("params", "cell"):
            params = nn.meta.unbox(self.get_variable("params", "cell"))
            params = fit_params(self.cell, params, input_shape[-1])
        else:
            params = self.cell.init(rng, input_shape[-1], self.param_dtype)
        axes = len(input_shape) - self.cell.feature_axes
        return initial_carry(
            self.cell,
            params,
            input_shape[:axes],
            self.dtype or self.param_dtype,
            spatial_shape=input_shape[axes:-1],
        )

    @property
    def num_feature_axes(self) -> int:
        return self.cell.feature_axes


@dataclasses.dataclass(frozen=True)
class FromLinen(Cell):
    """A Flax linen cell as a cell, for `jaxrnn.unroll` and all else:
    its parameters are the module's variables.

    Its products do not go through `dot`, so that it is right, but not as fast as a cell of ours. It
    must need no random stream.

    Args:
        module: the cell, a `flax.linen.RNNCellBase`. Its `param_dtype` gives way to the dtype that
            `init` is asked for.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from flax import linen as nn
        >>> import jaxrnn.linen as rnn
        >>> cell = rnn.FromLinen(nn.LSTMCell(20))
        >>> params = cell.init(jax.random.key(0), input_size=10)
        >>> (c, h), ys = jaxrnn.unroll(cell, params, jnp.ones((15, 5, 10)))
        >>> ys.shape
        (15, 5, 20)
    """

    module: nn.RNNCellBase
    elementwise = False  # its products are out of reach

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.RNNCellBase):
            raise TypeError(
                f"module must be a cell of flax.linen, an RNNCellBase, got {self.module!r}."
            )

    @property
    def feature_axes(self) -> int:  # pyrefly: ignore[bad-override]
        return self.module.num_feature_axes

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> Params:
        x = jnp.zeros((1,) * (self.feature_axes - 1) + (input_size,), carry_dtype(dtype))
        module = self.module
        if hasattr(module, "param_dtype"):  # drawn wide, since QR has no 16-bit form
            module = module.clone(param_dtype=x.dtype)
        return cast(module.init(key, module.initialize_carry(key, x.shape), x), dtype)

    def init_carry(self, params: Params, like: Array) -> Carry:
        first = self.module.initialize_carry(jax.random.key(0), like.shape)
        return like_inputs(first, like, self.feature_axes)

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Array:
        return xs

    def step(self, params: Params, carry: Carry, u: Array, dot: Dot = dot) -> tuple[Carry, Array]:
        after: Any = self.module.apply(params, carry, u)
        carry, y = cast(after, u.dtype)
        return carry, y

    def __deepcopy__(self, memo: dict[int, Any]) -> "FromLinen":
        return self  # nothing of it changes, and a copied Flax module does not equal its original
