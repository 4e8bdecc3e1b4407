"""Every public entry called with one argument changed at a time: what comes of it, counted.

`python tests/support/mutations.py` prints the counts, and with `--show foreign` (or `other`) the
calls. An error is ours where it is raised by a line of jaxrnn, foreign where it comes from below.
`same` and `other` tell whether a call that is not refused gives the result of the right one:
`other` is to be looked at, since a change may mean something (another seed) or nothing that anyone
would want.
`stuck` is a call that did not end.
"""

import argparse
import collections
import dataclasses
import inspect
import itertools
import math
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import cells, diagnostics, initializers, interop, sequences, wrappers

T, B, I, H = 4, 3, 2, 3
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(T, B, I)).astype(np.float32)
MASK = np.arange(T)[:, None] < np.array([4, 0, 2])
RESET = RNG.random((T, B)) < 0.3
KEY = jax.random.key(0)
GRU = jaxrnn.GRUCell(H)
LSTM = jaxrnn.LSTMCell(H)
STACK = jaxrnn.Stack((LSTM, LSTM), dropout=0.5)

SECONDS = 20  # for one call

Call = tuple[Callable[..., Any], dict[str, Any]]


def entries() -> Iterator[tuple[str, Call]]:
    """The right calls: a name, and a function with all of its arguments by name."""
    p_gru, p_lstm, p_stack = (cell.init(KEY, I) for cell in (GRU, LSTM, STACK))
    carry = cells.LSTMCarry(h=XS[0, :, :1] * np.ones(H, np.float32), c=np.ones((B, H), np.float32))
    run = dict(cell=LSTM, params=p_lstm, xs=XS, carry=carry, mask=MASK, reset=RESET)
    yield "unroll", (jaxrnn.unroll, run | dict(reverse=False, method=None, remat="none"))
    noise = STACK.noise(KEY, T, XS[0])
    stacked = dict(cell=STACK, params=p_stack, xs=XS, noise=noise, reverse=True)
    yield "unroll of a stack", (jaxrnn.unroll, stacked)
    yield "unroll_carries", (jaxrnn.unroll_carries, run)
    yield "unroll_windows", (jaxrnn.unroll_windows, run | dict(window=2))
    batch = dict(batch_shape=(B,), dtype=jnp.float32)
    yield "initial_carry", (jaxrnn.initial_carry, dict(cell=GRU, params=p_gru) | batch)
    yield "stepper", (jaxrnn.stepper, dict(cell=GRU, params=p_gru, dtype=jnp.float32))
    step = jaxrnn.stepper(LSTM, p_lstm)
    yield "a step", (step, dict(carry=carry, x=XS[0], reset=RESET[0]))
    yield "a cell", (LSTM, dict(params=p_lstm, carry=carry, x=XS[0]))
    explained = dict(cell=GRU, shape=(T, B, I), dtype=jnp.float32, mask=True, reset=False)
    yield "explain", (lambda **k: str(jaxrnn.explain(**k)), explained)
    yield "lengths_to_mask", (jaxrnn.lengths_to_mask, dict(lengths=[4, 0, 2], T=T))
    split = dict(loss=lambda xs: jnp.mean(xs), in_axes=1, devices=jax.devices()[:1])
    yield "split_batch", (lambda xs, **k: jaxrnn.split_batch(**k)(xs), split | dict(xs=XS))
    yield from _of_sequences()
    yield from _constructors()
    yield from _of_interop(p_gru, p_lstm, p_stack)
    yield from _of_diagnostics(p_gru)
    yield from _modules(p_stack, carry)


def _of_sequences() -> Iterator[tuple[str, Call]]:
    each = [np.ones((n, I), np.float32) for n in (3, 0, 2)]
    ids = np.array([[1, 2], [1, 2], [3, 0]])
    outputs = dict(ys=XS, mask=MASK)
    yield "last_output", (sequences.last_output, outputs | dict(bidirectional=True))
    yield "AR", (sequences.activation_regularization, outputs)
    yield "TAR", (sequences.temporal_activation_regularization, outputs | dict(reset=RESET))
    yield "pack", (sequences.pack, dict(sequences=each, length=4))
    yield "pad", (sequences.pad, dict(sequences=each, length=4))
    packed = sequences.pack(each, 4)
    yield "unpack", (sequences.unpack, dict(packed=packed, ys=packed.xs))
    yield "bucket_sizes", (sequences.bucket_sizes, dict(lengths=[3, 4, 9], count=2))
    yield "bucket_size", (sequences.bucket_size, dict(T=3, sizes=(4, 9)))
    before = dict(before=ids[0])
    yield "segment ids", (sequences.resets_from_segment_ids, dict(segment_ids=ids) | before)
    dones = dict(dones=ids > 1, before=ids[0] > 0)
    yield "dones", (sequences.resets_from_dones, dones)


