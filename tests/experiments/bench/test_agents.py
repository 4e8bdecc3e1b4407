"""`bench --agents`: the recurrent layer of agents beside the one by hand."""

import json

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments import cli
from experiments.bench import agents
from experiments.bench.calls import FLAX, OURS
from experiments.bench.shapes import parse


@pytest.mark.usefixtures("quick_compilation", "standard_promotion")
@pytest.mark.slow("the bench is no part of the package")
@pytest.mark.parametrize("cell", agents.CELLS)
def test_both_run_over_the_window_with_resets_and_step_by_step(cell):
    made = agents.made(cell, parse("3x7x4x4"))
    for way, libraries in made.items():
        assert list(libraries) == [OURS, FLAX]
        for run in libraries.values():
            first, second = run()
            if way.endswith("backward"):
                assert np.shape(first) == () and len(jax.tree.leaves(second)) > 3
            else:
                assert second.shape == (7, 3, 4) and jax.tree.leaves(first)[0].shape == (3, 4)
    window, rollout = (
        [made[f"{cell} {way}"][library]()[1] for library in (OURS, FLAX)]
        for way in ("forward", "rollout")
    )
    for a, b in zip(window, rollout, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.usefixtures("quick_compilation", "standard_promotion")
@pytest.mark.slow("the bench is no part of the package")
def test_the_command_writes_a_row_for_each_cell_and_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.bench.run.use_device", lambda *_: None)
    path = tmp_path / "agents"
    line = f"bench --agents true --shapes 2x3x4x4 --rounds 3 --out {path}"
    assert cli.main(line.split()) == 0
    rows = json.loads((path / "agents.json").read_text())["rows"]
    assert [row["way"] for row in rows] == [
        f"{cell} {way}" for cell in ("gru", "lstm") for way in ("forward", "backward", "rollout")
    ]
    assert all(0 < row["ratio"][1] <= row["ratio"][0] <= row["ratio"][2] for row in rows)
    assert "by hand / jaxrnn" in capsys.readouterr().out


def test_the_cells_by_hand_are_those_of_flax():
    assert agents.CELLS == {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.slow("the bench is no part of the package")
def test_shipped_cells_are_timed_and_held_against_unroll(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.bench.run.use_device", lambda *_: None)
    path = tmp_path / "shipped"
    line = f"bench --shipped true --shapes 1x20x1x8 --rounds 2 --out {path}"
    assert cli.main(line.split()) == 0
    rows = json.loads((path / "shipped.json").read_text())["rows"]
    assert len(rows) == 9 and all(row["us"] > 0 and row["difference"] < 1e-4 for row in rows)
    assert "us a step" in capsys.readouterr().out
