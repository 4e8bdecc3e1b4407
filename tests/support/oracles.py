"""The truth: step-by-step loops in float64 NumPy, written from the papers' equations,
and one list of all cells.

An oracle is (first, step): `first(p, shape)` is the carry of a new sequence for one step's input of
`shape`, and `step(p, carry, x, noise)` gives the next carry and the output. Everything is analytic
(no `conj`, no `abs` of the whole), so that a complex step gives directional derivatives to the last
digit: f'(a) . d = imag f(a + 1e-30i d) / 1e-30.
"""

import operator

import jax
import numpy as np
import scipy.linalg
import torture
from oracle_base import Oracle, bias, gate, plus, sigmoid, zero
from oracles_gated import GATED, dense
from oracles_linear import BESIDE, LINEAR
from oracles_memory import MEMORY
from oracles_neural import NEURAL

import jaxrnn
from jaxrnn.cells import (
    CausalConvCarry,
    ConvLSTMCell,
    DenseCell,
    ExpRNNCell,
    GatedMLPCell,
    GRUCarry,
    GRUResetBeforeCell,
    LayerNormLSTMCell,
    LEMCarry,
    LEMCell,
    LSTMCarry,
    LSTMPCell,
    NoCarry,
    PeepholeLSTMCell,
    RNNCarry,
)
from jaxrnn.wrappers import (
    Block,
    DropConnect,
    LayerNormInput,
    LearnedInitialCarry,
    MultiHead,
    RecurrentDropout,
    Residual,
    RMSNormInput,
    Skip,
    VariationalDropout,
    Zoneout,
)
from jaxrnn.wrappers.block import MixerCarry


def rnn(f):
    def step(p, carry, x, noise):
        h = f(gate(p, x, carry.h, 0))
        return RNNCarry(h=h), h

    return Oracle(zero(RNNCarry, "w_h"), step)


def lstm_step(p, carry, x, noise):
    """Hochreiter & Schmidhuber 1997, Gers et al. 2000; torch's gate order i f g o."""
    i, f, o = (sigmoid(gate(p, x, carry.h, k)) for k in (0, 1, 3))
    c = f * carry.c + i * np.tanh(gate(p, x, carry.h, 2))
    h = o * np.tanh(c)
    return LSTMCarry(h=h, c=c), h


def lstmp_step(p, carry, x, noise):
    """Sak et al. 2014, arXiv:1402.1128: the output is a projection, and so is what recurs."""
    after, m = lstm_step(p, carry, x, noise)
    h = m @ p.w_p
    return LSTMCarry(h=h, c=after.c), h


def gru_step(p, carry, x, noise):
    """torch.nn.GRU: the reset gate acts on (U_n h + b_hn)."""
    r, z = (sigmoid(gate(p, x, carry.h, k)) for k in (0, 1))
    recurrent = plus(carry.h @ p.w_h[:, 2], p.b_hn)
    n = np.tanh(plus(x @ p.w_x[:, 2], bias(p, 2)) + r * recurrent)
    h = n - z * n + z * carry.h
    return GRUCarry(h=h), h


def gru_before_step(p, carry, x, noise):
    """Cho et al. 2014, arXiv:1406.1078, eq. 5-8: the reset gate acts on h."""
    r, z = (sigmoid(gate(p, x, carry.h, k)) for k in (0, 1))
    n = np.tanh(gate(p, x, r * carry.h, 2))
    h = z * carry.h + n - z * n
    return GRUCarry(h=h), h


def standard(a, count):
    """Layer norm without scale over the last `count` axes."""
    axes = tuple(range(-count, 0))
    mean = a.mean(axes, keepdims=True)
    return (a - mean) / np.sqrt(((a - mean) ** 2).mean(axes, keepdims=True) + 1e-5)


def layer_norm_step(p, carry, x, noise):
    """Ba et al. 2016, arXiv:1607.06450, eq. 20-22."""
    scale_h = np.stack([p.scale_hi, p.scale_hf, p.scale_hg, p.scale_ho])
    a = p.scale_x.reshape(4, -1) * standard(np.einsum("...i,igh->...gh", x, p.w_x), 2)
    a = a + scale_h * standard(np.einsum("...i,igh->...gh", carry.h, p.w_h), 2)
    a = a + p.b.reshape(4, -1)
    c = sigmoid(a[..., 1, :]) * carry.c + sigmoid(a[..., 0, :]) * np.tanh(a[..., 2, :])
    h = sigmoid(a[..., 3, :]) * np.tanh(p.scale_c * standard(c, 1) + p.b_c)
    return LSTMCarry(h=h, c=c), h


