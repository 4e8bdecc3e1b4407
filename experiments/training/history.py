"""What is known of a training: the losses of one cell at one learning rate, and when its seeds end.

Solved is said of sequences held out. A seed passes the bar the first time that their loss is below
it, and holds it from the check on that begins so many in a row; only that counts as solved.
"""

import dataclasses
import math
import statistics
from typing import Any

import numpy as np

from experiments.cells import CELLS
from experiments.config import CHUNK, Config
from experiments.training.folder import finite


@dataclasses.dataclass
class History:
    """Plain values, so that it can be kept in a checkpoint; NaN where a seed had ended."""

    cell: str
    learning_rate: float
    # [chunks][seeds], means over CHUNK updates
    losses: list[list[float]] = dataclasses.field(default_factory=list)
    # [chunks][2][seeds], loss and metric of the sequences held out, after them
    held_out: list[list[list[float]]] = dataclasses.field(default_factory=list)
    # [chunks][seeds], means over them of the norm of the gradient before clipping
    norms: list[list[float]] = dataclasses.field(default_factory=list)
    # [seeds], the first update with a loss that is not finite, or 0
    lost: list[int] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)  # [chunks]
    parameters: int = 0
    seed: int = 0  # the first
    selection: bool = False  # whether it only serves to choose a learning rate
    # by lag, of the last parameters and of the best: loss and metric there, [seeds] each
    final: dict[str, dict[str, list[list[float]]]] = dataclasses.field(default_factory=dict)

    def add(
        self,
        losses: list[float],
        held_out: list[list[float]],
        norms: list[float],
        lost: list[int],
        seconds: float,
    ) -> None:
        """Adds CHUNK updates."""
        self.lost = [
            old or new for old, new in zip(self.lost or [0] * len(lost), lost, strict=True)
        ]
        self.losses.append(losses)
        self.held_out.append(held_out)
        self.norms.append(norms)
        self.seconds.append(seconds)

    @property
    def step(self) -> int:
        return CHUNK * len(self.losses)

    def checks(self) -> np.ndarray:
        """The losses held out [chunks, seeds], infinite where they are not finite."""
        losses = np.array(self.held_out)[:, 0]
        return np.where(np.isfinite(losses), losses, np.inf)

    def going(self, config: Config, solved: float) -> np.ndarray:
        """Which seeds go on, [seeds]: those that have updates left and a finite loss, and neither
        hold the bar, where that ends them, nor have run out of patience.
        """
        if not self.losses:
            return np.full(config.seeds, True)
        losses = self.checks()
        ended = np.array(self.lost) > 0
        if config.until == "solved":
            ended |= _held(losses < solved, config.checks) > 0
        if config.patience:
            ended |= config.patience <= self.step - CHUNK * (losses.argmin(axis=0) + 1)
        return ~ended & (self.step < config.steps)

    def rows(self, newest: bool = False) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, one per step and seed that was trained: all,
        or those of the newest losses.
        """
        what = {"cell": self.cell, "learning_rate": self.learning_rate}
        what |= {"selection": True} if self.selection else {}
        seconds = np.cumsum(self.seconds).round(3).tolist()
        lines = []
        for k in range(len(self.losses))[-1 if newest else 0 :]:
            step = CHUNK * (k + 1)
            columns = (self.losses[k], *self.held_out[k], self.norms[k])
            for s, (loss, held_out, metric, norm) in enumerate(zip(*columns, strict=True)):
                if math.isnan(loss) and not step - CHUNK < self.lost[s] <= step:
                    continue  # ended before
                values = {
                    "loss": loss,
                    "held_out_loss": held_out,
                    "held_out_metric": metric,
                    "gradient_norm": norm,
                }
                found = {name: finite(value) for name, value in values.items()}
                lines.append(
                    {"step": step, **what, "seed": self.seed + s, **found} | {"seconds": seconds[k]}
                )
        return lines

    def outcome(self, lag: int, solved: float, checks: int) -> dict[str, Any]:
        """One row of the results; lists have one entry per seed,
        null where there is no such thing.
        """
        losses = self.checks()
        below = losses < solved
        warm = self.seconds[1:]  # the first includes the compilation
        trained = np.isfinite(np.array(self.losses)).sum(axis=0)
        what = {
            "cell": self.cell,
            "learning_rate": self.learning_rate,
            # a run may be read without the file that registers its cell
            "description": CELLS[self.cell].description if self.cell in CELLS else "",
            "parameters": self.parameters,
            "steps": self.step,
            "finished": bool(self.final),
        }
        reached = {
            "steps_to_solve": _updates(_held(below, checks)),
            "first_below": _updates(_held(below, 1)),
            "updates": _updates(trained),
            "not_finite_at": [step or None for step in self.lost],
            "best_loss": [*map(finite, losses.min(axis=0))],
        }
        tests = {at: _scores(found) for at, found in self.final.items()}
        here = tests.pop(
            str(lag), _scores(dict.fromkeys(("last", "best"), [[math.nan] * len(trained)] * 2))
        )
        scores = {
            f"final_{name}" if name in ("loss", "metric") else name: v for name, v in here.items()
        }
        scores |= {"tests": tests} if tests else {}
        pace = finite(statistics.median(warm) * 1e3 / CHUNK, 3) if warm else None
        times = {"ms_per_update": pace, "seconds": round(sum(self.seconds), 1)}
        return what | reached | scores | times


def merit(outcome: dict[str, Any]) -> tuple[float, ...]:
    """What the learning rates of a cell are compared by, the least best: seeds that did not solve
    the task, then updates, then what was right at the end."""
    steps = outcome["steps_to_solve"]
    right = [score or 0.0 for score in outcome["best_params_metric"]]
    return steps.count(None), sum(step or 0 for step in steps), -statistics.median(right)


def beyond(rates: dict[float, tuple[float, ...]], widen: int, given: int) -> float | None:
    """The learning rate to try next, where the best of several lies at an edge; None where it lies
    inside, or `widen` were added to those `given`.

    Args:
        rates: the merit of each that was tried.
        widen: how many may be added in all.
        given: how many there were at first.
    """
    tried = sorted(rates)
    best = min(rates, key=lambda rate: (rates[rate], rate))
    if given < 2 or best not in (tried[0], tried[-1]) or len(tried) - given >= widen:
        return None
    edge, inner = tried[:2] if best == tried[0] else tried[:-3:-1]
    return float(f"{edge * edge / inner:.3g}")


def _held(below: np.ndarray, checks: int) -> np.ndarray:
    """The number, from 1 on, of the first check that begins `checks` in a row which are below the
    bar, of [chunks, seeds]; 0 where there is none.
    """
    if len(below) < checks:
        return np.zeros(below.shape[1], int)
    in_a_row = np.lib.stride_tricks.sliding_window_view(below, checks, axis=0).all(axis=-1)
    return np.where(in_a_row.any(axis=0), in_a_row.argmax(axis=0) + 1, 0)


def _updates(chunks: np.ndarray) -> list[int | None]:
    return [int(CHUNK * k) or None for k in chunks]


def _scores(found: dict[str, list[list[float]]]) -> dict[str, list[float | None]]:
    """The scores of the last parameters and of the best."""
    named = {}
    for which, prefix in (("last", ""), ("best", "best_params_")):
        for name, values in zip(("loss", "metric"), found[which], strict=True):
            named[prefix + name] = [*map(finite, values)]
    return named
