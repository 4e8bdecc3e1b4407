"""What is shown while a run goes on: bars on a terminal, plain lines elsewhere."""

import contextlib
import datetime
import os
import sys
import time
from collections.abc import Iterator
from typing import Protocol


class Show(Protocol):
    def __call__(self, label: str, step: int, steps: int, text: str, done: bool) -> None:
        """Shows that `step` of at most `steps` updates of `label` are made."""
        ...


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
