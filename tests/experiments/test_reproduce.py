"""`reproduce`: claims say what the table of the catalogue says, and a verdict that changes is
seen.
"""

import copy
import re

import pytest
from places import ROOT

from experiments import cli, reproduce
from experiments.reproduce import CLAIMS, RESULTS, compare
from experiments.training.folder import read_json

PAGE = (ROOT / "experiments" / "README.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_a_row_of_the_table_and_its_run_is_committed(name):
    claim = CLAIMS[name]
    assert [row[1] for row in ROWS if row[0] == claim.claim] == [claim.source]
    summary = read_json(claim.folder / "summary.json")
    assert claim.published.keys() <= {row["cell"] for row in summary["results"]}
    config = claim.config(RESULTS / "nowhere", None)
    beside = {one["sooner_than"] for one in claim.published.values() if "sooner_than" in one}
    assert set(config.cells) == claim.published.keys() | beside
    assert claim.config(RESULTS / "nowhere", 7).seed == 7
    for wanted in claim.published.values():
        words = {"above", "below", "sooner_than"}
        assert wanted in ("solves", "fails") or len(words & set(wanted)) == 1


def summary_of(name, **changes):
    """What the committed run found, with other values in the rows of all cells."""
    summary = copy.deepcopy(read_json(CLAIMS[name].folder / "summary.json"))
    for row in summary["results"]:
        row |= changes
    return summary


@pytest.mark.parametrize("name", CLAIMS)
def test_what_was_committed_has_not_changed(name):
    assert all(line[-1] != "CHANGED" for line in compare(name, summary_of(name)))


def test_a_cell_that_solves_no_more_is_another_verdict():
    (line,) = compare("flip_flop", summary_of("flip_flop", steps_to_solve=[None] * 5))
    assert line == ("flip_flop", "rnn_orth", "solves", "5/5", "0/5", "CHANGED")
    # more than half are more
    (line,) = compare("flip_flop", summary_of("flip_flop", steps_to_solve=[50, 50, 50, None, None]))
    assert line[-2:] == ("3/5", "as published")


def test_a_metric_is_held_at_its_lag_and_a_lost_seed_knows_nothing():
    tests = {"256": {"metric": [1.0, 0.5, None]}}
    lines = compare("parity", summary_of("parity", tests=tests))
    assert [line[2] for line in lines] == ["above 0.99 at 256"] * 2
    assert [line[4:] for line in lines] == [("0.500 (0.000-1.000)", "CHANGED")] * 2


def test_what_was_published_otherwise_stays_so():
    (line,) = compare("embedded_reber", summary_of("embedded_reber"))
    assert line[2:] == ("fails", "5/5", "5/5", "otherwise")


def test_updates_are_compared_where_a_cell_should_be_sooner():
    lines = compare("lag_known", summary_of("lag_known", steps_to_solve=[50, 100, 150, None, None]))
    assert [line[2] for line in lines] == ["sooner than lstm", "sooner than gru"]
    assert lines[0][4:] == ("150 and 150", "CHANGED")


def test_a_run_that_ended_before_says_so_and_is_another_verdict():
    (line,) = compare("flip_flop", {"results": []})
    assert line[4:] == ("ended before", "CHANGED")
    lines = compare("parity", summary_of("parity", finished=False))
    assert {line[4:] for line in lines} == {("ended before", "CHANGED")}


def trained(summaries):
    """Stands for a training: gives a summary, and keeps what it was asked for."""
    asked = []

    def train(name, config, launch):
        asked.append((name, config, launch))
        return summaries[name], RESULTS

    return asked, train


def test_it_runs_the_committed_configuration_of_the_cells_that_the_claim_is_of(tmp_path):
    asked, train = trained({"flip_flop": summary_of("flip_flop") | {"status": "done"}})
    status, text = reproduce.run(["flip_flop"], tmp_path, None, train)
    ((_, config, launch),) = asked
    assert status == "done" and text.endswith("claims: 1, as it was")
    assert config.cells == ("rnn_orth",) and config.task == "flip_flop" and launch.resume
    assert config.out == str(tmp_path / "flip_flop")
    lost = summary_of("flip_flop", steps_to_solve=[None] * 5)
    asked, train = trained({"flip_flop": lost | {"status": "done"}})
    status, text = reproduce.run(["flip_flop"], tmp_path, 9, train)
    assert status == "failed" and "CHANGED" in text
    # beside the run with the committed seeds
    assert asked[0][1].out == str(tmp_path / "flip_flop-seed-9") and asked[0][1].seed == 9
    cut = {"flip_flop": {"status": "interrupted"}}
    assert reproduce.run(["flip_flop"], tmp_path, None, trained(cut)[1])[0] == "interrupted"


def test_the_command_lists_claims_and_refuses_words_that_it_does_not_know(capsys):
    assert cli.main(["reproduce"]) == cli.DONE
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", out, re.MULTILINE) for name in CLAIMS)
    assert cli.main(["reproduce", "flipflop"]) == cli.USAGE
    assert "did you mean 'flip_flop'" in capsys.readouterr().err
    assert cli.main(["reproduce", "flip_flop", "--seed", "x"]) == cli.USAGE
    assert "--seed must be a number, got x" in capsys.readouterr().err
