"""Cells of ours inside Flax nnx, and cells of Flax nnx here."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrnn.cell import Array, Carry, Cell, Dot, DType, Noise, Params, cast, check_cell_type, dot
from jaxrnn.checks import as_floating
from jaxrnn.modules import stored
from jaxrnn.modules.arguments import check_dtypes, check_input_size
from jaxrnn.modules.call import like_inputs
from jaxrnn.running import initial_carry
from jaxrnn.structure import fit_params


class CellForRNN(nnx.RNNCellBase):
    """A cell as a Flax nnx cell, for `flax.nnx.RNN` and `flax.nnx.Bidirectional`,
    without its noise.

    Where nothing in Flax is needed around it, `Recurrent` does the same faster: it takes all
    inputs' products at once.

    Args:
        cell: the cell or stack; one direction, since Flax runs it step by step.
        input_size: the number of input features.
        param_dtype: dtype of the parameters.
        dtype: dtype of the computation; None means `param_dtype`.
        rngs: makes the parameters.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> from flax import nnx
        >>> import jaxrnn.nnx as rnn
        >>> cell = rnn.CellForRNN(jaxrnn.LSTMCell(20), 10, rngs=nnx.Rngs(0))
        >>> module = nnx.RNN(cell, return_carry=True)
        >>> carry, ys = module(jnp.ones((5, 15, 10)), seq_lengths=jnp.array([15, 7, 1, 2, 3]))
        >>> ys.shape, carry.c.shape
        ((5, 15, 20), (5, 20))
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        *,
        param_dtype: DType = jnp.float32,
        dtype: DType | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_cell_type(cell)
        check_input_size(input_size)
        check_dtypes(param_dtype, dtype)
        self.cell: Any = cell
        self.input_size = input_size
        self.dtype = dtype or param_dtype
        params = stored.as_dicts(cell.init(rngs.params(), input_size, param_dtype))
        self.weights = nnx.data(jax.tree.map(nnx.Param, params))

    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:  # pyrefly: ignore[bad-override]
        """One step: `inputs` [*batch, features] to `(carry, y)`."""
        return self.cell(self.params, carry, as_floating(inputs).astype(self.dtype))

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Carry:
        """The carry before the first step.

        Args:
            input_shape: of one step's inputs, [*batch, features].
            rngs: an `nnx.Rngs`, a stream or a key for `carry_init`.
            carry_init: an initialiser of each array of the carry, called with a key, its shape and
                its dtype; None means the cell's own first carry, which needs no randomness.

        Raises:
            ValueError: a `carry_init` without `rngs`.
        """
        axes = len(input_shape) - self.cell.feature_axes
        batch = input_shape[:axes]
        space = input_shape[axes:-1]
        carry = initial_carry(self.cell, self.params, batch, self.dtype, spatial_shape=space)
        if carry_init is None:
            return carry
        if rngs is None:
            raise ValueError("carry_init draws the first carry: pass rngs too.")
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs.carry
        leaves, tree = jax.tree.flatten(carry)
        keys = jax.random.split(rngs() if callable(rngs) else rngs, len(leaves))
        drawn = [
            carry_init(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, drawn)

    @property
    def num_feature_axes(self) -> int:
        return self.cell.feature_axes

    @property
    def params(self) -> Params:
        """The parameters as arrays, in the structure of the core."""
        return fit_params(self.cell, self.weights, self.input_size)


@dataclasses.dataclass(frozen=True)
class FromNnx(Cell):
    """A Flax nnx cell as a cell, for `jaxrnn.unroll` and all else:
    its parameters are the module's state.

    Its products do not go through `dot`, so that it is right, but not as fast as a cell of ours. It
    must need no random stream. It has no `init`, since the parameters are made with the module:
    `graph, params = nnx.split(module)`. Its inputs have one feature axis.

    Args:
        graph: the `nnx.GraphDef` of the cell, an `nnx.RNNCellBase`.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> from flax import nnx
        >>> import jaxrnn.nnx as rnn
        >>> graph, params = nnx.split(nnx.LSTMCell(10, 20, rngs=nnx.Rngs(0)))
        >>> (c, h), ys = jaxrnn.unroll(rnn.FromNnx(graph), params, jnp.ones((15, 5, 10)))
        >>> ys.shape
        (15, 5, 20)
    """

    graph: nnx.GraphDef
    feature_axes = 1  # of every cell that Flax nnx has
    elementwise = False  # its products are out of reach

    def __post_init__(self) -> None:
        if not isinstance(self.graph, nnx.GraphDef):
            raise TypeError(
                "FromNnx takes the first part of nnx.split(module), "
                f"got {type(self.graph).__name__}."
            )

    def init_carry(self, params: Params, like: Array) -> Carry:
        first = nnx.merge(self.graph, params).initialize_carry(like.shape, rngs=nnx.Rngs(0))
        return like_inputs(first, like, self.feature_axes)

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Array:
        return xs

    def step(self, params: Params, carry: Carry, u: Array, dot: Dot = dot) -> tuple[Carry, Array]:
        carry, y = cast(nnx.merge(self.graph, params)(carry, u), u.dtype)
        return carry, y
