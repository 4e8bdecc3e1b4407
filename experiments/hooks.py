"""What goes on beside a run: the display, and the record for TensorBoard."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from experiments.config import UsageError
from experiments.progress import live, silent
from experiments.run import Hooks


@contextlib.contextmanager
def hooks(path: Path, stop: Callable[[], bool], tensorboard: bool = False) -> Iterator[Hooks]:
    """Those of a run in the folder `path`: process 0 shows and records."""
    if jax.process_index():
        yield Hooks(silent, stop)
        return
    print(f"writing {path}", flush=True)
    with live() as show, _board(path) if tensorboard else contextlib.nullcontext(lambda rows: None) as record:
        yield Hooks(show, stop, record)


@contextlib.contextmanager
def _board(path: Path) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Writes rows of metrics.jsonl for TensorBoard."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UsageError("--tensorboard needs tensorboardX: pip install -e '.[tensorboard]'.") from None
    with contextlib.closing(SummaryWriter(str(path / "tensorboard"))) as writer:

        def record(rows: list[dict[str, Any]]) -> None:
            for row in rows:
                name = f"{row['cell']}/learning_rate_{row['learning_rate']:g}/seed_{row['seed']}"
                writer.add_scalar(name, float("nan") if row["loss"] is None else row["loss"], row["step"])
            writer.flush()

        yield record
