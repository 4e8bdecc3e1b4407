"""Cells, tasks and loggers of one's own: a file that is imported by `--import` registers them, and
then every command knows them by name."""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jaxrnn
from experiments.cells import CELLS, KnownCell
from experiments.config import UsageError
from experiments.tasks import TASKS, Task
from experiments.training import folder
from experiments.training.progress import Record

GROUP = "jaxrnn_experiments"  # of entry points: modules of packages that are installed
LOGGERS: list[Callable[[Path, dict[str, Any]], AbstractContextManager[Record]]] = []
FILES: list[str] = []  # that were imported, as they were named
PLACES: dict[str, Path] = {}  # which file has each name


class OwnCell(NamedTuple):
    """A cell that was registered."""

    name: str
    description: str
    maker: Callable[..., jaxrnn.Cell]
    style: str = ""

    def make(self, hidden_size: int, lag: int) -> jaxrnn.Cell:
        """The cell of a size, and for a lag where its maker asks for it.

        Raises:
            TypeError: what was made is no cell, or nothing was made.
        """
        told = {"lag": lag} if "lag" in inspect.signature(self.maker).parameters else {}
        try:
            cell = self.maker(hidden_size, **told)
        except Exception as error:  # of code that nobody has seen before
            said = f"make({hidden_size}) failed: {type(error).__name__}: {error}"
            raise TypeError(f"cell {self.name!r}: {said}") from error
        if not isinstance(cell, jaxrnn.Cell):
            kind = type(cell).__name__
            raise TypeError(f"cell {self.name!r}: make gave {kind}, which is no jaxrnn.Cell.")
        return cell


def register_cell(name: str, make: Callable[..., jaxrnn.Cell], description: str = "") -> None:
    """Makes a cell known to all commands. What it makes is checked when it is to be trained.

    Args:
        name: in lower case, for the command line.
        make: (hidden_size) -> the cell, or (hidden_size, lag) where it is to know the lag; a class
            whose first field is the size is one.
        description: a line; none is the first of what `make` says of itself.

    Raises:
        ValueError: the name is taken or no name.
        TypeError: `make` is no function.
    """
    _check_name("cell", name, CELLS)
    if isinstance(make, jaxrnn.Cell):
        raise TypeError(
            f"cell {name!r}: make is a cell of one size; give its class, or a function "
            "lambda hidden_size: the cell."
        )
    if not callable(make):
        raise TypeError(f"cell {name!r}: make must be a function, got {type(make).__name__}.")
    told = description or (inspect.getdoc(make) or name).splitlines()[0].rstrip(".")
    CELLS[name] = OwnCell(name, told, make)


def register_task(name: str, kind: type[Task]) -> None:
    """Makes a task known to all commands. What it draws is checked when it is to be trained.

    Args:
        name: in lower case, for the command line.
        kind: a subclass of `experiments.tasks.Task` whose fields have defaults.

    Raises:
        ValueError: the name is taken or no name, or there is no description or a default missing.
        TypeError: `kind` is no such class.
    """
    _check_name("task", name, TASKS)
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise TypeError(f"task {name!r} must be a subclass of experiments.tasks.Task.")
    if "__dataclass_fields__" not in vars(kind):
        raise ValueError(f"task {name!r} must be made by @dataclasses.dataclass(frozen=True).")
    if not str(getattr(kind, "description", "")).strip():
        raise ValueError(f"task {name!r} needs a description, one line, as a class variable.")
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING:
            raise ValueError(f"task {name!r}: the field {field.name} needs a default.")
    TASKS[name] = kind


def register_logger(
    begin: Callable[[Path, dict[str, Any]], AbstractContextManager[Record]],
) -> None:
    """Has the losses of every run handed on as they come.

    Args:
        begin: (folder, config) -> a context manager around the run, which gives a function that is
            called with rows of metrics.jsonl. `config` is that of the run, as plain values.

    Raises:
        TypeError: `begin` is no function.
    """
    if not callable(begin):
        raise TypeError(f"a logger must be a function, got {type(begin).__name__}.")
    LOGGERS.append(begin)


def take_imports(arguments: Sequence[str]) -> list[str]:
    """Imports what `--import` names, and what installed packages offer, and returns the other
    arguments.

    Raises:
        UsageError: a file is not there, or does not run.
    """
    for offered in importlib.metadata.entry_points(group=GROUP):
        _run(offered.name, offered.load)
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        option, equals, value = argument.partition("=")
        if option != "--import":
            rest.append(argument)
            continue
        path = value if equals else next(left, "")
        if not Path(path).is_file():
            raise UsageError(f"--import needs a file of Python, got {path or 'nothing'!r}.")
        _run(path, lambda path=path: load(Path(path)))
        FILES[:] = [*(file for file in FILES if file != path), path]
    return rest


def load(path: Path) -> Any:
    """The module of a file, which finds those that lie beside it; one that was loaded before is not
    run again."""
    name = f"own_{path.stem}_{digest(str(path.resolve()).encode())}"
    if name not in sys.modules:
        spec: Any = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        cells = dict(CELLS)
        tasks = dict(TASKS)
        loggers = list(LOGGERS)
        sys.modules[name] = module
        if (beside := str(path.resolve().parent)) not in sys.path:
            sys.path.append(beside)
        try:
            spec.loader.exec_module(module)
        except BaseException:  # nothing of it stays
            del sys.modules[name]
            restore(cells, tasks, loggers)
            raise
        place = path.resolve()
        known = path.name
        if PLACES.setdefault(known, place) != place:  # of another folder
            known = f"{place.parent.name}/{path.name}"
        folder.IMPORTED[known] = digest(path.read_bytes())
    return sys.modules[name]


def restore(cells: dict[str, KnownCell], tasks: dict[str, type[Task]], loggers: list[Any]) -> None:
    """Forgets what was registered since these were all that there was."""
    CELLS.clear()
    CELLS.update(cells)
    TASKS.clear()
    TASKS.update(tasks)
    LOGGERS[:] = loggers


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _run(where: str, load: Callable[[], Any]) -> None:
    try:
        load()
    except Exception as error:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == Path(where).resolve()
        ]
        line = f", line {frames[-1].lineno}" if frames else ""
        said = " ".join(str(error).split())
        raise UsageError(f"{where}{line}: {type(error).__name__}: {said}") from None


def _check_name(kind: str, name: str, known: Any) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"a {kind}'s name must be of a-z, 0-9 and _, got {name!r}.")
    if name in known:
        raise ValueError(f"there is a {kind} {name!r} already.")
