"""Configurations and the command line: a wrong word is an error that names the right one."""

import dataclasses

import pytest

from experiments import arguments, cli
from experiments.cells import CELLS
from experiments.config import PRESETS, Config, GradientConfig
from experiments.training import folder
from jaxrnn import Chrono


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rnu adding", "unknown command 'rnu'; did you mean 'run'?"),
        (
            "run addding",
            "unknown preset 'addding'; did you mean 'adding', 'full_adding' or 'fast_adding'? "
            "`python -m experiments list presets` shows all.",
        ),
        ("run zzz --help", "unknown preset 'zzz'. `python -m experiments list presets` shows all."),
        ("run", "run needs the name of a preset; `python -m experiments list presets` shows all."),
        ("sweep adding", "sweep needs a grid or a list"),
        ("sweep adding --grid.lag []", "grid.lag must have values"),
        ("sweep adding --grid.out a,b", "unknown key 'out'"),
        (
            "run adding --seed 4294967296",
            "seed + seeds + select_seeds stay below 2^31 - 1, got 4294967296",
        ),
        ("run adding --out=", "out must name a folder"),
        ("sweep adding --grid.lagg 10,20", "unknown key 'lagg'; did you mean 'lag'?"),
        ("sweep adding --grid.lag 10,x", "lag must be of type int, got 'x'"),
        ("sweep adding --grid.lag", "argument --grid: expected one argument"),
        ("sweep adding --config nowhere.yaml", "nowhere.yaml"),
        ("sweep adding --grid.lag 10 --retyr", "unknown key 'retyr'; did you mean 'retry'"),
        ("check fsat", "unknown tier 'fsat'; did you mean 'fast'?"),
        ("check", "check needs the name of one tier: fast, full"),
        ("report", "report needs the folder of a run"),
        ("report --outt x", "unknown key '--outt'"),
        ("run adding --resume", "--resume needs --out"),
        (
            "run adding --dist explicit",
            "dist 'explicit' needs coordinator, num_processes, process_id",
        ),
        ("run adding --num_processes 2", "dist 'off' does not take num_processes"),
        ("run adding --dist on", "dist must be one of 'off', 'auto', 'explicit', got 'on'"),
        ("run adding --not_finite no", "not_finite must be one of 'stop', 'go_on', got 'no'"),
        ("run adding --checkpoint_every 0", "checkpoint_every must be a multiple of 50, got 0"),
        ("run adding --patience 10", "patience must be a multiple of 50, got 10"),
        ("run adding --cells gru,gru", "cells must not name one twice, got gru, gru"),
        ("list task", "unknown kind 'task'; did you mean 'tasks'? Known: tasks, cells, presets"),
        ("list cells gru lstm", "list takes a kind and a word, got cells gru lstm"),
        ("list cells zzz", "no cell has 'zzz' in its name or description"),
        ("run adding --lagg 3", "unknown key 'lagg'; did you mean 'lag'?"),
        ("run adding extra", "unknown key 'extra'"),
        ("run adding --hidden 8", "unknown key 'hidden'; did you mean 'hidden_size'?"),
        ("run adding --lag abc", "lag must be of type int, got 'abc'"),
        ("run adding --lag 20.5", "lag must be of type int, got '20.5'"),
        ("run adding --learning_rates 1e-3,x", "learning_rates must be of type float, got 'x'"),
        ("run adding --learning_rates -1", "learning_rates and clip must be positive"),
        ("run adding --lag", "argument --lag: expected one argument"),
        ("run adding --lag 1", "lag must be at least 2 for this task, got 1"),
        ("run adding --steps 110", "steps must be a multiple of 50, got 110; did you mean 100?"),
        ("run adding --steps 0", "steps must be a multiple of 50"),
        ("run adding --seeds 0", "seeds must be at least 1"),
        ("run adding --seed -1", "seed must not be negative"),
        ("run adding --cells lstm,gruu", "unknown cell 'gruu'; did you mean 'gru'"),
        ("run adding --cells []", "cells must name at least one"),
        ("run adding --task addin", "unknown task 'addin'; did you mean 'adding'?"),
        (
            "run adding --task moving_pattern",
            "cell 'rnn_orth' runs on inputs with 0 spatial axes, those of task 'moving_pattern'",
        ),
        ("run adding --config nowhere.yaml", "nowhere.yaml"),
        ("gradients --cells lstn", "unknown cell 'lstn'; did you mean 'lstm'"),
        (
            "gradients --learning_rates 1",
            "unknown key 'learning_rates'; did you mean 'learning_rate'?",
        ),
    ],
)
def test_a_wrong_word_on_the_command_line_is_one_line_that_names_the_right_one(
    words, message, capsys
):
    assert cli.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err


