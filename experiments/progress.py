"""What goes on beside a run: bars on a terminal, plain lines elsewhere, and the record for TensorBoard."""

import contextlib
import datetime
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from experiments.config import UsageError

Show = Callable[[str, int, int, str, bool], None]  # (label, step, steps, text, done): `step` of at most `steps` updates are made
Record = Callable[[list[dict[str, Any]]], None]  # of rows of metrics.jsonl


@contextlib.contextmanager
def beside(path: Path, tensorboard: bool = False) -> Iterator[tuple[Show, Record]]:
    """Gives what shows and what records a run in the folder `path`, which process 0 alone does."""
    if jax.process_index():
        yield silent, lambda rows: None
        return
    print(f"writing {path}", flush=True)
    with live() as show, _board(path) if tensorboard else contextlib.nullcontext(lambda rows: None) as record:
        yield show, record


@contextlib.contextmanager
def _board(path: Path) -> Iterator[Record]:
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


class Pace:
    """Updates per second of what is shown now, from its second report on: the first may have waited for the compiler."""

    def __init__(self) -> None:
        self.label, self.start = "", (0.0, 0)

    def text(self, label: str, step: int, steps: int, done: bool) -> str:
        """The rate, and the most time that is left; empty while nothing is known."""
        now, (then, first) = time.monotonic(), self.start
        if label != self.label or step == 0 or not first:
            self.label, self.start = label, (now, step)
        if done or not 0 < first < step:
            return ""
        rate = (step - first) / max(now - then, 1e-9)
        return f"  {rate:,.0f} updates/s, {datetime.timedelta(seconds=round((steps - step) / rate))} left at most"


def silent(label: str, step: int, steps: int, text: str, done: bool) -> None:
    """Shows nothing."""


def plain(label: str, step: int, steps: int, text: str, done: bool) -> None:
    """A line every 250 updates, and one at the end."""
    if step % 250 == 0 or done:
        try:
            print(f"{label:<24} {step:>6,}/{steps:,}  {text}{'  done' if done else ''}", flush=True)
        except BrokenPipeError:  # who read has gone: the run goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def live() -> Iterator[Show]:
    """Gives a function that shows progress on the standard output."""
    pace = Pace()
    if not sys.stdout.isatty():
        yield lambda label, step, steps, text, done: plain(label, step, steps, text + pace.text(label, step, steps, done), done)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    label, text = TextColumn("{task.description}"), TextColumn("{task.fields[text]}", markup=False)
    with Progress(label, BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), text) as bars:
        ids = {}

        def show(label: str, step: int, steps: int, text: str, done: bool) -> None:
            if label not in ids:
                ids[label] = bars.add_task(label, total=steps, text="")
            text += pace.text(label, step, steps, done)
            bars.update(ids[label], completed=step, total=step if done else steps, text=text)

        yield show
