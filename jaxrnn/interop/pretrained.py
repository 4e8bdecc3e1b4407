"""Models as folders in the layout of the Hugging Face hub: `config.json`,
`model.safetensors` and a model card, `README.md`.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, Params, as_cell
from jaxrnn.checks import check_size
from jaxrnn.interop import cell_config, model_card, safetensors_file, strict_json, tensors
from jaxrnn.interop.folder import open_inside, write_folder
from jaxrnn.interop.strict_json import FileFormatError
from jaxrnn.structure import fit_params

CONFIG = "config.json"
TENSORS = "model.safetensors"
CARD = "README.md"
VERSION = 2  # 1 had biases by gate, [G, H]
LARGEST_CONFIG = 2**20  # bytes
KEYS = ("library_name", "format_version", "cell", "input_size", "dtype", "names")
NAMES = ("jaxrnn", "torch")


def save_pretrained(
    folder: str | os.PathLike[str],
    cell: Cell,
    params: Params,
    input_size: int,
    *,
    names: str = "jaxrnn",
    license: str | None = None,
    overwrite: bool = False,
) -> None:
    """Saves a cell or stack with its parameters as a folder that `from_pretrained` reads,
    and the Hugging Face hub shows.

    The files are written aside and then renamed: a full disk, or a process killed meanwhile, leaves
    what was there before. Only between the two renames of an overwrite, for microseconds, nothing
    stands in the place: a process killed there leaves the old and the new folder, both complete,
    under hidden names beside it (".name.*.old" and ".name.*.new"), to be renamed by hand; and one
    that reads then finds no folder. An empty folder stays, and gets the files one after another.
    Equal models give equal bytes.

    Args:
        folder: a new or empty folder.
        cell: the cell or stack. Its fields, and those of cells and initialisers in it, are numbers,
            strings, tuples, None, and frozen dataclasses of such fields.
        params: its parameters, in any dtype; every bit is kept.
        input_size: I, the number of input features.
        names: how the tensors are called. "jaxrnn" by where they stand in `params`, as in "0.w_x";
            "torch" as torch does, so that
            `module.load_state_dict(safetensors.torch.load_file(...))` takes them, for cells that
            torch has.
        license: of the model, as the hub writes it ("apache-2.0"); None says nothing.
        overwrite: whether a folder that holds a saved model is replaced.

    Raises:
        ImportError: safetensors is not installed.
        FileExistsError: the folder is not empty; with `overwrite`, it holds files that are not of a
            model, or it is the working directory or a mount point, which cannot be replaced.
        TypeError: a cell that cannot be written down, or a leaf of another kind of dtype than the
            cell's own.
        ValueError: parameters that do not fit the cell, or more than one dtype with torch's names.

    Example:
        >>> import jax, jaxrnn, tempfile
        >>> stack = jaxrnn.Stack((jaxrnn.LSTMCell(4), jaxrnn.LSTMCell(4)), bidirectional=True)
        >>> params = stack.init(jax.random.key(0), input_size=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jaxrnn.interop.save_pretrained(folder, stack, params, 3, names="torch")
        ...     same, loaded = jaxrnn.interop.from_pretrained(folder)
        >>> same == stack, bool((loaded[0].w_x == params[0].w_x).all())
        (True, True)
    """
    cell = as_cell(cell)
    check_size("input_size", input_size)
    params = fit_params(cell, params, input_size)
    if names not in NAMES:
        raise ValueError(f"names must be one of {NAMES}, got {names!r}.")
    arrays, dtype = tensors.write(cell, int(input_size), params, names)
    values = ("jaxrnn", VERSION, cell_config.encode(cell), int(input_size), dtype, names)
    config = dict(zip(KEYS, values, strict=True))
    files = {
        CONFIG: (json.dumps(config, indent=2, allow_nan=False) + "\n").encode(),
        TENSORS: safetensors_file.to_bytes(arrays, {"format": "pt" if names == "torch" else "jax"}),
        CARD: model_card.text(cell, int(input_size), arrays, names, license).encode(),
    }
    write_folder(folder, files, overwrite)


def from_pretrained(
    folder: str | os.PathLike[str], *, classes: Mapping[str, type] | None = None
) -> tuple[Cell, Params]:
    """Reads a cell or stack and its parameters from a folder that `save_pretrained` wrote.

    The folder may come from a stranger. It is read, never run: classes are those of jaxrnn and of
    `classes`, files are the two of this layout and lie in the folder, and sizes are compared with
    the file before anything of them is made. What does not fit is refused whole. That the numbers
    are those that were saved is not checked.

    Args:
        folder: a local folder. One of a hub is downloaded first, as plain files:
            `snapshot_download(name, local_dir=folder)`.
        classes: cells, and other frozen dataclasses in their fields, of your own, by name. Only
            pass what may be made with fields that the file chooses.

    Returns:
        (cell, params): equal to what was saved, to the last bit; on the default device.

    Raises:
        ImportError: safetensors is not installed.
        FileNotFoundError: there is no such folder, or a file is missing.
        jaxrnn.interop.FileFormatError: a file is damaged, of another version, or does not fit the
            other one.
        ValueError: 64-bit parameters while jax makes none.
    """
    safetensors_file.package()
    known = cell_config.with_own(classes)
    with open_inside(folder, CONFIG) as file:
        config = _check_config(file.read(LARGEST_CONFIG + 1))
    cell = cell_config.decode(config["cell"], known)
    with open_inside(folder, TENSORS) as file:
        header = safetensors_file.read_header(file)
        tensors.check(cell, config["input_size"], config["names"], config["dtype"], header)
        arrays = safetensors_file.read_data(file, header)
    return cell, tensors.read(cell, config["input_size"], config["names"], config["dtype"], arrays)


def _check_config(text: bytes) -> dict[str, Any]:
    if len(text) > LARGEST_CONFIG:
        raise FileFormatError(f"{CONFIG} is longer than {LARGEST_CONFIG} bytes.")
    config = strict_json.parse(text, CONFIG)
    if not isinstance(config, dict) or config.get("library_name") != "jaxrnn":
        raise FileFormatError(
            f"{CONFIG} is not of a model of jaxrnn: its library_name is not 'jaxrnn'."
        )
    version = config.get("format_version")
    if type(version) is not int or version != VERSION:
        raise FileFormatError(
            f"{CONFIG} has format_version {str(version)[:20]}; this jaxrnn reads {VERSION}. "
            f"Is jaxrnn too {'old' if type(version) is int and version > VERSION else 'new'}?"
        )
    _check_keys(config)
    if type(config["input_size"]) is not int or not 1 <= config["input_size"] < 2**31:
        raise FileFormatError(
            f"{CONFIG} has input_size {str(config['input_size'])[:20]!r}, "
            "expected a size of at least 1."
        )
    _check_choices(config)
    return config


def _check_keys(config: dict[str, Any]) -> None:
    for key in config:
        if key not in KEYS:
            raise FileFormatError(
                f"{CONFIG} has the unknown key {key[:80]!r}. {cell_config.nearest(key, KEYS)}"
            )
    for key in KEYS:
        if key not in config:
            raise FileFormatError(f"{CONFIG} has no {key!r}.")


def _check_choices(config: dict[str, Any]) -> None:
    floats = [
        str(np.dtype(d))
        for d in safetensors_file.DTYPES.values()
        if jnp.issubdtype(d, jnp.floating)
    ]
    for key, choices in (
        ("names", NAMES),
        ("dtype", floats if config["names"] == "torch" else [*floats, "mixed"]),
    ):
        if config[key] not in choices:
            raise FileFormatError(
                f"{CONFIG} has {key} {str(config[key])[:80]!r}, "
                f"expected one of {', '.join(choices)}."
            )
