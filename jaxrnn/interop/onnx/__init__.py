"""Files of ONNX: from a cell or module, and from the recurrent operators of any file."""

from jaxrnn.interop.onnx.reading import FromOnnx, from_onnx
from jaxrnn.interop.onnx.writing import to_onnx

__all__ = ["FromOnnx", "from_onnx", "to_onnx"]
