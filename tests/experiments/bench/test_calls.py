"""`bench --calls`: a module's call beside Flax's, in each way that both have."""

import json

import jax
import numpy as np
import pytest

from experiments import arguments, cli
from experiments.bench import calls
from experiments.bench.config import BenchConfig
from experiments.bench.shapes import parse
from experiments.config import UsageError

WAYS = {"nnx, nnx.jit", "nnx, jax.jit", "linen, jax.jit"}


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.slow("the bench is no part of the package")
def test_every_way_runs_the_lstm_over_the_whole_sequence():
    made = calls.made(parse("2x3x4x5"))
    assert {way for way, by in made.items() if calls.FLAX in by} == WAYS
    outputs = {
        way: {jax.tree.map(np.shape, one()[0 if way != "unroll, jax.jit" else 1])}
        for way, by in made.items()
        for name, one in by.items()
        if name == calls.OURS
    }
    assert outputs.pop("unroll, jax.jit") == {(3, 2, 5)}
    assert set.union(*outputs.values()) == {(2, 3, 5)}


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.slow("the bench is no part of the package")
def test_the_command_writes_a_row_for_each_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.bench.run.use_device", lambda *_: None)
    path = tmp_path / "calls"
    line = f"bench --calls true --shapes 1x2x3x4 --rounds 3 --out {path}"
    assert cli.main(line.split()) == 0
    rows = json.loads((path / "calls.json").read_text())["rows"]
    assert {row["way"] for row in rows if row["ratio"]} == WAYS
    for row in rows:
        assert row["us"] > 0
        if row["ratio"]:
            median, low, high = row["ratio"]
            assert 0 < low <= median <= high
    assert "flax / jaxrnn" in capsys.readouterr().out


def test_two_tables_at_once_are_refused():
    with pytest.raises(UsageError, match="one at a time"):
        arguments.parse(BenchConfig, ["--calls", "true", "--every_cell", "true"])
