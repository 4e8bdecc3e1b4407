"""What a run is made of: frozen dataclasses of plain values, checked when they are made,
and saved with every result.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from experiments.cells import CELLS
from experiments.tasks import TASKS, Task, make

# updates per compiled call; losses are reported as means over so many, and after them "solved" is
# judged
CHUNK = 50
HERE = Path(__file__).parent
PRESETS = {
    path.stem: path
    for kind in ("paper", "fast", "full", "long", "gpu")
    for path in sorted((HERE / "presets" / kind).glob("*.yaml"))
}


def preset(name: str) -> Path:
    """The file of a preset, or the one that is named.

    Raises:
        UsageError: there is neither.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and name not in PRESETS:
        if not path.is_file():
            raise UsageError(f"there is no file {name}.")
        return path
    choose("preset", name, PRESETS)
    return PRESETS[name]


# What a preset should show of a cell: so many "seeds" solve the task, or score so much of the
# "metric", at its or another "lag".
Bar = dict[str, Any]
TIERS: dict[str, dict[str, dict[str, Bar]]] = yaml.safe_load((HERE / "tiers.yaml").read_text())

# the commands that show all of a kind, where they are many
SHOWN = {kind: f"list {kind}s" for kind in ("task", "cell", "preset", "tier")}
SHOWN |= {"command": "--help", "key": "run NAME --help", "claim": "reproduce"}


class UsageError(ValueError):
    """A wrong configuration or command; the message is for the user."""


class RunError(RuntimeError):
    """A run that cannot go on; the message is for the user."""


