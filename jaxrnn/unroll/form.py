"""How the loops of the fast path are laid out, by platform and static shape: the one place of these choices."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.backend
from jax import lax

from jaxrnn.typing import Array, dot, dot_in
from jaxrnn.unroll.scan import Sequence
from jaxrnn.unroll.study import Study


class Form(NamedTuple):
    project_inside: bool  # the inputs are projected step by step, not all at once
    joined: bool  # then, where it can be, by one product with the state's
    by_gate: bool  # the cotangent of a product is written down gate by gate
    fold: bool  # whether the rows of a chunk become one axis where the gradients of weights are taken
    columns: bool  # forward, the rows of the batch stand last in each array
    chunk: int  # steps of a chunk of the backward pass


def forms(steps: int, batch: int, projection: int, kernel: int, split: bool, fold: bool, remat: str) -> tuple[Form, Form]:
    """The forms for XLA:CPU and for all other platforms.

    A CPU projects inside the loop: all at once took 1.9 to 2.5 times as long forward at (8,256,64,64) and (16,128,64,128). But
    with one row per step it would read all input weights at each step: at (1,512,256,256), where they are 0.8 (GRU) and 1 MB
    (LSTM), all at once is 1.9 and 2.6 times as fast forward, 1.4 and 1.6 times with the backward pass; at (1,512,128,128), a
    quarter of that, as fast (LSTM) or slower (GRU 0.75 forward).

    A kernel of 4 MB and few rows: `kernel @ columns` instead of `rows @ kernel` took the forward LSTM 1.5 and 1.1 times as fast
    at H = 512 with 16 and 8 rows, 1.4-1.7 times with 32, 2.2 at (32,32,768,768), 2.6 at (32,32,1024,1024), there GRU 2.8 and RNN
    1.9; 1.1 to 1.4 times with the backward pass. Nothing was gained from 64 rows on, at H = 384, and with 4 rows.

    With a kernel below half a MB, input and state are multiplied together: `[x, h]` times both kernels took the forward LSTM 1.4
    times as fast at (1,100,32,32), 1.1 at (8,1024,32,32), 1.06 at (8,2048,64,64) and 1.05-1.2 (1.45 at the best) at
    (32,512,128,128), where XLA:CPU gives both cores to a product of twice the size only; at H = 256 0.92-1.03, with the backward
    pass 0.95-1.04. With the batch split over CPU devices each has its own core, and a product for two is slower: 1.12-1.3 times
    as fast as one device instead of 2.0. The joined kernel is made once for each call, which few steps do not make up for: 1.2 to
    3 times as long at (2,T,128,128) with 1 to 16 steps, 3 times at (2,1,8192,64).

    Args:
        steps: T.
        batch: how many rows a step has, pixels of a convolutional cell counted.
        projection: how many entries a kernel has that makes the projected input of a row from its features.
        kernel: how many entries the largest weight in the loop has; 0 where the batch cannot stand last, nor inputs join it.
        split: whether other devices run the same program on other rows (`jax.shard_map`).
        fold: whether batch and time may become one axis.
        remat: "none" or "carry".
    """
    inside = batch > 1 or projection < 2**17
    both = projection + kernel
    joined = inside and 0 < kernel < 2**17 and both <= 2**11 * steps and (not split or both < 2**17)
    columns = 8 <= batch <= 48 and kernel >= 2**20
    chunk = chunk_length(steps, batch, remat)
    cpu = Form(project_inside=inside, joined=joined, by_gate=True, fold=fold, columns=columns, chunk=chunk)
    return cpu, Form(project_inside=False, joined=False, by_gate=False, fold=False, columns=False, chunk=steps)


def chunk_length(steps: int, batch: int, remat: str = "none") -> int:
    """The steps of a chunk on a CPU: a divisor of T where there is one, from 32 on, and more where a step has few rows.

    From 16 to 128 the time of LSTM and GRU changed by less than 5 % at (16,128,64,128), (32,512,128,128), (8,2048,64,64) and
    (8,1024,32,32), and memory grows with the chunk. With one row per step 128 steps took 2 % less than 32 at (1,1024,64,64), and
    512 steps 2 % less again, but 1.2 times the memory of `flax.nnx.RNN`.

    With `remat="carry"` a chunk holds most of the memory: a sixteenth of T instead of a quarter is half of it at T = 128, and
    took 0.93-1.04 of the time at (64,128,256,256) and (32,128,512,512), 1.2 times at (16,128,64,128).
    """
    most = min(max(512 // max(batch, 1), 32), 128, steps)
    most = min(most, max(steps // 16, 8)) if remat == "carry" else most
    return next((n for n in range(most, most // 2, -1) if steps % n == 0), most)


def on_platform(run: Callable[..., Any], study: Study, remat: str, sequence: Sequence, weights: list[Array], *args: Any) -> Any:
    """`run(form, *args)` with the form for the platform that the program is compiled for."""
    cpu, default = forms_of(study, remat, sequence, weights)
    if cpu_only():  # nothing to choose from: half of the tracing is saved (80 ms of 650)
        return run(cpu, *args)
    return lax.platform_dependent(*args, cpu=functools.partial(run, cpu), default=functools.partial(run, default))


def forms_of(study: Study, remat: str, sequence: Sequence, weights: list[Array]) -> tuple[Form, Form]:
    """The forms for XLA:CPU and for all other platforms, of a run over a sequence."""
    shape = sequence.xs.shape  # [T, *batch, *space, I]
    projection = shape[-1] * sum(math.prod(u[study.rows :]) for u in study.us)
    fold = not jax.sharding.get_abstract_mesh().explicit_axes  # explicit shardings do not let two axes become one
    leading = {leaf.shape[: study.rows + 1] for leaf in jax.tree.leaves(sequence)}
    fold = fold and len(leading) == 1  # noise may broadcast
    plain = fold and dot_in(sequence.xs.dtype) is dot
    kernel = max([w.size for w in weights], default=0) if plain else 0
    split = bool(jax.sharding.get_abstract_mesh().manual_axes)
    return forms(shape[0], math.prod(shape[1:-1]), projection, kernel, split, fold, remat)


def cpu_only() -> bool:
    """Whether this process has no device but CPUs. A program that it exports for others is as correct there, and slower."""
    return set(jax.extend.backend.backends()) == {"cpu"}
