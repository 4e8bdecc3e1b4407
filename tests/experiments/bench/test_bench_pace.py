"""The time of an update, of cells that take turns."""

import pytest
import yaml

from experiments.bench import pace
from experiments.config import CHUNK, Config
from experiments.training import train
from experiments.training.folder import read_json, write_json

TINY = {"task": "adding", "lag": 10, "hidden_size": 4, "batch_size": 4, "steps": 50, "seeds": 2}
CONFIG = Config(cells=("lstm", "gru", "rnn_orth"), **TINY)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only trainings move on: 2 s for an LSTM, 3 s for a GRU, 0.5 s for an RNN;
    and whose they were.
    """
    turns, now, cost = [], [0.0], {"LSTMCell": 2.0, "GRUCell": 3.0, "RNNCell": 0.5}

    def advance(job, state, rows, active, step):
        turns.append(type(job.model.cell).__name__)
        now[0] += cost[turns[-1]]

    monkeypatch.setattr(train, "advance", advance)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])
    return turns


@pytest.mark.slow("the bench is no part of the package")
def test_the_pace_is_milliseconds_per_update_and_its_ratio_to_the_first_cell(clock):
    found = pace.measure(CONFIG, rounds=3)
    assert {name: values["ms_per_update"] for name, values in found.items()} == {
        name: seconds * 1e3 / CHUNK
        for name, seconds in {"lstm": 2.0, "gru": 3.0, "rnn_orth": 0.5}.items()
    }
    assert [(v["low"], v["ratio"], v["high"]) for v in found.values()] == [
        (r, r, r) for r in (1.0, 1.5, 0.25)
    ]


def test_every_cell_has_its_turn_in_every_round_and_not_always_in_the_same_order(clock):
    pace.measure(CONFIG, rounds=8)
    rounds = [tuple(clock[k : k + 3]) for k in range(3, len(clock), 3)]
    assert len(rounds) == 8 and all(len(set(turn)) == 3 for turn in rounds) and len(set(rounds)) > 1


def test_a_sweep_is_measured_at_one_rate_and_written_beside_it(
    clock, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(pace.jax.config, "update", lambda *_: None)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.yaml").write_text(
        yaml.safe_dump(TINY | {"cells": ["lstm", "gru"], "learning_rates": [1e-3, 1e-2]})
    )
    write_json(tmp_path / "sweep.json", {"runs": [{"folder": "one"}]})
    pace.main(tmp_path, ("lstm", "gru"))
    written = read_json(tmp_path / "pace.json")
    assert written["runs"]["one"]["gru"]["ratio"] == 1.5 and written["env"]["platform"] == "cpu"
    assert "'gru': 1.5" in capsys.readouterr().out
