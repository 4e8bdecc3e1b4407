"""What the conversions share: the gate order of every library, named arrays read and written,
and what is refused, and why.

A `Layout` says how one library keeps the parameters of one cell, by two inverse functions. `load`
and `store` do all else.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, DType, Params, check_cell_type
from jaxrnn.cells import ConvLSTMCell, GRUCell, GRUResetBeforeCell, LSTMPCell
from jaxrnn.checks import check_float
from jaxrnn.stack import Stack
from jaxrnn.structure import check_params
from jaxrnn.wrappers import MultiHead, Wrapper

Arrays = dict[str, Any]  # NumPy arrays, which here stand in the fields of parameters too
# The gates of our cells, in their order; those of another library stand beside its conversions.
RNN = "n"
LSTM = "ifgo"
GRU = "rzn"
_AFTER = (
    "resets after the product with W_hn, which is another function than resetting before, "
    "and no weights turn one into the"
)


class ConversionError(ValueError):
    """Weights that the other side has no place for:
    converting them would change the function that they compute.
    """


class Layout(NamedTuple):
    """How a library keeps the parameters of a cell, of which `b` is [G, H] here."""

    write: Callable[[Any], Arrays]  # parameters to names and arrays
    read: Callable[[Arrays], Any]  # the inverse
    bias: bool = False  # whether the library can leave biases out


def side_by_side(blocks: Any) -> Any:
    """Blocks by gate, [..., G, H], as [..., G*H], in our order."""
    return blocks.reshape(*blocks.shape[:-2], -1)


def fuse(blocks: Any, ours: str, theirs: str) -> Any:
    """Blocks by gate, [..., G, H], in the order `theirs` and side by side, [..., G*H]."""
    order = [ours.index(gate) for gate in theirs]
    return side_by_side(blocks[..., order, :])


def split(fused: Any, ours: str, theirs: str) -> Any:
    """The inverse of `fuse`: [..., G*H] to [..., G, H]."""
    order = [theirs.index(gate) for gate in ours]
    return fused.reshape(*fused.shape[:-1], len(ours), -1)[..., order, :]


def by_gate(params: Any) -> Any:
    """Parameters with their bias as [G, H]."""
    return (
        params if params.b is None else params._replace(b=params.b.reshape(params.w_x.shape[-2:]))
    )


def _flat(params: Any) -> Any:
    """The inverse of `by_gate`."""
    return params if params.b is None else params._replace(b=params.b.reshape(-1))


def shifted(b: Any, one: int) -> Any:
    """The bias [4, H] of an LSTM with `one` added to the forget gate's, in at least float32."""
    b = b.astype(np.float32) if b.dtype.itemsize <= 2 else b
    return np.stack([b[0], b[1] + one, b[2], b[3]])


def load(
    cell: Cell, layout: Layout, entries: Any, dtype: DType, what: str, named: bool = False
) -> Params:
    """The parameters of a cell from a library's arrays, in `dtype`;
    `what` names those arrays in messages.

    `named` says that the caller takes `name=`, the path of the cell among others.
    """
    check_float("dtype", dtype)
    entries = flatten(entries, what)
    given = {name: tuple(value.shape) for name, value in entries.items()}
    check_entries(
        _shapes(cell, layout, _input_size(cell, layout, given)),
        given,
        f"the {what} does not fit {cell}",
        named,
    )
    params = _flat(layout.read({name: to_numpy(name, value) for name, value in entries.items()}))
    return jax.tree.map(
        lambda a: jnp.array(a, dtype), params if layout.bias else _without_biases(cell, params)
    )


def store(cell: Cell, layout: Layout, params: Params) -> dict[str, Any]:
    """A cell's parameters as a library's arrays, in nested dicts: contiguous,
    writable copies of their widest dtype.
    """
    params = jax.tree.map(np.asarray, check_params(cell, params))
    filled = params if layout.bias else _with_biases(params)
    if any(a is not b for a, b in zip(filled, params, strict=True)):
        warnings.warn(
            "the target has no cell without bias: it gets zeros, and will train them.", stacklevel=3
        )
    with jax.numpy_dtype_promotion("standard"):
        wide = functools.reduce(jnp.promote_types, [a.dtype for a in jax.tree.leaves(params)])
    tree: dict[str, Any] = {}
    for name, array in layout.write(by_gate(filled)).items():
        group, _, leaf = name.rpartition("/")
        (tree.setdefault(group, {}) if group else tree)[leaf] = np.array(array, wide, order="C")
    return tree


def layout_of(cell: Cell, layouts: Mapping[type, Any], library: str) -> Any:
    """The entry of a cell's class, or a ConversionError that says why there is none
    and what to do.
    """
    check_cell_type(cell)
    if type(cell) in layouts:
        return layouts[type(cell)]
    if isinstance(cell, Stack):
        why = (
            "Convert one cell after another: stack.cells[layer], "
            "params[layer * directions + direction]."
        )
    elif isinstance(cell, MultiHead):
        why = "No other library has heads; one head is the cell inside."
    elif isinstance(cell, Wrapper):
        why = "Convert the cell inside, with its own parameters."
    elif type(cell) is LSTMPCell:
        why = "It has no projection of h; train an LSTMCell for it."
    elif type(cell) is GRUCell:
        why = f"This cell {_AFTER} other; train a GRUResetBeforeCell for it."
    elif type(cell) is GRUResetBeforeCell:
        why = f"Its GRU {_AFTER} other; train a GRUCell for it."
    else:
        why = (
            "Nothing there computes this function. (Where a cell is a special case of a common "
            "one, as_common_cell tells.)"
        )
    there = ", ".join(known.__name__ for known in layouts)
    raise ConversionError(f"{library} has no counterpart of {cell}; it has those of {there}. {why}")


