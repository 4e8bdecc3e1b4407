"""Files of the safetensors format, checked before their content is touched.

Such a file is the length of its header (8 bytes, little-endian), the header, and the data. The
header is a JSON object that names for each tensor its `dtype`, `shape`, and `data_offsets`: where
its bytes begin and end in the data. There are no gaps.
"""

import io
import math
import os
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn.interop import strict_json
from jaxrnn.interop.strict_json import FileFormatError

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E5M2": jnp.float8_e5m2,
    "U16": np.uint16,
    "I16": np.int16,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "U32": np.uint32,
    "I32": np.int32,
    "F32": np.float32,
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
    "C64": np.complex64,
}
LARGEST_HEADER = 2**24  # bytes: some hundred thousand tensors
METADATA = "__metadata__"


class Tensor(NamedTuple):
    """One entry of the header."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int  # in bytes, from where the data begins
    end: int


class Header(NamedTuple):
    tensors: dict[str, Tensor]
    data: int  # bytes
    text: bytes  # the file before its data


def package() -> Any:
    """The package safetensors.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import safetensors.numpy
    except ImportError as e:
        raise ImportError(
            "model files need the package safetensors: pip install 'jaxrnn[files]'"
        ) from e
    return safetensors


def to_bytes(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The file that holds these arrays.

    Raises:
        TypeError: a dtype that the format does not have.
    """
    for name, array in arrays.items():
        if array.dtype not in [np.dtype(d) for d in DTYPES.values()]:
            raise TypeError(
                f"{name} has dtype {array.dtype}, which a safetensors file cannot hold."
            )
    # Contiguous copies: safetensors 0.8.0 writes the bytes of any other array in the wrong order,
    # without an error.
    return package().numpy.save(
        {name: np.array(a, order="C") for name, a in arrays.items()}, metadata
    )


def read_header(file: BinaryIO) -> Header:
    """Reads and checks the header of an open file; none of the data is read,
    and nothing is allocated for it.

    Raises:
        FileFormatError: no such file, a damaged or a truncated one.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= min(size - 8, LARGEST_HEADER):
        raise FileFormatError(
            f"{_name(file)} is no safetensors file, or truncated: "
            f"{size} bytes, a header of {length}."
        )
    text = file.read(length)
    if len(text) < length or text[:1] != b"{":
        raise FileFormatError(
            f"{_name(file)} is no safetensors file: its header does not begin with a brace."
        )
    entries = strict_json.parse(text, f"the header of {_name(file)}")
    metadata = entries.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileFormatError(
            f"the header of {_name(file)} has {METADATA} that is no map of strings to strings."
        )
    header = Header(
        {name: _tensor(name, entry) for name, entry in entries.items()},
        size - 8 - length,
        prefix + text,
    )
    _check_offsets(header)
    return header


def read_data(file: BinaryIO, header: Header) -> dict[str, np.ndarray]:
    """The arrays of a file whose header has been read.

    Raises:
        FileFormatError: the file is not the one of the header.
    """
    data = file.read(header.data + 1)
    if len(data) != header.data:
        raise FileFormatError(f"{_name(file)} changed while it was read.")
    try:
        found = dict(package().deserialize(header.text + data))
    except package().SafetensorError as e:
        raise FileFormatError(f"{_name(file)} is refused by safetensors: {e}") from e
    return {
        name: np.frombuffer(found[name]["data"], t.dtype).reshape(t.shape)
        for name, t in header.tensors.items()
    }


def _name(file: BinaryIO) -> str:
    return os.path.basename(str(getattr(file, "name", "the file")))


def _tensor(name: str, entry: Any) -> Tensor:
    where = f"tensor {name[:80]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FileFormatError(f"{where} must have dtype, shape and data_offsets, and nothing else.")
    dtype = entry["dtype"]
    shape = entry["shape"]
    offsets = entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FileFormatError(
            f"{where} has dtype {str(dtype)[:80]!r}, expected one of {', '.join(DTYPES)}."
        )
    if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2:
        raise FileFormatError(f"{where} has a shape or offsets that are no lists of sizes.")
    tensor = Tensor(np.dtype(DTYPES[dtype]), tuple(shape), *offsets)
    if math.prod(shape) * tensor.dtype.itemsize != tensor.end - tensor.begin:
        raise FileFormatError(
            f"{where} of shape {tensor.shape} and dtype {tensor.dtype} has offsets "
            f"{offsets}: another size."
        )
    return tensor


def _sizes(value: Any) -> bool:
    """Whether this is a list of at most 32 integers from 0 to 2^63 - 1."""
    return (
        isinstance(value, list)
        and len(value) <= 32
        and all(type(n) is int and 0 <= n < 2**63 for n in value)
    )


def _check_offsets(header: Header) -> None:
    position = 0
    for name, tensor in sorted(header.tensors.items(), key=lambda item: item[1][2:]):
        if tensor.begin != position:
            kind = (
                "overlaps the one before it"
                if tensor.begin < position
                else "leaves a gap before it"
            )
            raise FileFormatError(
                f"tensor {name[:80]!r} {kind}: it begins at byte {tensor.begin} of the "
                f"data, not {position}."
            )
        position = tensor.end
    if position != header.data:
        raise FileFormatError(
            f"the tensors need {position} bytes of data, the file has {header.data}: "
            "truncated, or too long."
        )