def _constructors() -> Iterator[tuple[str, Call]]:
    given = {"proj_size": 2, "kernel_size": (3,), "hidden_size": 4, "heads": 2}
    given |= {"cell": jaxrnn.GRUCell(4), "forward": GRU, "cells": (GRU, GRU)}
    for module in (cells, wrappers, jaxrnn):
        for name in module.__all__:
            kind = getattr(module, name)
            own = isinstance(kind, type) and issubclass(kind, jaxrnn.Cell)
            if own and dataclasses.is_dataclass(kind) and kind is not wrappers.Wrapper:
                yield name, (_made, {"kind": kind} | _fields(kind, given))
    for name in ("Orthogonal", "Identity", "Normal", "Chrono"):
        options = {"stddev": 0.5} if name == "Normal" else {"scale": 1.5}
        options = {"max_lag": 9} if name == "Chrono" else options
        yield name, (_drawn, {"kind": getattr(initializers, name)} | options)


def _fields(kind: Any, given: dict[str, Any]) -> dict[str, Any]:
    """All fields of a dataclass, those without default as given."""
    found = {}
    for field in dataclasses.fields(kind):
        if field.name in given:
            found[field.name] = given[field.name]
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


def _made(kind: Any, **options: Any) -> Any:
    """What a cell with these options computes, with its own parameters."""
    cell = kind(**options)
    axes = cell.feature_axes
    xs = np.resize(
        XS, (T, B, *(4,) * (axes - 1), I if not isinstance(cell, wrappers.Residual) else 4)
    )
    params = cell.init(KEY, xs.shape[-1])
    drawn = cell.noise(KEY, T, jnp.asarray(xs[0]))
    return jaxrnn.unroll(cell, params, xs, noise=drawn)


def _drawn(kind: Any, **options: Any) -> Any:
    return kind(**options)(KEY, (4, 4), jnp.float32)


def _of_interop(p_gru: Any, p_lstm: Any, p_stack: Any) -> Iterator[tuple[str, Call]]:
    torch = dict(stack=STACK, input_size=I, state_dict=interop.to_torch(STACK, p_stack))
    yield "from_torch", (interop.from_torch, torch | dict(dtype=jnp.float32, prefix=""))
    yield "to_torch", (interop.to_torch, dict(stack=STACK, params=p_stack, prefix="x."))
    for library in ("linen", "nnx", "keras", "equinox"):
        to, back = getattr(interop, f"to_{library}"), getattr(interop, f"from_{library}")
        yield f"to_{library}", (to, dict(cell=LSTM, params=p_lstm))
        second = list(inspect.signature(back).parameters)[1]
        entry = {"cell": LSTM, second: to(LSTM, p_lstm), "dtype": jnp.float32}
        yield f"from_{library}", (back, entry)


def _of_diagnostics(p_gru: Any) -> Iterator[tuple[str, Call]]:
    one = dict(cell=GRU, params=p_gru, xs=XS[:, 0])
    yield "carry_jacobians", (diagnostics.carry_jacobians, one)
    yield "carry_jacobian_norms", (diagnostics.carry_jacobian_norms, one | dict(field="h"))
    yield "lyapunov", (diagnostics.largest_lyapunov_exponent, one | dict(washout=1))
    loss = dict(loss=lambda carry, ys: ys.sum())
    yield "carry_gradients", (diagnostics.carry_gradients, one | loss)
    norms = dict(log10_norms=-np.arange(5.0, dtype=np.float32), share=0.01)
    yield "effective_memory", (diagnostics.effective_memory, norms)
    capacity = dict(cell=GRU, params=GRU.init(KEY, 1), key=KEY, delays=2, steps=20, scale=0.5)
    yield "memory_capacity", (diagnostics.memory_capacity, capacity)


def _modules(p_stack: Any, carry: Any) -> Iterator[tuple[str, Call]]:
    shape = dict(input_size=I, hidden_size=H, num_layers=2, bias=True, batch_first=True)
    shape |= dict(dropout=0.5, bidirectional=True, dtype=None, param_dtype=jnp.float32)
    call = dict(xs=np.moveaxis(XS, 0, 1), lengths=np.array([4, 0, 2]), deterministic=True)
    state = tuple(np.ones((2, B, H), np.float32) for _ in range(2))
    for name in ("RNN", "LSTM", "GRU"):
        yield f"nnx.{name}", (_nnx, {"name": name} | shape)
        yield f"linen.{name}", (_linen, {"name": name} | shape)
    any_cell = dict(cell=GRU, input_size=I, batch_first=True, dtype=None, remat="none")
    yield "nnx.Recurrent", (_nnx, {"name": "Recurrent"} | any_cell)
    yield "linen.Recurrent", (_linen, {"name": "Recurrent"} | any_cell)
    module = jaxrnn.nnx.LSTM(I, H, 2, batch_first=True, dropout=0.5, rngs=nnx.Rngs(0))
    linen = jaxrnn.linen.LSTM(I, H, 2, batch_first=True, dropout=0.5)
    variables = linen.init(KEY, call["xs"], deterministic=True)
    masks = dict(mask=np.moveaxis(MASK, 0, 1), reset=np.moveaxis(RESET, 0, 1), state=state)
    yield "a call in nnx", (module, call | masks)
    yield "a call in linen", (lambda **k: linen.apply(variables, **k), call | masks)
    yield "a step in nnx", (module.step, dict(x=XS[0], state=state))
    yield "load in nnx", (lambda params: _loaded(module, params), dict(params=p_stack))
    yield "load in linen", (linen.load, dict(params=p_stack))
    yield "initial_state", (module.initial_state, dict(batch_size=B))


