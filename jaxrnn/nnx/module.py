"""What all modules of nnx share: variables, a random stream, and attributes that stay."""

from collections.abc import Callable, Generator
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from flax import errors, nnx
from flax.nnx import reprlib

from jaxrnn.cell import Array, Cell, DType, Params
from jaxrnn.checks import check_flag
from jaxrnn.modules import call, layers, stored, summary
from jaxrnn.modules.arguments import check_dtypes, told
from jaxrnn.modules.call import Options
from jaxrnn.running.method import Method, resolve
from jaxrnn.structure import fit_params


class Fixed:
    """An attribute that says how a module was made. To set it would change nothing, so that is
    refused."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read

    def __set_name__(self, kind: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, kind: type) -> Any:
        return self if module is None else self.read(module)

    def __set__(self, module: Any, value: Any) -> NoReturn:
        kind = type(module).__name__
        hint = " eval() and deterministic=True switch it off." if self.name == "dropout" else ""
        raise AttributeError(
            f"{self.name} of {kind} is fixed when the module is made, setting it would change "
            f"nothing: make a new one, {kind}(..., {self.name}={value!r}).{hint}"
        )


class Module(nnx.Module):
    """Variables of a cell, and a random stream only where the cell draws something."""

    input_size = Fixed(lambda module: module._input_size)
    batch_first = Fixed(lambda module: module.options.batch_first)
    dtype = Fixed(lambda module: module.options.dtype)
    method = Fixed(lambda module: module.options.method)
    remat = Fixed(lambda module: module.options.remat)

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        param_dtype: DType,
        options: Options,
        hidden_axis: str | None,
        rngs: nnx.Rngs,
    ) -> None:
        if not isinstance(rngs, nnx.Rngs) or not ("params" in rngs or "default" in rngs):
            raise TypeError(
                "rngs must be an nnx.Rngs with a stream for the parameters, such as "
                f"nnx.Rngs(0), got {rngs!r}."
            )
        check_dtypes(param_dtype, options.dtype)
        self.cell: Any = cell
        self._input_size = input_size
        self.options = options
        params = cell.init(rngs.params(), input_size, param_dtype)
        self.weights = nnx.data(_variables(params, hidden_axis))
        self.deterministic = False
        noisy = layers.is_noisy(cell, input_size) and ("dropout" in rngs or "default" in rngs)
        self.rngs: Any = nnx.data(rngs.dropout.fork() if noisy else None)

    @property
    def params(self) -> Params:
        """The parameters as arrays, in the structure of the core, for `jaxrnn.unroll`."""
        return fit_params(self.cell, self.weights, self.input_size)

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
        """Runs over a sequence.

        Args:
            xs: [T, *batch, input_size], or [*batch, T, input_size] with `batch_first`; `RNN`,
                `LSTM` and `GRU` take one batch axis or none.
            state: of `RNN` and `GRU` `h_0`, of `LSTM` the pair `(h_0, c_0)`, each
                [num_layers * num_directions, batch, size] whatever `batch_first`; of `Recurrent`
                the cell's carry. None means the first. Each is taken for the other where the cells
                are the same, and tensors of torch are taken too.
            lengths: [*batch] integers: the valid steps of each right-padded sequence, zero
                included. Outputs beyond are zero.
            mask: booleans of the leading axes of `xs`; False is padding, anywhere. `lengths` and
                `mask` together mean both.
            reset: booleans of the leading axes of `xs`; True begins a new sequence, from the
                first state, at that step.
            key: the random key of this call's dropout; it wins over the module's own stream.
                Training under plain `jax.jit` needs it, since a stream captured there would repeat
                one mask.
            deterministic: True switches dropout off, False on; None follows `eval()` and `train()`,
                the initial mode.

        Returns:
            (output, state): the last layer's outputs at every step, laid out as `xs`, and the state
            after the last valid step: `h_n`, of `LSTM` the named pair `(h_n, c_n)`, of `Recurrent`
            the carry.

        Raises:
            TypeError, ValueError: arguments that do not fit, or dropout without randomness; the
                message says what to do.
        """
        key = self._key(key, deterministic)
        sequence = dict(lengths=lengths, mask=mask, reset=reset, key=key)
        return call.call(self.cell, self.params, xs, state, self.options, **sequence)

    @told
    def step(self, x: Array, state: Any = None, reset: Any = None) -> tuple[Any, Any]:
        """One step without dropout, for streaming.

        Args:
            x: [*batch, input_size].
            state: as in the call of the module; None means the first.
            reset: [*batch] booleans; True begins a new sequence with this step.

        Returns:
            (y, state): `lax.scan` over it begins with `initial_state(batch_size)`.
        """
        return call.step(self.cell, self.params, x, state, self.options, reset)

    def initial_state(
        self,
        batch_size: int | tuple[int, ...],
        dtype: DType | None = None,
        *,
        spatial_shape: tuple[int, ...] = (),
    ) -> Any:
        """The state before the first step, as a call and `step` return it.

        Args:
            batch_size: the number of sequences, or the batch axes: `()` is one without.
            dtype: the compute dtype; None means the module's, or that of its parameters.
            spatial_shape: the spatial axes of the inputs of a convolutional cell.
        """
        params = self.params
        chosen = dtype or self.dtype or jnp.result_type(*jax.tree.leaves(params))
        given = (batch_size, self.input_size, spatial_shape)
        return call.first_state(self.cell, params, given, self.options, chosen)

    def load(self, params: Any) -> None:
        """Takes parameters of any source, in place; dtype and sharding stay the module's own.

        Args:
            params: the core's parameters, as the converters of `jaxrnn.interop`,
                `from_pretrained` and `cell.init` give them; another module; the variables of a
                linen module; or the dicts, tuples and lists of a file.

        Raises:
            TypeError, ValueError: what does not fit, all of it listed; the module is unchanged.
        """
        new = stored.as_dicts(stored.loaded(self.cell, params, self.input_size, None))
        pairs = jax.tree.map(
            lambda old, array: (old, array), self.weights, new, is_leaf=_is_variable
        )
        for variable, array in jax.tree.leaves(pairs, is_leaf=lambda pair: isinstance(pair, tuple)):
            old = variable[...]
            array = array.astype(old.dtype)
            placed = isinstance(old, jax.Array) and not isinstance(old, jax.core.Tracer)
            if placed and old.committed:
                array = jax.device_put(array, old.sharding)
            variable[...] = array

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view` calls of a module in a view.

        Args:
            deterministic: True switches dropout off, False on; None leaves it.
        """
        if deterministic is not None:
            check_flag("deterministic", deterministic)
            self.deterministic = deterministic

    def _key(self, key: Array | None, deterministic: bool | None) -> Array | None:
        """The key of this call's noise; None where nothing is drawn."""
        if deterministic is not None:
            check_flag("deterministic", deterministic)
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic or not layers.is_noisy(self.cell, self.input_size):
            return None
        if key is None and self.rngs is None:
            raise ValueError(
                "training with dropout needs randomness: pass key=, or rngs with a 'dropout' or "
                "default stream when making the module; or call eval(), or pass deterministic=True."
            )
        if key is not None:
            return key
        try:
            return self.rngs()
        except errors.TraceContextError as error:
            raise ValueError(
                "the dropout of this module draws from its own random stream, which a plain JAX "
                "transformation has captured and cannot advance: pass key=, or use nnx.jit and "
                "nnx.grad with the module as an argument."
            ) from error

    def __nnx_repr__(self) -> Generator[Any, None, None]:
        head = summary.title(self.cell, self.input_size, self.batch_first)
        yield reprlib.Object(type(self), comment=f"  # {head}")
        for name, row in summary.rows(self.cell, self.input_size):
            yield reprlib.Attr(name, row, use_raw_value=True)


def options_of(
    batch_first: bool,
    dtype: DType | None,
    method: str | Method | None,
    remat: str,
    *,
    reverse: bool = False,
    torch: bool = False,
) -> Options:
    """What a module does not share with its cell, its method as an object."""
    return Options(bool(batch_first), dtype, resolve(method, remat), remat, bool(reverse), torch)


def _variables(params: Params, hidden_axis: str | None) -> dict[str, Any]:
    """Parameters as variables, with their partition metadata where there is any."""
    if hidden_axis is None:
        return jax.tree.map(nnx.Param, stored.as_dicts(params))
    axes = layers.hidden_last(params, hidden_axis)
    boxed = jax.tree.map(lambda a, names: nnx.Param(a, out_sharding=names), params, axes)
    return stored.as_dicts(boxed)


def _is_variable(x: Any) -> bool:
    return isinstance(x, nnx.Variable)
