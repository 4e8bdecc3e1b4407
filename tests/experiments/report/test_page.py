"""The page of a report says what the files of the runs say, all of it, and loads nothing."""

import html
import json
import re
import statistics

import pytest
from pages import ENV, GRU, ROW, Page, make, make_sweep, read
from places import RESULTS

from experiments import cli
from experiments.config import RunError, UsageError
from experiments.report import page


def expected(row, baseline):
    """What the page must say of a row of results."""
    solved, below = (
        [step for step in row.get(key, []) if step is not None]
        for key in ("steps_to_solve", "first_below")
    )
    size = len(row["final_loss"]) // 2
    loss, share = (
        sorted(float("inf") if v is None else v for v in row[key])[size]
        for key in ("final_loss", "final_metric")
    )
    return {
        "cell": row["cell"],
        "description": row["description"],
        "learning_rate": f"{row['learning_rate']:g}",
        "solved": f"{len(solved)}/{len(row['steps_to_solve'])}",
        "steps_to_solve": f"{statistics.median(solved):,.0f} ({min(solved):,}-{max(solved):,})"
        if solved
        else "-",
        "first_below": f"{statistics.median(below):,.0f} ({min(below):,}-{max(below):,})"
        if below
        else "-",
        "steps": f"{row['steps']:,}",
        "loss_ratio": f"{loss / baseline:.4f}"
        if loss < float("inf")
        else "nan"
        if row["finished"]
        else "-",
        "final_metric": "-" if share == float("inf") else f"{share:.3f}",
        "parameters": f"{row['parameters']:,}",
        "ms_per_update": "-" if row["ms_per_update"] is None else f"{row['ms_per_update']:.1f}",
        "seconds": f"{row['seconds']:.0f}",
    }


def all_expected(*folders):
    summaries = [json.loads((path / "summary.json").read_text()) for path in folders]
    rows = [
        (k, n, summary, row)
        for k, summary in enumerate(summaries)
        for n, row in enumerate(summary["results"])
    ]
    return {
        (k, n, key): {text}
        for k, n, s, row in rows
        for key, text in expected(row, s["baseline"]).items()
    }


@pytest.mark.parametrize(
    "names",
    [
        ["adding"],
        ["adding_rnn_sweep"],
        ["adding", "moving_pattern"],
        ["adding_family", "moving_pattern"],
    ],
)
def test_every_number_of_saved_results_is_on_the_page_and_no_other(names, tmp_path):
    folders = [RESULTS / name for name in names]
    assert read(tmp_path, *folders).numbers() == all_expected(*folders)


def test_missing_numbers_are_dashes(tmp_path):
    lost = GRU | {
        "steps_to_solve": [None] * 3,
        "first_below": [None] * 3,
        "final_loss": [None] * 3,
        "final_metric": [None] * 3,
        "ms_per_update": None,
    }
    run = make(tmp_path / "run", summary={"results": [lost | {"finished": False}]})
    found = read(tmp_path, run).numbers()
    assert found == all_expected(run)
    dashes = {key for (_, _, key), texts in found.items() if texts == {"-"}}
    assert dashes == {
        "steps_to_solve",
        "first_below",
        "loss_ratio",
        "final_metric",
        "ms_per_update",
    }


