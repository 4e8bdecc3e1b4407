"""Sweeps: every point once, whatever happens in between."""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import time

import pytest

from experiments import cli
from experiments.arguments import parse_all
from experiments.config import PRESETS, Config, Launch, Points, UsageError
from experiments.training import folder, sweep

TINY = "sweep adding --cells gru --lag 10 --steps 50 --seeds 2 --hidden_size 4 --batch_size 8"


def summary(config, solved=(50, None), status="done"):
    row = {
        "cell": "gru",
        "description": "",
        "learning_rate": 0.005,
        "parameters": 9,
        "steps_to_solve": list(solved),
        "steps": 50,
        "finished": True,
    }
    row |= {
        "final_loss": [0.1, 0.2],
        "final_metric": [0.1, 0.2],
        "not_finite_at": [None, None],
        "ms_per_update": 1.0,
        "seconds": 2.0,
    }
    return {"status": status, "lag": config.lag, "results": [row]} | (
        {"failure": "NaN"} if status == "failed" else {}
    )


class Trainer:
    """Stands for the training: writes a summary, or does what is wanted at a lag."""

    def __init__(self, **wanted):
        self.wanted, self.seen = wanted, []

    def __call__(self, config, launch, stop):
        self.seen.append(config.lag)
        outcome = self.wanted.get(f"lag{config.lag}", "done")
        if isinstance(outcome, Exception):
            raise outcome
        with folder.opened("adding", config, launch.resume) as path:
            folder.write_json(path / "summary.json", summary(config, status=outcome))
        return summary(config, status=outcome), path


def points(tmp_path, *words):
    arguments = [
        "--config",
        str(PRESETS["adding"]),
        "--out",
        str(tmp_path),
        *(words or ("--grid.lag", "10,20,30")),
    ]
    return sweep.points("adding", *parse_all((Config, Launch, Points), arguments, "sweep"))


def test_a_grid_and_a_list_give_every_pair_and_lists_stay_in_one_run(tmp_path):
    (tmp_path / "sweep.yaml").write_text(
        "list:\n- {hidden_size: 8, cells: [lstm, gru]}\n- {hidden_size: 16}\n"
    )
    made = points(
        tmp_path,
        "--config",
        str(tmp_path / "sweep.yaml"),
        "--grid.lag=10,20",
        "--grid.learning_rates",
        "1e-3,1e-2",
    )
    found = [
        (p.config.hidden_size, p.config.lag, p.config.cells[0], p.config.learning_rates)
        for p in made
    ]
    rates = (1e-3, 1e-2)
    assert found == [
        (8, 10, "lstm", rates),
        (8, 20, "lstm", rates),
        (16, 10, "rnn_orth", rates),
        (16, 20, "rnn_orth", rates),
    ]
    assert len({p.path for p in made}) == 4 and all(p.path.parent == tmp_path for p in made)
    assert points(tmp_path)[1].path.name.startswith("lag=20-")


def test_the_folder_of_a_point_follows_from_its_configuration_alone(tmp_path):
    few, many = points(tmp_path, "--grid.lag", "20"), points(tmp_path)
    assert few[0].path == many[1].path
    assert points(tmp_path, "--grid.lag", "20", "--seeds", "5")[0].path != few[0].path


def test_a_key_that_a_later_version_adds_does_not_move_the_folder(tmp_path, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Later(Config):
        momentum: float = 0.9

    before = [point.path for point in points(tmp_path)]
    monkeypatch.setattr(sweep, "Config", Later)
    arguments = [
        "--config",
        str(PRESETS["adding"]),
        "--out",
        str(tmp_path),
        "--grid.lag",
        "10,20,30",
    ]
    after = sweep.points("adding", *parse_all((Later, Launch, Points), arguments, "sweep"))
    assert [point.path for point in after] == before and after[0].config.momentum == 0.9


@pytest.mark.parametrize("text", ["list: {lag: 10}", "list: 3", "list: [3]", "grid: [10]"])
def test_points_of_another_type_are_refused(text, tmp_path):
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"(list|grid)"):
        points(tmp_path, "--config", str(tmp_path / "sweep.yaml"))


def test_the_same_configuration_in_other_words_is_the_same_point(tmp_path):
    first = points(tmp_path, "--grid.clip", "1", "--grid.lag", "20")
    first[0].path.mkdir()
    again = points(tmp_path, "--grid.lag", "20", "--grid.clip", "1.0,1")
    assert [point.path for point in again] == [first[0].path]


def test_a_damaged_summary_is_a_failure_of_its_point_alone(tmp_path):
    made = points(tmp_path)
    made[1].path.mkdir()
    (made[1].path / "summary.json").write_text("")
    status, text = sweep.run(made, False, Trainer())
    assert (
        status == "failed"
        and "1 failed" in text
        and "summary.json is damaged" in text
        and "2 done" in text
    )


