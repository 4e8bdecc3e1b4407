"""The command `export`: what a run has trained, as a file that runs elsewhere, and beside it a file
that says what goes in and out and how far it is from the model that was trained."""

import dataclasses
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

import jaxrnn
from experiments.arguments import parse
from experiments.config import Config, ExportConfig, RunError, UsageError, choose
from experiments.tasks import evaluation_batch
from experiments.training import checkpoint, folder, train
from experiments.training.model import Model, ModelParams
from jaxrnn import interop
from jaxrnn.interop.cell_config import outside

SEQUENCES = 8  # of the evaluation, on which a file is held against the model


class Trained(NamedTuple):
    model: Model
    params: ModelParams  # of the seed with the lowest held-out loss
    facts: dict[str, Any]  # which cell, learning rate and seed that is, and that loss


def run(run: Path, config: ExportConfig) -> str:
    """Writes the file and what is said of it, and returns a line about both."""
    source = parse(Config, ["--config", str(_checked(run) / "config.yaml")], "export")
    cell = config.cell or source.cells[0]
    choose("cell of the run", cell, source.cells)
    found = trained(run, source, cell, config.which)
    end = {"onnx": ".onnx", "c": ".h", "safetensors": "", "stablehlo": ".stablehlo"}[config.to]
    out = Path(config.out) if config.out else run / "export" / f"{cell}{end}"
    out.parent.mkdir(parents=True, exist_ok=True)
    xs = np.asarray(evaluation_batch(source.make_task()).inputs)[:, :SEQUENCES]
    _, states = jaxrnn.unroll(found.model.cell, found.params.cell, jnp.asarray(xs))
    want = np.asarray(states @ found.params.w_y + found.params.b_y)
    got = WAYS[config.to](found, out, xs)
    difference = None if got is None else float(np.abs(got - want).max())
    says = {
        "file": out.name,
        "run": run.name,
        **found.facts,
        "task": source.task,
        "lag": source.lag,
        "input": f"x [steps, sequences, {xs.shape[-1]}]",
        "output": f"y [steps, sequences, {want.shape[-1]}], the readout of every step",
        "difference": None if difference is None else folder.finite(difference, 2),
        "largest_output": folder.finite(float(np.abs(want).max()), 3),
        "versions": {k: v for k, v in folder.environment().items() if k in ("jaxrnn", "jax")},
    }
    folder.write_json(out.with_name(f"{out.name}.json"), says)
    checked = (
        "not run here" if difference is None else f"at most {difference:.1e} from what was trained"
    )
    return f"{out}: {_size(out):,} bytes, {checked}; {out.name}.json says more"


