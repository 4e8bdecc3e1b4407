"""What a run is made of: frozen dataclasses of plain values, checked when they are made, and saved with every result."""

import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path

from experiments.cells import CELLS
from experiments.tasks import TASKS

CHUNK = 50  # updates per compiled call; losses are reported, and "solved" is judged, as means over so many
PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}


class UsageError(ValueError):
    """A wrong configuration or command; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A training run: every cell at every learning rate, for all seeds.

    Args:
        description: one line about the run.
        task: which task; see `python -m experiments list`.
        lag: the length of the sequences, at least 10.
        cells: which cells, in this order.
        hidden_size: H.
        batch_size: sequences per update, drawn anew for each.
        learning_rates: of Adam; each cell is trained at each.
        clip: the largest global norm of a gradient.
        steps: the most updates, a multiple of 50; a run stops before when all its seeds have solved the task.
        seed: the first seed.
        seeds: how many seeds, counted from `seed`, trained in one program.
        out: the folder to write; none means a new one under runs/.
    """

    description: str = ""
    task: str = "adding"
    lag: int = 200
    cells: tuple[str, ...] = ("rnn_orth", "lstm", "gru")
    hidden_size: int = 32
    batch_size: int = 64
    learning_rates: tuple[float, ...] = (5e-3,)
    clip: float = 1.0
    steps: int = 2000
    seed: int = 0
    seeds: int = 3
    out: str | None = None

    def __post_init__(self) -> None:
        choose("task", self.task, TASKS)
        check(self)
        spatial = len(TASKS[self.task].spatial_shape)
        for name in self.cells:
            axes = CELLS[name].make(self.hidden_size, self.lag).feature_axes - 1
            if axes != spatial:
                raise UsageError(
                    f"cell {name!r} runs on inputs with {axes} spatial axes, those of task {self.task!r} have {spatial}."
                )
        if not self.learning_rates:
            raise UsageError("learning_rates must name at least one.")
        for rate in (*self.learning_rates, self.clip):
            if not 0 < rate < float("inf"):
                raise UsageError(f"learning_rates and clip must be positive numbers, got {rate}.")
        if self.steps < CHUNK:
            raise UsageError(f"steps must be a multiple of {CHUNK}, got 0.")


@dataclasses.dataclass(frozen=True)
class GradientConfig:
    """Gradients against the lag, before and after a short training on the adding task.

    Args:
        cells: which cells.
        lag: T, the length of the sequences.
        hidden_size: H.
        sequences: how many sequences the median is taken over, for each seed.
        batch_size: sequences per update of the training.
        learning_rate: of Adam.
        clip: the largest global norm of a gradient.
        steps: updates of the training, a multiple of 50; 0 measures the initialisation only.
        seed: the first seed.
        seeds: how many seeds.
        out: the folder to write; none means a new one under runs/.
    """

    cells: tuple[str, ...] = ("rnn_orth", "rnn_glorot", "rnn_small", "lstm_fb0", "lstm", "lstm_chrono", "gru", "gru_chrono")
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
        check(self)

    def training(self) -> Config:
        """The training between the two measurements."""
        return Config(
            task="adding",
            lag=self.lag,
            cells=self.cells,
            hidden_size=self.hidden_size,
            batch_size=self.batch_size,
            learning_rates=(self.learning_rate,),
            clip=self.clip,
            steps=max(self.steps, CHUNK),
            seed=self.seed,
            seeds=self.seeds,
        )


def check(config: Config | GradientConfig) -> None:
    """Raises UsageError where what both configurations share is wrong."""
    for name in config.cells:
        choose("cell", name, CELLS)
    if not config.cells:
        raise UsageError("cells must name at least one.")
    for name in ("hidden_size", "batch_size", "seeds"):
        if getattr(config, name) < 1:
            raise UsageError(f"{name} must be at least 1, got {getattr(config, name)}.")
    if config.lag < 10:
        raise UsageError(f"lag must be at least 10, got {config.lag}.")
    if config.seed < 0:
        raise UsageError(f"seed must not be negative, got {config.seed}.")
    if config.steps < 0 or config.steps % CHUNK:
        near = max(CHUNK, round(config.steps / CHUNK) * CHUNK)
        raise UsageError(f"steps must be a multiple of {CHUNK}, got {config.steps}; did you mean {near}?")


def choose(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises UsageError unless `name` is known; the message names the nearest that is."""
    if name not in known:
        raise UsageError(f"unknown {kind} {name!r}{nearest(name, known)} Known: {', '.join(known)}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or a full stop where nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "."
