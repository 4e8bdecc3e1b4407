"""One step of each library's LSTM and GRU with random weights, in one form,
for the table of conventions.
"""

import os
from typing import NamedTuple

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxrnn
from jaxrnn.cells import GRUCarry, LSTMCarry

os.environ.setdefault("KERAS_BACKEND", "jax")
I, H, B = 2, 3, 4
LIBRARIES = ("jaxrnn", "torch", "Flax linen", "Flax nnx", "Keras", "Haiku", "Equinox", "ONNX")


class Step(NamedTuple):
    """One step of a library's cell: fused weights in its own order, and what came out."""

    w_x: np.ndarray  # [I, G*H]
    w_h: np.ndarray  # [H, G*H]
    b: np.ndarray  # [G*H]
    b_h: np.ndarray  # [G*H], the bias of the product with h, zero where there is none
    before: tuple[np.ndarray, ...]  # the state, in the library's order
    after: tuple[np.ndarray, ...]
    y: np.ndarray


def draw(tree, seed=0):
    """Random arrays in the shapes of a tree's."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.normal(size=np.shape(a)).astype(np.float32), tree)


X, H0, C0 = draw((np.zeros((B, I)), np.zeros((B, H)), np.zeros((B, H))), seed=1)


def ours(kind):
    cell = jaxrnn.LSTMCell(H) if kind == "lstm" else jaxrnn.GRUCell(H)
    start = cell.init(jax.random.key(0), I)
    p = draw(start)
    before = (H0, C0) if kind == "lstm" else (H0,)
    carry = LSTMCarry(h=H0, c=C0) if kind == "lstm" else GRUCarry(h=H0)
    after, y = cell(p, carry, X)
    b_h = np.zeros_like(p.b)
    if kind == "gru":
        b_h[-H:] = p.b_hn
    fused = Step(
        p.w_x.reshape(I, -1),
        p.w_h.reshape(H, -1),
        p.b.reshape(-1),
        b_h.reshape(-1),
        before,
        tuple(after),
        y,
    )
    return fused, start.b.reshape(-1), p.b.size + (H if kind == "gru" else 0)


def torch(kind):
    library = pytest.importorskip("torch")
    cell = library.nn.LSTMCell(I, H) if kind == "lstm" else library.nn.GRUCell(I, H)
    start = cell.bias_ih.detach().numpy().copy()
    p = draw({k: v.detach().numpy() for k, v in cell.state_dict().items()})
    cell.load_state_dict({k: library.as_tensor(v) for k, v in p.items()})
    x, h, c = (library.as_tensor(a) for a in (X, H0, C0))
    with library.no_grad():
        after = cell(x, (h, c) if kind == "lstm" else h)
    after = tuple(a.numpy() for a in (after if kind == "lstm" else (after,)))
    before = (H0, C0)[: len(after)]
    fused = Step(
        p["weight_ih"].T, p["weight_hh"].T, p["bias_ih"], p["bias_hh"], before, after, after[0]
    )
    return fused, start, p["bias_ih"].size + p["bias_hh"].size


def linen(kind):
    cell, gates = (nn.LSTMCell(H), "ifgo") if kind == "lstm" else (nn.GRUCell(H), "rzn")
    before = (C0, H0) if kind == "lstm" else (H0,)
    carry = before if kind == "lstm" else H0
    start = cell.init(jax.random.key(0), carry, X)["params"]
    p = draw(start)
    after, y = cell.apply({"params": p}, carry, X)

    def fuse(side, what):
        return np.concatenate(
            [p[side + k].get(what, np.zeros(H, np.float32)) for k in gates], axis=-1
        )

    after = tuple(after) if kind == "lstm" else (after,)
    fused = Step(
        fuse("i", "kernel"),
        fuse("h", "kernel"),
        fuse("i", "bias"),
        fuse("h", "bias"),
        before,
        after,
        y,
    )
    first = np.concatenate(
        [start[side]["bias"] for side in [("h" if kind == "lstm" else "i") + k for k in gates]]
    )
    return fused, first, sum(block["bias"].size for block in p.values() if "bias" in block)


def flax_nnx(kind):
    make = nnx.OptimizedLSTMCell if kind == "lstm" else nnx.GRUCell
    cell = make(I, H, rngs=nnx.Rngs(0))
    before = (C0, H0) if kind == "lstm" else (H0,)
    start = nnx.to_pure_dict(nnx.state(cell, nnx.Param))
    p = draw(start)
    nnx.update(cell, p)
    after, y = cell(before if kind == "lstm" else H0, X)
    after = tuple(after) if kind == "lstm" else (after,)
    biases = {side: block["bias"] for side, block in p.items() if "bias" in block}
    none = np.zeros(p["dense_i"]["kernel"].shape[1], np.float32)
    kernels = (p[side]["kernel"] for side in ("dense_i", "dense_h"))
    fused = Step(
        *kernels, biases.get("dense_i", none), biases.get("dense_h", none), before, after, y
    )
    (side,) = biases
    return fused, start[side]["bias"], sum(b.size for b in biases.values())


def keras(kind):
    library = pytest.importorskip("keras")
    cell = library.layers.LSTMCell(H) if kind == "lstm" else library.layers.GRUCell(H)
    cell.build((None, I))
    start = [np.array(v.value) for v in cell.weights]
    w_x, w_h, b = draw(start)
    for variable, value in zip(cell.weights, (w_x, w_h, b), strict=True):
        variable.assign(value)
    before = (H0, C0) if kind == "lstm" else (H0,)
    y, after = cell(X, list(before))
    b_x, b_h = (b, np.zeros_like(b)) if kind == "lstm" else b
    return Step(w_x, w_h, b_x, b_h, before, tuple(after), y), start[2].reshape(-1), b.size


def haiku(kind):
    hk = pytest.importorskip("haiku")
    core = hk.LSTM if kind == "lstm" else hk.GRU
    run = hk.without_apply_rng(hk.transform(lambda x, state: core(H)(x, state)))
    before = (H0, C0) if kind == "lstm" else (H0,)
    state = hk.LSTMState(*before) if kind == "lstm" else H0
    start = run.init(jax.random.key(0), X, state)
    p = draw(start)
    y, after = run.apply(p, X, state)
    (arrays,), (first,) = p.values(), start.values()
    w_x, w_h = (
        (arrays["w"][:I], arrays["w"][I:]) if kind == "lstm" else (arrays["w_i"], arrays["w_h"])
    )
    after = tuple(after) if kind == "lstm" else (after,)
    return (
        Step(w_x, w_h, arrays["b"], np.zeros_like(arrays["b"]), before, after, y),
        first["b"],
        arrays["b"].size,
    )


def equinox(kind):
    eqx = pytest.importorskip("equinox")
    cell = (eqx.nn.LSTMCell if kind == "lstm" else eqx.nn.GRUCell)(I, H, key=jax.random.key(0))
    first, (arrays, rest) = cell.bias, eqx.partition(cell, eqx.is_array)
    cell = eqx.combine(draw(arrays), rest)
    before = (H0, C0) if kind == "lstm" else (H0,)
    after = jax.vmap(cell)(X, before if kind == "lstm" else H0)
    after = after if kind == "lstm" else (after,)
    b_h = (
        np.concatenate([np.zeros(2 * H, np.float32), cell.bias_n])
        if kind == "gru"
        else np.zeros_like(cell.bias)
    )
    fused = Step(cell.weight_ih.T, cell.weight_hh.T, cell.bias, b_h, before, tuple(after), after[0])
    return fused, first, cell.bias.size + (H if kind == "gru" else 0)


def onnx(kind):
    """ONNX's operators, by its reference evaluator; they have weights, and no initial ones."""
    size = 4 if kind == "lstm" else 3
    p = draw({"W": np.zeros((1, size * H, I)), "R": np.zeros((1, size * H, H))})
    p["B"] = draw(np.zeros((1, 2 * size * H)), seed=2)
    before = (H0, C0) if kind == "lstm" else (H0,)
    states = dict(zip(("initial_h", "initial_c"), (a[None] for a in before), strict=False))
    after = run_onnx(kind.upper(), {"X": X[None]} | p | states, len(before))
    after = tuple(a[0] for a in after)
    b, b_h = np.split(p["B"][0], 2)
    return Step(p["W"][0].T, p["R"][0].T, b, b_h, before, after, after[0]), None, p["B"].size


def run_onnx(operator, inputs, states):
    """The last states of an operator of ONNX; its inputs by name, absent where not given."""
    library = pytest.importorskip("onnx")
    names = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
    given = [name if name in inputs else "" for name in names[: 6 if operator == "GRU" else 8]]
    found = ["", "Y_h", "Y_c"][: 1 + states]
    node = library.helper.make_node(operator, given, found, hidden_size=H)
    value = library.helper.make_tensor_value_info
    kind = library.TensorProto.FLOAT
    graph = library.helper.make_graph(
        [node],
        operator,
        [value(name, kind, a.shape) for name, a in inputs.items()],
        [value(name, kind, None) for name in found[1:]],
    )
    model = library.helper.make_model(graph)
    reference = pytest.importorskip("onnx.reference")
    return reference.ReferenceEvaluator(model).run(None, inputs)


PEERS = (ours, torch, linen, flax_nnx, keras, haiku, equinox, onnx)
PROBES = dict(zip(LIBRARIES, PEERS, strict=True))
