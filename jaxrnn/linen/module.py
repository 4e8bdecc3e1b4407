"""What all modules of linen share: variables, the key of a call, and what is known without them."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
from flax import linen as nn

from jaxrnn.cell import Array, Cell, DType, Params
from jaxrnn.checks import check_flag
from jaxrnn.modules import call, layers, stored, summary
from jaxrnn.modules.arguments import told
from jaxrnn.modules.call import Options
from jaxrnn.running.method import resolve
from jaxrnn.structure import fit_params

Kind = TypeVar("Kind", bound=type)


def with_hints(kind: Kind) -> Kind:
    """A class whose constructor says what was meant by an unknown argument of a known name."""
    setattr(kind, "__init__", told(kind.__init__))  # noqa: B010
    return kind


class Module(nn.Module):
    """Parameters of a cell, and the key of a call."""

    def setup(self) -> None:
        self.params = self._params(self.cell)

    @told
    def __call__(
        self,
        xs: Array,
        state: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        key: Array | None = None,
        deterministic: bool | None = None,
    ) -> tuple[Any, Any]:
        """Runs over a sequence: arguments, returns and errors are those of `jaxrnn.nnx`,
        with these differences.

        Args:
            deterministic: True switches dropout off, False on; None follows the module's field.
                Where that is None too, a given `key` means training, `init` means none, and all
                else is an error.
            key: the random key of this call's dropout; it wins over `rngs={"dropout": ...}`.
        """
        key = self._key(self.cell, key, deterministic)
        sequence = dict(lengths=lengths, mask=mask, reset=reset, key=key)
        return call.call(self.cell, self.params, xs, state, self._options(), **sequence)

    @told
    def step(self, x: Array, state: Any = None, reset: Any = None) -> tuple[Any, Any]:
        """One step without dropout, for streaming:
        `module.apply(variables, x, state, method="step")` is `(y, state)`.

        Args:
            x: [*batch, input_size].
            state: as in the call of the module; None means the first.
            reset: [*batch] booleans; True begins a new sequence with this step.
        """
        return call.step(self.cell, self.params, x, state, self._options(), reset)

    @nn.nowrap
    def initial_state(
        self,
        batch_size: int | tuple[int, ...],
        variables: Mapping[str, Any] | None = None,
        *,
        dtype: DType | None = None,
        spatial_shape: tuple[int, ...] = (),
    ) -> Any:
        """The state before the first step, as a call and `step` return it; it needs neither
        variables nor `apply`.

        Args:
            batch_size: the number of sequences, or the batch axes: `()` is one without.
            variables: where the first carry is learned, those it stands in.
            dtype: the compute dtype; None means the module's, or `param_dtype`.
            spatial_shape: the spatial axes of the inputs of a convolutional cell.

        Raises:
            ValueError: the first carry is learned, and there are no variables.
        """
        cell = self.cell
        if variables is None:
            params = jax.eval_shape(lambda: cell.init(jax.random.key(0), self.input_size))
        else:
            params = fit_params(cell, variables, self.input_size)
        chosen = dtype or self.dtype or self.param_dtype
        given = (batch_size, self.input_size, spatial_shape)
        return call.first_state(cell, params, given, self._options(), chosen)

    @nn.nowrap
    def load(self, params: Any) -> dict[str, Any]:
        """The variables with parameters of any source, in this module's `param_dtype`.

        Args:
            params: the core's parameters, as the converters of `jaxrnn.interop`,
                `from_pretrained` and `cell.init` give them; an nnx module or its state; other
                variables; or the dicts, tuples and lists of a file.

        Raises:
            TypeError, ValueError: what does not fit, all of it listed.
        """
        new = stored.loaded(self.cell, params, self.input_size, self.param_dtype)
        return {"params": {"cell": self._stored(new)}}

    @nn.nowrap
    def _options(self) -> Options:
        method = resolve(self.method, self.remat)
        reverse = bool(getattr(self, "reverse", False))
        return Options(bool(self.batch_first), self.dtype, method, self.remat, reverse=reverse)

    @nn.nowrap
    def _key(self, cell: Cell, key: Array | None, deterministic: bool | None) -> Array | None:
        """The key of this call's noise; None where nothing is drawn."""
        if not layers.is_noisy(cell, self.input_size):
            return None
        random = key is not None or self.has_rng("dropout")
        if self._is_deterministic(key, deterministic) or (self.is_initializing() and not random):
            return None
        if not random:
            raise ValueError(
                "training with dropout needs randomness: pass key=, or "
                "rngs={'dropout': key} to apply."
            )
        return self.make_rng("dropout") if key is None else key

    @nn.nowrap
    def _is_deterministic(self, key: Array | None, deterministic: bool | None) -> bool:
        """What the call says, else the module; where neither does, a key means training."""
        chosen = self.deterministic if deterministic is None else deterministic
        if chosen is not None:
            check_flag("deterministic", chosen)
        if chosen is None:
            chosen = key is None and self.is_initializing()
            if key is None and not chosen:
                raise ValueError(
                    "a module with dropout needs deterministic=True or False, "
                    "in the call or when made."
                )
        return chosen

    @nn.nowrap
    def _params(self, cell: Cell) -> Params:
        """Those given, else new ones. (`self.param` would trace the initialiser again on every
        call, 10 ms and more.)
        """
        if self.has_variable("params", "cell"):
            found = nn.meta.unbox(self.get_variable("params", "cell"))
        else:
            found = nn.meta.unbox(self.param("cell", self._init, cell))
        return fit_params(cell, found, self.input_size)

    @nn.nowrap
    def _init(self, key: Array, cell: Cell) -> dict[str, Any]:
        return self._stored(cell.init(key, self.input_size, self.param_dtype))

    @nn.nowrap
    def _stored(self, params: Params) -> dict[str, Any]:
        """Parameters as they are kept, with their partition metadata where there is any."""
        if self.hidden_axis is not None:
            axes = layers.hidden_last(params, self.hidden_axis)
            params = jax.tree.map(nn.Partitioned, params, axes)
        return stored.as_dicts(params)

    def __repr__(self) -> str:
        return summary.text(self, self.cell, self.input_size, self.batch_first)