def _nnx(name: str, **options: Any) -> Any:
    module = getattr(jaxrnn.nnx, name)(**options, rngs=nnx.Rngs(0))
    return module(np.moveaxis(XS, 0, 1), deterministic=True)


def _linen(name: str, **options: Any) -> Any:
    module = getattr(jaxrnn.linen, name)(**options)
    return module.init_with_output(KEY, np.moveaxis(XS, 0, 1), deterministic=True)[0]


def _loaded(module: Any, params: Any) -> Any:
    module.load(params)
    return module(np.moveaxis(XS, 0, 1), deterministic=True)


# --- changes --------------------------------------------------------------------------------------


def changes(value: Any) -> Iterator[Any]:
    """One argument as it might be given by mistake."""
    yield from (None, "x", {}, (), [], math.nan, math.inf, -1, 0, 2.5, True, 2**40, object)
    if isinstance(value, bool):
        yield from ("no", 0, 1, not value)
    elif isinstance(value, int):
        yield from (value + 0.5, float(value), str(value), np.int64(value), value + 1, -value)
    elif isinstance(value, float):
        yield from (-value, str(value), np.float32(value), jnp.asarray(value))
    elif isinstance(value, str):
        yield from (value[:-1], value.upper(), value.encode())
    elif isinstance(value, np.ndarray | jax.Array):
        yield from _arrays(value)
    elif isinstance(value, tuple | list | dict):
        yield from _containers(value)
    elif isinstance(value, jaxrnn.Cell):
        yield from (type(value), jaxrnn.Stack((value,)), jaxrnn.RNNCell(H), jaxrnn.GRUCell(H + 1))


def _arrays(value: Any) -> Iterator[Any]:
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return
    value = np.asarray(value)
    for kind in (np.int32, np.uint8, np.complex64, np.bool_, np.float16, np.float64):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield value.astype(kind)
    yield from (value[None], value.tolist(), jnp.asarray(value))
    if value.ndim:
        yield from (value[0], value[..., :-1], value.T, value[:0], value[:-1])
    if value.ndim > 1:
        yield np.swapaxes(value, 0, 1)
    if value.dtype.kind == "f":
        yield value * np.float32(np.nan)


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (list(value.values()), dict(itertools.islice(value.items(), 1)))
        yield value | {"unknown": np.ones(3)}
        return
    yield from (list(value), value[:-1], tuple(value) + tuple(value)[:1], tuple(reversed(value)))
    if hasattr(value, "_asdict"):
        yield from (value._asdict(), tuple(value), value._replace(**{value._fields[0]: None}))


# --- what comes of them ---------------------------------------------------------------------------


def outcome(call: Call, right: Any, name: str, value: Any) -> tuple[str, str]:
    """ "own", "foreign", "same", "other" or "stuck", and a line that says more."""
    function, arguments = call
    try:
        signal.alarm(SECONDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = leaves(function(**arguments | {name: value}))
    except TimeoutError:
        return "stuck", f"after {SECONDS} s"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1]
        ours = "/jaxrnn/" in last.filename and (last.line or "").startswith(("raise", "assert"))
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        return ("own" if ours else "foreign"), text
    finally:
        signal.alarm(0)
    return ("same" if equal(result, right) else "other"), ""


def _stop(number: int, frame: Any) -> None:
    raise TimeoutError


def leaves(tree: Any) -> list[Any]:
    return [np.asarray(a) if hasattr(a, "dtype") else a for a in jax.tree.leaves(tree)]


def equal(a: list[Any], b: list[Any]) -> bool:
    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            if x.shape != y.shape or not np.allclose(x, y, atol=1e-5, equal_nan=True):
                return False
        elif isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--show", nargs="*", default=[])
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    jax.config.update("jax_disable_most_optimizations", True)
    signal.signal(signal.SIGALRM, _stop)
    counts: collections.Counter[str] = collections.Counter()
    for name, call in entries():
        if chosen.only not in name:
            continue
        try:
            right = leaves(call[0](**call[1]))
        except Exception as error:
            print(f"{name}: the right call fails: {error!r}"[:200], file=sys.stderr)
            counts["right call fails"] += 1
            continue
        for argument, value in call[1].items():
            if argument in ("kind", "name", "method") or callable(value):
                continue
            for changed in changes(value):
                if argument in ("delays", "steps", "hidden_size") and changed == 2**40:
                    continue  # JAX waits for memory that never comes
                what, text = outcome(call, right, argument, changed)
                counts[what] += 1
                if what in chosen.show:
                    given = " ".join(repr(changed).split())[:50]
                    print(f"{what:8} {name}({argument}={given}) {text}")
    print(", ".join(f"{what} {counts[what]}" for what in sorted(counts)), sum(counts.values()))


if __name__ == "__main__":
    main()