def test_a_wrong_key_or_value_of_a_point_is_refused_before_anything_is_run(tmp_path):
    for entry, message in (
        ("{lagg: 10}", "unknown key 'lagg'; did you mean 'lag'"),
        ("{lag: x}", "lag must be of type int"),
    ):
        (tmp_path / "sweep.yaml").write_text(f"list: [{{lag: 10}}, {entry}]")
        with pytest.raises(UsageError, match=message):
            points(tmp_path, "--config", str(tmp_path / "sweep.yaml"))


def test_a_sweep_that_is_interrupted_twice_runs_every_point_once_to_its_end(tmp_path):
    for stop in ("lag20", "lag30"):
        trainer = Trainer(**{stop: "interrupted"})
        assert sweep.run(points(tmp_path), False, trainer)[0] == "interrupted"
    last = Trainer()
    assert sweep.run(points(tmp_path), False, last)[0] == "done"
    assert last.seen == [30] and trainer.seen == [20, 30]
    assert (
        sweep.run(points(tmp_path), True, nothing := Trainer())[0] == "done" and nothing.seen == []
    )


def test_a_wish_to_stop_that_comes_when_a_run_ends_stops_the_sweep(tmp_path):
    asked = []
    trainer = Trainer()

    def train(config, launch, stop):
        asked.append(config.lag == 20)  # too late for this run to see it
        return trainer(config, launch, stop)

    assert sweep.run(points(tmp_path), False, train, lambda: any(asked))[0] == "interrupted"
    assert trainer.seen == [10, 20]


def test_what_failed_is_listed_with_its_reason_and_run_again_on_request_only(tmp_path):
    trainer = Trainer(lag10="failed", lag20=MemoryError("too large\nmore"))
    status, text = sweep.run(points(tmp_path), False, trainer)
    assert status == "failed" and trainer.seen == [10, 20, 30]
    assert (
        "3 runs: 2 failed, 1 done" in text
        and "MemoryError: too large" in text
        and "--retry" in text
    )
    listed = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert [run.get("failure") for run in listed] == ["NaN", "MemoryError: too large", None]
    assert [run["status"] for run in listed] == ["failed", "failed", "done"]
    assert all((tmp_path / run["folder"]).is_dir() for run in listed)
    again = Trainer()
    assert sweep.run(points(tmp_path), False, again)[0] == "failed" and again.seen == []
    retried = Trainer()
    assert sweep.run(points(tmp_path), True, retried)[0] == "done" and retried.seen == [10, 20]


def test_a_run_that_another_process_has_open_is_left_to_it(tmp_path, capsys):
    made = points(tmp_path)
    with folder.opened("adding", made[1].config):
        status, text = sweep.run(made, False, Trainer())
    assert status == "interrupted" and "2 done, 1 begun" in text
    assert "left out: " in capsys.readouterr().out


def test_the_table_has_a_line_for_every_cell_of_every_point(tmp_path):
    _, text = sweep.run(points(tmp_path, "--grid.lag", "10,20"), False, Trainer())
    lines = [line.split() for line in text.splitlines()[2:4]]
    assert lines == [
        [f"lag={lag}", "done", "gru", "0.005", "1/2", "50", "(50-50)"] for lag in (10, 20)
    ]


def test_the_command_runs_a_grid_in_folders_of_its_own(tmp_path, capsys):
    assert cli.main([*TINY.split(), "--grid.seed", "0,7", "--out", str(tmp_path)]) == 0
    assert "2 runs: 2 done" in capsys.readouterr().out
    (path,) = tmp_path.glob("seed=7-*")
    assert [row["seed"] for row in folder.read_metrics(path)] == [7, 8]


def test_the_launch_is_not_part_of_what_is_saved(tmp_path):
    (point,) = points(tmp_path, "--grid.lag", "10")
    assert point.launch == Launch(resume=True)
    names = {field.name for field in dataclasses.fields(Launch)}
    assert not any(
        line.split(":")[0] in names for line in folder.to_yaml(point.config).splitlines()
    )


def test_what_killed_processes_left_beside_the_table_is_gone_when_the_sweep_goes_on(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    node = platform.node()
    dead, alive, elsewhere, old = (
        tmp_path / f".tmp-{name}-sweep.json"
        for name in (f"{node}-{gone.pid}", f"{node}-{os.getppid()}", "other-1", "other-2")
    )
    for path in (dead, alive, elsewhere, old):
        path.write_text("half")
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    assert sweep.run(points(tmp_path), False, Trainer())[0] == "done"
    assert {path.name for path in tmp_path.glob(".tmp-*")} == {alive.name, elsewhere.name}
