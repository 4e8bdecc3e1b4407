"""`torch.nn.LSTM`, `GRU` and `RNN`: oneDNN or its own loops on the CPU, cuDNN on a GPU."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from experiments.bench.peers.program import fused
from experiments.bench.problem import Answers, Outputs, Problem, Weights
from experiments.bench.shapes import Job

DTYPES = {
    "float32": torch.float32,
    "strict": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def layout(job: Job, weights: tuple[Weights, ...]) -> dict[str, Any]:
    """Our weights under torch's names; the second bias is zero."""
    ends = [
        f"_l{k}{end}"
        for k in range(job.shape.layers)
        for end in ("", "_reverse")[: job.shape.directions]
    ]
    params = {}
    for end, w in zip(ends, weights, strict=True):
        params |= {f"weight_ih{end}": fused(w.w_x).T, f"weight_hh{end}": fused(w.w_h).T}
        params |= {f"bias_ih{end}": fused(w.b), f"bias_hh{end}": jnp.zeros_like(fused(w.b))}
    return params


class TorchRun:
    """A module with its inputs on the device: the one thing here that holds state,
    since torch does.
    """

    def __init__(self, problem: Problem, variant: str, device: str) -> None:
        shape = problem.job.shape
        dtype = DTYPES[variant]
        self.problem = problem
        self.tf32 = variant == "float32"
        self.tensor = functools.partial(
            torch.tensor, dtype=dtype, device="cuda" if device == "gpu" else "cpu"
        )
        make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[problem.job.cell]
        options = dict(num_layers=shape.layers, bidirectional=shape.bidirectional)
        module = make(shape.I, shape.H, **options).to(self.tensor(0.0).device, dtype)
        module.load_state_dict(
            {k: self.tensor(np.asarray(v)) for k, v in layout(problem.job, problem.weights).items()}
        )
        # cuDNN wants the weights in one piece, else it gathers them at each call
        module.flatten_parameters()
        self.module = module
        self.xs = self.tensor(problem.xs).requires_grad_()
        self.state = tuple(self.tensor(s).requires_grad_() for s in problem.state)
        self.lengths = (
            None if problem.lengths is None else torch.tensor(problem.lengths, dtype=torch.int64)
        )
        self.cotangents = self._cotangents(problem.cotangents)

    def _cotangents(self, outputs: Outputs) -> tuple[Any, ...]:
        return tuple(self.tensor(a) for a in (outputs.ys, *outputs.state))

    def call(self) -> tuple[Any, ...]:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32
        xs: Any = self.xs
        if self.lengths is not None:
            xs = pack_padded_sequence(xs, self.lengths, enforce_sorted=False)
        ys, state = self.module(xs, self.state if len(self.state) == 2 else self.state[0])
        if self.lengths is not None:
            ys, _ = pad_packed_sequence(ys, total_length=self.problem.job.shape.T)
        return (ys, *state) if isinstance(state, tuple) else (ys, state)

    def forward(self) -> None:
        with torch.no_grad():
            self.call()
        self.wait()

    def both(
        self, cotangents: tuple[Any, ...] | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        outputs = self.call()
        inputs = (*self.module.parameters(), self.xs, *self.state)
        gradients = torch.autograd.grad(
            outputs, inputs, self.cotangents if cotangents is None else cotangents
        )
        self.wait()
        return outputs, gradients

    def wait(self) -> None:
        if self.xs.is_cuda:
            torch.cuda.synchronize()

    def answers(self, cotangents: Outputs) -> Answers:
        """Outputs and gradients in our layout."""
        job = self.problem.job
        outputs, gradients = (
            [t.detach().float().cpu().numpy() for t in ts]
            for ts in self.both(self._cotangents(cotangents))
        )
        names = [name for name, _ in self.module.named_parameters()]
        _, pull = jax.vjp(functools.partial(layout, job), self.problem.weights)
        given = dict(zip(names, map(jnp.asarray, gradients), strict=False))
        (weights,) = pull(given)
        xs, *state = gradients[len(names) :]
        return Answers(
            Outputs(outputs[0], tuple(outputs[1:])),
            jax.tree.map(np.asarray, weights),
            xs,
            tuple(state),
        )

    def memory(self) -> int | None:
        """The most that one run allocates beyond what is there before, on a GPU."""
        if not self.xs.is_cuda:
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.both()
        return torch.cuda.max_memory_allocated() - before


def versions() -> dict[str, Any]:
    return {"torch threads": torch.get_num_threads(), "cudnn": torch.backends.cudnn.version()}


Make = Callable[[Problem, str, str], TorchRun]
