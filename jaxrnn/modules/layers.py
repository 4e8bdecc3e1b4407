"""torch's layers as stacks, and what a module asks of its cell."""

import functools

import jax
import jax.numpy as jnp

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import GRUCell, LSTMCell, LSTMPCell, RNNCell
from jaxrnn.cells.activations import Activation
from jaxrnn.checks import check_size
from jaxrnn.initializers import Chrono, Initializer
from jaxrnn.stack import Stack


def rnn(
    hidden_size: int,
    num_layers: int,
    nonlinearity: Activation,
    bias: bool,
    dropout: float,
    bidirectional: bool,
    merge: str,
    recurrent_init: Initializer,
    input_init: Initializer,
    init_scheme: str,
) -> Stack:
    """The stack of `torch.nn.RNN`."""
    cell = RNNCell(
        hidden_size,
        nonlinearity,
        recurrent_init=recurrent_init,
        input_init=input_init,
        bias=bias,
        init_scheme=init_scheme,
    )
    return _stack(cell, num_layers, dropout, bidirectional, merge)


def lstm(
    hidden_size: int,
    num_layers: int,
    bias: bool,
    dropout: float,
    bidirectional: bool,
    proj_size: int,
    merge: str,
    forget_bias: float | Chrono,
    recurrent_init: Initializer,
    input_init: Initializer,
    init_scheme: str,
) -> Stack:
    """The stack of `torch.nn.LSTM`."""
    options = dict(
        forget_bias=forget_bias, recurrent_init=recurrent_init, input_init=input_init, bias=bias
    )
    options["init_scheme"] = init_scheme
    cell: Cell = LSTMCell(hidden_size, **options)
    if proj_size:
        cell = LSTMPCell(hidden_size, proj_size, **options)
    return _stack(cell, num_layers, dropout, bidirectional, merge)


def gru(
    hidden_size: int,
    num_layers: int,
    bias: bool,
    dropout: float,
    bidirectional: bool,
    merge: str,
    update_bias: float | Chrono,
    recurrent_init: Initializer,
    input_init: Initializer,
    init_scheme: str,
) -> Stack:
    """The stack of `torch.nn.GRU`."""
    cell = GRUCell(
        hidden_size,
        update_bias=update_bias,
        recurrent_init=recurrent_init,
        input_init=input_init,
        bias=bias,
        init_scheme=init_scheme,
    )
    return _stack(cell, num_layers, dropout, bidirectional, merge)


def hidden_last(params: Params, hidden_axis: str) -> Params:
    """For each parameter the mesh axes of a split over hidden units, a tuple.

    Kernels are split on their last axis, and vectors that are as long; others, as the biases of
    several gates side by side, are whole on every device.
    """
    paths, tree = jax.tree.flatten_with_path(params)
    sizes = {(path[:-1], a.shape[-1]) for path, a in paths if a.ndim > 1}

    def axes(path: tuple, a: jax.Array) -> tuple[str | None, ...]:
        split = a.ndim > 1 or (path[:-1], *a.shape) in sizes
        return (None,) * (a.ndim - 1) + (hidden_axis if split else None,) if a.ndim else ()

    return jax.tree.unflatten(tree, [axes(path, a) for path, a in paths])


@functools.lru_cache(maxsize=256)
def is_noisy(cell: Cell, input_size: int) -> bool:
    """Whether a cell draws anything at random."""
    shape = (1,) * (cell.feature_axes - 1) + (input_size,)
    noise = jax.eval_shape(lambda: cell.noise(jax.random.key(0), 1, jnp.zeros(shape)))
    return bool(jax.tree.leaves(noise))


def _stack(cell: Cell, num_layers: int, dropout: float, bidirectional: bool, merge: str) -> Stack:
    check_size("num_layers", num_layers)
    return Stack((cell,) * num_layers, bidirectional=bidirectional, dropout=dropout, merge=merge)