def test_the_page_loads_nothing_and_runs_nothing(tmp_path):
    read(tmp_path, make(tmp_path / "run"), RESULTS / "gradients")
    text = (tmp_path / "page.html").read_text()
    tags = Page(text).tags
    assert not {tag for tag, _ in tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    }
    loaded = [
        value
        for _, marks in tags
        for key, value in marks.items()
        if key in ("src", "href", "xlink:href", "srcset")
    ]
    assert loaded and all(value.startswith("#") for value in loaded)
    assert not [key for _, marks in tags for key in marks if key.startswith("on")]
    assert set(re.findall(r"url\(.", text)) <= {"url(#"} and "@import" not in text
    assert set(re.findall(r"https?://[^\"]*", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_ids_are_unique_and_every_reference_finds_its_own_figure(tmp_path):
    read(tmp_path, make(tmp_path / "one"), make(tmp_path / "two"), RESULTS / "gradients")
    text = (tmp_path / "page.html").read_text()
    ids = [marks["id"] for _, marks in Page(text).tags if "id" in marks]
    wanted = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert len(ids) == len(set(ids)) and len(wanted) > 20 and wanted <= set(ids)


def test_text_of_the_files_is_never_markup(tmp_path):
    bad = "<script>alert(1)</script>"
    env = ENV | {"argv": ["run", bad], "device": bad}
    summary = {
        "results": [ROW | {"description": bad, "cell": bad}],
        "metric": bad,
        "env": env,
        "status": "failed",
        "failure": bad,
    }
    losses = {bad: [0.1, 0.2]}
    found = read(
        tmp_path,
        make(tmp_path / bad.replace("/", "-"), {"description": bad}, summary, losses),
        make(tmp_path / "two"),
    )
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text and text.count("&lt;script&gt;") > 10
    assert found.numbers()[0, 0, "description"] == {bad}


@pytest.mark.parametrize(
    "change, words",
    [
        (
            {},
            (
                "Seeds that solved adding at lag 100 within 200 updates: 2 of 3 of GRU; "
                "0 of 3 of tanh RNN."
            ),
        ),
        (
            {"results": [ROW]},
            "Seeds that solved adding at lag 100 within 200 updates: 0 of 3 of tanh RNN.",
        ),
        (
            {"results": [GRU | {"steps_to_solve": [50, 50, 50]}]},
            "at lag 100 within 150 updates: 3 of 3 of GRU.",
        ),
        (
            {
                "results": [
                    ROW | {"description": "GRU"},
                    GRU | {"description": "GRU, another", "steps_to_solve": [50] * 3},
                ]
            },
            "at lag 100 within 200 updates: 3 of 3 of gru; 0 of 3 of rnn_orth.",
        ),
        ({"status": "interrupted"}, "Status: interrupted."),
        ({"status": "failed", "failure": "no space left"}, "Status: failed: no space left."),
        (
            {},
            (
                "gru (learning rate 0.005): the loss of 1 of 3 seeds was NaN or "
                "infinite after 150 updates."
            ),
        ),
    ],
)
def test_the_verdict_is_said_in_words(change, words, tmp_path):
    found = read(tmp_path, make(tmp_path / "run", summary=change)).text
    assert words in found and "cannot" not in found


def test_real_results_have_the_verdict_of_the_readme(tmp_path):
    assert (
        "Seeds that solved adding at lag 200 within 2,000 updates: 3 of 3 of LSTM, GRU; "
        "0 of 3 of tanh RNN." in read(tmp_path, RESULTS / "adding").text
    )


def test_a_run_that_has_not_ended_shows_its_losses_and_says_so(tmp_path):
    run = make(tmp_path / "run", {"seeds": 3}, None)
    with open(run / "metrics.jsonl", "a") as file:  # killed while it wrote
        file.write(
            '{"step": 200, "cell": "gru", "learning_rate": 0.005, "seed": 0, "loss": 9, '
            '"held_out_loss": 9, "held_out_metric": 0, "gradient_norm": 1, "seconds": 4}\n'
            '{"step": 200, "ce'
        )
    found = read(tmp_path, run)
    assert "Status: not ended." in found.text and found.numbers() == {}
    assert "gru 0.02 (0.02 to 0.03) after 150 updates" in found.figures[0]


def test_without_losses_the_page_says_so(tmp_path):
    found = read(tmp_path, RESULTS / "moving_pattern")
    assert "Learning curves No numbers for this were kept." in found.text and not any(
        "Training loss" in words for words in found.figures
    )


def test_a_figure_says_in_words_what_it_shows(tmp_path):
    found = read(tmp_path, make(tmp_path / "run"))
    losses, parameters, speed = found.figures
    assert (
        "rnn_orth 0.96 (0.77 to 1.06) after 150 updates; gru 0.02 (0.02 to 0.03) after 150 updates"
        in losses
    )
    assert parameters == "parameters: rnn_orth 1,153; gru 3,425."
    assert speed == "ms per update, all seeds: rnn_orth 9.9; gru 32.2."


def test_a_figure_says_where_losses_are_not_finite(tmp_path):
    losses = {"rnn_orth": [None, None, None], "gru": [30.0, 0.1, None]}
    found = read(tmp_path, make(tmp_path / "run", losses=losses))
    assert (
        "rnn_orth nan (nan to nan) after 150 updates; gru nan (nan to nan) after 150 updates"
        in found.figures[0]
    )
    assert "Losses above 3 lie beyond the top." in found.text


def test_each_run_has_once_what_reproduces_it_and_its_figures(tmp_path):
    runs = [make(tmp_path / str(lag), {"lag": lag}) for lag in (100, 200)]
    read(tmp_path, *runs)
    text = html.unescape((tmp_path / "page.html").read_text())
    articles = re.findall(r"<article.*?</article>", text, flags=re.DOTALL)
    assert len(articles) == 2
    for run, article in zip(runs, articles, strict=True):
        config = (run / "config.yaml").read_text().strip()
        assert text.count(config) == 1 and article.count("<figure") == 2
        for words in ("python -m experiments run", config, "jax: 0.10.2", "TPU v9", "abc123"):
            assert words in article


def test_gradient_figures_give_the_numbers_of_the_summary(tmp_path):
    found = read(tmp_path, RESULTS / "gradients")
    table = json.loads((RESULTS / "gradients" / "summary.json").read_text())["log10"]
    assert len(found.figures) == 4
    for words, key in zip(
        found.figures,
        ("loss before", "jacobian before", "loss after", "jacobian after"),
        strict=True,
    ):
        assert words.endswith(
            "At lag 99: "
            + "; ".join(f"{cell} 10 to the {v[key][2]:.1f}" for cell, v in table.items())
            + "."
        )
    assert (
        "Over 99 steps, lstm_chrono keeps at most 0.8 of the gradient at initialisation, "
        "and rnn_small 5e-30." in found.text
    )


def test_a_sweep_shows_success_against_lag_and_what_has_not_begun(tmp_path):
    found = read(tmp_path, make_sweep(tmp_path / "sweep"))
    shown = {
        (marks["data-cell"], int(marks["data-lag"])): text
        for marks, text in found.entries
        if "data-lag" in marks
    }
    assert shown == {
        **{("rnn_orth", 50): "0/3", ("rnn_orth", 100): "0/3", ("rnn_orth", 200): "0/3"},
        **{("gru", 50): "3/3", ("gru", 100): "2/3", ("gru", 200): "1/3"},
    }
    assert any(
        "gru 3/3 at lag 50, 2/3 at lag 100, 1/3 at lag 200" in words for words in found.figures
    )
    assert "lag 400 : Status: not begun." in found.text


@pytest.mark.parametrize(
    "other",
    [{"hidden_size": 100}, {"task_options": {"symbols": 3}}, {"layers": 2}, {"parameters": 4500}],
)
def test_runs_that_differ_in_more_than_the_lag_are_not_one_curve(other, tmp_path):
    order = {"task": "temporal_order"}
    found = read(
        tmp_path,
        make(tmp_path / "50", order | {"lag": 50}, {"lag": 50}),
        make(tmp_path / "100", order | other),
    )
    (key, value), *_ = other.items()
    assert f"{key} {value}" in found.text
    assert not [marks for marks, _ in found.entries if "data-lag" in marks]
    assert not any("Seeds that solved the task" in words for words in found.figures)


def test_a_page_says_how_to_get_the_figures_it_lacks(tmp_path):
    text = read(tmp_path, make(tmp_path / "run")).text
    assert (
        "Success against lag is shown of runs at several lags: "
        "python -m experiments sweep adding --grid.lag 50,100,200" in text
    )
    assert "gradient flow of runs of python -m experiments gradients" in text


def test_a_learning_rate_without_losses_yet_is_an_empty_panel(tmp_path):
    found = read(tmp_path, make(tmp_path / "run", {"learning_rates": [0.005, 0.1]}, None))
    assert "rnn_orth 0.96" in found.figures[0] and found.figures[1].endswith(
        "of the seeds at the end: ."
    )


def test_two_runs_stand_side_by_side_with_their_differences_and_ratios(tmp_path):
    rows = [
        ROW | {"ms_per_update": 19.72, "parameters": 2306},
        GRU | {"steps_to_solve": [300, 300, 300]},
    ]
    first = make(
        tmp_path / "one", summary={"results": [ROW, GRU | {"steps_to_solve": [100, 150, 200]}]}
    )
    second = make(
        tmp_path / "two", {"hidden_size": 64}, {"results": rows, "env": ENV | {"device": "cpu"}}
    )
    found = read(tmp_path, first, second)
    differences = [
        (m["data-key"], m["data-run"], t)
        for m, t in found.entries
        if m.get("data-key", "").startswith("config.")
    ]
    assert differences == [
        *[("config.hidden_size", "0", "32"), ("config.hidden_size", "1", "64")],
        *[("config.device", "0", "TPU v9"), ("config.device", "1", "cpu")],
    ]
    ratios = {
        (m["data-cell"], m["data-key"]): t
        for m, t in found.entries
        if m.get("data-key", "").startswith("ratio.")
    }
    assert [
        ratios["rnn_orth", f"ratio.{key}"]
        for key in ("steps_to_solve", "parameters", "ms_per_update")
    ] == [
        "-",
        "2.00",
        "2.00",
    ]
    assert [
        ratios["gru", f"ratio.{key}"] for key in ("steps_to_solve", "parameters", "ms_per_update")
    ] == [
        "2.00",
        "1.00",
        "1.00",
    ]
    assert found.numbers() == all_expected(first, second)


def test_a_run_without_results_and_losses_says_so(tmp_path):
    found = read(tmp_path, make(tmp_path / "run", summary=None, losses={}))
    assert (
        "Status: not ended." in found.text
        and found.text.count("No numbers for this were kept.") == 2
    )
    assert found.figures == []


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, "run holds no run: it has no config.yaml."),
        ({"config.yaml": "cells: [lstm]"}, "run holds no run that trains or measures gradients."),
        ({"config.yaml": "a: ["}, "config.yaml is damaged: while parsing"),
        ({"config.yaml": "task: adding_up"}, "unknown task 'adding_up'; did you mean 'adding'?"),
        (
            {"config.yaml": "{task: adding, seeds: 1}", "summary.json": "{"},
            "summary.json is damaged: Expecting",
        ),
        (
            {"config.yaml": "{task: adding, seeds: 1}", "metrics.jsonl": "{\n"},
            "metrics.jsonl is damaged: Expecting",
        ),
    ],
)
def test_a_folder_without_a_readable_run_is_refused_with_the_reason(files, words, tmp_path):
    (tmp_path / "run").mkdir()
    for name, text in files.items():
        (tmp_path / "run" / name).write_text(text)
    with pytest.raises((UsageError, RunError), match=re.escape(words)):
        page.write([tmp_path / "run"], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    "text", ["[]", '{"results": 3}', '{"results": [{}]}', '{"results": [], "env": 3}']
)
def test_a_summary_that_was_broken_by_hand_is_one_line(text, tmp_path, capsys):
    run = make(tmp_path / "run")
    (run / "summary.json").write_text(text)
    assert cli.main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 1
    error, damaged = (
        capsys.readouterr().err,
        f"{run / 'summary.json'} is damaged: it holds list, which does not belong there.",
    )
    assert error.startswith(
        f"error: {damaged if text == '[]' else f'{run}: a file lacks what belongs there ('}"
    )
    assert error.count("\n") == 1


