"""The cells of other libraries behind one face: their arrays, their own run over time, and our
conversions from and to them.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxrnn
from jaxrnn import interop
from jaxrnn.cells import ConvLSTMCell, GRUResetBeforeCell, MGUResetAfterCell, UGRNNCell

T, B, I, H = 5, 2, 3, 4
SPACE, KERNEL = (5, 6), (3, 2)


class Peer(NamedTuple):
    """One cell of another library. States are (h,), or (h, c)."""

    cell: jaxrnn.Cell  # ours
    arrays: Any  # theirs: a tree of the right names and shapes
    run: Callable  # (arrays, xs [T, B, I], state) -> (ys, state), computed by the library
    load: Callable  # arrays to our parameters
    store: Callable  # our parameters to arrays
    fit: Callable = lambda params: params  # random parameters to such as the library has
    ours_exact: bool = True  # whether ours -> theirs -> ours keeps every bit
    theirs_exact: bool = True  # whether theirs -> ours -> theirs keeps every bit
    space: tuple[int, ...] = ()  # of a convolutional cell


def linen(
    cell,
    module,
    *,
    store=interop.to_linen,
    fit=lambda p: p,
    ours_exact=True,
    exact=True,
    space=(),
    **options,
):
    state = (np.zeros((B, *space, H), np.float32),) * len(
        cell.init_carry(None, jnp.zeros((B, *space, I)))
    )

    step = jax.jit(module.apply)  # one program instead of one for each operation

    def run(tree, xs, state):
        carry, ys = _flax_carry(state), []
        for x in xs:
            carry, y = step({"params": tree}, carry, x)
            ys.append(y)
        return np.stack(ys), _our_state(carry)

    x = np.zeros((B, *space, I), np.float32)
    tree = module.init(jax.random.key(0), _flax_carry(state), x)["params"]
    load = functools.partial(interop.from_linen, cell, **options)
    return Peer(
        cell, tree, run, load, functools.partial(store, cell), fit, ours_exact, exact, space
    )


def linen_mgu():
    module = nn.MGUCell(H)
    tree = module.init(
        jax.random.key(0), np.zeros((B, H), np.float32), np.zeros((B, I), np.float32)
    )["params"]
    return linen(
        jaxrnn.GRUCell(H), module, store=functools.partial(interop.to_linen, like=tree), fit=_tied
    )


def nnx_cell(cell, module, *, like=False, fit=lambda p: p, exact=True, **options):
    graph, state = nnx.split(module)
    tree = nnx.to_pure_dict(state)

    def run(tree, xs, state):
        new = nnx.state(module)
        nnx.replace_by_pure_dict(new, tree)
        step, carry, ys = nnx.merge(graph, new), _flax_carry(state), []
        for x in xs:
            carry, y = step(carry, x)
            ys.append(y)
        return np.stack(ys), _our_state(carry)

    load = functools.partial(interop.from_nnx, cell, **options)
    store = functools.partial(interop.to_nnx, cell, like=tree if like else None)
    return Peer(cell, tree, run, load, store, fit, theirs_exact=exact)


def keras(cell, name, *args, exact=True, space=(), **options):
    module = pytest.importorskip("keras")
    layer = getattr(module.layers, name)(
        H, *args, return_sequences=True, return_state=True, **options
    )
    layer.build((B, T, *space, I))

    def run(weights, xs, state):
        layer.set_weights(
            [weights[n] for n in ("kernel", "recurrent_kernel", "bias") if n in weights]
        )
        with jax.numpy_dtype_promotion("standard"):
            ys, *state = layer(np.swapaxes(xs, 0, 1), initial_state=list(state))
        return np.swapaxes(ys, 0, 1), tuple(state)

    arrays = dict(
        zip(
            ("kernel", "recurrent_kernel", "bias"),
            (np.asarray(w.value) for w in layer.weights),
            strict=False,
        )
    )
    load, store = (
        functools.partial(interop.from_keras, cell),
        functools.partial(interop.to_keras, cell),
    )
    return Peer(cell, arrays, run, load, store, theirs_exact=exact, space=space)


def haiku(cell, name, *, ours_exact=True, theirs_exact=True, double_bias=True, space=()):
    hk = pytest.importorskip("haiku")
    options = {} if double_bias else {"double_bias": False}
    lstm = name.endswith("LSTM")

    def step(x, state):
        state = hk.LSTMState(*state) if lstm else state[0]
        core = getattr(hk, name)(space, H, KERNEL) if space else getattr(hk, name)(H, **options)
        y, state = core(x, state)
        return y, tuple(state) if lstm else (state,)

    core = hk.without_apply_rng(hk.transform(step))
    apply = jax.jit(core.apply)

    def run(arrays, xs, state):
        ys = []
        for x in xs:
            y, state = apply(arrays, x, state)
            ys.append(y)
        return np.stack(ys), state

    zeros = np.zeros((B, *space, H), np.float32)
    arrays = core.init(jax.random.key(0), np.zeros((B, *space, I), np.float32), (zeros, zeros))
    load = functools.partial(interop.from_haiku, cell)
    store = functools.partial(interop.to_haiku, cell, double_bias=double_bias)
    return Peer(
        cell,
        arrays,
        run,
        load,
        store,
        ours_exact=ours_exact,
        theirs_exact=theirs_exact,
        space=space,
    )


def equinox(cell, name, *, use_bias=True):
    eqx = pytest.importorskip("equinox")
    theirs = getattr(eqx.nn, name)(I, H, use_bias=use_bias, key=jax.random.key(0))
    names = [
        n
        for n in ("weight_ih", "weight_hh", "bias", "bias_n")
        if getattr(theirs, n, None) is not None
    ]

    step = eqx.filter_jit(lambda module, x, state: jax.vmap(module)(x, state))

    def run(arrays, xs, state):
        module = eqx.tree_at(
            lambda m: [getattr(m, n) for n in names],
            theirs,
            [jnp.asarray(arrays[n]) for n in names],
        )
        state, ys = state if name == "LSTMCell" else state[0], []
        for x in xs:
            state = step(module, x, state)
            ys.append(state[0] if name == "LSTMCell" else state)
        return np.stack(ys), state if name == "LSTMCell" else (state,)

    arrays = {n: np.asarray(getattr(theirs, n)) for n in names}
    return Peer(
        cell,
        arrays,
        run,
        functools.partial(interop.from_equinox, cell),
        functools.partial(interop.to_equinox, cell),
    )


def torch_cell(cell, name, *, bias=True, **options):
    torch = pytest.importorskip("torch")
    module = getattr(torch.nn, name)(I, H, bias=bias, **options)

    def run(arrays, xs, state):
        module.load_state_dict(
            {n: torch.as_tensor(np.array(a)) for n, a in arrays.items()}, strict=True
        )
        state, ys = tuple(torch.as_tensor(np.array(s)) for s in state), []
        with torch.no_grad():
            for x in xs:
                after = module(
                    torch.as_tensor(np.array(x)), state if name == "LSTMCell" else state[0]
                )
                state = after if name == "LSTMCell" else (after,)
                ys.append(state[0].numpy())
        return np.stack(ys), tuple(s.numpy() for s in state)

    arrays = {n: a.numpy() for n, a in module.state_dict().items()}
    load, store = (
        functools.partial(interop.from_torch_cell, cell),
        functools.partial(interop.to_torch_cell, cell),
    )
    return Peer(cell, arrays, run, load, store, theirs_exact=not bias)


def random(tree, seed=0):
    """Random entries, biases too, for a tree of arrays."""
    rng = np.random.RandomState(seed)
    return jax.tree.map(lambda a: rng.normal(0, 0.6, a.shape).astype(np.float32), tree)


def _flax_carry(state):
    return state[0] if len(state) == 1 else (state[1], state[0])


def _our_state(carry):
    return (carry[1], carry[0]) if isinstance(carry, tuple) else (carry,)


def _tied(params):
    def tie(a):
        return a[..., [0, 0, 2], :]

    b = tie(params.b.reshape(3, -1)).reshape(-1)
    return params._replace(w_x=tie(params.w_x), w_h=tie(params.w_h), b=b)


def _no_b_hn(params):
    return params._replace(b_hn=np.zeros_like(params.b_hn))


RNN, LSTM, GRU, BEFORE = (
    jaxrnn.RNNCell,
    jaxrnn.LSTMCell,
    jaxrnn.GRUCell,
    GRUResetBeforeCell,
)
CONV = ConvLSTMCell
RNGS = functools.partial(nnx.Rngs, 0)
PEERS = {
    "linen.LSTMCell-activations": lambda: linen(
        LSTM(H, activation="relu", recurrent_activation="hard_sigmoid"),
        nn.LSTMCell(H, activation_fn=nn.relu, gate_fn=nn.hard_sigmoid),
    ),
    "linen.GRUCell-activations": lambda: linen(
        GRU(H, activation="elu", recurrent_activation="hard_sigmoid"),
        nn.GRUCell(H, activation_fn=nn.elu, gate_fn=nn.hard_sigmoid),
    ),
    "nnx.LSTMCell-activations": lambda: nnx_cell(
        LSTM(H, activation="relu", recurrent_activation="hard_sigmoid"),
        nnx.LSTMCell(I, H, activation_fn=nnx.relu, gate_fn=nnx.hard_sigmoid, rngs=RNGS()),
    ),
    "keras.LSTM-activations": lambda: keras(
        LSTM(H, activation="relu", recurrent_activation="hard_sigmoid"),
        "LSTM",
        activation="relu",
        recurrent_activation="hard_sigmoid",
    ),
    "keras.GRU-activations": lambda: keras(
        GRU(H, activation="elu", recurrent_activation="hard_sigmoid"),
        "GRU",
        exact=False,
        activation="elu",
        recurrent_activation="hard_sigmoid",
    ),
    "keras.SimpleRNN-elu": lambda: keras(RNN(H, "elu"), "SimpleRNN", activation="elu"),
    "linen.LSTMCell": lambda: linen(LSTM(H), nn.LSTMCell(H)),
    "linen.OptimizedLSTMCell": lambda: linen(LSTM(H), nn.OptimizedLSTMCell(H)),
    "linen.GRUCell": lambda: linen(GRU(H), nn.GRUCell(H)),
    "linen.MGUCell": linen_mgu,
    "linen.MGUCell-own": lambda: linen(MGUResetAfterCell(H), nn.MGUCell(H)),
    "linen.MGUCell-no-reset": lambda: linen(UGRNNCell(H), nn.MGUCell(H, reset_gate=False)),
    "linen.ConvLSTMCell": lambda: linen(
        CONV(H, KERNEL), nn.ConvLSTMCell(H, KERNEL), ours_exact=False, exact=False, space=SPACE
    ),
    "linen.SimpleCell": lambda: linen(RNN(H), nn.SimpleCell(H)),
    "linen.SimpleCell-relu": lambda: linen(RNN(H, "relu"), nn.SimpleCell(H, activation_fn=nn.relu)),
    "nnx.LSTMCell": lambda: nnx_cell(LSTM(H), nnx.LSTMCell(I, H, rngs=RNGS())),
    "nnx.OptimizedLSTMCell": lambda: nnx_cell(
        LSTM(H), nnx.OptimizedLSTMCell(I, H, rngs=RNGS()), like=True
    ),
    "nnx.GRUCell": lambda: nnx_cell(GRU(H), nnx.GRUCell(I, H, rngs=RNGS()), fit=_no_b_hn),
    "nnx.SimpleCell": lambda: nnx_cell(RNN(H), nnx.SimpleCell(I, H, rngs=RNGS())),
    "keras.SimpleRNN": lambda: keras(RNN(H), "SimpleRNN"),
    "keras.SimpleRNN-relu-nobias": lambda: keras(
        RNN(H, "relu", bias=False), "SimpleRNN", activation="relu", use_bias=False
    ),
    "keras.LSTM": lambda: keras(LSTM(H), "LSTM"),
    "keras.LSTM-nobias": lambda: keras(LSTM(H, bias=False), "LSTM", use_bias=False),
    "keras.GRU": lambda: keras(GRU(H), "GRU", exact=False),
    "keras.GRU-nobias": lambda: keras(GRU(H, bias=False), "GRU", use_bias=False),
    "keras.GRU-before": lambda: keras(BEFORE(H), "GRU", reset_after=False),
    "keras.GRU-before-nobias": lambda: keras(
        BEFORE(H, bias=False), "GRU", reset_after=False, use_bias=False
    ),
    "keras.ConvLSTM2D": lambda: keras(
        CONV(H, KERNEL), "ConvLSTM2D", KERNEL, padding="same", space=SPACE
    ),
    "haiku.Conv2DLSTM": lambda: haiku(
        CONV(H, KERNEL), "Conv2DLSTM", ours_exact=False, theirs_exact=False, space=SPACE
    ),
    "haiku.VanillaRNN": lambda: haiku(RNN(H, "relu"), "VanillaRNN", theirs_exact=False),
    "haiku.VanillaRNN-onebias": lambda: haiku(RNN(H, "relu"), "VanillaRNN", double_bias=False),
    "haiku.LSTM": lambda: haiku(LSTM(H), "LSTM", ours_exact=False, theirs_exact=False),
    "haiku.GRU": lambda: haiku(BEFORE(H), "GRU"),
    "equinox.LSTMCell": lambda: equinox(LSTM(H), "LSTMCell"),
    "equinox.LSTMCell-nobias": lambda: equinox(LSTM(H, bias=False), "LSTMCell", use_bias=False),
    "equinox.GRUCell": lambda: equinox(GRU(H), "GRUCell"),
    "equinox.GRUCell-nobias": lambda: equinox(GRU(H, bias=False), "GRUCell", use_bias=False),
    "torch.RNNCell": lambda: torch_cell(RNN(H), "RNNCell"),
    "torch.RNNCell-relu": lambda: torch_cell(RNN(H, "relu"), "RNNCell", nonlinearity="relu"),
    "torch.LSTMCell": lambda: torch_cell(LSTM(H), "LSTMCell"),
    "torch.LSTMCell-nobias": lambda: torch_cell(LSTM(H, bias=False), "LSTMCell", bias=False),
    "torch.GRUCell": lambda: torch_cell(GRU(H), "GRUCell"),
    "torch.GRUCell-nobias": lambda: torch_cell(GRU(H, bias=False), "GRUCell", bias=False),
}
