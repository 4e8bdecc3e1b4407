"""Several processes as one run, by jax.distributed; and what tells a run to stop."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.config import InUse, Launch, RunError, UsageError


def join(launch: Launch) -> None:
    """Joins the processes of a run, before a device is used.

    Raises:
        RunError: they do not come together.
    """
    try:
        if launch.dist != "off":
            jax.distributed.initialize(launch.coordinator, launch.num_processes, launch.process_id)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes did not come together: {' '.join(str(error).split())[:300]}"
        ) from error


@contextlib.contextmanager
def first_alone(
    context: contextlib.AbstractContextManager[Path], otherwise: Path
) -> Iterator[Path]:
    """Enters a context in process 0 alone; the others are given `otherwise`,
    once it has been entered.

    Raises:
        RunError: process 0 could not enter it (there, what it raised).
    """
    with contextlib.ExitStack() as stack:
        failure = None
        given = otherwise
        if jax.process_index() == 0:
            try:
                given = stack.enter_context(context)
            except (OSError, UsageError, RunError) as error:
                failure = error
        mine = 0 if failure is None else 2 if isinstance(failure, InUse) else 1
        # that of process 0, in all
        if kind := int(multihost_utils.broadcast_one_to_all(np.int32(mine))):
            raise failure or (RunError, InUse)[kind - 1]("process 0 could not begin; it says why.")
        yield given


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Gives what says whether the run has been asked to stop, by Ctrl-C or SIGTERM;
    a second Ctrl-C stops it at once.

    In a run of several processes, what one of them is asked all are told at the same step, by JAX's
    preemption service, which takes SIGTERM; all have to ask equally often.
    """
    asked: list[int] = []
    if jax.process_count() > 1:
        # The service says True to one question only, whatever was answered before.
        yield (
            lambda: (
                asked.append(multihost_utils.reached_preemption_sync_point(len(asked)))
                or any(asked)
            )
        )
        return

    def ask(number: int, frame: Any) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
