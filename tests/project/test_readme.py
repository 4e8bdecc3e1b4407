"""The README is true: its code runs, its equations are the code's, its names exist,
its numbers are those of the results.
"""

import inspect
import json
import re

from places import RESULTS, ROOT

import jaxrnn

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_code_of_the_readme_runs_as_it_stands():
    namespace = {}
    for block in (block for block in BLOCKS if "def step" not in block):
        exec(block, namespace)
    assert namespace["output"].shape == (5, 15, 20)
    assert namespace["h_n"].shape == (2, 5, 20)
    assert namespace["ys"].shape == (15, 5, 16)


def test_the_equations_of_the_readme_are_those_of_the_code():
    (block,) = (block for block in BLOCKS if "def step" in block)
    code = re.sub(r"\s+", " ", inspect.getsource(jaxrnn.LSTMCell))
    for line in block.splitlines():
        if line.strip() and "def " not in line:
            assert line.strip() in code, line


def test_every_public_name_is_in_the_readme():
    missing = [name for name in jaxrnn.__all__ if not re.search(rf"\b{name}\b", README)]
    assert missing == []


def test_the_two_commands_install_what_they_run():
    commands = re.findall(r"^python3 -m venv .*$", README, flags=re.MULTILINE)
    assert [command.split(" && ")[-1] for command in commands] == [
        ".venv/bin/python -m experiments run adding",
        ".venv/bin/python -m pytest",
    ]
    assert all(" && .venv/bin/pip install -e '.[" in command for command in commands)


def test_the_table_of_the_adding_task_has_the_numbers_of_the_committed_run():
    summary = json.loads((RESULTS / "adding" / "summary.json").read_text())
    for row in summary["results"]:
        solved = [steps for steps in row["steps_to_solve"] if steps is not None]
        steps = (
            f"{sorted(solved)[1]:,} ({min(solved):,}-{max(solved):,})"
            if len(solved) == 3
            else "not solved in 2,000 updates"
        )
        numbers = [f"{row['parameters']:,}", f"{len(solved)}/3", steps, str(row["ms_per_update"])]
        assert any(all(number in line for number in numbers) for line in README.splitlines()), (
            numbers
        )


def test_the_table_of_lags_has_the_numbers_of_the_committed_runs():
    folder = RESULTS / "lags"
    runs = [run["folder"] for run in json.loads((folder / "sweep.json").read_text())["runs"]]
    for run in runs:
        summary = json.loads((folder / run / "summary.json").read_text())
        cells = []
        for row in summary["results"]:
            solved = sorted(steps for steps in row["steps_to_solve"] if steps is not None)
            cells.append(f"{len(solved)}/3" + (f", {solved[1]:,}" if len(solved) == 3 else ""))
        assert f"| {summary['lag']} | {' | '.join(cells)} |" in README


def test_the_table_of_every_cell_has_the_numbers_of_the_committed_run():
    summary = json.loads((RESULTS / "adding_family" / "summary.json").read_text())
    for row in summary["results"]:
        solved = sorted(steps for steps in row["steps_to_solve"] if steps is not None)
        if len(solved) == 3:
            assert f"`{row['cell']}` {solved[1]}" in README
