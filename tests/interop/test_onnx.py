"""Models of ONNX: run by onnxruntime against `unroll`, read back, and what is refused."""

import functools
import http.server
import io
import json
import re
import shutil
import subprocess
import threading
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import slow
from flax import nnx
from oracles import EVERY
from places import ROOT

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import cells, wrappers
from jaxrnn.interop import ConversionError, FileFormatError, from_onnx, to_onnx

pytestmark = pytest.mark.usefixtures("standard_promotion")
T, B, INPUTS, H = 7, 5, 3, 4
LENGTHS = np.array([7, 0, 3, 1, 7], np.int32)
XS = np.random.default_rng(1).normal(size=(T, B, INPUTS)).astype(np.float32)
NATIVE = {
    "rnn": jaxrnn.RNNCell(H),
    "rnn_relu": jaxrnn.RNNCell(H, "relu"),
    "rnn_elu": jaxrnn.RNNCell(H, "elu"),
    "lstm": jaxrnn.LSTMCell(H),
    "lstm_no_bias": jaxrnn.LSTMCell(H, bias=False),
    "lstm_hard": jaxrnn.LSTMCell(H, recurrent_activation="hard_sigmoid", activation="softplus"),
    "gru": jaxrnn.GRUCell(H),
    "gru_linear": jaxrnn.GRUCell(H, activation="linear"),
    "gru_before": cells.GRUResetBeforeCell(H),
    "peephole": cells.PeepholeLSTMCell(H),
    "cifg": cells.CIFGCell(H),
    "mgu_after": cells.MGUResetAfterCell(H),
    "indrnn": cells.IndRNNCell(H),
    "stack": jaxrnn.Stack((jaxrnn.LSTMCell(H), jaxrnn.GRUCell(5), jaxrnn.RNNCell(3))),
    "both": jaxrnn.Stack((jaxrnn.GRUCell(H), jaxrnn.GRUCell(5)), bidirectional=True),
    "sum": jaxrnn.Stack((jaxrnn.LSTMCell(H),), bidirectional=True, merge="sum"),
    "mean": jaxrnn.Stack((jaxrnn.LSTMCell(H), cells.LEMCell(H)), bidirectional=True, merge="mean"),
    "cifg_hard": cells.CIFGCell(H, recurrent_activation="hard_sigmoid"),
    "two_kinds": wrappers.Bidirectional(jaxrnn.RNNCell(H), jaxrnn.RNNCell(H, "relu")),
    "two_cells": wrappers.Bidirectional(jaxrnn.LSTMCell(H), jaxrnn.GRUCell(5)),
    "mul": jaxrnn.Stack((cells.MinGRUCell(H),), bidirectional=True, merge="mul"),
}
VECTORS = {case[0]: case[1] for case in EVERY if case[1].feature_axes == 1}
QUICK = {"lem", "mlstm", "s5"}


def made(cell, dtype=np.float32, inputs=INPUTS):
    """Parameters as they begin, with noise on all of them, biases too."""
    rng = np.random.default_rng(0)
    params = cell.init(jax.random.key(0), inputs, dtype)
    return jax.tree.map(lambda a: a + 0.1 * jnp.asarray(rng.normal(size=a.shape), a.dtype), params)


def session(data):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(data, **inputs):
    return session(data).run(None, inputs)


def names_of(data):
    ready = session(data)
    return [i.name for i in ready.get_inputs()], [o.name for o in ready.get_outputs()]


def close(got, want, tolerance=1e-5):
    want = jax.tree.leaves(want)
    for a, b in zip(got, want, strict=True):
        b = np.asarray(b)
        np.testing.assert_allclose(a, b, atol=tolerance * (1 + np.abs(b).max(initial=0)), rtol=0)


def unrolled(cell, params, xs=XS, carry=None, **options):
    """(ys, carry)."""
    carry, ys = jaxrnn.unroll(cell, params, jnp.asarray(xs), carry, **options)
    return ys, carry