def peephole_step(p, carry, x, noise):
    """Graves 2013, arXiv:1308.0850, eq. 7-11."""
    i = sigmoid(gate(p, x, carry.h, 0) + p.p_i * carry.c)
    f = sigmoid(gate(p, x, carry.h, 1) + p.p_f * carry.c)
    c = f * carry.c + i * np.tanh(gate(p, x, carry.h, 2))
    h = sigmoid(gate(p, x, carry.h, 3) + p.p_o * c) * np.tanh(c)
    return LSTMCarry(h=h, c=c), h


def lem_step(p, carry, x, noise):
    """Rusch et al. 2022, arXiv:2110.04744, eq. 4, with a time step of 0.5."""
    v = [x @ p.w_x[:, k] + bias(p, k) for k in range(4)]
    dt = 0.5 * sigmoid(carry.y @ p.w_y[:, 0] + v[0])
    dt_bar = 0.5 * sigmoid(carry.y @ p.w_y[:, 1] + v[1])
    z = (1 - dt) * carry.z + dt * np.tanh(carry.y @ p.w_y[:, 2] + v[2])
    y = (1 - dt_bar) * carry.y + dt_bar * np.tanh(z @ p.w_z + v[3])
    return LEMCarry(y=y, z=z), y


def heads_step(p, carry, x, noise):
    """An LSTM with the block-diagonal recurrent matrices written out."""
    return lstm_step(dense(p), carry, x, noise)


def correlate(v, w):
    """Each pixel sees its K x K neighbours, zero outside: v [..., X, Y, C], w [K, K, C, G, D]."""
    reach = w.shape[0] // 2
    padded = np.pad(v, [(0, 0)] * (v.ndim - 3) + [(reach, reach), (reach, reach), (0, 0)])
    x, y = v.shape[-3:-1]
    return sum(
        np.einsum("...c,cgd->...gd", padded[..., i : i + x, j : j + y, :], w[i, j])
        for i in range(w.shape[0])
        for j in range(w.shape[1])
    )


def conv_step(p, carry, x, noise):
    """Shi et al. 2015, arXiv:1506.04214, eq. 3."""
    a = correlate(x, p.w_x) + correlate(carry.h, p.w_h) + p.b.reshape(4, -1)
    i, f, g, o = (a[..., k, :] for k in range(4))
    c = sigmoid(f) * carry.c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return LSTMCarry(h=h, c=c), h


def orthogonal_step(p, carry, x, noise):
    """Lezcano-Casado & Martinez-Rubio 2019, arXiv:1901.08428;
    modReLU(z) = z / |z| * relu(|z| + b).
    """
    z = x @ p.w_x + carry.h @ scipy.linalg.expm(p.a - p.a.T)
    sign = np.sign(z.real)
    h = sign * np.where((sign * z + p.b).real > 0, sign * z + p.b, 0)
    return RNNCarry(h=h), h


def diagonal_step(p, carry, x, noise):
    h = p.w_h * carry.h + x @ p.w_x
    return RNNCarry(h=h), h


def zoneout(inner, rates):
    """Krueger et al. 2017, arXiv:1606.01305, eq. 5-6: h_t is made from the new c,
    before that is zoned out.
    """

    def step(p, carry, x, noise):
        after, _ = inner.step(p, carry, x, None if noise is None else noise.inner)
        for name, rate in rates.items():
            d = rate if noise is None else getattr(noise.keep, name).astype(float)
            after = after._replace(
                **{name: d * getattr(carry, name) + (1 - d) * getattr(after, name)}
            )
        return after, after.h

    return Oracle(inner.first, step)


def variational(inner_first, inner_step, input=0.0, recurrent=0.0, output=0.0):
    """Gal & Ghahramani 2016, arXiv:1512.05287, eq. 7:
    `inner_step(p, carry, x, dropped h)` says where h meets its weights.
    """

    def step(p, carry, x, noise):
        if noise is None:
            return inner_step(p, carry, x, carry.h)
        x = x if noise.keep.input is None else x * noise.keep.input / (1 - input)
        h = (
            carry.h
            if noise.keep.recurrent is None
            else carry.h * noise.keep.recurrent / (1 - recurrent)
        )
        after, y = inner_step(p, carry, x, h)
        return after, y if noise.keep.output is None else y * noise.keep.output / (1 - output)

    return Oracle(inner_first, step)