def test_another_task_than_that_of_the_preset_needs_its_options_dropped(tmp_path, capsys):
    words = f"run full_temporal_order --task adding --steps 50 --out {tmp_path / 'run'}"
    assert cli.main(words.split()) == 2
    assert (
        capsys.readouterr().err
        == "error: unknown option of task 'adding' 'symbols'. Known: none.\n"
    )
    with pytest.raises(SystemExit) as end:
        cli.main([*words.split(), "--task_options={}", "--print_config"])
    assert not end.value.code and "task_options: {}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lagg: 3", "unknown key 'lagg'; did you mean 'lag'?"),
        ("lag: abc", "lag must be of type int, got 'abc'"),
        ("cells: [lstn]", "unknown cell 'lstn'; did you mean 'lstm'"),
        ("task: coping", "unknown task 'coping'; did you mean 'copying'"),
        ("lag: [3", "Problems parsing config"),
    ],
)
def test_a_wrong_word_in_a_file_is_the_same_error(text, message, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(text)
    assert cli.main(["run", "adding", "--config", str(tmp_path / "config.yaml")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert message in err


def test_a_file_overrides_the_preset_and_an_option_overrides_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("lag: 30\nseeds: 5\nlearning_rates: [1e-4]")
    words = [
        "--config",
        str(PRESETS["adding"]),
        "--config",
        str(tmp_path / "mine.yaml"),
        "--seeds",
        "2",
        "--cells",
        "gru,irnn",
    ]
    config = arguments.parse(Config, words)
    assert (config.lag, config.seeds, config.cells, config.learning_rates) == (
        30,
        2,
        ("gru", "irnn"),
        (1e-4,),
    )
    assert config.hidden_size == 32


@pytest.mark.parametrize("kind", [Config, GradientConfig])
def test_a_saved_configuration_is_read_back_equal(kind, tmp_path):
    config = kind(lag=30, cells=("lstm_chrono",), seed=7, clip=0.25, out="somewhere")
    (tmp_path / "config.yaml").write_text(folder.to_yaml(config))
    assert arguments.parse(
        kind, ["--config", str(tmp_path / "config.yaml")]
    ) == dataclasses.replace(config, out=None)


def test_print_config_prints_what_would_be_run(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["run", "adding", "--lag", "20", "--print_config"])
    assert exit_.value.code == 0
    assert "lag: 20\n" in capsys.readouterr().out


def test_without_a_command_the_usage_is_printed(capsys):
    assert cli.main([]) == 2
    assert "python -m experiments run NAME" in capsys.readouterr().out


def test_the_name_of_a_cell_says_its_initialisation():
    made = {name: cell.make(8, 50) for name, cell in CELLS.items()}
    assert len(set(made.values())) == len(made)  # no cell under two names
    assert [made[name].forget_bias for name in ("lstm_fb0", "lstm", "lstm_chrono")] == [
        0.0,
        1.0,
        Chrono(50),
    ]
    assert [made[name].update_bias for name in ("gru", "gru_ub1", "gru_chrono")] == [
        0.0,
        1.0,
        Chrono(50),
    ]
    assert made["rnn_orth"].recurrent_init == "orthogonal" and made["irnn"].nonlinearity == "relu"


@pytest.mark.parametrize("text", ["a: &a\n  b: *a\n", "lag: &x [*x]\n", "&a [{b: *a}]\n"])
def test_a_file_that_refers_to_itself_is_one_line_and_no_endless_loop(text, tmp_path, capsys):
    path = tmp_path / "loop.yaml"
    path.write_text(text)
    for option in (["--config", str(path)], [f"--config={path}"]):
        assert cli.main(["run", "adding", *option, "--out", str(tmp_path / "out")]) == cli.USAGE
        assert "refers to itself" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_may_use_an_anchor_twice(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("learning_rates: &rates [0.1]\ncells: [gru]\n")
    assert arguments.parse(Config, ["--config", str(path)]).learning_rates == (0.1,)


@pytest.mark.parametrize("text", ["1: 2\n", "steps: 1e400\n", "seed: 99999999999999999999999999\n"])
def test_keys_and_numbers_that_no_option_has_are_one_line(text, tmp_path, capsys):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    line = ["run", "adding", "--config", str(path), "--out", str(tmp_path / "out")]
    assert cli.main(line) == cli.USAGE
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