def check_same_padding(cell: ConvLSTMCell, library: str) -> None:
    """Raises ConversionError where a library's strides, dilation or padding, which act on both
    convolutions, are not ours.
    """
    if cell.padding != "same" or any(n != 1 for n in (*cell.strides, *cell.dilation)):  # pyrefly: ignore[not-iterable]
        raise ConversionError(
            f"in {library} strides, dilation and padding act on the recurrent convolution too, "
            "which keeps its space only with "
            f"padding='same' and no strides; this cell is {cell}. Keras has it."
        )


def check_activations(cell: Any, library: str) -> None:
    """Raises ConversionError where a library has no other activations than tanh and sigmoid (of an
    RNNCell than tanh and relu), and the cell has."""
    known = {
        "nonlinearity": ("tanh", "relu"),
        "activation": ("tanh",),
        "recurrent_activation": ("sigmoid",),
    }
    for name, names in known.items():
        if getattr(cell, name, names[0]) not in names:
            raise ConversionError(
                f"{library} has no {type(cell).__name__} with {name}={getattr(cell, name)!r}, only "
                f"with {' or '.join(names)}."
            )


def flatten(entries: Any, what: str) -> dict[str, Any]:
    """Nested dicts of arrays as one, with paths like "ii/kernel" for names.

    Raises:
        TypeError: no mapping of names to arrays.
    """
    if not isinstance(entries, Mapping):
        raise TypeError(f"the {what} must map names to arrays, got {type(entries).__name__}.")
    flat: dict[str, Any] = {}
    for name, value in entries.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{path}": leaf for path, leaf in flatten(value, what).items()}
        elif hasattr(value, "shape"):
            flat[str(name)] = value
        else:
            raise TypeError(
                f"the {what} must map names to arrays, but {name} is a {type(value).__name__}."
            )
    return flat


def to_numpy(name: str, value: Any) -> np.ndarray:
    """A torch tensor or an array as NumPy, in float32 or wider.

    Raises:
        TypeError: not floating point.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    array = np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {array.dtype}, expected floating point.")
    return array.astype(np.float32) if array.dtype.itemsize <= 2 else array


def check_entries(
    wanted: Mapping[str, tuple[int, ...]],
    given: Mapping[str, tuple[int, ...]],
    text: str,
    named: bool = False,
) -> None:
    """Raises ValueError, beginning with `text`, unless names and shapes are those wanted;
    it lists all that are not.
    """
    missing = [n for n in wanted if n not in given]
    unexpected = [n for n in given if n not in wanted]
    misshapen = [
        f"{n} {given[n]}, expected {s}" for n, s in wanted.items() if n in given and given[n] != s
    ]
    problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    if not any(problems.values()):
        return
    found = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)
    raise ValueError(f"{text}. {found}.{_prefix_hint(missing, unexpected, named)}")


def _prefix_hint(missing: list[str], unexpected: list[str], named: bool) -> str:
    """What to pass where the wanted names are there, behind a prefix."""
    before = {
        (n[: -len(w)], w.partition("/")[0])
        for n in unexpected
        for w in missing
        if n.endswith(("." + w, "/" + w))
    }
    if not before:
        return ""
    prefix, first = min(before)
    if named:
        return f" Pass name={prefix + first!r}."
    if "." in prefix:
        return f" Pass prefix={prefix!r} for the names under it."
    path = "".join(f"[{part!r}]" for part in prefix.split("/")[:-1])
    return f" Pass the dict at {path}."


def _shapes(cell: Cell, layout: Layout, input_size: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes that a library would have, found with zeros."""
    own = jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))
    blank = jax.tree.map(lambda a: np.broadcast_to(np.float32(0), a.shape), own)
    return {
        name: a.shape
        for name, a in layout.write(by_gate(blank if layout.bias else _with_biases(blank))).items()
    }


def _input_size(cell: Cell, layout: Layout, given: Mapping[str, tuple[int, ...]]) -> int:
    """The number of input features that arrays of these shapes were made for,
    by an axis that grows with it; 1 without any.
    """
    one, two = (_shapes(cell, layout, size) for size in (1, 2))
    for name, shape in one.items():
        grows = [k for k, size in enumerate(shape) if size != two[name][k]]
        if grows and len(given.get(name, ())) == len(shape):
            return max(1, given[name][grows[0]] - shape[grows[0]] + 1)
    return 1


def _with_biases(params: Any) -> Any:
    """Parameters with zeros for the biases that are left out."""
    G, H = params.w_x.shape[-2:]
    shapes = {"b": G * H, "b_hn": H}
    absent = [name for name in params._fields if getattr(params, name) is None]
    return params._replace(**{name: np.zeros(shapes[name], params.w_x.dtype) for name in absent})


def _without_biases(cell: Any, params: Any) -> Any:
    """The parameters of a cell that may have no biases, where those given are then zero."""
    names = [name for name in ("b", "b_hn") if name in params._fields]
    if cell.bias:
        return params
    if any(np.any(getattr(params, name)) for name in names):
        raise ConversionError(
            f"{cell} has no biases, and those given are not zero. Make the cell with bias=True."
        )
    return params._replace(**dict.fromkeys(names))
