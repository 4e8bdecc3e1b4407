"""`export`: what a run has trained goes elsewhere, and says how far it is from it."""

import json

import numpy as np
import pytest

from experiments import cli
from experiments.training import folder

TINY = "--task adding --lag 10 --hidden_size 8 --batch_size 16 --steps 50 --seeds 2"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two cells."""
    place = tmp_path_factory.mktemp("shipping") / "run"
    words = f"run adding {TINY} --cells gru,lem --learning_rates 0.003,0.01 --widen_rates 0"
    assert cli.main([*words.split(), "--out", str(place)]) == 0
    return place


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("cell", ["gru", "lem"])
@pytest.mark.parametrize("to", ["onnx", "c", "safetensors", "stablehlo"])
def test_each_form_is_what_was_trained(to, cell, run, capsys):
    assert cli.main(["export", str(run), "--to", to, "--cell", cell]) == 0
    out = capsys.readouterr().out
    name = {"c": f"{cell}.h", "safetensors": cell}.get(to, f"{cell}.{to}")
    assert (run / "export" / name).exists()
    says = json.loads((run / "export" / f"{name}.json").read_text())
    assert says["cell"] == cell and says["task"] == "adding" and says["seed"] in (0, 1)
    assert says["difference"] < 1e-5 * max(says["largest_output"], 1) and "at most" in out
    assert says["versions"]["jaxrnn"] and says["input"] == "x [steps, sequences, 2]"


def test_it_is_the_seed_with_the_lowest_loss_held_out(run):
    cli.main(["export", str(run), "--to", "onnx", "--cell", "gru"])
    says = json.loads((run / "export" / "gru.onnx.json").read_text())
    rows = [r for r in folder.read_json(run / "summary.json")["results"] if r["cell"] == "gru"]
    assert says["learning_rate"] in [row["learning_rate"] for row in rows]
    assert says["description"].startswith("GRUCell(hidden_size=8")
    assert np.isfinite(says["held_out_loss"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "needs the folder of a run"),
        ("nowhere", "no folder of a run"),
        ("RUN --cell lstm", "gru"),
        ("RUN --to onxn", "onnx"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(words, said, run, capsys):
    assert cli.main(["export", *words.replace("RUN", str(run)).split()]) == cli.USAGE
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
