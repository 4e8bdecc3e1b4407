"""Damaged and hostile folders of models are refused, with an error that says why,
before anything is made of them.
"""

import dataclasses
import json
import os
import struct
import tracemalloc
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import parameters

import jaxrnn
from jaxrnn.interop import FileFormatError, cell_config, from_pretrained, save_pretrained
from jaxrnn.wrappers import Zoneout

pytestmark = pytest.mark.usefixtures("quick_compilation")
CELL = jaxrnn.Stack((jaxrnn.RNNCell(2), Zoneout(jaxrnn.GRUCell(2))), bidirectional=True)
PARAMS = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), parameters(CELL))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The files of a model, as bytes."""
    folder = tmp_path_factory.mktemp("saved")
    save_pretrained(folder, CELL, PARAMS, 3)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def model(saved, tmp_path):
    """A folder to damage."""
    for name, content in saved.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def split(content):
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refused(folder, message, **options):
    with pytest.raises(FileFormatError, match=message):
        from_pretrained(folder, **options)


# --- config.json ----------------------------------------------------------------------------------


def edit(**changes):
    return lambda config: config | changes


def edit_cell(**changes):
    def change(config):
        config["cell"]["cells"][0] |= changes
        return config

    return change


def without(key):
    return lambda config: {k: v for k, v in config.items() if k != key}


def nested(depth, **fields):
    cell = {"class": "RNNCell", "hidden_size": 2}
    for _ in range(depth):
        cell = {"class": "Stack", "cells": [cell], **fields}
    return cell


HUGE_KERNEL = {"class": "ConvLSTMCell", "hidden_size": 2, "kernel_size": [40_000_000]}
EDITS = [
    (edit(library_name="transformers"), "is not of a model of jaxrnn"),
    (lambda config: [config], "is not of a model of jaxrnn"),
    (edit(format_version=3), r"has format_version 3; this jaxrnn reads 2\. Is jaxrnn too old\?"),
    (edit(format_version=1), r"has format_version 1; this jaxrnn reads 2\. Is jaxrnn too new\?"),
    (edit(format_version=True), "has format_version True"),
    (edit(format_version=2.0), r"has format_version 2\.0"),
    (edit(input_sise=3), r"unknown key 'input_sise'\. Did you mean 'input_size'\?"),
    (edit(file="/etc/passwd"), "unknown key 'file'"),
    (without("cell"), "has no 'cell'"),
    (edit(input_size=0), "has input_size '0', expected a size of at least 1"),
    (edit(input_size="3"), "has input_size '3'"),
    (edit(input_size=10**400), "has input_size '1000"),
    (edit(dtype="float31"), "has dtype 'float31', expected one of .*float32"),
    (edit(dtype=["float32"]), "has dtype"),
    (edit(names="../weights"), r"has names '\.\./weights', expected one of jaxrnn, torch"),
    (edit(names="torch"), r"the cell of the configuration cannot be made: torch has no module"),
    (edit(cell=3), "cell must be a cell, got 3"),
    (edit(cell={"class": "Chrono", "max_lag": 9}), r"cell must be a cell, got Chrono\(max_lag=9\)"),
    (edit(cell={"hidden_size": 3}), r"cell has the unknown class 'None'"),
    (edit(cell={"class": ["RNNCell"]}), r"cell has the unknown class"),
    (
        edit_cell(**{"class": "LSTMCel"}),
        r"cell\.cells\[0\] has the unknown class 'LSTMCel'\. Did you mean 'LSTMCell'\?",
    ),
    (edit_cell(**{"class": "os.system"}), r"unknown class 'os\.system'.*classes=\{name: class\}"),
    (edit_cell(**{"class": "Cell"}), r"unknown class 'Cell'"),
    (
        edit_cell(hiden_size=4),
        r"has the key 'hiden_size', which RNNCell has not\. Did you mean 'hidden_size'\?",
    ),
    (edit_cell(__class__="x"), "has the key '__class__', which RNNCell has not"),
    (edit(cell={"class": "RNNCell"}), "cell has no 'hidden_size', which RNNCell needs"),
    (edit_cell(hidden_size="2"), r"cell\.cells\[0\]\.hidden_size is '2', which is no int"),
    (edit_cell(hidden_size=2.0), r"hidden_size is '2\.0'"),
    (edit_cell(hidden_size=True), r"hidden_size is 'True'"),
    (
        edit_cell(hidden_size=-2),
        r"cell\.cells\[0\]: hidden_size must be an integer of at least 1, got -2",
    ),
    (edit_cell(hidden_size=10**9), r"data, \d+ bytes, are too few for this cell"),
    (edit_cell(hidden_size=10**30), r"data, \d+ bytes, are too few for this cell"),
    (edit(input_size=2**31 - 1), "misshapen|too few|cannot be made"),
    (edit_cell(bias="no"), "bias is 'no', which is no bool"),
    (edit_cell(bias=1), "bias is '1', which is no bool"),
    (edit_cell(bias=False), r"the tensors are not those of the cell: unexpected: '0\.b', '1\.b'"),
    (edit_cell(hidden_size=3), r"misshapen: 0\.w_x \(3, 1, 2\), expected \(3, 1, 3\)"),
    (edit(input_size=4), r"misshapen: 0\.w_x \(3, 1, 2\), expected \(4, 1, 2\)"),
    (edit(dtype="bfloat16"), r"the tensor 0\.w_x is float32, expected bfloat16"),
    (
        edit_cell(recurrent_init={"class": "Normal"}),
        "recurrent_init has no 'stddev', which Normal needs",
    ),
    (edit_cell(recurrent_init=[]), "recurrent_init is "),
    (edit_cell(recurrent_init="orthogonel"), "recurrent_init='orthogonel' is no known initializer"),
    (edit(cell=nested(40)), "nested more than 32 deep"),
    (edit(cell=nested(15, bidirectional=True)), "more than 128 cells, both directions counted"),
    (edit(cell={"class": "Stack", "cells": [nested(0)] * 2000}), "more than 128 cells"),
    (edit(cell={"class": "Stack", "cells": [HUGE_KERNEL]}), "kernel_size of more than 4096 pixels"),
    (
        edit(cell={"class": "ConvGRUCell", "hidden_size": 2, "kernel_size": [2**40, 2**40]}),
        "kernel_size of more than 4096 pixels",
    ),
    (edit(cell={"class": "QRNNCell", "hidden_size": 2, "width": 10**9}), "more than 1024 inputs"),
    (
        edit(
            cell={"class": "Block", "cell": {"class": "GRUCell", "hidden_size": 2}, "conv": 10**9}
        ),
        "more than 1024 inputs",
    ),
    (
        edit(
            cell={"class": "LMUCell", "hidden_size": 2, "memory_size": 10**6, "theta": 9.0},
        ),
        "memory_size of more than 4096",
    ),
    (
        edit(
            cell={
                "class": "MultiHead",
                "cell": {"class": "LSTMCell", "hidden_size": 10**6},
                "heads": 10**6,
            }
        ),
        "more than 1024 heads",
    ),
    (
        edit(
            cell={
                "class": "Stack",
                "cells": [
                    {
                        "class": "MultiHead",
                        "cell": {"class": "RNNCell", "hidden_size": 512},
                        "heads": 512,
                    }
                ]
                * 3,
            }
        ),
        "1024 heads",
    ),
    (
        edit(
            cell={
                "class": "Stack",
                "cells": [{"class": "LayerNormLSTMCell", "hidden_size": 9}] * 60,
            }
        ),
        "too few for this cell",
    ),
    (
        edit_cell(recurrent_init={"class": "TorchUniform", "hidden_size": 0}),
        r"hidden_size must be an integer of at least 1, got 0",
    ),
]


@pytest.mark.parametrize("change, message", EDITS, ids=[case[1] for case in EDITS])
def test_a_wrong_configuration_is_refused_with_its_place_and_the_nearest_right_one(
    change, message, model
):
    (model / "config.json").write_text(json.dumps(change(config_of(model))))
    refused(model, message)


TEXTS = [
    (
        lambda t: t.replace('"input_size"', '"dtype": "float32", "input_size"'),
        "has the key 'dtype' twice in one object",
    ),
    (lambda t: t.replace("0.05", "NaN"), "has NaN where a finite number is expected"),
    (lambda t: t.replace("0.05", "-Infinity"), "has -Infinity where a finite number is expected"),
    (lambda t: t.replace("0.05", "1e999"), "has 1e999 where a finite number is expected"),
    (lambda t: t.replace("0.05", "1" * 5000), r"is not JSON: Exceeds the limit|is '1111"),
    (lambda t: t[:-9], "config.json is not JSON"),
    (lambda t: "", "config.json is not JSON"),
    (lambda t: t + "{}", "config.json is not JSON: Extra data"),
    (lambda t: "[" * 200_000, "config.json is nested too deeply"),
    (lambda t: '{"a":' * 100_000, "config.json is nested too deeply"),
    (lambda t: t + " " * 2**21 + "x", "config.json is longer than 1048576 bytes"),
    (lambda t: t.replace('"names"', '"' + "n" * 2**20), "config.json is longer than"),
]


@pytest.mark.parametrize("change, message", TEXTS, ids=[case[1] for case in TEXTS])
def test_a_text_that_is_no_strict_json_is_refused(change, message, model):
    (model / "config.json").write_text(change((model / "config.json").read_text()))
    refused(model, message)


def test_a_text_that_is_no_utf_8_is_refused(model):
    (model / "config.json").write_bytes(b'{"\xff": 1}')
    refused(model, "is not JSON: 'utf-8' codec")


@dataclasses.dataclass(frozen=True)
class MyCell(jaxrnn.RNNCell):
    made: ClassVar[list[int]] = []

    def __post_init__(self):
        self.made.append(self.hidden_size)


def test_a_class_of_the_user_is_made_only_when_passed(tmp_path):
    cell = MyCell(2)
    save_pretrained(tmp_path, cell, cell.init(jax.random.key(0), 3), 3)
    MyCell.made.clear()
    refused(tmp_path, r"cell has the unknown class 'MyCell'.*classes=\{name: class\}")
    assert not MyCell.made
    found, _ = from_pretrained(tmp_path, classes={"MyCell": MyCell})
    assert found == cell and MyCell.made == [2]
    with pytest.raises(
        ValueError, match="classes has GRUCell, which is the name of a class of jaxrnn"
    ):
        from_pretrained(tmp_path, classes={"GRUCell": MyCell})
    with pytest.raises(
        TypeError, match="classes must map names to frozen dataclasses, got MyCell="
    ):
        from_pretrained(tmp_path, classes={"MyCell": cell})


# --- model.safetensors ----------------------------------------------------------------------------


def change_tensor(**changes):
    def change(content):
        header, data = split(content)
        header["0.w_x"] |= changes
        return joined(header, data)

    return change


def rename(content):
    header, data = split(content)
    header["evil"] = header.pop("0.w_x")
    return joined(header, data)


def overlap(content):
    header, data = split(content)
    header["1.w_x"]["data_offsets"] = header["0.w_x"]["data_offsets"]
    return joined(header, data)


def twice(content):
    header, data = split(content)
    return joined(json.dumps(header).replace('"0.w_x":', '"0.b":').encode(), data)


def gap(content):
    header, data = split(content)
    last = max(
        (e for n, e in header.items() if n != "__metadata__"), key=lambda e: e["data_offsets"]
    )
    last["data_offsets"] = [n + 4 for n in last["data_offsets"]]
    return joined(header, data + b"abcd")


def metadata(value):
    def change(content):
        header, data = split(content)
        return joined(header | {"__metadata__": value}, data)

    return change


CONTENTS = [
    (lambda c: b"", "no safetensors file, or truncated: 0 bytes"),
    (lambda c: c[:5], "no safetensors file, or truncated: 5 bytes"),
    (lambda c: b"\x80\x04\x95" + c, "no safetensors file"),
    (lambda c: b"PK\x03\x04" + c[4:], "no safetensors file, or truncated"),
    (lambda c: struct.pack("<Q", 2**63) + c[8:], "no safetensors file, or truncated"),
    (lambda c: struct.pack("<Q", len(c)) + c[8:], "no safetensors file, or truncated"),
    (lambda c: struct.pack("<Q", 0) + c[8:], "no safetensors file, or truncated"),
    (lambda c: c[:8] + b" " + c[9:], "its header does not begin with a brace"),
    (lambda c: c[:-1], "truncated, or too long"),
    (lambda c: c + b"x", "truncated, or too long"),
    (lambda c: joined(b"{" + b"[" * 200_000, b""), "is not JSON"),
    (lambda c: joined(b'{"a":' + b"[" * 200_000, b""), "nested too deeply"),
    (twice, r"has the key '0\.b' twice in one object"),
    (overlap, "overlaps the one before it"),
    (gap, "leaves a gap before it"),
    (rename, r"missing: 0\.w_x; unexpected: 'evil'"),
    (metadata(3), "no map of strings to strings"),
    (metadata({"a": {}}), "no map of strings to strings"),
    (change_tensor(dtype="F31"), "has dtype 'F31', expected one of"),
    (change_tensor(dtype=["F32"]), "has dtype"),
    (change_tensor(dtype="I32"), r"the tensor 0\.w_x is int32, expected float32"),
    (
        change_tensor(dtype="F64"),
        r"of shape \(3, 1, 2\) and dtype float64 has offsets .*another size",
    ),
    (change_tensor(shape=[3, 2, 1]), r"misshapen: 0\.w_x \(3, 2, 1\), expected \(3, 1, 2\)"),
    (change_tensor(shape=[-3, 1, -2]), "a shape or offsets that are no lists of sizes"),
    (change_tensor(shape=[3.0, 1, 2]), "a shape or offsets that are no lists of sizes"),
    (change_tensor(shape=[1] * 4000 + [3, 2]), "a shape or offsets that are no lists of sizes"),
    (change_tensor(shape=[2**62, 2**62]), "another size"),
    (change_tensor(shape=[2**64, 0]), "a shape or offsets that are no lists of sizes"),
    (change_tensor(shape=[10**9, 4], data_offsets=[0, 16 * 10**9]), "overlaps|truncated"),
    (change_tensor(data_offsets=[24, 0]), "another size"),
    (change_tensor(data_offsets=[0, 24, 48]), "a shape or offsets that are no lists of sizes"),
    (
        change_tensor(file="/etc/passwd"),
        "must have dtype, shape and data_offsets, and nothing else",
    ),
]


@pytest.mark.parametrize(
    "change, message", CONTENTS, ids=[f"{n}-{case[1]}" for n, case in enumerate(CONTENTS)]
)
def test_a_wrong_tensor_file_is_refused(change, message, model):
    (model / "model.safetensors").write_bytes(change((model / "model.safetensors").read_bytes()))
    refused(model, message)


def test_a_declared_size_is_compared_before_memory_is_taken(tmp_path):
    cell, size = jaxrnn.RNNCell(2), 20_000
    save_pretrained(tmp_path, cell, cell.init(jax.random.key(0), 3), 3)
    config, (_, data) = config_of(tmp_path), split((tmp_path / "model.safetensors").read_bytes())
    config["cell"]["hidden_size"] = size
    header, begin = {}, 0
    for name, shape in {"b": [1, size], "w_h": [size, 1, size], "w_x": [3, 1, size]}.items():
        end = begin + 4 * int(np.prod(shape))
        header[name], begin = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}, end
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(joined(header, data))
    tracemalloc.start()
    refused(tmp_path, r"the tensors need 1600320000 bytes of data, the file has 48: truncated")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_and_cut_bytes_are_refused_or_change_nothing_but_the_numbers(
    saved, tmp_path_factory, data
):
    folder = tmp_path_factory.mktemp("flipped")
    for name, content in saved.items():
        (folder / name).write_bytes(content)
    name = data.draw(st.sampled_from(["config.json", "model.safetensors"]))
    content = bytearray(saved[name])
    header = (
        8 + struct.unpack("<Q", saved["model.safetensors"][:8])[0]
        if name != "config.json"
        else len(content)
    )
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content)] * 3 + list(range(len(content)))))]
    (folder / name).write_bytes(content)
    try:
        cell, params = from_pretrained(folder)
    except FileFormatError:
        return
    assert len(content) == len(saved[name])
    if cell == CELL:
        assert jax.tree.structure(params) == jax.tree.structure(PARAMS)
        assert sorted(np.asarray(a).tobytes() for a in jax.tree.leaves(params)) == sorted(
            np.asarray(a).tobytes() for a in jax.tree.leaves(PARAMS)
        )  # two names of one shape may have been exchanged
    else:  # another value of an option, such as a probability: it fits the same tensors
        assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, PARAMS)


# --- the folder -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_link_that_leaves_the_folder_is_refused(name, model, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / name
    os.rename(model / name, outside)
    (model / name).symlink_to(outside)
    refused(model, f"{name} is a link to .*outside of its folder")


def test_a_link_within_the_folder_and_a_link_to_the_folder_are_followed(model, tmp_path_factory):
    os.rename(model / "model.safetensors", model / "blob")
    (model / "model.safetensors").symlink_to("blob")
    link = tmp_path_factory.mktemp("links") / "model"
    link.symlink_to(model)
    assert from_pretrained(link)[0] == CELL


def test_what_is_no_regular_file_is_refused_and_not_waited_for(model):
    (model / "model.safetensors").unlink()
    os.mkfifo(model / "model.safetensors")
    refused(model, "model.safetensors in .* is no regular file")
    (model / "config.json").unlink()
    (model / "config.json").mkdir()
    refused(model, "config.json in .* is no regular file")


def test_only_dataclasses_of_the_library_are_on_the_list():
    for name, kind in cell_config.CLASSES.items():
        assert (
            kind.__module__.startswith("jaxrnn.")
            and dataclasses.is_dataclass(kind)
            and kind.__name__ == name
        )
