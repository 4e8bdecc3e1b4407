"""`bench --every_cell`: each kind of cell once, both methods of running it."""

import json

import numpy as np

from experiments import arguments, cli
from experiments.bench import every_cell
from experiments.bench.config import BenchConfig
from experiments.bench.shapes import parse
from experiments.cells import CELLS


def test_every_kind_of_cell_is_measured_once():
    kinds = every_cell.kinds(parse("2x8x4x8"))
    assert {type(cell) for cell in kinds.values()} == {
        type(named.make(8, 8)) for named in CELLS.values()
    }
    assert len({type(cell) for cell in kinds.values()}) == len(kinds)


def test_the_command_writes_a_row_for_each_cell_and_says_how_much_faster(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(every_cell, "CELLS", {name: CELLS[name] for name in ("gru", "conv_gru")})
    monkeypatch.setattr("experiments.bench.run.use_device", lambda *_: None)
    path = tmp_path / "cells"
    assert (
        cli.main(f"bench --every_cell true --shapes 2x8x4x8 --rounds 3 --out {path}".split()) == 0
    )
    rows = json.loads((path / "cells.json").read_text())["rows"]
    assert [row["cell"] for row in rows] == ["gru", "conv_gru"]
    for row in rows:
        median, low, high = row["ratio"]
        assert 0 < low <= median <= high and row["ms"] > 0 and row["scan_ms"] > 0
    assert "geometric mean of 2 cells" in capsys.readouterr().out


def test_the_ratio_is_the_time_of_the_scan_over_ours(monkeypatch):
    config = arguments.parse(BenchConfig, ["--rounds", "5"])
    rng = np.random.default_rng(config.seed)  # draws the order in which the two run
    seconds = iter([(1.0, 3.0)[k] for _ in range(5) for k in rng.permutation(2)])
    monkeypatch.setattr(every_cell.measure, "sample", lambda run, calls: next(seconds))
    row = every_cell.race(CELLS["gru"].make(4, 8), parse("2x8x4x4"), config)
    assert row == {"ms": 1000.0, "scan_ms": 3000.0, "ratio": [3.0, 3.0, 3.0]}
