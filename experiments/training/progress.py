"""What goes on beside a run: bars on a terminal, plain lines elsewhere,
and the record for TensorBoard.
"""

import contextlib
import datetime
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from experiments.config import UsageError

# (label, step, steps, text, done): `step` of at most `steps` updates are made
Show = Callable[[str, int, int, str, bool], None]
Record = Callable[[list[dict[str, Any]]], None]  # of rows of metrics.jsonl


@contextlib.contextmanager
def beside(
    path: Path, loggers: Sequence[AbstractContextManager[Record]] = ()
) -> Iterator[tuple[Show, Record]]:
    """Gives what shows and what records a run in the folder `path`, which process 0 alone does."""
    if jax.process_index():
        yield lambda *_: None, lambda rows: None
        return
    print(f"writing {path}", flush=True)
    with live() as show, contextlib.ExitStack() as stack:
        records = [stack.enter_context(logger) for logger in loggers]

        def record(rows: list[dict[str, Any]]) -> None:
            for each in records:
                each(rows)

        yield show, record


@contextlib.contextmanager
def apart(name: str, begin: Callable[[], AbstractContextManager[Record]]) -> Iterator[Record]:
    """A logger that may fail, when it begins, when it gets rows and when it ends: that is said, and
    the run goes on without it.

    Args:
        name: of the logger, for what is said.
        begin: makes the context manager around the run.
    """
    failed: list[Exception] = []

    def tried(call: Callable[..., Any], *given: Any) -> Any:
        try:
            return None if failed else call(*given)
        except Exception as error:  # of code that nobody has seen before
            failed.append(error)
            said = f"{type(error).__name__}: {error}"
            print(f"warning: logger {name} failed and gets no more: {said}", file=sys.stderr)
            return None

    stack = contextlib.ExitStack()
    record = tried(lambda: stack.enter_context(begin()))
    if not failed and not callable(record):
        kind = type(record).__name__
        tried(_raise, TypeError(f"what it gives must be a function of rows, got {kind}"))
    try:
        yield lambda rows: tried(record, rows)
    except BaseException:
        tried(stack.__exit__, *sys.exc_info())
        raise
    tried(stack.close)


def _raise(error: Exception) -> None:
    raise error


@contextlib.contextmanager
def board(path: Path) -> Iterator[Record]:
    """Writes rows of metrics.jsonl for TensorBoard."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UsageError(
            "--tensorboard needs tensorboardX: pip install -e '.[tensorboard]'."
        ) from None
    with contextlib.closing(SummaryWriter(str(path / "tensorboard"))) as writer:

        def record(rows: list[dict[str, Any]]) -> None:
            for row in rows:
                name = f"{row['cell']}/learning_rate_{row['learning_rate']:g}/seed_{row['seed']}"
                writer.add_scalar(
                    name, float("nan") if row["loss"] is None else row["loss"], row["step"]
                )
            writer.flush()

        yield record


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
    label = TextColumn("{task.description}")
    text = TextColumn("{task.fields[text]}", markup=False)
    columns = label, BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), text
    with Progress(*columns, disable=not sys.stdout.isatty(), speed_estimate_period=3600) as bars:
        ids: dict[str, TaskID] = {}

        def show(label: str, step: int, steps: int, text: str, done: bool) -> None:
            if label not in ids:
                ids[label] = bars.add_task(label, total=steps, text="")
            bars.update(ids[label], completed=step)
            text += "" if done else pace(bars.tasks[ids[label]])
            bars.update(ids[label], total=step if done else steps, text=text)
            if bars.disable:
                plain(label, step, steps, text, done)

        yield show


def pace(task: Task) -> str:
    """Updates per second, from the second report on, since the first may have waited for the
    compiler; and the most time left.
    """
    if not task.speed or task.time_remaining is None:
        return ""
    return (
        f"  {task.speed:,.0f} updates/s, {datetime.timedelta(seconds=task.time_remaining)} left "
        "at most"
    )
