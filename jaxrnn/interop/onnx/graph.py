"""A graph of ONNX that is being written: nodes in their order, weights that stand in it once."""

import importlib
from typing import Any

import numpy as np

OPSET = 17
IR_VERSION = 9


def package(module: str = "") -> Any:
    """The package `onnx`, or a module of it.

    Raises:
        ImportError: it is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(f"onnx.{module}" if module else "onnx")
    except ModuleNotFoundError as error:
        raise ImportError("this needs onnx: pip install 'jaxrnn[onnx]'") from error


class Graph:
    """What is written so far.

    Args:
        stored: the dtype that weights of two axes and more are kept in; vectors, on which factors
            near 1 may stand, keep their own.
        outer: the graph that this is the body of, in which its weights stand.
    """

    def __init__(self, stored: Any = np.float32, outer: "Graph | None" = None) -> None:
        self.helper = package("helper")
        self.stored = np.dtype(stored)
        self.outer = outer
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.weights: list[Any] = []
        self.known: dict[Any, str] = {}
        self.taken: set[str] = set() if outer is None else outer.taken

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, whose name it returns."""
        return self.nodes_of(kind, *inputs, count=1, **attributes)[0]

    def nodes_of(self, kind: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        outputs = [self.name(kind.lower()) for _ in range(count)]
        made = self.helper.make_node(kind, list(inputs), outputs, **attributes)
        made.name = outputs[0]
        self.nodes.append(made)
        return outputs

    def name(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name = wanted
        number = 1
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    def constant(self, array: Any, wanted: str = "w") -> str:
        """A weight, or numbers that shapes are made of."""
        if self.outer is not None:
            return self.outer.constant(array, wanted)
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.known:
            name = self.name(wanted)
            is_weight = array.dtype.kind == "f" and array.ndim > 1
            small = self.stored if is_weight else array.dtype
            kept = array.astype(small)
            self.weights.append(package("numpy_helper").from_array(kept, name))
            self.known[key] = name if kept.dtype == array.dtype else self.cast(name, array.dtype)
        return self.known[key]

    def cast(self, value: str, dtype: Any) -> str:
        return self.node("Cast", value, to=self.kind(dtype))

    def kind(self, dtype: Any) -> int:
        """ONNX's number of a dtype."""
        return self.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def input(self, name: str, dtype: Any, shape: Any) -> str:
        self.taken.add(name)
        self.inputs.append(self.helper.make_tensor_value_info(name, self.kind(dtype), shape))
        return name

    def output(self, value: str, name: str, dtype: Any, shape: Any) -> None:
        self.taken.add(name)
        self.nodes.append(self.helper.make_node("Identity", [value], [name], name=name))
        self.outputs.append(self.helper.make_tensor_value_info(name, self.kind(dtype), shape))

    def made(self, name: str) -> Any:
        """The graph itself."""
        return self.helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, initializer=self.weights
        )

    def model(self, name: str, says: str, metadata: dict[str, str]) -> Any:
        """The whole model, checked, with its shapes inferred."""
        onnx = package()
        opset = [self.helper.make_opsetid("", OPSET)]
        model = self.helper.make_model(
            self.made(name),
            opset_imports=opset,
            producer_name="jaxrnn",
            doc_string=says,
            ir_version=IR_VERSION,
        )
        self.helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)
