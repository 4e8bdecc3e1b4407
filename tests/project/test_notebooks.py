"""Every notebook runs top to bottom, its committed form holds the same source,
and its outputs are there.
"""

import os

import jupytext
import nbclient
import nbformat
import pytest
import slow
from places import NOTEBOOKS

SCRIPTS = sorted(NOTEBOOKS.glob("*.py"))
FIGURES = {
    "01_quickstart": 1,
    "02_vanishing_gradients": 4,
    "03_lstm_or_gru": 1,
    "06_train_at_scale": 1,
}
FIGURES |= {"04_long_memory": 2, "05_a_cell_from_a_paper": 2, "07_step_by_step": 1}
FIGURES |= {"08_language_model": 1, "09_what_did_it_learn": 1}
FIGURES |= {"10_sequence_to_sequence": 1, "11_forecast": 1}
FIGURES |= {"12_learning_while_it_runs": 2}


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_every_notebook_is_known():
    assert {path.stem for path in SCRIPTS} == set(FIGURES)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_the_committed_notebook_has_the_source_of_its_script_and_outputs(path):
    committed = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    assert sources(committed) == sources(jupytext.read(path))
    outputs = [
        output for cell in committed.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert not [output for output in outputs if output.output_type == "error"]
    images = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(images) == FIGURES[path.stem]
    assert len(outputs) > len(images)


@pytest.mark.parametrize(
    "path",
    slow.some(
        SCRIPTS,
        lambda path: path.stem == "01_quickstart",
        "it trains for half a minute",
        name=lambda path: path.stem,
    ),
)
def test_a_notebook_runs_from_top_to_bottom(path, monkeypatch):
    root = str(NOTEBOOKS.parent)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    )
    notebook = jupytext.read(path)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}}
    )
    client.execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