def candidate_lstm(rate):
    """Semeniuta et al. 2016, arXiv:1603.05118, eq. 9: c_t = f * c_{t-1} + i * d(g)."""

    def step(p, carry, x, noise):
        i, f, o = (sigmoid(gate(p, x, carry.h, k)) for k in (0, 1, 3))
        g = np.tanh(gate(p, x, carry.h, 2))
        c = f * carry.c + i * g * (1 if noise is None else noise.keep / (1 - rate))
        return LSTMCarry(o * np.tanh(c), c), o * np.tanh(c)

    return Oracle(LSTM.first, step)


def candidate_gru(rate):
    """Semeniuta et al. 2016, arXiv:1603.05118, eq. 14-16, with z for 1 - z:
    h_t = z * h_{t-1} + (1 - z) * d(n).
    """

    def step(p, carry, x, noise):
        after, _ = gru_step(p, carry, x, None)
        z = sigmoid(gate(p, x, carry.h, 1))
        fresh = after.h - z * carry.h  # (1 - z) * n
        h = z * carry.h + fresh * (1 if noise is None else noise.keep / (1 - rate))
        return GRUCarry(h), h

    return Oracle(GRU.first, step)


def drop_connect(inner, rate):
    """Merity et al. 2017, arXiv:1708.01009, section 2:
    the recurrent kernel with entries dropped, the same at every step.
    """

    def step(p, carry, x, noise):
        p = p if noise is None else p._replace(w_h=p.w_h * noise.keep["w_h"] / (1 - rate))
        return inner.step(p, carry, x, None if noise is None else noise.inner)

    return Oracle(inner.first, step)


def beside(inner, join):
    """The output of a cell joined with its input."""

    def step(p, carry, x, noise):
        after, y = inner.step(p, carry, x, noise)
        return after, join(y, x)

    return Oracle(inner.first, step)


def normalised(inner):
    """Ba et al. 2016, arXiv:1607.06450, eq. 4, of the input."""

    def step(p, carry, x, noise):
        centred = x - x.mean(-1, keepdims=True)
        x = p.scale * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + p.bias
        return inner.step(p.inner, carry, x, noise)

    return Oracle(lambda p, shape: inner.first(p.inner, shape), step)


def scaled(inner):
    """Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4, of the input."""

    def step(p, carry, x, noise):
        x = p.scale * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return inner.step(p.inner, carry, x, noise)

    return Oracle(lambda p, shape: inner.first(p.inner, shape), step)


def mixer(inner, width):
    """De et al. 2024, arXiv:2402.19427, section 2.3; width inputs are seen, or there is no
    convolution."""

    def first(p, shape):
        shape = (*shape[:-1], p.w_x.shape[-1])
        before = None if width is None else CausalConvCarry((np.zeros(shape),) * (width - 1))
        return MixerCarry(before, inner.first(p.inner, shape))

    def step(p, carry, x, noise):
        v = x @ p.w_x
        conv = carry.conv
        if width is not None:
            seen = (v, *carry.conv.before)
            conv = CausalConvCarry(seen[:-1])
            v = sum(w * old for w, old in zip(p.conv.w, seen, strict=True)) + p.conv.b
        after, y = inner.step(p.inner, carry.inner, v, noise)
        if p.w_gate is not None:
            a = x @ p.w_gate
            y = y * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))) / 2
        return MixerCarry(conv, after), y @ p.w_y

    return Oracle(first, step)


def perceptron_step(p, carry, x, noise):
    """Shazeer 2020, arXiv:2002.05202."""
    a = x @ p.w_x[:, 0]
    return carry, (a * sigmoid(a) * (x @ p.w_x[:, 1])) @ p.w_y


def lstm_with(p, carry, x, h):
    return lstm_step(p, carry._replace(h=h), x, None)


def lstmp_with(p, carry, x, h):
    return lstmp_step(p, carry._replace(h=h), x, None)


def gru_with(p, carry, x, h):
    """The gates see the dropped h, the interpolation the whole."""
    after, _ = gru_step(p, carry._replace(h=h), x, None)
    z = sigmoid(gate(p, x, h, 1))
    new = after.h + z * (carry.h - h)
    return GRUCarry(h=new), new


def learned(inner):
    def first(p, shape):
        return jax.tree.map(lambda zero, own: zero + own, inner.first(p.inner, shape), p.first)

    return Oracle(first, lambda p, carry, x, noise: inner.step(p.inner, carry, x, noise))


