"""The folder of a run: config.yaml, env.json, metrics.jsonl, checkpoints/, a figure, and
summary.json, written last.

Of several processes of one run the first alone writes here, but for the checkpoints, which all
write together.
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import yaml

from experiments.agents.config import AgentConfig
from experiments.bench.config import BenchConfig
from experiments.config import Config, GradientConfig, InUse, RunError, UsageError
from experiments.online.config import OnlineConfig

# the files of one's own that this process has imported, with digests of their texts
IMPORTED: dict[str, str] = {}
AnyConfig = Config | GradientConfig | AgentConfig | OnlineConfig | BenchConfig


@contextlib.contextmanager
def opened(name: str, config: AnyConfig, resume: bool = False) -> Iterator[Path]:
    """Gives the folder of a run, made or found, which no other process can open meanwhile.

    Raises:
        UsageError: `config.out` already holds a run and `resume` is False, or it holds one of
            another configuration.
        InUse: another process has opened it.
    """
    if resume and config.out is None:
        raise UsageError("--resume needs --out, the folder of the run.")
    folder = _new(name) if config.out is None else Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        for left in folder.glob(".tmp-*"):  # by a process that was killed while it wrote
            left.unlink()
        env = environment()
        _check_held(folder, config, resume)
        if (folder / "env.json").exists():
            env = _resumed(folder, read_json(folder / "env.json"), env)
        write_json(folder / "env.json", env)
        write(folder / "config.yaml", to_yaml(config))
        yield folder


def _check_held(folder: Path, config: AnyConfig, resume: bool) -> None:
    """Raises unless the folder holds no run, or with `resume` one of this configuration."""
    held = (folder / "config.yaml").exists()
    if held and not resume:
        raise UsageError(
            f"{folder} already holds a run; name another folder, or go on with it by --resume."
        )
    if held:
        _check_same(folder, config)
    elif (folder / "checkpoints").exists() or (folder / "summary.json").exists():
        raise RunError(f"{folder} holds a run without its config.yaml: of what, is not known.")


def _resumed(folder: Path, first: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The environment of a run that goes on; says what of it decides the last digits
    of the numbers and has changed.
    """
    changed = [
        f"{k} was {first[k]} and is {now[k]}"
        for k in ("jax", "platform", "devices")
        if first.get(k, now[k]) != now[k]
    ]
    for name, text in first.get("imported", {}).items():
        if (now_is := IMPORTED.get(name)) != text:
            how = f"without {name}, which" if now_is is None else f"with another {name} than"
            print(f"warning: {folder} goes on {how} it began with", file=sys.stderr)
    if changed:
        print(
            f"warning: {folder} goes on elsewhere, which rounds differently: {', '.join(changed)}",
            file=sys.stderr,
        )
    return first | {"resumed": [*first.get("resumed", []), now]}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a lock that the system gives up with the process, however that ends."""
    lock = folder / ".lock"
    with open(lock, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                f"{folder} is in use by {lock.read_text().strip() or 'another process'}."
            ) from None
        lock.write_text(f"process {os.getpid()} on {platform.node()}\n")
        yield


def finished(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that is done, or None."""
    summary = read_json(folder / "summary.json", missing={})
    return summary if summary.get("status") == "done" else None


def read_json(path: Path, parse: Callable[[str], Any] = json.loads, missing: Any = None) -> Any:
    """What is in a file of JSON, or of what else `parse` reads.

    Args:
        path: of the file.
        parse: what makes values of its text.
        missing: stands for a file that is not there, and is of the kind of what is; None: the file
            is there, and holds a mapping.

    Raises:
        RunError: the file holds nothing of the kind.
    """
    try:
        found = parse(path.read_text()) if missing is None or path.exists() else missing
    except (ValueError, yaml.YAMLError) as error:
        raise RunError(f"{path} is damaged: {' '.join(str(error).split())}.") from None
    if not isinstance(found, dict if missing is None else type(missing)):
        raise RunError(
            f"{path} is damaged: it holds {type(found).__name__}, which does not belong there."
        )
    return found


def _check_same(folder: Path, config: AnyConfig) -> None:
    """Raises UsageError unless the folder holds a run of this configuration."""
    here = yaml.safe_load(to_yaml(config))
    there = read_json(folder / "config.yaml", yaml.safe_load)
    # an earlier version may not have known a key
    there = yaml.safe_load(to_yaml(type(config)())) | there
    differences = [
        f"{key} is {there[key]} there and {here[key]} here"
        for key in here
        if there[key] != here[key]
    ]
    if differences:
        raise UsageError(f"{folder} holds another run: {'; '.join(differences)}.")


def _new(name: str) -> Path:
    """Makes runs/name, runs/name-2, ...: the first that does not exist."""
    n = 1
    while True:
        folder = Path("runs", name if n == 1 else f"{name}-{n}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            n += 1


def to_yaml(config: AnyConfig) -> str:
    """The configuration without `out`, so that it can be run again as it is."""
    values = {
        name: list(v) if isinstance(v, tuple) else v
        for name, v in dataclasses.asdict(config).items()
        if name != "out"
    }
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)


def environment() -> dict[str, Any]:
    """Versions, devices, commit and arguments."""
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    known = ("jaxrnn", "jax", "jaxlib", "optax", "numpy")
    versions = {name: importlib.metadata.version(name) for name in known}
    device = {"platform": jax.default_backend(), "device": jax.devices()[0].device_kind}
    # Batches are split over all devices, which decides the last digits.
    counts = {
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "cpus": os.cpu_count(),
    }
    source = {
        "commit": git.stdout.strip() or None,
        "argv": ["python", "-m", "experiments", *sys.argv[1:]],
    }
    own = {"imported": dict(IMPORTED)} if IMPORTED else {}
    return {"python": platform.python_version(), **versions, **device, **counts, **source, **own}


def append(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Appends flat rows to metrics.jsonl; they are on disk when this returns."""
    path = folder / "metrics.jsonl"
    if jax.process_index() == 0:
        with _named(path), open(path, "a") as file:
            file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write(path: Path, text: str | Callable[[Path], None]) -> None:
    """Writes a whole file or nothing: `text`, or what the function writes
    to the path it is given.
    """
    if jax.process_index():
        return
    # several may write sweep.json
    temporary = path.with_name(f".tmp-{platform.node()}-{os.getpid()}-{path.name}")
    try:
        with _named(path):
            temporary.write_text(text) if isinstance(text, str) else text(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Deletes what killed processes left in a folder that others may be writing into: of this
    machine where they are no more, of others after an hour, which no file takes to be written."""
    for left in folder.glob(".tmp-*"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if time.time() - left.stat().st_mtime > 3600 or _is_of_the_dead(left.name):
                left.unlink()


def _is_of_the_dead(name: str) -> bool:
    """Whether the process of this machine that began a temporary file is no more."""
    own = f".tmp-{platform.node()}-"
    number = name.removeprefix(own).partition("-")[0]
    if not name.startswith(own) or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Gives an error of the system the name of the file, which it lacks when it comes with the
    writing, as of a full disk.
    """
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def write_json(path: Path, data: Any) -> None:
    write(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def finite(x: float, digits: int = 6) -> float | None:
    """`x` rounded, or None where it is NaN or infinite, which JSON has no word for."""
    return float(f"{x:.{digits}g}") if math.isfinite(x) else None
