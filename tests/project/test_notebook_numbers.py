"""A number in a sentence of a notebook stands in its code or in what the code printed."""

import re

import nbformat
import pytest
from places import NOTEBOOKS

COMMITTED = sorted(NOTEBOOKS.glob("*.ipynb"))
QUOTED = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|\$[^$]*\$|(?:arXiv|doi):\S+", re.DOTALL)
SAID = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\w)")
SHOWN = re.compile(r"\d+\.?\d*(?:e-?\d+)?")
ELSEWHERE = {
    "04_long_memory": {"220"},  # the lag and the most that the task adds to it
    "06_train_at_scale": {"2.2"},  # of experiments/training/train.py
}


def unfounded(cells):
    """The numbers in sentences that no code has and no output shows, rounded or as percent."""
    code = [re.sub(r"(?<=\d)[,_](?=\d)", "", printed(cell)) for cell in cells]
    shown = {float(n) for text in code for n in SHOWN.findall(text)}
    said = {n.replace(",", "") for cell in cells for n in SAID.findall(sentences(cell))}
    return {n for n in said if not year(n) and not {float(n)} & rounded(shown, n)}


def printed(cell):
    """The code of a cell and what it printed."""
    if cell.cell_type != "code":
        return ""
    texts = [output.get("text", "") for output in cell.outputs]
    texts += [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    texts += [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
    return "\n".join([cell.source, *texts])


def sentences(cell):
    return QUOTED.sub("", cell.source) if cell.cell_type == "markdown" else ""


def year(number):
    return number.isdigit() and 1980 < int(number) < 2030


def rounded(shown, number):
    digits = len(number.partition(".")[2])
    return {round(scale * n, digits) for n in shown for scale in (1, 100)}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_numbers_of_a_notebook_s_sentences_are_those_of_its_code_and_outputs(path):
    found = unfounded(nbformat.read(path, as_version=4).cells)
    assert found == ELSEWHERE.get(path.stem, set())


def test_a_number_that_nothing_shows_is_found():
    code = nbformat.v4.new_code_cell("steps = 1_000", outputs=[])
    code.outputs = [nbformat.v4.new_output("stream", text="loss 0.1234, 5e-05, 12,500 rows\n")]
    right = "Of 12,500 rows in 1,000 steps 12.3 %, or 0.12; in 1997 (`77`, [a](b_88.md), arXiv:9.9)"
    wrong = "0.0002, 0.13 and 99 of 5,000"
    cells = [code, *map(nbformat.v4.new_markdown_cell, (right, wrong))]
    assert unfounded(cells) == {"0.0002", "0.13", "99", "5000"}
