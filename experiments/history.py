"""What is known of a training: the losses of one cell at one learning rate, and when it ends."""

import dataclasses
import math
import statistics
from collections.abc import Callable
from typing import Any

from experiments.cells import CELLS
from experiments.config import CHUNK, Config
from experiments.folder import finite


@dataclasses.dataclass
class History:
    """Plain values, so that it can be kept in a checkpoint."""

    cell: str
    learning_rate: float
    losses: list[list[float]] = dataclasses.field(default_factory=list)  # [chunks][seeds], means over CHUNK updates
    lost: list[int] = dataclasses.field(default_factory=list)  # [seeds], the first update with a loss that is not finite, or 0
    seconds: list[float] = dataclasses.field(default_factory=list)  # [chunks]
    parameters: int = 0
    final: dict[str, list[list[float]]] = dataclasses.field(default_factory=dict)  # lag: loss and metric there, [seeds] each

    @classmethod
    def saved(cls, values: dict[str, Any], lag: int) -> "History":
        """From a checkpoint; one of an earlier version holds the evaluation at the lag of the run alone, or None."""
        known: dict[str, Any] = values | {"final": {str(lag): values["final"]} if values["final"] else {}}
        return cls(**(values if isinstance(values["final"], dict) else known))

    def add(self, losses: list[float], lost: list[int], seconds: float) -> None:
        """Adds CHUNK updates."""
        self.lost = [old or new for old, new in zip(self.lost or [0] * len(lost), lost, strict=True)]
        self.losses.append(losses)
        self.seconds.append(seconds)

    @property
    def step(self) -> int:
        return CHUNK * len(self.losses)

    def first_step(self, seed: int, reached: Callable[[float], bool]) -> int | None:
        """The first step at which `reached(loss)` is true for a seed."""
        return next((CHUNK * (k + 1) for k, losses in enumerate(self.losses) if reached(losses[seed])), None)

    def ended(self, config: Config, solved: float) -> bool:
        """Whether all updates are made, every seed has solved the task or lost its finite loss, or patience has run out."""
        if not self.losses or self.step >= config.steps:
            return bool(self.losses)
        settled = all(b < solved or not math.isfinite(now) for b, now in zip(self.best(), self.losses[-1], strict=True))
        return settled or (0 < config.patience <= self.step - self.newest_best())

    def best(self) -> list[float]:
        """The lowest loss of each seed so far, infinite where there is none."""
        return [
            min((loss for loss in losses if math.isfinite(loss)), default=math.inf) for losses in zip(*self.losses, strict=True)
        ]

    def newest_best(self) -> int:
        """The step at which a seed last had a loss lower than all of its losses before."""
        newest = 0
        for losses in zip(*self.losses, strict=True):
            best = math.inf
            for k, loss in enumerate(losses):
                if loss < best:
                    best, newest = loss, max(newest, CHUNK * (k + 1))
        return newest

    def rows(self, seed: int, newest: bool = False) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, one per step and seed: all, or those of the newest losses. `seed` is the first seed."""
        lines = []
        for k in range(len(self.losses) - 1 if newest else 0, len(self.losses)):
            common = {"step": CHUNK * (k + 1), "cell": self.cell, "learning_rate": self.learning_rate}
            seconds = round(sum(self.seconds[: k + 1]), 3)
            for s, loss in enumerate(self.losses[k]):
                lines.append({**common, "seed": seed + s, "loss": finite(loss), "seconds": seconds})
        return lines

    def outcome(self, lag: int, solved: float) -> dict[str, Any]:
        """One row of the results; lists have one entry per seed, null where there is no such thing."""
        seeds = range(len(self.losses[0]))
        evaluated = {at: [[finite(score) for score in row] for row in scores] for at, scores in self.final.items()}
        loss, metric = evaluated.pop(str(lag), [[None] * len(seeds)] * 2)
        warm = self.seconds[1:]  # the first includes the compilation
        scores = {"best_loss": [finite(loss) for loss in self.best()], "final_loss": loss, "final_metric": metric}
        scores |= (
            {"tests": {at: {"loss": loss, "metric": metric} for at, (loss, metric) in evaluated.items()}} if evaluated else {}
        )
        what = {"cell": self.cell, "learning_rate": self.learning_rate, "description": CELLS[self.cell].description}
        size = {"parameters": self.parameters, "steps": self.step, "finished": bool(self.final)}
        found = {
            "steps_to_solve": [self.first_step(s, lambda loss: loss < solved) for s in seeds],
            "not_finite_at": [step or None for step in self.lost],
            **scores,
        }
        pace = finite(statistics.median(warm) * 1e3 / CHUNK, 3) if warm else None
        return what | size | found | {"ms_per_update": pace, "seconds": round(sum(self.seconds), 1)}
