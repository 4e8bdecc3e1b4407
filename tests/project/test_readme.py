"""The README is short and true: its code runs, its equations are the code's,
its links and numbers are right.
"""

import inspect
import json
import re

import numpy as np
import pytest
import speed_tables
from places import DOCS, RESULTS, ROOT

import jaxrnn

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_is_of_one_screen_a_section():
    assert len(README) <= 6000
    sections = re.split(r"^## ", README, flags=re.MULTILINE)
    assert max(len(section.splitlines()) for section in sections) <= 50


@pytest.mark.usefixtures("standard_promotion")
def test_the_code_of_the_readme_runs_as_it_stands_and_trains():
    namespace = {}
    for block in (block for block in BLOCKS if "def step(" not in block):
        exec(block, namespace)
    untrained = np.mean(np.square(namespace["series"][:, 1:]))
    assert namespace["loss"] < 0.2 * untrained
    assert namespace["predicted"].shape == (8, 26, 1)
    assert namespace["ys"].shape == (15, 5, 16)


def test_the_equations_of_the_readme_are_those_of_the_code():
    (block,) = (block for block in BLOCKS if "def step(" in block)
    code = re.sub(r"\s+", " ", inspect.getsource(jaxrnn.LSTMCell))
    for line in block.splitlines():
        if line.strip() and "def " not in line:
            assert line.strip() in code, line


def test_the_two_commands_install_what_they_run():
    commands = re.findall(r"^python3 -m venv .*$", README, flags=re.MULTILINE)
    assert [command.split(" && ")[-1] for command in commands] == [
        ".venv/bin/python -m experiments run adding",
        ".venv/bin/python -m pytest",
    ]
    assert all(" && .venv/bin/pip install -e '.[" in command for command in commands)


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in DOCS.glob("*.md"))]
)
def test_every_link_to_a_file_finds_it(page):
    text = (ROOT / page).read_text()
    for place in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        place = place.replace("notebooks/", "../notebooks/") if page.startswith("docs/") else place
        here = ((ROOT / page).parent / place.replace("../../", "../")).resolve()
        assert here.exists() or here.with_suffix(".ipynb").exists(), place


def test_the_tables_of_speed_are_those_of_the_measurements():
    for page, tables in speed_tables.TABLES.items():
        for name, table in tables.items():
            assert f"<!-- {name} -->\n" + "\n".join(table()) + "\n" in page.read_text(), name


def test_the_counts_of_the_readme_are_those_of_the_code():
    from experiments.tasks import TASKS

    pitfalls = (ROOT / "tests" / "running" / "test_pitfalls.py").read_text()
    cases = re.findall(r'^    "E\d+ [^"]*":', pitfalls, flags=re.MULTILINE)
    assert f"{len(cases)} cases" in README
    claims = (ROOT / "experiments" / "README.md").read_text().split("| claim | source | here |")[1]
    count = len(re.match(r"\n\|---\|---\|---\|\n((?:\|.*\n)*)", claims)[1].splitlines())
    assert f"{count} published claims, on some of our {len(TASKS)} tasks" in README
    cells = [name for name in jaxrnn.cells.__all__ if name.endswith("Cell")]
    assert f": {len(cells)}, with equations" in README


def test_the_picture_is_of_the_run_that_the_first_command_gives():
    summary = json.loads((RESULTS / "adding" / "summary.json").read_text())
    steps = {row["cell"]: row["steps_to_solve"] for row in summary["results"]}
    assert "experiments/results/adding/learning.png" in README
    assert all(steps["lstm"]) and all(steps["gru"]) and not any(steps["rnn_orth"])
    assert summary["seconds"] < 90  # "in a minute"
