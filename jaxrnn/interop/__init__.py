"""Weights from and to other libraries, none of which is imported.

A function for each library and way: `from_...(cell, arrays)` gives a cell's parameters,
`to_...(cell, params)` the arrays under the library's own names. What the other side cannot
represent is a `ConversionError`; nothing is approximated. Some libraries keep two biases, or add 1
to the forget gate when they run: here that is one stored bias, so that an optimiser takes other
steps (`with_two_biases` takes torch's).
"""

from jaxrnn.interop.c import to_c
from jaxrnn.interop.carries import from_flax_carry, to_flax_carry
from jaxrnn.interop.equinox import from_equinox, to_equinox
from jaxrnn.interop.equivalents import as_common_cell
from jaxrnn.interop.exporting import register_for_export
from jaxrnn.interop.flax_nnx import from_nnx, to_nnx
from jaxrnn.interop.haiku import from_haiku, to_haiku
from jaxrnn.interop.keras import from_keras, to_keras
from jaxrnn.interop.layouts import ConversionError
from jaxrnn.interop.linen import from_linen, to_linen
from jaxrnn.interop.onnx import FromOnnx, from_onnx, to_onnx
from jaxrnn.interop.pretrained import from_pretrained, save_pretrained
from jaxrnn.interop.strict_json import FileFormatError
from jaxrnn.interop.torch import from_torch, to_torch
from jaxrnn.interop.torch_cells import from_torch_cell, to_torch_cell
from jaxrnn.interop.two_biases import TwoBiases, with_two_biases

__all__ = [
    "ConversionError",
    "FileFormatError",
    "FromOnnx",
    "TwoBiases",
    "as_common_cell",
    "from_equinox",
    "from_flax_carry",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_onnx",
    "from_pretrained",
    "from_torch",
    "from_torch_cell",
    "register_for_export",
    "save_pretrained",
    "to_c",
    "to_equinox",
    "to_flax_carry",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_onnx",
    "to_torch",
    "to_torch_cell",
    "with_two_biases",
]