def trained(run: Path, config: Config, cell: str, which: str) -> Trained:
    """The parameters of a run's best seed with a cell.

    Raises:
        RunError: the run holds no checkpoint of it.
    """
    stages = _stages(run, config, cell)
    found: list[Trained] = []
    for path, rates in stages:
        own = dataclasses.replace(config, learning_rates=rates, select_seeds=0)
        job = train.make_job(own, cell)
        with checkpoint.checkpoints(path) as manager:
            saved, _ = checkpoint.restore(manager, train.like(job, train.rows(own)))
        if saved is None:
            continue
        losses = np.nan_to_num(saved.state.best_loss, nan=np.inf)
        row = int(np.argmin(losses))
        if not np.isfinite(losses[row]):
            continue  # nothing of it was ever good
        chosen = saved.state.best if which == "best" else saved.state.params
        params = jax.tree.map(lambda a, row=row: jnp.asarray(a[row]), chosen)
        facts = {
            "cell": cell,
            "description": repr(job.model.cell),
            "parameters": which,
            "learning_rate": rates[row // own.seeds],
            "seed": own.seed + row % own.seeds,
            "held_out_loss": folder.finite(float(saved.state.best_loss[row])),
        }
        found.append(Trained(job.model, params, facts))
    if not found:
        raise RunError(f"{run} holds no checkpoint of {cell}: nothing of it is trained yet.")
    return min(found, key=lambda one: one.facts["held_out_loss"])


def _stages(run: Path, config: Config, cell: str) -> list[tuple[Path, tuple[float, ...]]]:
    """The folders of a cell's checkpoints with their learning rates; where seeds of their own chose
    the rate, that of the best alone."""
    parent = run / "checkpoints"
    if config.select_seeds:
        summary = folder.read_json(run / "summary.json", missing={})
        rates = [r["learning_rate"] for r in summary.get("results", []) if r["cell"] == cell]
        path = parent / f"{cell}-best"
        return [(path, (rates[0],))] if rates and path.exists() else []
    wider = [
        (path, (float(path.name.removeprefix(f"{cell}-")),))
        for path in sorted(parent.glob(f"{cell}-*"))
        if _is_number(path.name.removeprefix(f"{cell}-"))
    ]
    first = parent / cell
    return [*([(first, config.learning_rates)] if first.exists() else []), *wider]


def _onnx(found: Trained, out: Path, xs: np.ndarray) -> np.ndarray | None:
    interop.to_onnx(found.model.cell, found.params.cell, out, head=_head(found))
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    ys: Any = session.run(["y"], {"x": xs})[0]
    return ys


def _c(found: Trained, out: Path, xs: np.ndarray) -> np.ndarray | None:
    out.write_text(interop.to_c(found.model.cell, found.params.cell, "model", head=_head(found)))
    return _compiled(out, xs) if shutil.which("cc") else None


MAIN = """
#include <stdio.h>
#include "model.h"

int main(void) {
    float x[MODEL_INPUT_SIZE], y[MODEL_OUTPUT_SIZE];
    model_state state;
    model_reset(&state);
    while (fread(x, sizeof(float), MODEL_INPUT_SIZE, stdin) == MODEL_INPUT_SIZE) {
        model_step(&state, x, y);
        fwrite(y, sizeof(float), MODEL_OUTPUT_SIZE, stdout);
    }
    return 0;
}
"""


def _compiled(header: Path, xs: np.ndarray) -> np.ndarray:
    """What the header computes of sequences, one after another."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(header, Path(place, "model.h"))
        Path(place, "main.c").write_text(MAIN)
        command = ["cc", "-std=c99", "-O2", "-o", "model", "main.c", "-lm"]
        subprocess.run(command, cwd=place, check=True)
        rows = []
        for sequence in np.moveaxis(xs, 1, 0).astype(np.float32):
            ran = subprocess.run(
                Path(place, "model"), input=sequence.tobytes(), capture_output=True, check=True
            )
            rows.append(np.frombuffer(ran.stdout, np.float32).reshape(len(sequence), -1))
    return np.stack(rows, axis=1)


def _safetensors(found: Trained, out: Path, xs: np.ndarray) -> np.ndarray:
    """The cell as a folder of `save_pretrained`, and the readout beside it."""
    size = xs.shape[-1]
    own = {kind.__name__: kind for kind in outside(found.model.cell)}
    interop.save_pretrained(out, found.model.cell, found.params.cell, input_size=size)
    kernel, bias = _head(found)
    np.savez(out.with_name(f"{out.name}.readout.npz"), kernel=kernel, bias=bias)
    cell, params = interop.from_pretrained(out, classes=own)
    _, states = jaxrnn.unroll(cell, params, jnp.asarray(xs))
    return np.asarray(states) @ kernel + bias


def _stablehlo(found: Trained, out: Path, xs: np.ndarray) -> np.ndarray:
    interop.register_for_export()
    model = found.model
    params = found.params

    def outputs(xs: jax.Array) -> jax.Array:
        return jaxrnn.unroll(model.cell, params.cell, xs)[1] @ params.w_y + params.b_y

    T, B = export.symbolic_shape("T, B")
    like = jax.ShapeDtypeStruct((T, B, xs.shape[-1]), jnp.float32)
    out.write_bytes(export.export(jax.jit(outputs))(like).serialize())
    return np.asarray(export.deserialize(bytearray(out.read_bytes())).call(jnp.asarray(xs)))


WAYS: dict[str, Callable[[Trained, Path, np.ndarray], np.ndarray | None]] = {
    "onnx": _onnx,
    "c": _c,
    "safetensors": _safetensors,
    "stablehlo": _stablehlo,
}


def _head(found: Trained) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(found.params.w_y), np.asarray(found.params.b_y)


def _checked(run: Path) -> Path:
    if not (run / "config.yaml").exists():
        raise UsageError(f"{run} is no folder of a run: it has no config.yaml.")
    return run


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _size(path: Path) -> int:
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