# --- written --------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True], ids=["first", "given"])
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("name", NATIVE)
def test_onnxruntime_gives_the_numbers_of_unroll(name, ragged, begun):
    cell = NATIVE[name]
    params = made(cell)
    data = to_onnx(cell, params, lengths=ragged, initial_state=begun)
    inputs, _ = names_of(data)
    carry = jaxrnn.initial_carry(cell, params, (B,))
    given = {"x": XS}
    if begun:
        rng = np.random.default_rng(2)
        carry = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), carry)
        states = [n for n in inputs if n.startswith("initial_")]
        given |= dict(zip(states, jax.tree.leaves(carry), strict=True))
    mask = None
    if ragged:
        given["lengths"] = LENGTHS
        mask = jaxrnn.lengths_to_mask(LENGTHS, T)
    assert sorted(given) == sorted(inputs)
    close(run(data, **given), unrolled(cell, params, carry=carry, mask=mask))


@pytest.mark.parametrize("name", slow.some(VECTORS, QUICK.__contains__, "one of many cells"))
def test_any_cell_of_vectors_goes_with_lengths_and_step_by_step(name):
    cell = VECTORS[name]
    params = made(cell)
    mask = jaxrnn.lengths_to_mask(LENGTHS, T)
    found = run(to_onnx(cell, params, lengths=True), x=XS, lengths=LENGTHS)
    close(found, unrolled(cell, params, mask=mask))
    if not cell.causal:
        return
    data = to_onnx(cell, params, step=True)
    carry = jaxrnn.initial_carry(cell, params, (B,))
    ready = session(data)
    names = [i.name for i in ready.get_inputs()]
    for x in XS[:3]:
        state = map(np.asarray, jax.tree.leaves(carry))
        got = ready.run(None, dict(zip(names, [x, *state], strict=True)))
        carry, y = cell(params, carry, x)
        close(got, (y, carry))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12), ("float16", 5e-3)]
)
@pytest.mark.parametrize(
    "cell", [NATIVE["gru"], NATIVE["stack"], cells.LEMCell(H)], ids=["gru", "stack", "lem"]
)
def test_each_dtype(cell, dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        params = made(cell, np.float64 if dtype == "float64" else np.float32)
        data = to_onnx(cell, params, dtype=dtype)
        xs = XS.astype(dtype)
        got = run(data, x=xs)
        assert {a.dtype for a in got} == {np.dtype(dtype)}
        wide = xs.astype(np.float64 if dtype == "float64" else np.float32)
        close(got, unrolled(cell, params, wide), tolerance)
        small = len(to_onnx(jaxrnn.GRUCell(64), made(jaxrnn.GRUCell(64)), dtype="float16"))
        assert small < 0.6 * len(to_onnx(jaxrnn.GRUCell(64), made(jaxrnn.GRUCell(64))))


def test_steps_and_sequences_are_of_any_number():
    for cell in (NATIVE["both"], cells.LEMCell(H)):
        params = made(cell)
        ready = session(to_onnx(cell, params))
        for shape in [(1, 1), (3, 9), (50, 2)]:
            xs = np.random.default_rng(3).normal(size=(*shape, INPUTS)).astype(np.float32)
            close(ready.run(None, {"x": xs}), unrolled(cell, params, xs))


@pytest.mark.parametrize("layout", [False, True])
def test_modules_go_with_their_layout_and_direction(layout):
    cell = jaxrnn.LSTMCell(H)
    options = dict(batch_first=layout, reverse=True)
    of_nnx = jaxrnn.nnx.Recurrent(cell, INPUTS, rngs=nnx.Rngs(0), **options)
    of_linen = jaxrnn.linen.Recurrent(cell, INPUTS, **options)
    variables = of_linen.load(of_nnx.params)
    xs = XS.swapaxes(0, 1) if layout else XS
    want = of_nnx(xs)
    for given in [(of_nnx,), (of_linen, variables)]:
        close(run(to_onnx(*given), x=xs), want)
    torch_like = jaxrnn.nnx.GRU(
        INPUTS, H, 2, bidirectional=True, batch_first=layout, rngs=nnx.Rngs(0)
    )
    close(run(to_onnx(torch_like), x=xs)[:1], torch_like(xs)[:1])


def test_a_head_names_and_a_file(tmp_path):
    cell = jaxrnn.GRUCell(H)
    params = made(cell)
    kernel, bias = np.ones((H, 2), np.float32), np.array([1.0, -1.0], np.float32)
    path = tmp_path / "model.onnx"
    names = {"x": "audio", "y": "voice", "final_h": "after"}
    data = to_onnx(cell, params, path, head=(kernel, bias), names=names)
    assert path.read_bytes() == data and names_of(data) == (["audio"], ["voice", "after"])
    ys, carry = unrolled(cell, params)
    close(run(data, audio=XS), (ys @ kernel + bias, carry))
    assert to_onnx(cell, params, head=(kernel, bias), names=names) == data


def test_closed_loops_and_attention_go_with_their_masks():
    attending = wrappers.AttentionInput(jaxrnn.GRUCell(H), memory_size=2, slots=3)
    loop = wrappers.Feedback(jaxrnn.GRUCell(H), output_size=2)
    for cell in (attending, loop):
        params = made(cell)
        data = to_onnx(cell, params, initial_state=True)
        carry = jaxrnn.initial_carry(cell, params, (B,))
        if cell is attending:
            memory = np.random.default_rng(4).normal(size=(B, 3, 2)).astype(np.float32)
            carry = cell.attend(params, jnp.asarray(memory), jnp.arange(3) < jnp.arange(B)[:, None])
        inputs, _ = names_of(data)
        states = map(np.asarray, jax.tree.leaves(carry))
        given = dict(zip(inputs, [XS, *states], strict=True))
        close(run(data, **given), unrolled(cell, params, carry=carry))


def test_small_numbers_keep_their_digits():
    cell = jaxrnn.RNNCell(H, lambda a: jnp.expm1(1e-6 * a) + jnp.log1p(1e-6 * a))
    params = made(cell)
    got = run(to_onnx(cell, params, step=True), x=XS[0], initial_h=np.zeros((B, H), np.float32))
    _, y = cell(params, jaxrnn.initial_carry(cell, params, (B,)), XS[0])
    np.testing.assert_allclose(got[0], y, rtol=1e-5)


def test_wrappers_are_as_they_are_without_noise():
    cell = jaxrnn.Stack(
        (
            wrappers.Zoneout(jaxrnn.LSTMCell(H), 0.1),
            wrappers.Residual(jaxrnn.GRUCell(H)),
            wrappers.DropConnect(jaxrnn.RNNCell(H), 0.2),
            wrappers.LearnedInitialCarry(jaxrnn.GRUCell(H)),
        ),
        dropout=0.5,
    )
    params = made(cell)
    close(run(to_onnx(cell, params), x=XS), unrolled(cell, params))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (dict(model=cells.ConvLSTMCell(2, (3, 3))), ConversionError, "size of its inputs"),
        (dict(model=jaxrnn.RNNCell(H, jnp.sort)), ConversionError, "'sort'"),
        (dict(params=jaxrnn.LSTMCell(H).init(jax.random.key(0), INPUTS)), ValueError, "structure"),
        (dict(params=jaxrnn.GRUCell(5).init(jax.random.key(0), INPUTS)), ValueError, "do not fit"),
        (dict(dtype="bfloat16"), ValueError, "dtype must be"),
        (dict(names={"z": "a"}), ValueError, r"names has \['z'\]"),
        (dict(step=True, lengths=True), ValueError, "no lengths"),
        (dict(model=NATIVE["both"], step=True), ConversionError, "both directions"),
        (dict(model=3), TypeError, "a cell, a stack or a module"),
        (
            dict(model=jaxrnn.Stack((jaxrnn.GRUCell(H),), bidirectional=True, merge="apart")),
            ConversionError,
            "'apart'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused(change, error, said):
    given = dict(model=jaxrnn.GRUCell(H)) | change
    model = given.pop("model")
    own = model.init(jax.random.key(0), INPUTS) if isinstance(model, jaxrnn.Cell) else None
    params = given.pop("params", own)
    with pytest.raises(error, match=said):
        to_onnx(model, params, **given)
    with pytest.raises(TypeError, match="needs its parameters"):
        to_onnx(jaxrnn.GRUCell(H))


# --- read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [n for n in NATIVE if n not in ("sum", "mean", "mul", "indrnn", "cifg_hard")]
)
def test_what_was_written_is_read_back(name):
    cell = NATIVE[name]
    params = made(cell)
    found = from_onnx(
        to_onnx(cell, params, head=(np.ones((unrolled(cell, params)[0].shape[-1], 1)), None))
    )
    close([unrolled(found.cell, found.params)[0]], unrolled(cell, params)[:1], 1e-6)
    assert any(kind.startswith("MatMul") for kind in found.between)


@pytest.mark.parity
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_what_torch_writes_is_read(kind, both):
    torch = pytest.importorskip("torch", reason="no torch is installed")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(INPUTS, H, 2, bidirectional=both)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(theirs, (torch.zeros(T, B, INPUTS),), file, dynamo=False)
    found = from_onnx(file.getvalue())
    with torch.no_grad():
        want = theirs(torch.tensor(XS))[0].numpy()
    close([unrolled(found.cell, found.params)[0]], [want])
    assert len(found.operators) == 2 and len(found.cell.cells) == 2


FILES = ROOT / "tests" / "interop" / "files"


@pytest.mark.parametrize(("name", "layers"), [("lstm", 2), ("bidirectional", 1)])
def test_what_keras_writes_of_lstms_is_read(name, layers):
    found = from_onnx(FILES / f"keras_{name}.onnx")
    told = np.load(FILES / f"keras_{name}.npz")
    assert len(found.cell.cells) == len(found.operators) == layers
    _, ys = jaxrnn.unroll(found.cell, found.params, told["xs"].swapaxes(0, 1))
    np.testing.assert_allclose(ys.swapaxes(0, 1), told["ys"], atol=1e-6)


def test_the_loop_that_keras_writes_of_a_gru_is_named():
    with pytest.raises(ConversionError, match=r"gru.*/while_loop'\] are not read"):
        from_onnx(FILES / "keras_gru.onnx")


def cases():
    """The cases that the ONNX project tests its operators with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        every = [case for kind in ("RNN", "LSTM", "GRU") for case in collect_testcases(kind)]
    return {case.name: case for case in every}


@functools.cache
def cases_once():
    return cases()


@pytest.mark.parametrize("name", sorted(cases_once()))
def test_the_cases_of_the_onnx_project(name):
    case = cases_once()[name]
    (inputs, outputs) = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    given = dict(zip([i.name for i in model.graph.input], inputs, strict=True))
    node = model.graph.node[0]
    slots = [*node.input, *[""] * 8]
    for role in (1, 2, 3, 7):  # W, R, B and P are weights of a model
        if slots[role]:
            model.graph.initializer.append(
                onnx.numpy_helper.from_array(given[slots[role]], slots[role])
            )
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if attributes.get("layout") or attributes.get("direction") == b"reverse":
        with pytest.raises(ConversionError, match=r"layout=1|backward by itself"):
            from_onnx(model.SerializeToString())
        return
    found = from_onnx(model.SerializeToString())
    carry = None
    if slots[5]:
        states = [given[slots[5]][0], *([given[slots[6]][0]] if slots[6] else [])]
        first = jaxrnn.initial_carry(found.cell, found.params, states[0].shape[:1])
        carry = jax.tree.unflatten(jax.tree.structure(first), states)
    mask = None
    if slots[4]:
        mask = jaxrnn.lengths_to_mask(given[slots[4]], len(given["X"]))
    ys, after = unrolled(found.cell, found.params, given["X"], carry, mask=mask)
    directions = found.cell.directions
    whole = np.asarray(ys).reshape(*ys.shape[:2], directions, -1).swapaxes(1, 2)
    last = np.stack([c.h for c in after])
    wanted = dict(zip([n for n in node.output if n], outputs, strict=True))
    for output, own in zip(node.output, (whole, last), strict=False):
        if output:
            np.testing.assert_allclose(own, wanted[output], atol=1e-5)


def changed(edit):
    """A file whose model was edited."""
    model = onnx.ModelProto()
    cell = jaxrnn.LSTMCell(H)
    model.ParseFromString(to_onnx(cell, made(cell)))
    edit(model.graph)
    return model.SerializeToString()


def attribute(**values):
    def edit(graph):
        node = next(n for n in graph.node if n.op_type == "LSTM")
        kept = [a for a in node.attribute if a.name not in values]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in values.items())

    return edit


def outside(graph):
    tensor = graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key = "location"
    entry.value = "../../etc/passwd"


def begun(graph):
    node = next(n for n in graph.node if n.op_type == "LSTM")
    first = np.ones((1, B, H), np.float32)
    graph.initializer.append(onnx.numpy_helper.from_array(first, "h_0"))
    node.input.extend(["", "h_0"])


def growing(graph):
    node = next(n for n in graph.node if n.op_type == "LSTM")
    name = node.input[1]
    for k in range(40):
        graph.node.insert(k, onnx.helper.make_node("Concat", [name] * 2, [f"more_{k}"], axis=0))
        name = f"more_{k}"


def misshapen(graph):
    tensor = graph.initializer[0]
    tensor.dims[1], tensor.dims[2] = tensor.dims[2], tensor.dims[1]


def huge(graph):
    graph.initializer[0].dims[0] = 2**40


def circle(graph):
    node = next(n for n in graph.node if n.op_type == "LSTM")
    graph.node.append(onnx.helper.make_node("Identity", [node.output[0]], ["round"]))
    node.input[0] = "round"


def without(graph):
    del graph.node[:]
    graph.node.append(onnx.helper.make_node("Identity", ["x"], ["y"]))
    del graph.output[1:]


@pytest.mark.parametrize(
    ("edit", "error", "said"),
    [
        (outside, FileFormatError, "outside the file"),
        (huge, FileFormatError, "larger than the file"),
        (circle, FileFormatError, "no valid model"),
        (growing, FileFormatError, "grow without end"),
        (misshapen, FileFormatError, "do not fit"),
        (begun, ConversionError, "a state of its own"),
        (attribute(activations=["Sigmoid"]), FileFormatError, "names 1 activations"),
        (without, ConversionError, "none of the operators"),
        (attribute(clip=1.0), ConversionError, "clips"),
        (attribute(layout=1), ConversionError, "layout=1"),
        (attribute(direction="reverse"), ConversionError, "backward by itself"),
        (attribute(activations=["Sigmoid", "Softsign", "Tanh"]), ConversionError, "Softsign"),
        (attribute(activations=["Sigmoid", "Relu", "Tanh"]), ConversionError, "relu and tanh"),
        (
            attribute(activations=["HardSigmoid", "Tanh", "Tanh"]),
            ConversionError,
            "HardSigmoid with",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_files_that_are_not_to_be_trusted_or_say_something_else_are_refused(edit, error, said):
    with pytest.raises(error, match=said):
        from_onnx(changed(edit))


def test_what_is_no_model_is_refused(tmp_path):
    data = to_onnx(jaxrnn.GRUCell(H), made(jaxrnn.GRUCell(H)))
    for broken in (b"no model", data[: len(data) // 2], b""):
        with pytest.raises((FileFormatError, ConversionError)):
            from_onnx(broken)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "none.onnx")


@pytest.mark.very_slow("it installs onnxruntime-web by npm")
def test_the_page_of_the_docs_runs_a_gru_in_a_browser(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or shutil.which("npm") is None:
        pytest.skip("no chromium and npm are installed")
    got = subprocess.run(
        ["npm", "install", "--silent", "onnxruntime-web"], cwd=tmp_path, capture_output=True
    )
    if got.returncode:
        pytest.skip("onnxruntime-web could not be had")
    for file in (tmp_path / "node_modules" / "onnxruntime-web" / "dist").iterdir():
        if file.name == "ort.min.js" or file.name.startswith("ort-wasm"):
            shutil.copy(file, tmp_path)
    page = (ROOT / "docs" / "onnx_in_a_browser.html").read_text()
    # the browser waits for a picture, which comes when the page must be done
    page = page.replace("</html>", '<img src="wait.png" alt=""></html>')
    (tmp_path / "index.html").write_text(page)
    cell = jaxrnn.GRUCell(32)
    params = made(cell, inputs=1)
    kernel = np.random.default_rng(0).normal(size=(32, 1)).astype(np.float32)
    to_onnx(cell, params, tmp_path / "model.onnx", step=True, head=(kernel, None))
    # its inputs are 0 and then what is wanted
    wanted = [0.0]
    carry = jaxrnn.initial_carry(cell, params, (1,))
    one = jax.jit(cell)
    for _ in range(1000):
        carry, y = one(params, carry, jnp.full((1, 1), wanted[-1], jnp.float32))
        wanted.append(float((y @ kernel)[0, 0]))
    (tmp_path / "wanted.json").write_text(json.dumps(wanted[1:]))

    class Slowly(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if "wait" in self.path:
                time.sleep(15)
            super().do_GET()

    handler = functools.partial(Slowly, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}/index.html"
        flags = "--headless --no-sandbox --disable-gpu --dump-dom"
        shown = subprocess.run(
            [chromium, *flags.split(), address], capture_output=True, text=True, check=True
        )
        server.shutdown()
    said = re.search(r"at most (\S+) from jaxrnn", shown.stdout)
    assert np.ptp(wanted) > 0.1
    assert said and float(said.group(1)) < 1e-4, re.findall(r"said.>(.*?)<", shown.stdout)
