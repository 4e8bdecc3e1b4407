"""The cases of the parity with torch: inputs drawn by name, torch's answers and ours.

The committed answers, for a run without torch, are written by `python tests/support/parity.py`.
"""

import functools
import itertools
import os
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from places import TESTS

import jaxrnn.nnx as rnn

GOLDEN = TESTS / "golden" / "torch.npz"
T, B, I, H, P = 4, 3, 2, 3, 2
KINDS = ("rnn_tanh", "rnn_relu", "lstm", "lstmp", "gru")


class Case(NamedTuple):
    kind: str
    layers: int
    bidirectional: bool
    bias: bool
    ragged: bool

    def __str__(self) -> str:
        words = (
            self.kind,
            f"{self.layers}layers",
            "bi" * self.bidirectional,
            "nobias" * (not self.bias),
            "ragged" * self.ragged,
        )
        return "-".join(w for w in words if w)

    @property
    def lengths(self) -> list[int] | None:
        return [2, T, 1] if self.ragged else None

    @property
    def is_lstm(self) -> bool:
        return self.kind.startswith("lstm")

    def options(self) -> dict:
        options = dict(num_layers=self.layers, bidirectional=self.bidirectional, bias=self.bias)
        if self.kind.startswith("rnn"):
            options["nonlinearity"] = self.kind[4:]
        return options | (dict(proj_size=P) if self.kind == "lstmp" else {})

    def make(self, library, *args, **kwargs):
        """The module of this case from `torch.nn` or `jaxrnn.nnx`."""
        name = {"rnn": "RNN", "lst": "LSTM", "gru": "GRU"}[self.kind[:3]]
        return getattr(library, name)(*args, **self.options(), **kwargs)


CASES = [
    Case(*c) for c in itertools.product(KINDS, (1, 3), (False, True), (True, False), (False, True))
]


def torch_installed() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


class Problem(NamedTuple):
    weights: dict[str, np.ndarray]  # torch's names; every entry random, biases too
    xs: np.ndarray  # [T, B, I]
    state: tuple[np.ndarray, ...]  # h_0, and c_0 for an LSTM
    # the loss is the sum of the outputs and final states, weighed by these
    weigh: tuple[np.ndarray, ...]


@functools.cache
def problem(case: Case) -> Problem:
    """Random inputs in float64, the same on every machine."""
    rng = np.random.RandomState(zlib.crc32(str(case).encode()))
    module = case.make(rnn, I, H, rngs=nnx.Rngs(0))
    weights = {name: rng.normal(0, 0.6, a.shape) for name, a in module.to_torch().items()}
    count, width = case.layers * (1 + case.bidirectional), P if case.kind == "lstmp" else H
    states = [(count, B, width), (count, B, H)][: 1 + case.is_lstm]
    outputs = [(T, B, width * (1 + case.bidirectional)), *states]
    draw = functools.partial(map, lambda shape: rng.normal(size=shape))
    return Problem(weights, rng.normal(size=(T, B, I)), tuple(draw(states)), tuple(draw(outputs)))


def _answers(outputs, weights, xs, state) -> dict[str, np.ndarray]:
    """Values and gradients under common names."""
    named = dict(zip(("output", "h_n", "c_n"), outputs, strict=False)) | {
        f"grad_{k}": v for k, v in weights.items()
    }
    named |= {"grad_xs": xs} | dict(zip(("grad_h_0", "grad_c_0"), state, strict=False))
    return {name: np.asarray(value) for name, value in named.items()}


def torch_answers(case: Case, dtype: str) -> dict[str, np.ndarray]:
    """What torch computes."""
    import torch

    given = problem(case)
    module = case.make(torch.nn, I, H).to(getattr(torch, dtype))
    module.load_state_dict({k: torch.tensor(v) for k, v in given.weights.items()})
    xs, *state = [
        torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=True)
        for a in (given.xs, *given.state)
    ]
    rnn_utils, packed = torch.nn.utils.rnn, xs
    if case.ragged:
        packed = rnn_utils.pack_padded_sequence(
            xs, torch.tensor(case.lengths), enforce_sorted=False
        )
    output, final = module(packed, tuple(state) if case.is_lstm else state[0])
    if case.ragged:
        output, _ = rnn_utils.pad_packed_sequence(output, total_length=T)
    outputs = (output, *(final if case.is_lstm else (final,)))
    sum(
        (o * torch.tensor(w, dtype=o.dtype)).sum()
        for o, w in zip(outputs, given.weigh, strict=True)
    ).backward()
    grads = {k: p.grad.numpy() for k, p in module.named_parameters()}
    return _answers(
        [o.detach().numpy() for o in outputs],
        grads,
        xs.grad.numpy(),
        [s.grad.numpy() for s in state],
    )


def our_answers(case: Case, dtype: str) -> dict[str, np.ndarray]:
    """What the nnx module computes from the same weights."""
    with jax.enable_x64(dtype == "float64"):
        given = problem(case)
        module = case.make(rnn, I, H, rngs=nnx.Rngs(0), param_dtype=dtype)
        module.load_torch(given.weights)
        xs, *state = [jnp.asarray(a, dtype) for a in (given.xs, *given.state)]

        def loss(module, xs, state):
            output, final = module(
                xs, tuple(state) if case.is_lstm else state[0], lengths=case.lengths
            )
            outputs = (output, *(final if case.is_lstm else (final,)))
            return sum(
                (o * jnp.asarray(w, o.dtype)).sum()
                for o, w in zip(outputs, given.weigh, strict=True)
            ), outputs

        grads, outputs = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(module, xs, state)
        return _answers(outputs, grads[0].to_torch(), *grads[1:])


@functools.cache
def _golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def golden_answers(case: Case) -> dict[str, np.ndarray]:
    """The committed answers of torch."""
    return {
        key.split("/")[1]: value for key, value in _golden().items() if key.startswith(f"{case}/")
    }


def assert_same(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], tolerance: float
) -> None:
    """Equal relative to the larger of 1 and the reference's largest entry;
    our one bias has the gradient of torch's first.
    """
    assert ours.keys() == theirs.keys()
    for name, reference in theirs.items():
        mine = ours[name]
        if name.startswith("grad_bias_hh"):  # zero but for b_hn, the GRU's last block
            used = mine != 0
            mine, reference = mine[used], reference[used]
            if not used.any():
                continue
        scale = max(1.0, np.abs(reference).max())
        worst = np.abs(mine.astype(np.float64) - reference).max() / scale
        assert worst <= tolerance, f"{name} differs by {worst:.1e}"


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    arrays = {
        f"{case}/{name}": array
        for case in CASES
        for name, array in torch_answers(case, "float64").items()
    }
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN}: {len(CASES)} cases, {GOLDEN.stat().st_size / 1e3:.0f} kB")
