"""The model card of a saved model: what it is, and how it is loaded."""

import json
from typing import Any

import numpy as np

from jaxrnn.cell import Cell
from jaxrnn.cells import LSTMCell, LSTMPCell, RNNCell
from jaxrnn.interop import cell_config
from jaxrnn.stack import Stack


def text(
    cell: Cell, input_size: int, arrays: dict[str, np.ndarray], names: str, license: str | None
) -> str:
    """A card in Markdown with the front matter that the Hugging Face hub reads."""
    front = [
        "library_name: jaxrnn",
        *([f"license: {json.dumps(license)}"] if license else []),
        "tags: [jax, rnn]",
    ]
    count = sum(a.size for a in arrays.values())
    own = ", ".join(f'"{c.__name__}": {c.__name__}' for c in cell_config.outside(cell))
    classes = f", classes={{{own}}}" if own else ""
    lines = [
        "---", *front, "---", "",
        f"# {type(cell).__name__}", "",
        f"A recurrent model for [JAX](https://docs.jax.dev), {input_size} features in, "
        f"{count:,} numbers:", "",
        f"    {cell}", "",
        "```python",
        "import jaxrnn", "",
        f'cell, params = jaxrnn.interop.from_pretrained("."{classes})  # this folder',
        "carry, ys = jaxrnn.unroll(cell, params, xs)  # xs [T, ..., features]",
        "```", "",
    ]  # fmt: skip
    return "\n".join([*lines, *(_torch(cell, input_size) if names == "torch" else [])])


def _torch(cell: Any, input_size: int) -> list[str]:
    layers = cell.cells if isinstance(cell, Stack) else (cell,)
    first: Any = layers[0]
    name = {RNNCell: "RNN", LSTMCell: "LSTM", LSTMPCell: "LSTM"}.get(type(first), "GRU")
    options: dict[str, Any] = dict(
        num_layers=len(layers), bias=first.bias, bidirectional=getattr(cell, "bidirectional", False)
    )
    options |= {
        key: getattr(first, key) for key in ("nonlinearity", "proj_size") if hasattr(first, key)
    }
    arguments = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return [
        "The same weights in torch:", "",
        "```python",
        "import safetensors.torch", "import torch", "",
        f"module = torch.nn.{name}({input_size}, {first.hidden_size}, {arguments})",
        'module.load_state_dict(safetensors.torch.load_file("model.safetensors"))',
        "```", "",
    ]  # fmt: skip