def stacked(*layers, rate=0.0):
    """Layers of (oracle, width); the output of each is the input of the next,
    dropped in training.
    """

    def first(p, shape):
        shapes = [shape, *((*shape[:-1], width) for _, width in layers)]
        return tuple(
            oracle.first(own, s) for (oracle, _), own, s in zip(layers, p, shapes, strict=False)
        )

    def step(p, carry, x, noise):
        carries = []
        for k, (oracle, _) in enumerate(layers):
            if k > 0 and noise is not None and noise.keep[k - 1] is not None:
                x = x * noise.keep[k - 1] / (1 - rate)
            after, x = oracle.step(p[k], carry[k], x, None if noise is None else noise.cells[k])
            carries.append(after)
        return tuple(carries), x

    return Oracle(first, step)


def drive(
    oracle, p, xs, carry=None, *, mask=None, reset=None, noise=None, reverse=False, feature_axes=1
):
    """Runs an oracle over time, with the masks and resets of `jaxrnn.unroll`."""
    T, batch = len(xs), xs.shape[1 : xs.ndim - feature_axes]
    first = oracle.first(p, xs.shape[1:])
    carry, ys = first if carry is None else carry, {}
    for t in reversed(range(T)) if reverse else range(T):
        begins = reset is not None and (
            reset[t] if not reverse else reset[t + 1] if t + 1 < T else np.zeros(batch, bool)
        )
        carry = pick(begins, first, carry)
        valid = True if mask is None else mask[t]
        x = pick(valid, xs[t], np.zeros_like(xs[t]))
        drawn = None if noise is None else jax.tree.map(lambda n, t=t: n[t % len(n)], noise)
        after, y = oracle.step(p, carry, x, drawn)
        carry, ys[t] = pick(valid, after, carry), pick(valid, y, np.zeros_like(y))
    return carry, np.stack([ys[t] for t in range(T)]) if T else None


def pick(rows, yes, no):
    rows = np.asarray(rows)
    return jax.tree.map(
        lambda a, b: np.where(rows.reshape(rows.shape + (1,) * (a.ndim - rows.ndim)), a, b), yes, no
    )


LSTM = Oracle(zero(LSTMCarry, "w_h", "w_h"), lstm_step)
LSTMP = Oracle(zero(LSTMCarry, "w_p", "w_h"), lstmp_step)
GRU = Oracle(zero(GRUCarry, "w_h"), gru_step)
HEADS = Oracle(
    lambda p, shape: LSTMCarry(*np.zeros((2, *shape[:-1], p.w_x.shape[-1]))),
    heads_step,
)
ORTHOGONAL = Oracle(zero(RNNCarry, "a"), orthogonal_step)
CONV = Oracle(zero(LSTMCarry, "w_h", "w_h"), conv_step)
PEEPHOLE = Oracle(zero(LSTMCarry, "w_h", "w_h"), peephole_step)

BUILT_IN = [  # (name, cell, oracle)
    ("rnn", jaxrnn.RNNCell(4), rnn(np.tanh)),
    ("rnn_relu", jaxrnn.RNNCell(4, "relu"), rnn(lambda a: np.where(a.real > 0, a, 0))),
    ("lstm", jaxrnn.LSTMCell(4), LSTM),
    ("lstmp", LSTMPCell(4, 2), LSTMP),
    ("gru", jaxrnn.GRUCell(4), GRU),
    (
        "gru_reset_before",
        GRUResetBeforeCell(4),
        Oracle(zero(GRUCarry, "w_h"), gru_before_step),
    ),
    ("lstm_no_bias", jaxrnn.LSTMCell(4, bias=False), LSTM),
    ("gru_no_bias", jaxrnn.GRUCell(4, bias=False), GRU),
]
TORTURE = [
    (
        "layer_norm",
        LayerNormLSTMCell(4),
        Oracle(zero(LSTMCarry, "w_h", "w_h"), layer_norm_step),
    ),
    ("peephole", PeepholeLSTMCell(4), PEEPHOLE),
    (
        "lem",
        LEMCell(4, dt=0.5),
        Oracle(zero(LEMCarry, "w_z", "w_z"), lem_step),
    ),
    ("heads", MultiHead(jaxrnn.LSTMCell(4), heads=2), HEADS),
    ("conv", ConvLSTMCell(2), CONV),
    ("orthogonal", ExpRNNCell(4), ORTHOGONAL),
    (
        "diagonal",
        torture.LinearDiagonal(4),
        Oracle(zero(RNNCarry, "w_h"), diagonal_step),
    ),
]