class InUse(RunError):
    """Another process has opened the folder."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A training run: every cell at every learning rate, for all seeds.

    Args:
        description: one line about the run.
        task: which task; `python -m experiments list tasks` shows all.
        lag: how far back the answer lies: of most tasks the length of the sequences.
        task_options: other options of the task, by name.
        test_lags: other lags, longer ones say, at which what was trained is evaluated too.
        cells: which cells, in this order; `python -m experiments list cells` shows all.
        hidden_size: H, the hidden units of each layer.
        parameters: instead of `hidden_size`, each cell has the H that comes nearest to so many
            parameters; 0 takes `hidden_size`.
        layers: how many layers of each cell.
        batch_size: sequences per update, drawn anew for each.
        learning_rates: the step sizes of Adam; each cell is trained at each, all in one program.
        schedule: "constant" keeps them; "cosine" lets them fall to zero over `steps`, along half a
            cosine.
        widen_rates: where the best of several learning rates is the largest or the smallest,
            another beyond it is tried, in the ratio of the last two, and so on: at most so many.
        select_seeds: learning rates are compared on so many seeds of their own, those after
            `seeds`, and only the best is trained with `seeds`, which are the results; 0 compares
            and reports the same.
        clip: the largest global norm of a gradient; a larger one is scaled down to it.
        steps: the most updates, a multiple of 50.
        until: "solved" ends each seed where it has solved the task: its loss on sequences held out,
            looked at every 50 updates, stayed below the bar for `checks` looks. "steps" trains all
            for as long, as what is said of final accuracy and of other lags needs it.
        checks: how many looks in a row.
        patience: a seed ends as well when for so many updates, a multiple of 50, that loss was not
            lower than before; 0 is never.
        not_finite: what a loss that becomes NaN or infinite does: "stop" ends the run as failed,
            "go_on" counts the seed as lost.
        checkpoint_every: updates between checkpoints, a multiple of 50.
        seed: the first seed.
        seeds: how many seeds, counted from `seed`, trained in one program.
        out: the folder to write; none means a new one under runs/.
    """

    description: str = ""
    task: str = "adding"
    lag: int = 200
    task_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    test_lags: tuple[int, ...] = ()
    cells: tuple[str, ...] = ("rnn_orth", "lstm", "gru")
    hidden_size: int = 32
    parameters: int = 0
    layers: int = 1
    batch_size: int = 64
    learning_rates: tuple[float, ...] = (5e-3,)
    schedule: Literal["constant", "cosine"] = "constant"
    widen_rates: int = 4
    select_seeds: int = 0
    clip: float = 1.0
    steps: int = 2000
    until: Literal["solved", "steps"] = "solved"
    checks: int = 3
    patience: int = 0
    not_finite: Literal["stop", "go_on"] = "stop"
    checkpoint_every: int = 500
    seed: int = 0
    seeds: int = 3
    out: str | None = None

    def __post_init__(self) -> None:
        choose("task", self.task, TASKS)
        for name in ("cells", "learning_rates"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                twice = f"not name one twice, got {', '.join(map(str, values))}"
                raise UsageError(f"{name} must {twice if values else 'name at least one'}.")
        self._check_numbers()
        task = self.make_task()
        for name in self.cells:
            self._check_cell(name)
        if self.test_lags and task.sized_by_lag:
            raise UsageError(
                f"test_lags: the lag of task {self.task!r} decides how large its "
                "inputs or outputs are."
            )
        for lag in self.test_lags:
            _made(task.at_lag, lag)
        if self.out == "":
            raise UsageError("out must name a folder, got an empty name.")

    def _check_numbers(self) -> None:
        for name, least in {
            "hidden_size": 1,
            "batch_size": 1,
            "seeds": 1,
            "layers": 1,
            "checks": 1,
            "parameters": 0,
            "widen_rates": 0,
            "select_seeds": 0,
        }.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        for name, least in {"steps": CHUNK, "patience": 0, "checkpoint_every": CHUNK}.items():
            multiple(name, getattr(self, name), least)
        for rate in (*self.learning_rates, self.clip):
            if not 0 < rate < float("inf"):
                raise UsageError(f"learning_rates and clip must be positive numbers, got {rate}.")
        last = self.seed + self.seeds + self.select_seeds
        if not 0 <= self.seed <= last <= 2**31 - 2:
            raise UsageError(
                "seed must not be negative, and seed + seeds + select_seeds stay below 2^31 - 1, "
                f"got {self.seed}."
            )
        if self.select_seeds and len(self.learning_rates) < 2:
            raise UsageError("select_seeds needs several learning_rates to choose from.")

    def _check_cell(self, name: str) -> None:
        choose("cell", name, CELLS)
        # of which any number of heads makes a cell
        size = 4 * self.hidden_size if self.parameters else self.hidden_size
        axes = _made(CELLS[name].make, size, self.lag).feature_axes - 1
        spatial = len(TASKS[self.task].spatial_shape)
        if axes != spatial:
            raise UsageError(
                f"cell {name!r} runs on inputs with {axes} spatial axes, "
                f"those of task {self.task!r} have {spatial}."
            )

    def make_task(self) -> Task:
        """The task that is trained."""
        known = [
            field.name for field in dataclasses.fields(TASKS[self.task]) if field.name != "lag"
        ]
        for name in self.task_options:
            choose(f"option of task {self.task!r}", name, known)
        return _made(make, self.task, self.lag, self.task_options)


@dataclasses.dataclass(frozen=True)
class GradientConfig:
    """Gradients against the lag, before and after a short training on the adding task.

    Args:
        cells: which cells.
        lag: T, the length of the sequences.
        hidden_size: H, the hidden units.
        sequences: how many sequences the median is taken over, for each seed.
        batch_size: sequences per update of the training.
        learning_rate: the step size of Adam in the training.
        clip: the largest global norm of a gradient; a larger one is scaled down to it.
        steps: updates of the training, a multiple of 50; 0 measures the initialisation only.
        seed: the first seed.
        seeds: how many seeds.
        out: the folder to write; none means a new one under runs/.
    """

    cells: tuple[str, ...] = (
        "rnn_orth",
        "rnn_glorot",
        "rnn_small",
        "lstm_fb0",
        "lstm",
        "lstm_chrono",
        "gru",
        "gru_chrono",
    )
    lag: int = 100
    hidden_size: int = 32
    sequences: int = 2
    batch_size: int = 32
    learning_rate: float = 5e-3
    clip: float = 1.0
    steps: int = 200
    seed: int = 0
    seeds: int = 8
    out: str | None = None

    def __post_init__(self) -> None:
        multiple("steps", self.steps)
        self.training()  # what the two configurations share is checked there
        if self.lag < 10:
            raise UsageError(f"lag must be at least 10, got {self.lag}.")

    def training(self) -> Config:
        """The training between the two measurements."""
        values: dict[str, Any] = {
            key: value
            for key, value in vars(self).items()
            if key not in ("sequences", "learning_rate")
        }
        values |= {"learning_rates": (self.learning_rate,), "steps": max(self.steps, CHUNK)}
        return Config(task="adding", not_finite="go_on", **values)


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What of a run is shipped, and how.

    Args:
        to: "onnx", "c", "safetensors" or "stablehlo".
        cell: which cell of the run; none means its first.
        which: "best", the parameters at the lowest held-out loss, or "last".
        out: the file, or for safetensors the folder; none means one in the folder of the run.
    """

    to: Literal["onnx", "c", "safetensors", "stablehlo"] = "onnx"
    cell: str | None = None
    which: Literal["best", "last"] = "best"
    out: str | None = None


@dataclasses.dataclass(frozen=True)
class Launch:
    """How a run is started: what does not change its numbers, and is not saved with them.

    Args:
        resume: go on with the run that `out` holds, or begin it there.
        tensorboard: write the losses for TensorBoard too.
        dist: "off" is one process; "auto" and "explicit" join several to one run; "auto" finds them
            by Slurm, Open MPI, Kubernetes or a TPU.
        coordinator: with "explicit", host:port of process 0.
        num_processes: with "explicit", how many there are.
        process_id: with "explicit", which this one is, from 0.
    """

    resume: bool = False
    tensorboard: bool = False
    dist: Literal["off", "auto", "explicit"] = "off"
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    def __post_init__(self) -> None:
        named = {
            name: getattr(self, name) for name in ("coordinator", "num_processes", "process_id")
        }
        wrong = [
            name for name, value in named.items() if (value is None) == (self.dist == "explicit")
        ]
        if wrong:
            raise UsageError(
                f"dist {self.dist!r} {'needs' if self.dist == 'explicit' else 'does not take'} "
                f"{', '.join(wrong)}."
            )


@dataclasses.dataclass(frozen=True)
class Points:
    """What a sweep runs.

    Args:
        grid: the values of a key, one option for each key; every combination is run. One run goes
            over the values of a key that is a list.
        list: changes of one or several keys, as mappings; each is run with each of the grid.
        retry: run again what failed.
    """

    grid: dict[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    list: tuple[dict[str, Any], ...] = ()
    retry: bool = False

    def __post_init__(self) -> None:
        if not self.grid and not self.list:
            raise UsageError("sweep needs a grid or a list: sweep adding --grid.lag 50,100,200")
        for key, values in self.grid.items():
            choose(
                "key",
                key,
                [field.name for field in dataclasses.fields(Config) if field.name != "out"],
            )
            if not values or any(key in entry or "out" in entry for entry in self.list):
                raise UsageError(
                    f"grid.{key} must have values, and the list must change neither it nor out."
                )


def _made(make: Callable[..., Any], *values: Any, **options: Any) -> Any:
    """What `make` returns; its ValueError is one of usage."""
    try:
        return make(*values, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def multiple(name: str, value: int, least: int = 0) -> None:
    """Raises UsageError unless `value` is a multiple of CHUNK and not too small."""
    if value < least or value % CHUNK:
        near = max(CHUNK, round(value / CHUNK) * CHUNK)
        raise UsageError(f"{name} must be a multiple of {CHUNK}, got {value}; did you mean {near}?")


def choose(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises UsageError unless `name` is known; the message names the nearest that are, and what
    shows all."""
    if name not in known:
        every = f"Known: {', '.join(known) or 'none'}."
        if kind in SHOWN:
            every = f"`python -m experiments {SHOWN[kind]}` shows all."
        if kind in ("task", "cell"):
            every = f"{every[:-1]}; one of your own needs --import FILE."
        raise UsageError(f"unknown {kind} {name!r}{nearest(name, known)} {every}")


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x', 'y' or 'z'?", or a full stop where nothing is near."""
    near = [repr(word) for word in difflib.get_close_matches(name, list(known), cutoff=0.5)]
    words = " or ".join(filter(None, (", ".join(near[:-1]), *near[-1:])))
    return f"; did you mean {words}?" if near else "."
