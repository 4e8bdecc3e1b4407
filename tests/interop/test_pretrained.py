"""Folders of saved models: every bit comes back, torch reads them,
and saving replaces all or nothing.
"""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from oracles import EVERY, parameters
from parity import torch_installed

import jaxrnn
from jaxrnn.cells import LSTMPCell, RNNParams
from jaxrnn.interop import cell_config, from_pretrained, save_pretrained
from jaxrnn.wrappers import Residual

pytestmark = pytest.mark.usefixtures("quick_compilation")
live = pytest.mark.skipif(not torch_installed(), reason="needs torch: pip install 'jaxrnn[parity]'")
FILES = {"config.json", "model.safetensors", "README.md"}
LSTM = jaxrnn.LSTMCell(4)


def random_bits(cell, dtype, size=3, seed=0):
    """Parameters of every kind of number: infinite, subnormal,
    -0.0 and NaN with any payload among them.
    """
    random, dtype = np.random.default_rng(seed), jnp.dtype(dtype)
    shapes = jax.eval_shape(lambda key: cell.init(key, size), jax.random.key(0))
    return jax.tree.map(
        lambda a: np.frombuffer(random.bytes(a.size * dtype.itemsize), dtype).reshape(a.shape),
        shapes,
    )


def drawn(cell, dtype=jnp.float32, size=3):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), parameters(cell, size))


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert isinstance(a, jax.Array) and a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def files(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


def blocks(folder):
    """The code of the model card."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


# --- what is saved comes back ---------------------------------------------------------------------


@pytest.mark.parametrize("cell", [case[1] for case in EVERY], ids=[case[0] for case in EVERY])
def test_every_cell_comes_back_equal_with_every_bit(cell, tmp_path):
    params = drawn(cell)
    save_pretrained(tmp_path / "model", cell, params, 3)
    own = {c.__name__: c for c in cell_config.outside(cell)}
    same, loaded = from_pretrained(tmp_path / "model", classes=own)
    assert same == cell and hash(same) == hash(cell)
    assert_same_bits(loaded, params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_every_bit_of_every_dtype_comes_back(dtype, tmp_path):
    cell = jaxrnn.Stack((LSTM, jaxrnn.LSTMCell(5, bias=False)), bidirectional=True)
    with jax.enable_x64(dtype == "float64"):
        params = random_bits(cell, dtype)
        save_pretrained(tmp_path, cell, params, 3)
        assert_same_bits(from_pretrained(tmp_path)[1], params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "cell",
    [
        LSTM,
        jaxrnn.GRUCell(4),
        jaxrnn.Stack((LSTMPCell(4, 2),) * 2, bidirectional=True),
    ],
)
def test_torch_names_lose_no_bit_of_a_number(cell, dtype, tmp_path):
    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(
            lambda a: jnp.where(a < 0.1, jnp.asarray(-0.0, a.dtype), a), drawn(cell, dtype)
        )
        save_pretrained(tmp_path, cell, params, 3, names="torch")
        assert_same_bits(from_pretrained(tmp_path)[1], params)


def test_64_bits_are_not_cut_to_32(tmp_path):
    with jax.enable_x64(True):
        save_pretrained(tmp_path, LSTM, drawn(LSTM, "float64"), 3)
    with pytest.raises(
        ValueError, match=r"is float64: call jax\.config\.update\('jax_enable_x64', True\) first"
    ):
        from_pretrained(tmp_path)


class OddParams(NamedTuple):
    table: dict[str, Any]
    none: None
    order: Any  # [H], int32
    used: Any  # [H], bool
    w: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Odd(jaxrnn.Cell):
    """A user's cell: integers, booleans, None, dicts and tuples in its parameters,
    and all kinds of values in its fields.
    """

    hidden_size: int
    initial: Any = 1.0
    sizes: tuple[int, ...] = ()
    note: str | None = None

    def init(self, key, input_size, dtype=jnp.float32):
        row = jnp.zeros(self.hidden_size, dtype)
        order, used = (
            jnp.arange(self.hidden_size, dtype=jnp.int32),
            jnp.ones(self.hidden_size, jnp.bool_),
        )
        return OddParams(
            {"a": row, "b": row[:0]}, None, order, used, (row[0], jnp.zeros((input_size, 2), dtype))
        )


ODD = Odd(4, jaxrnn.initializers.Normal(0.3), (1, 2), "é \u2028 \"quoted\" 'twice'")


def odd_params():
    row = jnp.arange(4, dtype=jnp.bfloat16) - 1.5
    used = jnp.array([True, False, True, True])
    w = (jnp.float32(3.25), jnp.arange(6, dtype=jnp.float32).reshape(3, 2))
    return OddParams({"a": row, "b": row[:0]}, None, jnp.array([3, 1, 0, 2], jnp.int32), used, w)


def test_a_users_cell_comes_back_with_leaves_of_several_dtypes(tmp_path):
    save_pretrained(tmp_path, Residual(ODD), odd_params(), 3)
    cell, params = from_pretrained(tmp_path, classes={"Odd": Odd})
    assert cell == Residual(ODD)
    assert_same_bits(params, odd_params())
    names = {"table.a", "table.b", "order", "used", "w.0", "w.1"}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "mixed"
    with contextlib.closing(open(tmp_path / "model.safetensors", "rb")) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        assert set(json.loads(file.read(length))) == names | {"__metadata__"}


def test_arrays_that_are_not_contiguous_are_written_right(tmp_path):
    params = jax.tree.map(lambda a: np.asarray(a).T.copy().T, drawn(LSTM))
    assert not params.w_h.flags.c_contiguous
    save_pretrained(tmp_path, LSTM, params, 3)
    found = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert found.keys() == {"w_x", "w_h", "b"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, getattr(params, name), strict=True)


def test_equal_models_give_equal_bytes(tmp_path):
    cell = jaxrnn.Stack((LSTM, jaxrnn.GRUCell(2)))
    for name in "ab":
        save_pretrained(tmp_path / name, cell, drawn(cell), 3)
    assert files(tmp_path / "a") == files(tmp_path / "b") and files(tmp_path / "a").keys() == FILES


def test_a_folder_written_by_hand_is_read(tmp_path):
    w_x, w_h, b = (
        np.random.default_rng(0).normal(size=s).astype("<f4") for s in ((2, 1, 3), (3, 1, 3), (3,))
    )
    entries, data = {}, b""
    for name, array in (("b", b), ("w_x", w_x), ("w_h", w_h)):
        offsets = [len(data), len(data) + array.nbytes]
        entries[name], data = (
            {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets},
            data + array.tobytes(),
        )
    header = json.dumps(entries).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    # later fields have their defaults
    cell = {"class": "RNNCell", "hidden_size": 3, "nonlinearity": "relu"}
    rest = {
        "library_name": "jaxrnn",
        "format_version": 2,
        "input_size": 2,
        "dtype": "float32",
        "names": "jaxrnn",
    }
    (tmp_path / "config.json").write_text(json.dumps(rest | {"cell": cell}))
    found, params = from_pretrained(tmp_path)
    assert found == jaxrnn.RNNCell(3, "relu")
    assert_same_bits(params, RNNParams(*map(jnp.asarray, (w_x, w_h, b))))


def test_every_public_dataclass_can_be_saved():
    modules = (jaxrnn, jaxrnn.cells, jaxrnn.wrappers, jaxrnn.initializers)
    public = [c for m in modules for c in vars(m).values() if isinstance(c, type)]
    names = {c.__name__ for c in public if dataclasses.is_dataclass(c)}
    assert (
        names <= set(cell_config.CLASSES)
        and {"Stack", "Chrono", "Normal", "Zoneout", "LSTMCell"} <= names
    )


# --- the model card, and torch --------------------------------------------------------------------


def test_the_code_of_the_card_runs_and_gives_the_model(tmp_path, monkeypatch):
    cell, params, xs = Residual(ODD), odd_params(), jnp.ones((5, 3))
    save_pretrained(tmp_path, cell, params, 3, license="apache-2.0")
    assert 'classes={"Odd": Odd}' in blocks(tmp_path)[0]
    front = (tmp_path / "README.md").read_text().split("---\n")[1]
    assert "library_name: jaxrnn\n" in front and 'license: "apache-2.0"\n' in front
    save_pretrained(tmp_path, LSTM, drawn(LSTM), 3, overwrite=True)
    assert "license" not in (tmp_path / "README.md").read_text().split("---\n")[1]
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(tmp_path)
    exec(code, found := {"xs": xs})
    np.testing.assert_array_equal(found["ys"], jaxrnn.unroll(LSTM, drawn(LSTM), xs)[1])


TORCH = [
    jaxrnn.LSTMCell(4),
    jaxrnn.RNNCell(4, "relu", bias=False),
    jaxrnn.Stack((jaxrnn.RNNCell(4),) * 2),
    jaxrnn.Stack((jaxrnn.LSTMCell(4),) * 3, bidirectional=True),
    jaxrnn.Stack((LSTMPCell(4, 2, bias=False),) * 2, bidirectional=True),
    jaxrnn.Stack((jaxrnn.GRUCell(4),) * 2, bidirectional=True, dropout=0.5),
]


@live
@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("cell", TORCH, ids=range(len(TORCH)))
def test_torch_computes_the_same_from_the_file_by_the_code_of_the_card(cell, tmp_path, monkeypatch):
    import torch

    with jax.enable_x64(True):
        params, xs = drawn(cell, "float64"), np.random.default_rng(1).normal(size=(5, 2, 3))
        save_pretrained(tmp_path, cell, params, 3, names="torch")
        _, ys = jaxrnn.unroll(cell, params, jnp.asarray(xs))
    monkeypatch.chdir(tmp_path)
    exec(blocks(tmp_path)[1].replace("module.load", "module.double().load"), found := {})
    theirs = found["module"].eval()(torch.tensor(xs))[0].detach().numpy()
    np.testing.assert_allclose(ys, theirs, rtol=0, atol=1e-12)


@live
@pytest.mark.parity
def test_torch_reads_bfloat16_as_bfloat16(tmp_path):
    import safetensors.torch
    import torch

    params = drawn(LSTM, jnp.bfloat16)
    save_pretrained(tmp_path, LSTM, params, 3, names="torch")
    found = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert {t.dtype for t in found.values()} == {torch.bfloat16}
    np.testing.assert_array_equal(
        found["weight_hh_l0"].float().numpy(), np.asarray(params.w_h, np.float32).reshape(4, 16).T
    )


# --- what cannot be saved -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Clash(jaxrnn.RNNCell):
    pass


@dataclasses.dataclass(frozen=True)
class NaNCell(jaxrnn.RNNCell):
    threshold: float = float("nan")


Clash.__name__ = "LSTMCell"
UNSAVABLE = [
    (
        jaxrnn.LSTMCell(4, recurrent_init=jax.nn.initializers.normal()),
        TypeError,
        r"LSTMCell\.recurrent_init is <function",
    ),
    (
        jaxrnn.Stack((NaNCell(4),)),
        ValueError,
        r"Stack\.cells\[0\]\.threshold is nan",
    ),
    (Clash(4), ValueError, "has the name of another class"),
    (dataclasses.replace(ODD, initial=LSTM.init), TypeError, r"Odd\.initial is <bound method"),
    (dataclasses.replace(ODD, sizes=(1, "two")), ValueError, r"sizes is .* which is no tuple\[int"),
]


@pytest.mark.parametrize("cell, error, message", UNSAVABLE, ids=[case[2] for case in UNSAVABLE])
def test_a_cell_that_a_file_cannot_hold_is_refused_before_anything_is_written(
    cell, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        save_pretrained(tmp_path / "model", cell, cell.init(jax.random.key(0), 3), 3)
    assert not list(tmp_path.iterdir())


def test_parameters_that_do_not_fit_are_refused(tmp_path):
    params = drawn(LSTM)
    with pytest.raises(
        ValueError, match=r"input_size=5: misshapen: w_x \(3, 4, 4\), expected \(5, 4, 4\)"
    ):
        save_pretrained(tmp_path, LSTM, params, 5)
    with pytest.raises(
        ValueError, match=r"missing: 0\.w_x, 0\.w_h, 0\.b; unexpected: 'w_x', 'w_h', 'b'"
    ):
        save_pretrained(tmp_path, jaxrnn.Stack((LSTM,)), params, 3)
    other = NamedTuple("Other", [(name, Any) for name in params._fields])
    with pytest.raises(ValueError, match="their structure is"):
        save_pretrained(tmp_path, LSTM, other(*params), 3)
    with pytest.raises(
        TypeError, match=r"b is key<fry>, which a file cannot hold.*jax\.random\.key_data"
    ):
        save_pretrained(
            tmp_path, LSTM, params._replace(b=jax.random.split(jax.random.key(0), 16)), 3
        )
    with pytest.raises(TypeError, match="b has dtype complex128"):
        save_pretrained(tmp_path, LSTM, params._replace(b=np.zeros(16, np.complex128)), 3)
    with pytest.raises(TypeError, match="b has dtype int32, expected floating point"):
        save_pretrained(tmp_path, LSTM, params._replace(b=np.ones(16, np.int32)), 3)
    with pytest.raises(ValueError, match="names must be one of"):
        save_pretrained(tmp_path, LSTM, params, 3, names="keras")
    with pytest.raises(
        ValueError, match="torch's names need floating-point parameters of one dtype"
    ):
        save_pretrained(
            tmp_path, LSTM, params._replace(b=params.b.astype(jnp.bfloat16)), 3, names="torch"
        )
    with pytest.raises(ValueError, match="torch has no module of these cells"):
        save_pretrained(tmp_path, Residual(LSTM), params, 3, names="torch")
    assert not files(tmp_path)


def test_without_safetensors_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    save_pretrained(tmp_path / "model", LSTM, drawn(LSTM), 3)
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'jaxrnn\[files\]'"):
        from_pretrained(tmp_path / "model")
    with pytest.raises(ImportError, match=r"pip install 'jaxrnn\[files\]'"):
        save_pretrained(tmp_path / "other", LSTM, drawn(LSTM), 3)
    assert not (tmp_path / "other").exists()


# --- all or nothing -------------------------------------------------------------------------------


def test_only_a_saved_model_is_overwritten_and_only_when_asked(tmp_path):
    save_pretrained(tmp_path / "model", LSTM, drawn(LSTM), 3)
    before = files(tmp_path / "model")
    other = jaxrnn.GRUCell(2)
    with pytest.raises(FileExistsError, match=r"is not empty.*Pass overwrite=True"):
        save_pretrained(tmp_path / "model", other, drawn(other), 3)
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(
        FileExistsError, match=r"holds other files, which would be lost: notes\.txt"
    ):
        save_pretrained(tmp_path / "model", other, drawn(other), 3, overwrite=True)
    assert files(tmp_path / "model") == before | {"notes.txt": b"mine"}
    (tmp_path / "model" / "notes.txt").unlink()
    save_pretrained(tmp_path / "model", other, drawn(other), 3, overwrite=True)
    assert from_pretrained(tmp_path / "model")[0] == other
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(
    "function, call", [("fsync", n) for n in range(4)] + [("rename", 0), ("rename", 1)]
)
def test_a_full_disk_leaves_the_old_model_and_nothing_else(function, call, tmp_path, monkeypatch):
    save_pretrained(tmp_path / "model", LSTM, drawn(LSTM), 3)
    before, own, calls = files(tmp_path / "model"), getattr(os, function), []

    def fails(*args, **kwargs):
        calls.append(args)
        if len(calls) == call + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return own(*args, **kwargs)

    monkeypatch.setattr(os, function, fails)
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(
            tmp_path / "model", jaxrnn.GRUCell(2), drawn(jaxrnn.GRUCell(2)), 3, overwrite=True
        )
    assert len(calls) > call
    assert files(tmp_path / "model") == before
    assert os.listdir(tmp_path) == ["model"]


def test_a_file_that_comes_to_the_folder_during_the_save_is_not_lost(tmp_path, monkeypatch):
    save_pretrained(tmp_path / "model", LSTM, drawn(LSTM), 3)
    before, own = files(tmp_path / "model"), os.fsync

    def fsync(descriptor):
        (tmp_path / "model" / "notes.txt").write_text("mine")
        own(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(
        FileExistsError, match=r"holds other files, which would be lost: notes\.txt"
    ):
        save_pretrained(tmp_path / "model", LSTM, drawn(LSTM, jnp.float16), 3, overwrite=True)
    assert files(tmp_path / "model") == before | {"notes.txt": b"mine"}
    assert os.listdir(tmp_path) == ["model"]


def test_a_file_that_comes_to_the_old_folder_after_the_renames_is_kept_and_told(
    tmp_path, monkeypatch
):
    save_pretrained(tmp_path / "model", LSTM, drawn(LSTM), 3)
    own = os.rename

    def rename(source, target):
        own(source, target)
        if pathlib.Path(source).name.endswith(".new"):
            (old,) = tmp_path.glob(".model.*.old")
            (old / "notes.txt").write_text("mine")

    monkeypatch.setattr(os, "rename", rename)
    with pytest.warns(
        UserWarning, match="the model is saved, and the old one was not removed whole"
    ):
        save_pretrained(tmp_path / "model", LSTM, drawn(LSTM, jnp.float16), 3, overwrite=True)
    (old,) = tmp_path.glob(".model.*.old")
    assert files(old) == {"notes.txt": b"mine"}
    assert_same_bits(from_pretrained(tmp_path / "model")[1], drawn(LSTM, jnp.float16))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_private_folder_stays_private(overwrite, tmp_path):
    (tmp_path / "model").mkdir()
    if overwrite:
        save_pretrained(tmp_path / "model", LSTM, drawn(LSTM), 3)
    (tmp_path / "model").chmod(0o700)
    save_pretrained(tmp_path / "model", LSTM, drawn(LSTM), 3, overwrite=overwrite)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o700


def test_an_empty_working_directory_stays_and_a_full_one_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    save_pretrained(".", LSTM, drawn(LSTM), 3)
    assert set(os.listdir(".")) == FILES and os.path.samefile(".", tmp_path / "model")
    with pytest.raises(
        FileExistsError, match=r"is the working directory or a mount point.*Pass another folder"
    ):
        save_pretrained(".", LSTM, drawn(LSTM), 3, overwrite=True)
    assert set(os.listdir(".")) == FILES and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("call", range(3))
def test_an_empty_folder_is_empty_again_when_a_save_fails(call, tmp_path, monkeypatch):
    own, calls = os.rename, []

    def fails(*args):
        calls.append(args)
        if len(calls) == call + 1:
            raise OSError(errno.EIO, "Input/output error")
        own(*args)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="Input/output error"):
        save_pretrained(tmp_path, LSTM, drawn(LSTM), 3)
    assert len(calls) == call + 1 and not os.listdir(tmp_path)


KILLED = """
import os, sys, jax, jaxrnn
os.{function} = lambda *args: os._exit(9)
cell = jaxrnn.GRUCell(2)
params = cell.init(jax.random.key(0), 3)
jaxrnn.interop.save_pretrained(sys.argv[1], cell, params, 3, overwrite=True)
"""


@pytest.mark.parametrize("function", ["fsync", "rename"])
def test_a_killed_process_leaves_the_old_model(function, tmp_path):
    save_pretrained(tmp_path / "model", LSTM, drawn(LSTM), 3)
    before, root = files(tmp_path / "model"), pathlib.Path(jaxrnn.__file__).parent.parent
    command = [sys.executable, "-c", KILLED.format(function=function), str(tmp_path / "model")]
    assert subprocess.run(command, cwd=root, check=False).returncode == 9
    assert files(tmp_path / "model") == before
    assert_same_bits(from_pretrained(tmp_path / "model")[1], drawn(LSTM))


def test_a_missing_folder_or_file_is_told_by_name(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"there is no config\.json .* A model on a hub is downloaded first"
    ):
        from_pretrained(tmp_path / "someone" / "model")
    save_pretrained(tmp_path, LSTM, drawn(LSTM), 3)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no model\.safetensors in the folder"):
        from_pretrained(tmp_path)
