"""Presets held against what they should show, and that what they should show was found before."""

import dataclasses

import pytest
import yaml
from pages import GRU, ROW, SUMMARY

from experiments import cli
from experiments.arguments import parse
from experiments.config import CHUNK, PRESETS, TIERS, Config
from experiments.report import prose
from experiments.tasks import data
from experiments.training import check
from experiments.training.folder import read_json

BARS = [(tier, name, cell) for tier in TIERS for name in TIERS[tier] for cell in TIERS[tier][name]]
RIGHT = GRU | {"tests": {"300": {"loss": [0.1, 0.2, None], "metric": [0.95, 0.9, None]}}}


def verdicts(wanted, results=(ROW, RIGHT), calibration=None):
    """(cell, what, seeds, wanted, verdict) of each line."""
    lines = check.compare(SUMMARY | {"results": list(results)}, wanted, calibration)
    return [(line[0], line[2], line[3], line[4], line[-1]) for line in lines]


@pytest.mark.parametrize(
    ("bar", "what", "seeds", "verdict"),
    [
        ({"seeds": 2}, "solved", "2", "right"),
        ({"seeds": 3}, "solved", "2", "WRONG"),
        ({"seeds": 1, "metric": 0.6}, "error below 0.04 >= 0.6", "1", "right"),
        ({"seeds": 3, "metric": 0.5}, "error below 0.04 >= 0.5", "2", "WRONG"),
        (
            {"seeds": 2, "metric": 0.9, "lag": 300},
            "error below 0.04 >= 0.9 at lag 300",
            "2",
            "right",
        ),
        (
            {"seeds": 2, "metric": 0.91, "lag": 300},
            "error below 0.04 >= 0.91 at lag 300",
            "1",
            "WRONG",
        ),
    ],
)
def test_a_bar_counts_the_seeds_that_reach_it(bar, what, seeds, verdict):
    assert verdicts({"gru": bar}) == [
        ("rnn_orth", "solved", "0", "-", ""),
        ("gru", what, seeds, str(bar["seeds"]), verdict),
    ]


def test_a_cell_that_should_be_there_and_is_not_is_wrong():
    assert verdicts({"lstm": {"seeds": 3}})[-1] == ("lstm", "-", "-", "3", "WRONG")


def test_what_the_calibration_found_stands_beside_it():
    five = GRU | {"steps_to_solve": [100, 150, None, 400, 200]}
    line = check.compare(SUMMARY, {"gru": {"seeds": 2}}, SUMMARY | {"results": [five]})[-1]
    assert line[-3:-1] == ("125 (100-150)", "4/5, 175 (100-400)")


def test_a_tier_ends_with_code_1_where_a_cell_is_not_as_it_should_be(tmp_path, monkeypatch, capsys):
    tiny = (
        "{task: adding, lag: 10, cells: [gru], hidden_size: 8, batch_size: 16, steps: 100, "
        "seeds: 2}"
    )
    (tmp_path / "tiny.yaml").write_text(tiny)
    monkeypatch.setitem(PRESETS, "tiny", tmp_path / "tiny.yaml")
    monkeypatch.setitem(TIERS, "mine", {"tiny": {"gru": {"seeds": 2}}})
    assert cli.main(["check", "mine", "--out", str(tmp_path / "runs")]) == 1
    assert "mine: NOT as it should be" in capsys.readouterr().out
    monkeypatch.setitem(TIERS, "mine", {"tiny": {"gru": {"seeds": 0}}})
    # the run that is there is not made again
    assert cli.main(["check", "mine", "--out", str(tmp_path / "runs")]) == 0
    assert "mine: all as it should be" in capsys.readouterr().out


def test_a_preset_without_its_data_is_left_out_with_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "fashion_mnist", data.fashion_mnist.__wrapped__)
    monkeypatch.setattr(data, "FASHION", tmp_path / "none")
    bars = {"long_fashion_mnist": {"gru": {"seeds": 3}}}
    monkeypatch.setitem(TIERS, "mine", bars)
    assert cli.main(["check", "mine", "--out", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "not run: long_fashion_mnist, since task 'fashion_mnist' needs" in out
    assert "apt install dataset-fashion-mnist" in out and not (tmp_path / "runs").exists()


def test_an_interrupted_run_ends_the_tier(tmp_path):
    status, text = check.run(
        "fast", tmp_path, lambda name, config, launch: ({"status": "interrupted"}, tmp_path)
    )
    assert (status, text) == ("interrupted", "interrupted: the same command goes on")


def test_a_tier_goes_on_with_the_runs_that_are_there(tmp_path):
    asked = []

    def train(name, config, launch):
        asked.append((name, config.out, launch.resume))
        return SUMMARY | {"seconds": 60.0}, tmp_path

    status, text = check.run("fast", tmp_path, train)
    assert asked == [(name, str(tmp_path / name), True) for name in TIERS["fast"]]
    assert status == "failed" and "WRONG" in text


@pytest.mark.parametrize(("tier", "name", "cell"), BARS)
def test_every_bar_was_met_by_five_of_five_other_seeds_within_half_of_the_updates(tier, name, cell):
    config, bar = parse(Config, ["--config", str(PRESETS[name])]), TIERS[tier][name][cell]
    folder = check.CALIBRATION / name
    found, summary = (
        yaml.safe_load((folder / "config.yaml").read_text()),
        read_json(folder / "summary.json"),
    )
    row = next(row for row in summary["results"] if row["cell"] == cell)
    assert found["seeds"] == 5 and found["seed"] + 5 <= config.seed
    assert check._right(row, bar) == 5 and bar["seeds"] == config.seeds
    slowest = max(step or found["steps"] for step in row["steps_to_solve"])
    assert "metric" in bar or config.steps >= 2 * slowest
    mine = dataclasses.asdict(config)
    apart = {"description", "seed", "seeds", "steps", "out", "cells", "checkpoint_every"}
    listed = {k: list(v) if isinstance(v, tuple) else v for k, v in mine.items()}
    # a key that is younger than the calibration had its default
    found = dataclasses.asdict(Config()) | found
    assert {k: v for k, v in listed.items() if k not in apart} == {
        k: v for k, v in found.items() if k not in apart
    }
    assert config.steps % CHUNK == 0


def test_what_a_cell_scores_at_other_lags_is_a_sentence_of_the_report():
    assert (
        prose.remarks([RIGHT])[-1]
        == "gru (learning rate 0.005): tested at lag 300, the metric is 0.950 (0.900-0.950)."
    )
