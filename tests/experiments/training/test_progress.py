"""What is shown while a run goes on."""

import os
import re
import subprocess
import sys

import pytest
import rich
from commands import ROOT

from experiments.training import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [0.0]
    monkeypatch.setattr(rich.get_console(), "get_time", lambda: now[0])
    return now


def shown(reports, clock, monkeypatch):
    """What is shown after the text of each report (seconds, label, step, steps, done)."""
    texts = []
    monkeypatch.setattr(
        progress, "plain", lambda label, step, steps, text, done: texts.append(text)
    )
    with progress.live() as show:
        for seconds, *report, done in reports:
            clock[0] = seconds
            show(*report, "", done)
    return texts


def test_the_pace_leaves_out_what_the_compiler_took_and_says_what_is_left_at_most(
    clock, monkeypatch
):
    reports = [
        (seconds, "gru", step, 1050, False)
        for seconds, step in ((0, 0), (100, 50), (101, 100), (104, 250))
    ]
    texts = shown(
        [*reports, (300, "lstm", 50, 1050, False), (300, "gru", 1050, 1050, True)],
        clock,
        monkeypatch,
    )
    assert texts[:4] == [
        "",
        "",
        "  50 updates/s, 0:00:19 left at most",
        "  50 updates/s, 0:00:16 left at most",
    ]
    assert texts[4:] == ["", ""]


def test_a_run_that_goes_on_has_the_pace_of_what_it_computes(clock, monkeypatch):
    reports = [(0, "gru", 500, 1000, False), (2, "gru", 600, 1000, False)]
    assert shown(reports, clock, monkeypatch) == ["", "  50 updates/s, 0:00:08 left at most"]


def test_the_pace_is_known_where_50_updates_take_minutes(clock, monkeypatch):
    reports = [(200 * k, "gru", 50 * k, 1000, False) for k in range(4)]
    assert shown(reports, clock, monkeypatch)[2:] == [
        "  0 updates/s, 1:00:00 left at most",
        "  0 updates/s, 0:56:40 left at most",
    ]


def test_where_there_is_no_terminal_a_line_is_written_every_250_updates_and_at_the_end(capsys):
    with progress.live() as show:
        for step in (0, 50, 250, 300):
            show("gru  lr 0.005", step, 1000, "loss/baseline 0.5", step == 300)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[3] for line in lines] == ["0/1,000", "250/1,000", "300/1,000"]
    assert (
        lines[1][4:6] == ["loss/baseline", "0.5"]
        and lines[1][-3:] == ["left", "at", "most"]
        and lines[2][-1] == "done"
    )


def test_on_a_terminal_there_are_bars_with_the_loss_and_the_rate():
    code = (
        "from experiments.training import progress\n"
        "with progress.live() as show:\n"
        "    [show('gru', step, 1000, 'loss/baseline 0.5 [/x]', step == 300) for step in (0, 50, "
        "100, 300)]\n"
    )
    master, slave = os.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], stdout=slave, stderr=slave, check=True, env=env)
    os.close(slave)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(master, 100_000).decode())
    os.close(master)
    assert (
        "gru" in shown and "300/300" in shown and "loss/baseline 0.5 [/x]" in shown and "━" in shown
    )


def test_a_run_goes_on_when_who_reads_its_lines_has_gone():
    code = (
        "import sys\n"
        "from experiments.training import progress\n"
        "with progress.live() as show:\n"
        "    for step in range(0, 10**6, 250):\n"
        "        show('gru', step, 10**6, 'x' * 100, False)\n"
        "print('all', file=sys.stderr)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, "-c", code], env=env, **pipes)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "all\n" and process.wait() == 0
    process.stderr.close()
