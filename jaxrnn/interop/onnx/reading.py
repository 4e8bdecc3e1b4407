"""The recurrent operators of a file of ONNX as a stack with its parameters."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.interop.layouts import ConversionError
from jaxrnn.interop.onnx import native
from jaxrnn.interop.onnx.graph import package
from jaxrnn.interop.strict_json import FileFormatError
from jaxrnn.stack import Stack
from jaxrnn.wrappers.bidirectional import Bidirectional, BidirectionalParams

KINDS = ("RNN", "LSTM", "GRU")
# what weights go through before they reach an operator
MOVES = ("Cast", "Concat", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose")
MOVES += ("Unsqueeze",)
DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
# alpha and beta where a file does not give them
STANDARD = {"HardSigmoid": (0.2, 0.5), "Affine": (1.0, 0.0), "Elu": (1.0, None)}


class FromOnnx(NamedTuple):
    """What `from_onnx` found."""

    cell: Stack
    params: tuple[Params, ...]
    operators: tuple[str, ...]  # the names of the operators, layer by layer
    between: tuple[str, ...]  # the other nodes that compute something, "Kind name", in their order


class _Layer(NamedTuple):
    x: str  # the name of its input
    ways: list[tuple[Cell, Params]]  # one, or forward and reverse
    name: str
    reverse: bool


def from_onnx(path_or_bytes: str | os.PathLike[str] | bytes) -> FromOnnx:
    """The layers RNN, LSTM and GRU of a file, as torch, Keras and `to_onnx` write them.

    Keras (3.15, by tf2onnx) writes the operator of an LSTM; of its other layers it makes a `Loop`,
    which is no operator: `from_keras` takes their weights.

    Operators are taken in their order, each as a layer; what lies between them is listed and not
    looked at. Pairs of a forward and a reverse operator on one input are one layer of both
    directions.

    Args:
        path_or_bytes: the file, or what is in it. Weights stand in the file itself.

    Returns:
        `FromOnnx`: a stack, its parameters, and what else there is.

    Raises:
        FileFormatError: no model of ONNX, or a damaged one; weights outside the file, or larger
            than it.
        ConversionError: no recurrent operator, or one that no cell here is: `clip`, another
            activation, a reverse direction by itself, weights that are computed from inputs.
        ImportError: onnx is not installed.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import from_onnx, to_onnx
        >>> cell = jaxrnn.GRUCell(4)
        >>> found = from_onnx(to_onnx(cell, cell.init(jax.random.key(0), input_size=3)))
        >>> [type(cell).__name__ for cell in found.cell.cells], found.params[0].w_x.shape
        (['GRUCell'], (3, 3, 4))
    """
    model = _loaded(path_or_bytes)
    weights = _Weights(model)
    layers: list[_Layer] = []
    between: list[str] = []
    for node in model.graph.node:
        if node.op_type in KINDS:
            _append(layers, _layer(node, weights))
        elif node.op_type != "Constant" and not weights.holds(node):
            between.append(f"{node.op_type} {node.name}".strip())
    if not layers:
        loops = [node.name for node in model.graph.node if node.op_type in ("Loop", "Scan")]
        why = f" Its loops {loops} are not read: take the weights from where they were trained."
        raise ConversionError(
            f"the file has none of the operators {', '.join(KINDS)}.{why if loops else ''}"
        )
    for layer in layers:
        if layer.reverse:
            raise ConversionError(
                f"operator {layer.name!r} runs backward by itself: a stack has both directions."
            )
    cell, params = _stacked([layer.ways for layer in layers])
    params = jax.tree.map(jnp.asarray, params)
    return FromOnnx(cell, params, tuple(layer.name for layer in layers), tuple(between))


def _append(layers: list[_Layer], layer: _Layer) -> None:
    """A reverse operator behind a forward one with the same input is its second direction."""
    if layers and layer.reverse and layers[-1].x == layer.x and len(layers[-1].ways) == 1:
        last = layers.pop()
        layer = last._replace(ways=[*last.ways, *layer.ways])
    layers.append(layer)


def _stacked(layers: Sequence[list[tuple[Cell, Params]]]) -> tuple[Stack, tuple[Params, ...]]:
    """A stack, in which layers of both directions among others are cells of their own."""
    alike = all(len({cell for cell, _ in ways}) == 1 for ways in layers)
    both = [len(ways) == 2 for ways in layers]
    if alike and (all(both) or not any(both)):
        cells = tuple(ways[0][0] for ways in layers)
        params = tuple(p for ways in layers for _, p in ways)
        return Stack(cells, bidirectional=all(both)), params
    pairs = [_one(ways) for ways in layers]
    return Stack(tuple(cell for cell, _ in pairs)), tuple(p for _, p in pairs)


def _one(ways: list[tuple[Cell, Params]]) -> tuple[Cell, Params]:
    """A layer as one cell."""
    (cell, params), *other = ways
    if not other:
        return cell, params
    ((second, theirs),) = other
    if second == cell:
        return Stack((cell,), bidirectional=True), (params, theirs)
    return Bidirectional(cell, second), BidirectionalParams(params, theirs)


def _loaded(given: Any) -> Any:
    onnx = package()
    if isinstance(given, bytes):
        data = given
    else:
        data = Path(given).read_bytes()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf has its own class of error, which moved between versions
        raise FileFormatError(f"this is no model of ONNX: {error}.") from None
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise FileFormatError(
                f"weight {tensor.name!r} stands outside the file: save it with "
                "save_as_external_data=False."
            )
        if any(size < 0 for size in tensor.dims) or _count(tensor.dims) > len(data):
            raise FileFormatError(f"weight {tensor.name!r} says that it is larger than the file.")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        text = " ".join(str(error).split())
        raise FileFormatError(f"this is no valid model of ONNX: {text}") from None
    return model


def _tensors(graph: Any) -> Iterable[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _count(sizes: Iterable[int]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count


class _Weights:
    """The arrays of a file that do not depend on its inputs."""

    def __init__(self, model: Any) -> None:
        helper = package("numpy_helper")
        self.opset = next((o.version for o in model.opset_import if not o.domain), 1)
        self.known = {t.name: helper.to_array(t) for t in model.graph.initializer}
        # what moves weights makes nothing that is much larger than all of them
        self.room = 4 * sum(a.nbytes for a in self.known.values()) + 2**20
        for node in model.graph.node:
            self._read(node, helper)

    def holds(self, node: Any) -> bool:
        """Whether a node only moves weights."""
        return all(name in self.known for name in node.output)

    def get(self, name: str) -> np.ndarray | None:
        """An input of an operator; None where it is left out."""
        if not name:
            return None
        if name not in self.known:
            raise ConversionError(f"weight {name!r} is computed from what goes in.")
        return self.known[name]

    def _read(self, node: Any, helper: Any) -> None:
        if node.op_type == "Constant":
            found = [a for a in node.attribute if a.name == "value"]
            if found:
                self.known[node.output[0]] = helper.to_array(found[0].t)
        elif node.op_type in MOVES and all(n in self.known for n in node.input if n):
            given = {n: self.known[n] for n in node.input if n}
            size = sum(a.nbytes for a in given.values())
            if size > self.room:
                raise FileFormatError(f"the weights behind {node.output[0]!r} grow without end.")
            self.room -= size
            try:
                run = package("reference").ReferenceEvaluator(node, opsets={"": self.opset})
                results = run.run(None, given)
            except Exception as error:  # of NumPy or onnx, whatever does not fit
                raise FileFormatError(
                    f"the weights behind {node.output[0]!r} cannot be computed: {error}"
                ) from None
            self.known.update(zip(node.output, results, strict=True))


def _layer(node: Any, weights: _Weights) -> _Layer:
    name = node.name or node.output[0]
    attributes = {a.name: package("helper").get_attribute_value(a) for a in node.attribute}
    _check_attributes(name, attributes)
    w, r, b, p = _arrays(name, node, weights)
    direction = attributes.get("direction", b"forward").decode()
    count = 2 if direction == "bidirectional" else 1
    activations = _activations(node.op_type, attributes, count, name)
    forget = bool(attributes.get("input_forget", 0))
    before = not attributes.get("linear_before_reset", 0)
    ways = []
    for k in range(count):
        bias = np.zeros(2 * w.shape[1], w.dtype) if b is None else b[k]
        own = None if p is None else p[k]
        found = native.Operator(node.op_type, w[k], r[k], bias, own, activations[k], {})
        ways.append(native.cell_of(found, forget, before))
    if count == 2 and ways[0][0] != ways[1][0]:
        raise ConversionError(f"the directions of operator {name!r} have different activations.")
    return _Layer(node.input[0], ways, name, direction == "reverse")


def _check_attributes(name: str, attributes: dict[str, Any]) -> None:
    if "clip" in attributes:
        raise ConversionError(f"operator {name!r} clips, which no cell here does.")
    if attributes.get("layout", 0):
        raise ConversionError(f"operator {name!r} has layout=1, batch first: write it with 0.")


def _arrays(name: str, node: Any, weights: _Weights) -> tuple[Any, Any, Any, Any]:
    """W, R, B and P of an operator, the last two None where it has none."""
    inputs = [*node.input, *[""] * 8]
    w, r, b = map(weights.get, inputs[1:4])
    if w is None or r is None:
        raise ConversionError(f"operator {name!r} has no weights.")
    p = weights.get(inputs[7]) if node.op_type == "LSTM" else None
    _check_sizes(name, node.op_type, w, r, b, p)
    for state in inputs[5:7]:
        if state in weights.known and np.any(weights.known[state]):
            raise ConversionError(
                f"operator {name!r} begins with a state of its own, {state!r}: give it to unroll "
                "as the carry, and the file without it."
            )
    return w, r, b, p


def _check_sizes(name: str, kind: str, w: Any, r: Any, b: Any, p: Any) -> None:
    """Raises unless the arrays of an operator fit each other."""
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
    D = w.shape[0] if w.ndim == 3 else 0
    H = w.shape[1] // gates if w.ndim == 3 else 0
    wanted = [(r, (D, gates * H, H)), (b, (D, 2 * gates * H)), (p, (D, 3 * H))]
    whole = D in (1, 2) and H > 0 and w.shape[1] == gates * H
    if not whole or any(a is not None and a.shape != shape for a, shape in wanted):
        shapes = [None if a is None else a.shape for a in (w, r, b, p)]
        raise FileFormatError(f"the weights of {kind} operator {name!r} do not fit: {shapes}.")


def _activations(
    kind: str, attributes: dict[str, Any], directions: int, name: str
) -> list[tuple[str, ...]]:
    """By our names, for each direction."""
    default = DEFAULTS[kind]
    given = attributes.get("activations")
    if not given:
        return [default] * directions
    if len(given) != directions * len(default):
        raise FileFormatError(f"operator {name!r} names {len(given)} activations.")
    numbers = [iter(attributes.get(f"activation_{which}", [])) for which in ("alpha", "beta")]
    found = [_activation(raw.decode(), numbers, name) for raw in given]
    size = len(default)
    return [tuple(found[k * size : (k + 1) * size]) for k in range(directions)]


def _activation(theirs: str, numbers: list[Iterator[float]], name: str) -> str:
    """Our name of an activation. It takes the next alpha and beta, where it has any."""
    ours = next((n for n, rule in native.ACTIVATIONS.items() if rule[0] == theirs), None)
    if ours is None:
        raise ConversionError(f"operator {name!r} has the activation {theirs!r}.")
    usual = STANDARD.get(theirs, (None, None))
    meant = [
        None if number is None else next(rest, number)
        for number, rest in zip(usual, numbers, strict=True)
    ]
    want = native.ACTIVATIONS[ours][1:]
    pairs = zip(meant, want, strict=True)
    if any(b is not None and abs((a or 0.0) - b) > 1e-6 for a, b in pairs):
        raise ConversionError(f"operator {name!r} has {theirs} with {meant}, here {want}.")
    return ours