def test_a_run_that_has_not_ended_has_a_table_of_what_its_losses_say(tmp_path):
    found = read(tmp_path, make(tmp_path / "run", summary=None))
    assert "This run has not ended: these are the results so far" in found.text
    table = {
        (int(marks["data-so-far"]), marks["data-key"]): text
        for marks, text in found.entries
        if "data-so-far" in marks
    }
    rnn, gru = ({key: text for (n, key), text in table.items() if n == row} for row in range(2))
    assert (rnn["cell"], rnn["solved"], rnn["steps_to_solve"], rnn["steps"]) == (
        "rnn_orth",
        "0/3",
        "-",
        "150",
    )
    # 0.0044 of seed 2 at 150
    assert (gru["cell"], gru["solved"], gru["steps_to_solve"]) == ("gru", "3/3", "150 (150-150)")
    assert (gru["ms_per_update"], gru["seconds"]) == ("20.0", "3")  # a second for 50 updates
    assert {gru[key] for key in ("parameters", "loss_ratio", "final_metric")} == {"-"}
    ended = read(tmp_path, make(tmp_path / "ended"))
    assert "has not ended" not in ended.text and not any(
        "data-so-far" in marks for marks, _ in ended.entries
    )


def test_a_report_lies_in_the_folder_that_is_named_and_of_several_here(
    tmp_path, monkeypatch, capsys
):
    one, two = (make(tmp_path / name) for name in ("one", "two"))
    monkeypatch.chdir(tmp_path)
    for words, where in (
        (["one"], one / "report.html"),
        ([str(two)], two / "report.html"),
        (["one", "two"], tmp_path / "report.html"),
        (["one", "--out", "mine.html"], tmp_path / "mine.html"),
    ):
        assert cli.main(["report", *words]) == 0
        (said,) = re.findall(r"^written: (.*)$", capsys.readouterr().out, flags=re.MULTILINE)
        assert (tmp_path / said).samefile(where)
        assert where.read_text().startswith("<!DOCTYPE html>")
        where.unlink()


def test_the_report_of_a_sweep_lies_in_the_folder_of_the_sweep(tmp_path, capsys):
    sweep = make_sweep(tmp_path / "sweep")
    assert cli.main(["report", str(sweep)]) == 0
    assert f"written: {sweep / 'report.html'}" in capsys.readouterr().out
