"""Several processes as one run, by jax.distributed; and what tells a run to stop."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from experiments.config import InUse, Launch, RunError, UsageError


@contextlib.contextmanager
def launched(launch: Launch) -> Iterator[Callable[[], bool]]:
    """Joins the processes of a run, before a device is used, and gives what says whether it has been asked to stop.

    Raises:
        RunError: they do not come together.
    """
    names = ("num_processes", "process_id")
    explicit: dict[str, Any] = {name: getattr(launch, name) for name in names} | {"coordinator_address": launch.coordinator}
    try:
        if launch.dist != "off":
            jax.distributed.initialize(**explicit)
    except (RuntimeError, ValueError) as error:
        raise RunError(f"the processes did not come together: {' '.join(str(error).split())[:300]}") from error
    with stopping() as stop:
        yield stop


@contextlib.contextmanager
def first_alone(open_: Callable[[], contextlib.AbstractContextManager[Any]], otherwise: Any) -> Iterator[Any]:
    """Enters a context in process 0 alone; the others are given `otherwise`, once it has been entered.

    Raises:
        RunError: process 0 could not enter it (there, what it raised).
    """
    if jax.process_count() == 1:
        with open_() as given:
            yield given
        return
    with contextlib.ExitStack() as stack:
        failure, given = None, otherwise
        if jax.process_index() == 0:
            try:
                given = stack.enter_context(open_())
            except (OSError, UsageError, RunError) as error:
                failure = error
        kind = _first_says(0 if failure is None else 2 if isinstance(failure, InUse) else 1)
        if kind:
            raise failure or (RunError, InUse)[kind - 1]("process 0 could not begin; it says why.")
        yield given


def _first_says(value: int) -> int:
    """The value of process 0, in all."""
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Gives what says whether the run has been asked to stop, by Ctrl-C or SIGTERM; a second Ctrl-C stops it at once.

    In a run of several processes, what one of them is asked all are told at the same step, by JAX's preemption service, which
    takes SIGTERM; all have to ask equally often.
    """
    if jax.process_count() > 1:
        yield _preempted()
        return
    asked = []

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


def _preempted() -> Callable[[], bool]:
    from jax.experimental import multihost_utils

    seen = []  # one entry per question; the service says True at one of them only

    def stop() -> bool:
        seen.append(multihost_utils.reached_preemption_sync_point(len(seen)))
        return any(seen)

    return stop
