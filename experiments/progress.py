"""What is shown while a run goes on: bars on a terminal, plain lines elsewhere."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol


class Show(Protocol):
    def __call__(self, label: str, step: int, steps: int, text: str, done: bool) -> None:
        """Shows that `step` of at most `steps` updates of `label` are made."""
        ...


def plain(label: str, step: int, steps: int, text: str, done: bool) -> None:
    """A line every 250 updates, and one at the end."""
    if step % 250 == 0 or done:
        print(f"{label:<24} {step:>6,}/{steps:,}  {text}{'  done' if done else ''}", flush=True)


@contextlib.contextmanager
def live() -> Iterator[Show]:
    """Gives a function that shows progress on the standard output."""
    if not sys.stdout.isatty():
        yield plain
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns) as bars:
        ids = {}

        def show(label: str, step: int, steps: int, text: str, done: bool) -> None:
            if label not in ids:
                ids[label] = bars.add_task(label, total=steps, text="")
            bars.update(ids[label], completed=step, total=step if done else steps, text=text)

        yield show
