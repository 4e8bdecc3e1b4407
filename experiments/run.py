"""A training run: every cell at every learning rate,
until its seeds have solved the task or the updates are used up.

Every `checkpoint_every` updates, where a cell ends, and where a run is interrupted, all that the
rest of the run depends on is saved: a run that goes on computes the same bits as one that was never
cut.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import checkpoint, figures, folder, train
from experiments.checkpoint import Saved
from experiments.config import Config, RunError
from experiments.history import History
from experiments.progress import Show
from experiments.train import Job, Rows, State, make_job


class Hooks(NamedTuple):
    """What a run calls while it goes on."""

    show: Show
    # asked after every 50 updates whether the run is to end
    stop: Callable[[], bool] = lambda: False
    # is given the rows that metrics.jsonl was given
    record: Callable[[list[dict[str, Any]]], None] = lambda rows: None


class Diverged(RunError):
    """A loss became NaN or infinite."""


@dataclasses.dataclass
class Training:
    """One cell of a run under way."""

    config: Config
    job: Job
    cell: str
    rows: Rows
    histories: list[History]  # one per learning rate
    state: State

    @property
    def label(self) -> str:
        return (
            self.cell
            if len(self.histories) > 1
            else f"{self.cell}  lr {self.histories[0].learning_rate:g}"
        )

    @property
    def step(self) -> int:
        return max(history.step for history in self.histories)

    def going(self) -> list[bool]:
        """Whether each history goes on."""
        return [
            not history.ended(self.config, self.job.task.levels.solved)
            for history in self.histories
        ]


def run(config: Config, path: Path, hooks: Hooks) -> dict[str, Any]:
    """Runs `config`, or what is left of it, and writes metrics,
    figure and summary into the folder `path`.

    Args:
        config: what to run.
        path: from `folder.opened`; the run goes on from the checkpoints that it holds.
        hooks: see there. Ctrl-C ends the run as `hooks.stop` does.

    Returns:
        The summary, as it is written. Its status is "done"; "interrupted", when it was asked to
        stop; or "failed", when a loss became NaN, with the reason under "failure".

    Raises:
        RunError, OSError: something could not be written; there is no summary, and what was saved
            before is whole.
    """
    histories: list[History] = []
    status = "done"
    failure = {}
    folder.write(path / "metrics.jsonl", "")
    try:
        for name in config.cells:
            _train(config, name, path, histories, hooks)
    except KeyboardInterrupt:
        status = "interrupted"
    except Diverged as error:
        status = "failed"
        failure = {"failure": str(error)}
    begun = [history for history in histories if history.losses]
    summary = summarise(config, path, begun, status) | failure
    folder.write(path / "learning.png", figures.save(figures.learning_figure(path)))
    folder.write_json(path / "summary.json", summary)
    return summary


def _train(config: Config, name: str, path: Path, histories: list[History], hooks: Hooks) -> None:
    """Trains one cell from its newest checkpoint on; its histories join `histories`."""
    with checkpoint.checkpoints(path / "checkpoints" / name) as manager:
        training = _begin(config, name, manager, hooks.show)
        histories += training.histories
        folder.append(path, _rows(training.histories, config.seed))
        while any(training.going()):
            rows = _rows(_advance(training, manager), config.seed, newest=True)
            folder.append(path, rows)
            hooks.record(rows)
            asked = hooks.stop()
            ended = not any(training.going())
            if ended:
                _finish(training)
            if asked or ended or training.step % config.checkpoint_every == 0:
                _save(manager, training)
            _show(training, hooks.show, ended)
            if asked and not ended:
                raise KeyboardInterrupt  # as by Ctrl-C: what the run needs to go on is saved


def _rows(histories: list[History], seed: int, newest: bool = False) -> list[dict[str, Any]]:
    """What metrics.jsonl says of some histories."""
    return [row for history in histories for row in history.rows(seed, newest)]


def _begin(config: Config, name: str, manager: Any, show: Show) -> Training:
    """The training of a cell as it was saved last, or at its start."""
    job = make_job(config, name)
    rows = train.rows(config)
    like = train.like(job, rows)
    saved, remarks = checkpoint.restore(manager, like)
    for remark in remarks if jax.process_index() == 0 else ():
        print(f"warning: {remark}", file=sys.stderr, flush=True)
    if saved:
        histories = [
            History(**history | {"final": history["final"] or {}})
            for history in saved.facts["histories"]
        ]
    else:
        parameters = sum(leaf[0].size for leaf in jax.tree.leaves(like.params))
        histories = [History(name, rate, parameters=parameters) for rate in config.learning_rates]
    state = saved.state if saved else train.start(job, rows)
    training = Training(config, job, name, rows, histories, state)
    words = "goes on from here" if saved else "compiling"
    show(training.label, training.step, config.steps, words, not any(training.going()))
    return training


def _advance(training: Training, manager: Any) -> list[History]:
    """CHUNK more updates of the histories that go on, which are returned."""
    going = training.going()
    seeds = training.config.seeds
    progress = train.advance(
        training.job, training.state, training.rows, np.repeat(going, seeds), training.step
    )
    if np.any(progress.lost) and training.config.not_finite == "stop":
        _lose(training, progress.lost, manager)
    training.state = progress.state
    for k, history in enumerate(training.histories):
        if going[k]:
            mine = slice(k * seeds, (k + 1) * seeds)
            seconds = progress.seconds / sum(going)
            history.add(progress.losses[mine].tolist(), progress.lost[mine].tolist(), seconds)
    return [history for history, goes in zip(training.histories, going, strict=True) if goes]


def _lose(training: Training, lost: np.ndarray, manager: Any) -> None:
    """Saves the last good state, and raises Diverged, which names the update and the checkpoint."""
    seeds = training.config.seeds
    row = int(np.flatnonzero(lost)[np.argmin(lost[lost > 0])])
    _save(manager, training)
    raise Diverged(
        f"the loss of {training.cell} with seed {training.config.seed + row % seeds} "
        f"at learning rate {training.rows.rates[row]:g} became NaN or infinite at update "
        f"{lost[row]}; the last good checkpoint is {manager.directory / str(training.step)}"
    )


def _save(manager: Any, training: Training) -> None:
    facts = {"histories": [dataclasses.asdict(history) for history in training.histories]}
    checkpoint.save(manager, Saved(training.step, training.state, facts))


def _finish(training: Training) -> None:
    """Evaluates what was trained."""
    job = training.job.compiled()
    config = training.config
    for lag in (config.lag, *config.test_lags):
        there = dataclasses.replace(job, task=job.task.at_lag(lag))
        scores = np.reshape(train.evaluate(there, training.state.params), (2, -1, config.seeds))
        for k, history in enumerate(training.histories):
            history.final[str(lag)] = scores[:, k].tolist()


def _show(training: Training, show: Show, ended: bool) -> None:
    baseline = training.job.task.levels.baseline
    ratios = [
        "  ".join(f"{loss / baseline:.3f}" for loss in history.losses[-1])
        for history in training.histories
    ]
    text = f"loss/baseline {' | '.join(ratios)}"
    show(training.label, training.step, training.config.steps, text, ended)


def summarise(config: Config, path: Path, histories: list[History], status: str) -> dict[str, Any]:
    """What is saved as summary.json, from which the table is printed."""
    task = config.make_task()
    what = {
        "status": status,
        "task": config.task,
        "lag": config.lag,
        "seeds": config.seeds,
        "metric": task.score.label,
    }
    levels = {
        "baseline": task.levels.baseline,
        "evaluation_baseline": folder.finite(task.evaluation_baseline()),
    }
    levels |= {"partial": task.levels.partial, "solved_below": task.levels.solved}
    seconds = {"seconds": round(sum(sum(history.seconds) for history in histories), 1)}
    env = {"env": folder.read_json(path / "env.json")}
    results = [history.outcome(config.lag, task.levels.solved) for history in histories]
    return what | levels | seconds | env | {"results": results}
