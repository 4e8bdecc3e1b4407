"""Checkpoints of one cell's training, by orbax: the newest three,
each with a digest of what it holds.

orbax writes a checkpoint into a temporary folder and renames it, so that a killed process leaves a
whole one or none.
"""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.config import RunError


class Saved(NamedTuple):
    step: int
    state: Any  # a pytree of NumPy arrays
    facts: dict[str, Any]  # plain values


@contextlib.contextmanager
def checkpoints(folder: Path) -> Iterator[Any]:
    """orbax's manager of the checkpoints in a folder. Every process of a run opens,
    saves and restores.
    """
    _quiet()
    options = ocp.CheckpointManagerOptions(
        max_to_keep=3, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    with _explained(folder, "opened"):
        manager = ocp.CheckpointManager(folder.absolute(), options=options)
    with manager:
        yield manager


@functools.cache
def _quiet() -> None:
    """What fails in reading or writing is raised once; orbax logs it as well,
    and its storage's late answers find no one.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook


def save(manager: Any, saved: Saved) -> None:
    """Writes a checkpoint, unless there is one of this step.

    Raises:
        RunError: it cannot be written; what was saved before is untouched.
    """
    if saved.step in manager.all_steps():
        return
    facts = {**saved.facts, "digest": digest(saved)}
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(saved.state), facts=ocp.args.JsonSave(facts)
    )
    with _explained(manager.directory / str(saved.step), "written"):
        manager.save(saved.step, args=args)


def restore(manager: Any, like: Any) -> tuple[Saved | None, list[str]]:
    """The newest checkpoint that is whole, or None where there is none; and a sentence for each
    that was not, which is set aside.

    Args:
        manager: what `checkpoints` gives.
        like: a state with the structure, shapes and dtypes of the one that was saved.

    Raises:
        RunError: the system refuses to read, or none of the checkpoints is whole; nothing is moved.
    """
    damaged: dict[int, str] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        path = manager.directory / str(step)
        try:
            saved = _read(manager, step, like)
            return saved, [
                f"{reason}; moved to {_set_aside(manager, bad)}" for bad, reason in damaged.items()
            ]
        except Exception as error:  # orbax and its storage raise many kinds for a damaged file
            number = getattr(error, "errno", None)
            if isinstance(error, MemoryError) or number not in (None, errno.ENOENT, errno.ENOTDIR):
                raise RunError(f"{path} could not be read: {first_line(error)}") from error
            damaged[step] = f"checkpoint {path} is damaged ({first_line(error)})"
    if damaged:
        raise RunError(
            f"{'; '.join(damaged.values())}; without {manager.directory} the cell begins again"
        )
    return None, []


def _read(manager: Any, step: int, like: Any) -> Saved:
    args = ocp.args.Composite(state=ocp.args.StandardRestore(like), facts=ocp.args.JsonRestore())
    found = manager.restore(step, args=args)
    facts = dict(found.facts)
    written = facts.pop("digest")
    saved = Saved(step, jax.tree.map(np.asarray, found.state), facts)
    if digest(saved) != written:
        raise ValueError("its arrays are not those that were saved")
    return saved


def digest(saved: Saved) -> str:
    """A hash of every bit of a checkpoint."""
    hashed = hashlib.sha256(json.dumps([saved.step, saved.facts], sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(saved.state):
        array = np.asarray(leaf)
        hashed.update(
            f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes()
        )
    return hashed.hexdigest()


def _set_aside(manager: Any, step: int) -> Path:
    """Moves a damaged checkpoint out of orbax's sight; nothing is deleted."""
    checkpoint = Path(manager.directory) / str(step)
    aside = checkpoint.parent.parent / "damaged" / f"{checkpoint.parent.name}-{step}"
    if jax.process_index() == 0:
        aside.parent.mkdir(exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
    manager.reload()
    return aside


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    """Turns what the storage raises into one sentence."""
    try:
        yield
    except Exception as error:  # the storage below orbax has errors of its own
        said = getattr(error, "strerror", None) or first_line(error)
        raise RunError(f"{path} could not be {what}: {said}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message without a trailing stop;
    of an error of the storage, what the system said.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    said = re.search(r": ([^:]*) \[.*os_error_code", line)
    return said.group(1) if said else line[:300]
