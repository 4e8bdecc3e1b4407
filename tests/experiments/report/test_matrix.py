"""The matrix that a page of many runs begins with has the numbers of the files."""

import json
import re
import statistics

import pytest
import yaml
from pages import GRU, ROW, make, make_sweep, read
from places import RESULTS

FAST = sorted((RESULTS / "calibration").glob("fast_*"))


def shown(found):
    """{(run, cell): text} of the fields."""
    return {
        (int(marks["data-line"]), marks["data-cell"]): " ".join(text.split())
        for marks, text in found.entries
        if "data-line" in marks
    }


def expected(row):
    steps = [step for step in row["steps_to_solve"] if step is not None]
    count = f"{len(steps)}/{len(row['steps_to_solve'])}"
    return f"{count} {statistics.median(steps):,.0f}" if steps else count


def rows(tmp_path):
    """What a browser reads from top to bottom: the task and the lag of each line."""
    text = (tmp_path / "page.html").read_text()
    return re.findall(
        r'<th scope="row"><a href="#run-(\d+)">(\w+)</a></th>.*<td>([\d,]+)</td>', text
    )


def test_every_field_is_that_of_the_files_and_there_is_no_other(tmp_path):
    found = read(tmp_path, *FAST)
    summaries = [json.loads((path / "summary.json").read_text()) for path in FAST]
    assert len(FAST) == 12
    assert shown(found) == {
        (k, row["cell"]): expected(row) for k, s in enumerate(summaries) for row in s["results"]
    }


def test_every_line_names_its_task_and_lag_and_leads_to_its_run(tmp_path):
    read(tmp_path, *FAST)
    configs = [yaml.safe_load((path / "config.yaml").read_text()) for path in FAST]
    assert rows(tmp_path) == [(str(k), c["task"], f"{c['lag']:,}") for k, c in enumerate(configs)]
    text = (tmp_path / "page.html").read_text()
    links = re.findall(r'data-line="(\d+)" data-cell="\w+"><a href="#run-(\d+)"', text)
    assert len(links) == text.count("data-line=") and all(line == run for line, run in links)


def test_the_matrix_comes_before_everything_else(tmp_path):
    read(tmp_path, *FAST)
    text = (tmp_path / "page.html").read_text()
    assert text.index('class="matrix') < text.index("<article") < text.index("<figure")
    assert text.index('class="matrix') < text.index("<p")


@pytest.mark.parametrize("runs", [1, 2])
def test_one_or_two_runs_have_no_matrix(runs, tmp_path):
    assert shown(read(tmp_path, *FAST[:runs])) == {}


def test_a_cell_at_several_learning_rates_is_shown_at_its_best(tmp_path):
    results = [
        GRU | {"learning_rate": 0.1, "steps_to_solve": [100, None, None]},  # fast, but one seed
        GRU | {"learning_rate": 0.01, "steps_to_solve": [900, 800, 700]},
        GRU | {"learning_rate": 0.001, "steps_to_solve": [1000, 900, 800]},
        ROW,
    ]
    config = {"learning_rates": [0.1, 0.01, 0.001]}
    folders = [make(tmp_path / str(k), config, {"results": results}) for k in range(3)]
    found = read(tmp_path, *folders)
    assert shown(found)[1, "gru"] == "3/3 800" and shown(found)[1, "rnn_orth"] == "0/3"
    assert 'learning rate 0.01"' in (tmp_path / "page.html").read_text()
    assert "each cell at its best learning rate: 3 of 3 of GRU; 0 of 3 of tanh RNN." in found.text


def test_the_runs_of_a_sweep_are_lines_by_their_lag(tmp_path):
    found = read(tmp_path, make_sweep(tmp_path / "sweep", lags=(200, 50, 100)))
    assert [lag for _, _, lag in rows(tmp_path)] == ["50", "100", "200"]
    # make_sweep gives the first of its lags the most seeds that solved it
    assert [shown(found)[k, "gru"] for k in range(3)] == ["3/3 150", "2/3 150", "1/3 150"]
    assert "lag 400 : Status: not begun." in found.text


def labels(tmp_path):
    text = (tmp_path / "page.html").read_text()
    table = text[text.index('class="matrix') : text.index("</table>")]
    found = re.findall(r'<td class="label">(.*?)</td>', table)
    return [re.sub("<[^>]*>", "", one) for one in found]  # without places to break


def test_runs_of_one_task_and_lag_are_told_apart_by_their_options(tmp_path):
    options = [{"hidden_size": a, "layers": b} for a, b in ((8, 1), (16, 1), (16, 2))]
    read(tmp_path, *(make(tmp_path / f"run-{k}", one) for k, one in enumerate(options)))
    assert labels(tmp_path) == [
        "hidden_size 8, layers 1",
        "hidden_size 16, layers 1",
        "hidden_size 16, layers 2",
    ]


def test_runs_of_one_configuration_are_told_apart_by_their_names(tmp_path):
    read(tmp_path, *(make(tmp_path / name) for name in ("first", "second", "third")))
    assert labels(tmp_path) == ["first", "second", "third"]


def test_the_colour_of_a_field_is_the_share_of_seeds(tmp_path):
    read(tmp_path, *FAST)
    text = (tmp_path / "page.html").read_text()
    found = re.findall(r'--share: (\d+)%"[^>]*><a [^>]*><b>(\d+)/(\d+)</b>', text)
    assert len(found) > 30 and {share for share, *_ in found} >= {"0", "20", "100"}
    assert all(int(share) == round(100 * int(a) / int(b)) for share, a, b in found)
