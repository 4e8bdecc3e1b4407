"""The table of conventions in docs/conventions.md: each row is the only one of all candidates
that gives the library's numbers.
"""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conventions import LIBRARIES, PROBES, B, H, I, X, draw, run_onnx
from flax import linen as nn
from flax import nnx
from places import DOCS

import jaxrnn

pytestmark = pytest.mark.peers
T = 5
PAGE = (DOCS / "conventions.md").read_text()
NAMES = ("library", "lstm", "gru", "state", "z", "reset", "biases", "forget", "time")


def row(library):
    (line,) = re.findall(rf"^\| {re.escape(library)} \|.*\|$", PAGE, flags=re.MULTILINE)
    return dict(zip(NAMES, (cell.strip() for cell in line.strip("|").split("|")), strict=True))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def blocks(step, order):
    """The products of x and of h, each with its bias, as dicts by gate."""
    a_x, a_h = X @ step.w_x + step.b, step.b_h
    split = [
        dict(zip(order, np.split(a, len(order), axis=-1), strict=True))
        for a in (a_x, a_h, step.w_h)
    ]
    return split


def lstm(step, order, offset, state):
    h, c = step.before if state == "h c" else step.before[::-1]
    x, b, w = blocks(step, order)
    i, f, g, o = (x[k] + b[k] + h @ w[k] for k in "ifgo")
    c = sigmoid(f + offset) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h, c) if state == "h c" else (c, h)


def gru(step, order, z_keeps, reset):
    (h,), (x, b, w) = step.before, blocks(step, order)
    r, z = (sigmoid(x[k] + b[k] + h @ w[k]) for k in "rz")
    after = r * (h @ w["n"] + b["n"])
    n = np.tanh(x["n"] + (after if reset == "after" else b["n"] + (r * h) @ w["n"]))
    keep = z if z_keeps == "z" else 1 - z
    return (keep * h + (1 - keep) * n,)


def fits(given, expected):
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(given, expected, strict=True))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_row_is_the_only_lstm_that_gives_the_numbers(library):
    told, (step, first, biases) = row(library), PROBES[library]("lstm")
    choices = itertools.product(itertools.permutations("ifgo"), (0, 1), ("h c", "c h"))
    (found,) = [choice for choice in choices if fits(lstm(step, *choice), step.after)]
    order, offset, state = " ".join(found[0]), found[1], found[2]
    assert (order, state) == (told["lstm"].split(",")[0], told["state"].split(",")[0])
    assert np.array_equal(step.y, step.after[state.split().index("h")])
    start = "none" if first is None else forget_bias(order, offset, first)
    assert told["forget"] == start + ", in the step" * offset
    assert told["biases"].split(", ")[0] == f"{biases // H}H"


def forget_bias(order, offset, first):
    place = "ifgo".index("f") if order[2] == "f" else order.split().index("f")
    forget = np.asarray(first).reshape(4, H)[place]
    return str(int(forget[0]) + offset) if np.ptp(forget) == 0 else "random"


def test_peepholes_of_onnx_stand_in_the_order_i_o_f():
    (step, _, _), cell = PROBES["ONNX"]("lstm"), jaxrnn.cells.PeepholeLSTMCell(H)
    peepholes = draw(np.zeros((1, 3 * H)), seed=3)
    inputs = {"X": X[None], "W": step.w_x.T[None], "R": step.w_h.T[None], "P": peepholes}
    inputs |= {"B": np.concatenate([step.b, step.b_h])[None]}
    inputs |= {"initial_h": step.before[0][None], "initial_c": step.before[1][None]}
    after = [a[0] for a in run_onnx("LSTM", inputs, 2)]

    def ours(order):
        by_gate = [
            dict(zip("iofg", np.split(a, 4, axis=-1), strict=True))
            for a in (step.w_x, step.w_h, step.b + step.b_h)
        ]
        w_x, w_h, b = (np.stack([a[gate] for gate in "ifgo"], axis=-2) for a in by_gate)
        rows = dict(zip(order, np.split(peepholes[0], 3), strict=True))
        like = cell.init(jax.random.key(0), I)
        params = like._replace(
            w_x=w_x, w_h=w_h, b=b.reshape(-1), **{f"p_{gate}": rows[gate] for gate in "ifo"}
        )
        return cell(params, type(cell.init_carry(like, X))(*step.before), X)[0]

    (found,) = [order for order in itertools.permutations("ifo") if fits(ours(order), after)]
    assert " ".join(found) in PAGE and found == ("i", "o", "f")


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_row_is_the_only_gru_that_gives_the_numbers(library):
    told, (step, _, biases) = row(library), PROBES[library]("gru")
    choices = itertools.product(itertools.permutations("rzn"), ("z", "1 - z"), ("before", "after"))
    (found,) = [choice for choice in choices if fits(gru(step, *choice), step.after)]
    assert (" ".join(found[0]), *found[1:]) == (
        told["gru"].split(",")[0],
        told["z"],
        told["reset"].split(",")[0],
    )
    assert told["biases"].split(", ")[1] == f"{biases // H}H"


def final_state(library, xs):
    """The state after a layer's default run over three axes of different sizes,
    of which one is time.
    """
    if library == "jaxrnn":
        cell = jaxrnn.GRUCell(H)
        return jaxrnn.unroll(cell, cell.init(jax.random.key(0), I), xs)[0].h
    if library == "torch":
        module = pytest.importorskip("torch")
        return module.nn.GRU(I, H)(module.as_tensor(np.array(xs)))[1][0]
    if library == "Flax linen":
        module = nn.RNN(nn.GRUCell(H), return_carry=True)
        return module.init_with_output(jax.random.key(0), xs)[0][0]
    if library == "Flax nnx":
        return nnx.RNN(nnx.GRUCell(I, H, rngs=nnx.Rngs(0)), return_carry=True, rngs=nnx.Rngs(0))(
            xs
        )[0]
    if library == "Keras":
        return pytest.importorskip("keras").layers.GRU(H, return_state=True)(xs)[1]
    if library == "ONNX":
        return onnx_final_state(np.array(xs))
    hk = pytest.importorskip("haiku")
    run = hk.transform(lambda xs: hk.dynamic_unroll(hk.GRU(H), xs, jnp.zeros((xs.shape[1], H)))[1])
    return run.apply(run.init(jax.random.key(0), xs), None, xs)


def onnx_final_state(xs):
    zeros = {"W": np.zeros((1, 3 * H, I), np.float32), "R": np.zeros((1, 3 * H, H), np.float32)}
    return run_onnx("GRU", {"X": xs} | zeros, 1)[0][0]


@pytest.mark.parametrize("library", [name for name in LIBRARIES if name != "Equinox"])
def test_the_row_tells_the_time_axis(library):
    state = final_state(library, jnp.ones((T, B, I)))
    assert {(B, H): "0", (T, H): "1"}[tuple(state.shape)] == row(library)["time"].split(",")[0]


def test_equinox_has_single_steps_only():
    eqx = pytest.importorskip("equinox")
    assert row("Equinox")["time"] == "none" and not [
        name for name in ("LSTM", "GRU", "RNN") if hasattr(eqx.nn, name)
    ]
