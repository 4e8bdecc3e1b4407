"""`list` and `--help`: what there is and what each option means, in words, as wide as the
terminal.
"""

import dataclasses
import itertools
import re
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from experiments import arguments, cli, manual
from experiments.agents.config import AgentConfig
from experiments.bench.config import BenchConfig
from experiments.cells import CELLS
from experiments.config import PRESETS, TIERS, Config, ExportConfig, GradientConfig, Launch, Points
from experiments.online.config import OnlineConfig
from experiments.tasks import TASKS

KNOWN = {"tasks": TASKS, "cells": CELLS, "presets": PRESETS, "tiers": TIERS}
KINDS = (
    Config,
    GradientConfig,
    AgentConfig,
    OnlineConfig,
    BenchConfig,
    ExportConfig,
    Launch,
    Points,
)


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def printed(capsys, words):
    assert cli.main(words.split()) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def names(out):
    """The names that a listing begins its lines with."""
    return re.findall(r"^  (\w+)  ", out, flags=re.MULTILINE)


@pytest.mark.parametrize("kind", KNOWN)
def test_list_has_every_name_of_a_kind_once_and_no_other(kind, capsys):
    assert names(printed(capsys, f"list {kind}")) == list(KNOWN[kind])


def test_list_alone_has_all_kinds(capsys):
    out = printed(capsys, "list")
    assert names(out) == [name for known in KNOWN.values() for name in known]
    assert out.startswith("tasks\n  a_n_b_n ")


@pytest.mark.parametrize("wide", [60, 80, 120])
def test_no_line_of_a_list_is_wider_than_the_terminal_and_what_is_wrapped_stays_in_its_column(
    wide, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", str(wide))
    lines = printed(capsys, "list presets").splitlines()
    assert wide - 10 < max(map(len, lines)) <= wide
    for first, second in itertools.pairwise(lines):
        if second.startswith("    "):
            column = len(second) - len(second.lstrip())
            assert first[column - 2 : column] == "  " and first[column] != " "


def test_a_list_of_presets_says_which_folder_each_lies_in(capsys):
    parts = re.split(r"^presets: (\w+)\n", printed(capsys, "list presets"), flags=re.MULTILINE)
    assert parts[1::2] == ["paper", "fast", "full", "long", "gpu"]
    for folder, text in zip(parts[1::2], parts[2::2], strict=True):
        assert {PRESETS[name].parent.name for name in names(text)} == {folder}


def test_a_word_leaves_what_has_it_in_its_name_or_its_description(capsys):
    found = names(printed(capsys, "list cells Janet"))
    assert found == ["janet", "janet_chrono"]
    assert names(printed(capsys, "list tasks sum")) == ["adding"]  # its description alone has it


@pytest.mark.parametrize("words", ["--help", "help", "-h"])
def test_help_names_the_commands(words, capsys):
    assert printed(capsys, words) == f"{cli.__doc__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_on_a_command_is_about_that_command_and_has_an_example(name, capsys):
    out = printed(capsys, f"{name} --help")
    assert out.startswith(f"python -m experiments {name} ") or name == "list"
    assert f"\nExample: python -m experiments {name} " in out
    assert max(map(len, out.splitlines())) <= 80
    assert out == printed(capsys, f"help {name}") == printed(capsys, f"{name} -h")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not Points])
def test_a_configuration_may_be_given_no_option_at_all(kind):
    assert arguments.parse(kind, []) == kind()


def test_every_command_has_its_help():
    assert list(manual.COMMANDS) == list(cli.COMMANDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_docstring_of_a_configuration_tells_of_every_option_and_of_every_choice(kind):
    told = manual.meanings(kind)
    assert list(told) == [field.name for field in dataclasses.fields(kind)]
    assert all(len(text.split()) > 1 for text in told.values())
    for name, hint in get_type_hints(kind).items():
        for choice in get_args(hint) if get_origin(hint) is Literal else ():
            assert f'"{choice}"' in told[name]


@pytest.mark.parametrize(
    "words, kinds",
    [
        ("run adding", (Config, Launch)),
        ("sweep adding", (Points, Config, Launch)),
        ("gradients", (GradientConfig,)),
        ("agents", (AgentConfig,)),
        ("online", (OnlineConfig,)),
        ("bench", (BenchConfig,)),
        ("export", (ExportConfig,)),
    ],
)
def test_help_explains_every_option_under_headings_for_people(words, kinds, capsys):
    out = printed(capsys, f"{words} --help")
    options = re.findall(r"^  --([\w]+)", out, flags=re.MULTILINE)
    fields = [field.name for kind in kinds for field in dataclasses.fields(kind)]
    assert options == [*fields, "import", "config", "print_config"]
    flat = " ".join(out.split())
    assert all(text in flat for kind in kinds for text in manual.meanings(kind).values())
    assert "class" not in out and "type:" not in out
    for kind in kinds:
        assert all(f"\n{heading}\n" in out for heading in manual.HEADINGS[kind].values())


def test_the_values_that_help_shows_are_those_of_the_preset(capsys):
    out = printed(capsys, "run fast_first_symbol --help")
    assert "--lag 50\n" in out and "--learning_rates 0.003\n" in out
    assert "--cells rnn_glorot,rnn_orth,lstm,lstm_chrono,gru,gru_chrono\n" in out
    assert "one of two symbols across 50 random ones" in out
    assert "--lag 200\n" in printed(capsys, "run adding --help")


def test_a_long_list_is_wrapped_behind_its_commas(capsys):
    out = printed(capsys, "run adding_family --help")
    assert max(map(len, out.splitlines())) <= 80
    (cells,) = re.findall(r"--cells (\S+(?:\n {6}\S+)*)\n", out)
    assert "".join(cells.split()).startswith("rnn_orth,irnn,lstm,lstm_chrono,lstmp,gru")
