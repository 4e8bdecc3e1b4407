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

from experiments.config import Config, RunError
from experiments.report import figures
from experiments.training import checkpoint, folder, programs, train
from experiments.training.checkpoint import Saved
from experiments.training.history import History, beyond, merit
from experiments.training.progress import Show
from experiments.training.train import Job, Rows, State, make_job


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

    def going(self) -> np.ndarray:
        """Which seeds of each history go on, [histories, seeds]."""
        solved = self.job.task.levels.solved
        return np.array([history.going(self.config, solved) for history in self.histories])


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
    """Trains one cell: at all learning rates, at those beyond where the best is at the edge, and
    with its own seeds at the best, where others were for choosing it."""
    chosen = config.select_seeds > 0
    compared = config
    if chosen:
        seed = config.seed + config.seeds
        compared = dataclasses.replace(config, seed=seed, seeds=config.select_seeds)
    folders = path / "checkpoints"
    known = _stage(compared, name, folders / name, histories, hooks, chosen)
    while True:
        merits = {h.learning_rate: merit(_outcome(config, h)) for h in known}
        rate = beyond(merits, config.widen_rates, len(config.learning_rates))
        if rate is None:
            break
        # Nobody asked for this rate: where it is too large, that ends nothing.
        wider = dataclasses.replace(
            compared, learning_rates=(rate,), select_seeds=0, not_finite="go_on"
        )
        known = known + _stage(wider, name, folders / f"{name}-{rate:g}", histories, hooks, chosen)
    if chosen:
        best = min(merits, key=lambda rate: (merits[rate], rate))
        alone = dataclasses.replace(config, learning_rates=(best,), select_seeds=0)
        _stage(alone, name, folders / f"{name}-best", histories, hooks)


def _stage(
    config: Config,
    name: str,
    path: Path,
    histories: list[History],
    hooks: Hooks,
    selection: bool = False,
) -> list[History]:
    """Trains one cell from its newest checkpoint on; its histories, which are returned, join
    `histories`. With `selection` they only serve to choose a learning rate."""
    programs.make_room()
    with checkpoint.checkpoints(path) as manager:
        training = _begin(config, name, manager, hooks.show, selection)
        histories += training.histories
        run = path.parents[1]
        folder.append(run, _rows(training.histories))
        while training.going().any():
            rows = _rows(_advance(training, manager), newest=True)
            folder.append(run, rows)
            hooks.record(rows)
            asked = hooks.stop()
            ended = not training.going().any()
            if ended:
                _finish(training)
            if asked or ended or training.step % config.checkpoint_every == 0:
                _save(manager, training)
            _show(training, hooks.show, ended)
            if asked and not ended:
                raise KeyboardInterrupt  # as by Ctrl-C: what the run needs to go on is saved
    return training.histories


def _rows(histories: list[History], newest: bool = False) -> list[dict[str, Any]]:
    """What metrics.jsonl says of some histories."""
    return [row for history in histories for row in history.rows(newest)]


def _outcome(config: Config, history: History) -> dict[str, Any]:
    solved = config.make_task().levels.solved
    return history.outcome(config.lag, solved, config.checks)


def _begin(config: Config, name: str, manager: Any, show: Show, selection: bool) -> Training:
    """The training of a cell as it was saved last, or at its start."""
    job = make_job(config, name)
    rows = train.rows(config)
    like = train.like(job, rows)
    saved, remarks = checkpoint.restore(manager, like)
    for remark in remarks if jax.process_index() == 0 else ():
        print(f"warning: {remark}", file=sys.stderr, flush=True)
    if saved:
        histories = _histories(saved.facts["histories"], path=manager.directory)
    else:
        parameters = sum(leaf[0].size for leaf in jax.tree.leaves(like.params))
        what = {"parameters": parameters, "seed": config.seed, "selection": selection}
        histories = [History(name, rate, **what) for rate in config.learning_rates]
    state = saved.state if saved else train.start(job, rows)
    training = Training(config, job, name, rows, histories, state)
    words = "goes on from here" if saved else "compiling"
    show(training.label, training.step, config.steps, words, not training.going().any())
    return training


def _histories(saved: list[dict[str, Any]], path: Any) -> list[History]:
    """The histories of a checkpoint.

    Raises:
        RunError: another version of the experiments, which judged otherwise, has saved it.
    """
    known = {field.name for field in dataclasses.fields(History)}
    if any(set(history) != known for history in saved):
        raise RunError(
            f"{path} was saved by another version of the experiments, with other rules; "
            "begin the run anew in another folder."
        )
    return [History(**history) for history in saved]


def _advance(training: Training, manager: Any) -> list[History]:
    """CHUNK more updates of the seeds that go on; returns the histories that have some."""
    going = training.going()
    seeds = training.config.seeds
    progress = train.advance(
        training.job, training.state, training.rows, going.ravel(), training.step
    )
    if np.any(progress.lost) and training.config.not_finite == "stop":
        _lose(training, progress.lost, manager)
    training.state = progress.state
    some = [bool(seeds.any()) for seeds in going]
    for k, history in enumerate(training.histories):
        if some[k]:
            mine = slice(k * seeds, (k + 1) * seeds)
            history.add(
                progress.losses[mine].tolist(),
                progress.held_out[:, mine].tolist(),
                progress.norms[mine].tolist(),
                progress.lost[mine].tolist(),
                progress.seconds / sum(some),
            )
    return [history for history, goes in zip(training.histories, some, strict=True) if goes]


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
        scores = {
            which: np.reshape(train.evaluate(there, params), (2, -1, config.seeds))
            for which, params in (("last", training.state.params), ("best", training.state.best))
        }
        for k, history in enumerate(training.histories):
            history.final[str(lag)] = {name: found[:, k].tolist() for name, found in scores.items()}


def _show(training: Training, show: Show, ended: bool) -> None:
    baseline = training.job.task.levels.baseline
    ratios = [
        "  ".join(f"{loss / baseline:.3f}" for loss in history.held_out[-1][0])
        for history in training.histories
    ]
    text = f"held out: loss/baseline {' | '.join(ratios).replace('nan', 'ended')}"
    show(training.label, training.step, training.config.steps, text, ended)


def summarise(config: Config, path: Path, histories: list[History], status: str) -> dict[str, Any]:
    """What is saved as summary.json, from which the table is printed."""
    task = config.make_task()
    return {
        "status": status,
        "task": config.task,
        "lag": config.lag,
        "seeds": config.seeds,
        "metric": task.score.label,
        "baseline": task.levels.baseline,
        "evaluation_baseline": folder.finite(task.evaluation_baseline()),
        "partial": task.levels.partial,
        "solved_below": task.levels.solved,
        "checks": config.checks,
        "until": config.until,
        "seconds": round(sum(sum(history.seconds) for history in histories), 1),
        "env": folder.read_json(path / "env.json"),
        "results": [_outcome(config, one) for one in histories if not one.selection],
        "selection": [_outcome(config, one) for one in histories if one.selection],
    }