AROUND = [
    (
        "zoneout",
        Zoneout(jaxrnn.LSTMCell(4), h=0.3, c=0.1),
        zoneout(LSTM, {"h": 0.3, "c": 0.1}),
    ),
    (
        "variational_dropout",
        VariationalDropout(jaxrnn.GRUCell(4), input=0.2, recurrent=0.4, output=0.3),
        variational(GRU.first, gru_with, 0.2, 0.4, 0.3),
    ),
    (
        "recurrent_dropout",
        RecurrentDropout(jaxrnn.LSTMCell(4), 0.4),
        candidate_lstm(0.4),
    ),
    (
        "recurrent_dropout_gru",
        RecurrentDropout(jaxrnn.GRUCell(4), 0.4),
        candidate_gru(0.4),
    ),
    ("drop_connect", DropConnect(jaxrnn.LSTMCell(4), 0.3), drop_connect(LSTM, 0.3)),
    ("residual", Residual(jaxrnn.GRUCell(3)), beside(GRU, operator.add)),
    (
        "skip",
        Skip(jaxrnn.GRUCell(4)),
        beside(GRU, lambda y, x: np.concatenate([y, x], -1)),
    ),
    ("layer_norm_input", LayerNormInput(jaxrnn.LSTMCell(4)), normalised(LSTM)),
    ("learned_start", LearnedInitialCarry(jaxrnn.GRUCell(4)), learned(GRU)),
    (
        "learned_zoneout_dropout_lstmp",
        LearnedInitialCarry(
            Zoneout(
                VariationalDropout(LSTMPCell(4, 2), recurrent=0.4),
                0.3,
                0.1,
            )
        ),
        learned(zoneout(variational(LSTMP.first, lstmp_with, recurrent=0.4), {"h": 0.3, "c": 0.1})),
    ),
    (
        "stack",
        jaxrnn.Stack(
            (
                Zoneout(jaxrnn.GRUCell(4), h=0.3),
                LearnedInitialCarry(PeepholeLSTMCell(3)),
            ),
            dropout=0.5,
        ),
        stacked((zoneout(GRU, {"h": 0.3}), 4), (learned(PEEPHOLE), 3), rate=0.5),
    ),
    (
        "learned_stack",
        LearnedInitialCarry(jaxrnn.Stack((ConvLSTMCell(2), ConvLSTMCell(3)))),
        learned(stacked((CONV, 2), (CONV, 3))),
    ),
]
PERCEPTRON = Oracle(lambda p, shape: NoCarry(), perceptron_step)
DEEP = [
    ("gated_mlp", GatedMLPCell(5), PERCEPTRON),
    (
        "dense",
        DenseCell(5),
        Oracle(
            lambda p, shape: NoCarry(), lambda p, carry, x, noise: (carry, x @ p.w_x[:, 0] + p.b)
        ),
    ),
    ("rms_norm_input", RMSNormInput(jaxrnn.GRUCell(4)), scaled(GRU)),
    (
        "block",
        Block(jaxrnn.GRUCell(4), mlp=5),
        stacked(
            (beside(scaled(mixer(GRU, 4)), operator.add), 3),
            (beside(scaled(PERCEPTRON), operator.add), 3),
        ),
    ),
    (
        "block_plain",
        Block(Zoneout(jaxrnn.LSTMCell(4), h=0.3, c=0.1), 5, norm="layer", conv=None, gate=False),
        stacked(
            (beside(normalised(mixer(zoneout(LSTM, {"h": 0.3, "c": 0.1}), None)), operator.add), 3)
        ),
    ),
]
CELLS = BUILT_IN + TORTURE + AROUND
# what holds the contract holds for these; tests of a few cells choose among CELLS
EVERY = CELLS + GATED + MEMORY + NEURAL + LINEAR + BESIDE + DEEP


def parameters(cell, size=3, seed=0):
    """Random non-zero parameters, float64 NumPy: nothing of `init` but structure and shapes."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: cell.init(key, size), jax.random.key(0))
    return jax.tree.map(lambda a: 0.5 * random.normal(size=a.shape), shapes)


def inputs(cell, T, batch=(), size=3, seed=1):
    """Random inputs [T, *batch, 4, ..., size], float64 NumPy."""
    return np.random.default_rng(seed).normal(
        size=(T, *batch, *(4,) * (cell.feature_axes - 1), size)
    )


def randomised(tree, seed=2):
    """A tree of random numbers of the same shapes: a given carry."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda a: random.normal(size=a.shape), tree)


def assert_close(got, want, tolerance=1e-12):
    """Compares two trees, relative to the larger of 1 and the largest entry of each leaf wanted."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape, (jax.tree_util.keystr(path), a.shape, b.shape)
        error = np.max(np.abs(a - b), initial=0.0) / max(1.0, np.max(np.abs(b), initial=0.0))
        assert error <= tolerance, f"{jax.tree_util.keystr(path)} is off by {error:.1e}"
