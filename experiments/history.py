"""What is known of a training: the losses of one cell at one learning rate, and when it ends."""

import dataclasses
import statistics
from typing import Any

import numpy as np

from experiments.cells import CELLS
from experiments.config import CHUNK, Config
from experiments.folder import finite


@dataclasses.dataclass
class History:
    """Plain values, so that it can be kept in a checkpoint."""

    cell: str
    learning_rate: float
    # [chunks][seeds], means over CHUNK updates
    losses: list[list[float]] = dataclasses.field(default_factory=list)
    # [seeds], the first update with a loss that is not finite, or 0
    lost: list[int] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)  # [chunks]
    parameters: int = 0
    # lag: loss and metric there, [seeds] each
    final: dict[str, list[list[float]]] = dataclasses.field(default_factory=dict)

    def add(self, losses: list[float], lost: list[int], seconds: float) -> None:
        """Adds CHUNK updates."""
        self.lost = [
            old or new for old, new in zip(self.lost or [0] * len(lost), lost, strict=True)
        ]
        self.losses.append(losses)
        self.seconds.append(seconds)

    @property
    def step(self) -> int:
        return CHUNK * len(self.losses)

    def finite_losses(self) -> np.ndarray:
        """The losses [chunks, seeds], infinite where they are not finite."""
        losses = np.array(self.losses)
        return np.where(np.isfinite(losses), losses, np.inf)

    def ended(self, config: Config, solved: float) -> bool:
        """Whether all updates are made, every seed has solved the task or lost its finite loss,
        or patience has run out.
        """
        if not self.losses or self.step >= config.steps:
            return bool(self.losses)
        losses = self.finite_losses()
        settled = (losses.min(axis=0) < solved) | np.isinf(losses[-1])
        # when a seed last had a loss lower than all before
        newest_best = CHUNK * (losses.argmin(axis=0).max() + 1)
        return bool(settled.all() or 0 < config.patience <= self.step - newest_best)

    def rows(self, seed: int, newest: bool = False) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, one per step and seed: all,
        or those of the newest losses. `seed` is the first seed.
        """
        lines = []
        what = {"cell": self.cell, "learning_rate": self.learning_rate}
        chunks = enumerate(
            zip(self.losses, np.cumsum(self.seconds).round(3).tolist(), strict=True), start=1
        )
        for k, (losses, seconds) in list(chunks)[-1 if newest else 0 :]:
            step = {"step": CHUNK * k, **what}
            lines += [
                {**step, "seed": seed + s, "loss": finite(loss), "seconds": seconds}
                for s, loss in enumerate(losses)
            ]
        return lines

    def outcome(self, lag: int, solved: float) -> dict[str, Any]:
        """One row of the results; lists have one entry per seed,
        null where there is no such thing.
        """
        losses = self.finite_losses()
        warm = self.seconds[1:]  # the first includes the compilation
        unknown = {"loss": [None] * losses.shape[1], "metric": [None] * losses.shape[1]}
        # as an earlier version saved it
        final = self.final if isinstance(self.final, dict) else {str(lag): self.final}
        tests = {
            at: {"loss": [*map(finite, loss)], "metric": [*map(finite, metric)]}
            for at, (loss, metric) in final.items()
        }
        here = tests.pop(str(lag), unknown)
        what = {
            "cell": self.cell,
            "learning_rate": self.learning_rate,
            "description": CELLS[self.cell].description,
        }
        size = {"parameters": self.parameters, "steps": self.step, "finished": bool(self.final)}
        solved_at = [
            int(CHUNK * (below.argmax() + 1)) if below.any() else None
            for below in (losses < solved).T
        ]
        lowest = [*map(finite, losses.min(axis=0))]
        reached = {
            "steps_to_solve": solved_at,
            "not_finite_at": [step or None for step in self.lost],
            "best_loss": lowest,
        }
        scores = {"final_loss": here["loss"], "final_metric": here["metric"]} | (
            {"tests": tests} if tests else {}
        )
        pace = finite(statistics.median(warm) * 1e3 / CHUNK, 3) if warm else None
        return (
            what
            | size
            | reached
            | scores
            | {"ms_per_update": pace, "seconds": round(sum(self.seconds), 1)}
        )
