"""Public entries with right arguments, for `bad_inputs`."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from oracles import inputs, parameters

import jaxrnn
from jaxrnn import diagnostics, interop, methods, online, sequences

T, B, I = 3, 2, 3


class Entry(NamedTuple):
    kind: str  # which entry
    name: str  # of what it is called with
    call: Callable[..., Any]
    arguments: dict[str, Any]
    # other names that a message may give an argument
    words: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    changed: tuple[str, ...] = ()  # only these are changed; all where it is empty


PARAMS = {"params": ("parameters", "w_", "b", "cell", "features", "input", "leaf", "leaves")}


def of_cell(name: str, cell: jaxrnn.Cell) -> Iterator[Entry]:
    """What takes a cell."""
    size = I
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), parameters(cell, size))
    xs = jnp.asarray(inputs(cell, T, (B,), size), jnp.float32)
    spatial = xs.shape[2:-1]
    carry = jaxrnn.initial_carry(cell, params, (B,), spatial_shape=spatial)
    mask = jnp.asarray(np.arange(T)[:, None] < np.array([T, 1]))
    reset = jnp.asarray(np.arange(T)[:, None] == np.array([1, 2]))
    words = PARAMS | {
        "xs": ("x", "input", "features"),
        "carry": ("state", "leaf"),
        "mask": ("rows",),
    }
    words |= {"x": ("xs", "input"), "batch_shape": ("shape",), "cell": ("Cell", "cells")}
    common = {"cell": cell, "params": params, "xs": xs, "carry": carry}
    rows = {"mask": mask, "reset": reset}
    options = {"reverse": False, "method": "scan", "remat": "none"}
    make = functools.partial(Entry, name=name, words=words)
    yield make("unroll", call=jaxrnn.unroll, arguments=common | rows | options)
    yield make(
        "unroll_carries",
        call=jaxrnn.unroll_carries,
        arguments=common | rows | options,
        changed=("reverse", "method", "remat", "mask", "reset"),
    )
    if cell.causal:
        yield make(
            "unroll_windows",
            call=jaxrnn.unroll_windows,
            arguments=common | rows | {"window": 2, "method": "scan", "remat": "none"},
            changed=("window", "method", "remat", "carry"),
        )
        yield make(
            "Cell.__call__",
            call=lambda params, carry, x: cell(params, carry, x),
            arguments={"params": params, "carry": carry, "x": xs[0]},
        )
        yield make(
            "stepper",
            call=lambda params, dtype: jaxrnn.stepper(cell, params, dtype).params,
            arguments={"params": params, "dtype": "float32"},
        )
        step = jaxrnn.stepper(cell, params)
        yield make(
            "stepper()",
            call=lambda carry, x: step(carry, x),
            arguments={"carry": carry, "x": xs[0]},
        )
    yield make(
        "initial_carry",
        call=jaxrnn.initial_carry,
        arguments={
            "cell": cell,
            "params": params,
            "batch_shape": (B,),
            "dtype": "float32",
            "spatial_shape": spatial,
        },
    )
    yield make(
        "Cell.init",
        call=lambda key, input_size, dtype: cell.init(key, input_size, dtype),
        arguments={"key": jax.random.key(0), "input_size": size, "dtype": "float32"},
    )
    yield make(
        "explain",
        call=lambda **given: str(jaxrnn.explain(**given)),
        arguments={
            "cell": cell,
            "shape": xs.shape,
            "dtype": "float32",
            "mask": True,
            "reset": False,
            "noise": False,
            "method": "scan",
            "remat": "none",
        },
    )


def of_none() -> Iterator[Entry]:
    """What takes no cell, or any one."""
    cell = jaxrnn.LSTMCell(4)
    params = cell.init(jax.random.key(0), I)
    xs = jnp.asarray(inputs(cell, T, (B,)), jnp.float32)
    each = [np.ones((n, 2), np.float32) for n in (3, 1, 2)]
    packed = sequences.pack(each, 4)
    mask = jnp.asarray(np.arange(T)[:, None] < np.array([T, 1]))
    integers = jnp.asarray([3, 0])
    factors = jnp.full((T, B, 4), 0.5)
    plain = {
        "lengths_to_mask": (jaxrnn.lengths_to_mask, {"lengths": integers, "T": T}),
        "pack": (sequences.pack, {"sequences": each, "length": 4}),
        "unpack": (sequences.unpack, {"packed": packed, "ys": packed.xs}),
        "pad": (sequences.pad, {"sequences": each, "length": 4, "value": 0.0, "batch_first": True}),
        "unpad": (sequences.unpad, {"xs": xs, "lengths": integers, "batch_first": False}),
        "bucket_sizes": (sequences.bucket_sizes, {"lengths": np.array([3, 5, 9]), "count": 2}),
        "bucket_size": (sequences.bucket_size, {"T": 4, "sizes": (3, 5, 9)}),
        "last_output": (
            sequences.last_output,
            {
                "ys": xs,
                "mask": mask,
                "bidirectional": False,
                "merge": "concat",
                "reverse": False,
                "batch_first": False,
            },
        ),
        "resets_from_dones": (sequences.resets_from_dones, {"dones": mask, "before": mask[0]}),
        "resets_from_segment_ids": (
            sequences.resets_from_segment_ids,
            {"segment_ids": jnp.asarray(packed.segment_ids)},
        ),
        "activation_regularization": (
            sequences.activation_regularization,
            {"ys": xs, "mask": mask, "batch_first": False},
        ),
        "temporal_activation_regularization": (
            sequences.temporal_activation_regularization,
            {"ys": xs, "mask": mask, "reset": mask, "batch_first": False},
        ),
        "affine_scan": (
            jaxrnn.affine_scan,
            {
                "a": factors,
                "b": factors,
                "start": factors[0],
                "mask": mask,
                "reset": mask,
                "first": factors[0],
                "reverse": False,
            },
        ),
        "Chrono": (jaxrnn.Chrono, {"max_lag": 10.0}),
        "Newton": (methods.Newton, {"tolerance": 1e-5, "iterations": 8, "guess": "input"}),
        "Stack": (
            jaxrnn.Stack,
            {"cells": (cell, cell), "bidirectional": False, "dropout": 0.1, "merge": "concat"},
        ),
        "effective_memory": (
            diagnostics.effective_memory,
            {"log10_norms": jnp.asarray([-3.0, -1.0, 0.0]), "share": 0.01},
        ),
        "carry_jacobian_norms": (
            diagnostics.carry_jacobian_norms,
            {"cell": cell, "params": params, "xs": xs[:, 0], "field": "h"},
        ),
        "largest_lyapunov_exponent": (
            diagnostics.largest_lyapunov_exponent,
            {
                "cell": cell,
                "params": params,
                "xs": xs[:, 0],
                "key": jax.random.key(0),
                "washout": 1,
            },
        ),
        "to_torch_cell": (interop.to_torch_cell, {"cell": cell, "params": params}),
        "to_keras": (interop.to_keras, {"cell": cell, "params": params}),
        "to_haiku": (interop.to_haiku, {"cell": cell, "params": params}),
        "to_equinox": (interop.to_equinox, {"cell": cell, "params": params}),
        "to_linen": (interop.to_linen, {"cell": cell, "params": params}),
        "to_nnx": (interop.to_nnx, {"cell": cell, "params": params}),
        "to_c": (interop.to_c, {"cell": cell, "params": params, "name": "model"}),
        "to_flax_carry": (
            interop.to_flax_carry,
            {"cell": cell, "carry": jaxrnn.initial_carry(cell, params, (B,))},
        ),
    }
    words = PARAMS | {"lengths": ("length",), "sequences": ("sequence", "value"), "ys": ("packed",)}
    for kind, (call, arguments) in plain.items():
        yield Entry(kind, "", call, arguments, words)
    for other in ("torch_cell", "keras", "haiku", "equinox", "linen", "nnx"):
        weights = getattr(interop, f"to_{other}")(cell, params)
        read = getattr(interop, f"from_{other}")
        second = list(_parameters(read))[1]
        known = words | {second: ("weight", "bias", "kernel", "cell", "h", "i", "f", "g", "o")}
        arguments = {"cell": cell, second: weights, "dtype": "float32"}
        yield Entry(f"from_{other}", "", read, arguments, known)
    yield from _constructors()
    yield from _online()


def _parameters(function: Callable[..., Any]) -> Any:
    import inspect

    return inspect.signature(function).parameters


def _constructors() -> Iterator[Entry]:
    """Every cell and wrapper, with its options as they are by default."""
    import dataclasses

    from oracles import EVERY

    seen = set()
    for _, cell, _ in EVERY:
        kinds = [cell, *(getattr(cell, "cell", None),)]
        for one in kinds:
            if one is None or type(one) in seen or type(one).__module__.startswith("torture"):
                continue
            seen.add(type(one))
            options = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
            options = {k: v for k, v in options.items() if _is_plain(v)}
            yield Entry(
                f"{type(one).__name__}",
                "",
                type(one),
                options,
                {"cells": ("cell",), "cell": ("cells", "Cell"), "mask": ("Mask", "bits")},
            )


def _is_plain(value: Any) -> bool:
    return isinstance(value, jaxrnn.Cell) or (value is not None and not callable(value))


def _online() -> Iterator[Entry]:
    cell = jaxrnn.cells.MinGRUCell(4)
    params = cell.init(jax.random.key(0), I)
    xs = jnp.asarray(inputs(cell, T, (B,)), jnp.float32)

    def loss(head: Any, y: Any, target: Any) -> Any:
        return jnp.sum(jnp.asarray(y, jnp.float32) ** 2)  # which nothing does not fit

    for kind in (online.RTRL, online.SnAp1, online.EProp, online.DenseRTRL):
        yield Entry(
            kind.__name__,
            "",
            lambda cell, kind=kind, **rest: online.learn(kind(cell), loss=loss, **rest)[0],
            {"cell": cell, "params": params, "xs": xs, "targets": jnp.zeros((T, B, 4))},
            PARAMS | {"targets": ("target",), "xs": ("x",)},
            ("cell", "params", "xs"),
        )


def of_modules() -> Iterator[Entry]:
    """Flax modules."""
    from flax import nnx

    from jaxrnn import linen as L
    from jaxrnn import nnx as N

    xs = jnp.ones((T, B, I))
    lengths = jnp.asarray([3, 1])
    options = {
        "input_size": I,
        "hidden_size": 4,
        "num_layers": 1,
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
    }
    words = {"x": ("xs", "input", "features"), "lengths": ("length",)}
    for name in ("LSTM", "GRU", "RNN"):
        of_nnx = getattr(N, name)
        of_linen = getattr(L, name)

        def in_nnx(of_nnx: Any = of_nnx, **given: Any) -> Any:
            return of_nnx(**given, rngs=nnx.Rngs(0))(xs)

        def in_linen(of_linen: Any = of_linen, **given: Any) -> Any:
            return of_linen(**given).init_with_output(jax.random.key(0), xs)[0]

        yield Entry(f"nnx.{name}", "", in_nnx, options, words)
        yield Entry(f"linen.{name}", "", in_linen, options, words)
        module = of_nnx(I, 4, rngs=nnx.Rngs(0))
        layer = of_linen(I, 4)
        variables = layer.init(jax.random.key(0), xs)
        _, state = module(xs)
        given = {"x": xs, "state": state, "lengths": lengths}

        def call_nnx(x: Any, state: Any, lengths: Any, module: Any = module) -> Any:
            return module(x, state, lengths=lengths)

        def call_linen(
            x: Any, state: Any, lengths: Any, layer: Any = layer, variables: Any = variables
        ) -> Any:
            return layer.apply(variables, x, state, lengths=lengths)

        words_of_call = words | {"state": ("h_0", "c_0", "carry", "h", "c")}
        yield Entry(f"nnx.{name}()", "", call_nnx, given, words_of_call)
        yield Entry(f"linen.{name}()", "", call_linen, given, words_of_call)
