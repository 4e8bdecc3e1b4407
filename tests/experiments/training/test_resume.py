"""Runs that are killed, damaged or interrupted go on from the last good state,
and compute the same bits.
"""

import dataclasses
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import slow
from commands import ROOT, TINY, command, finish, numbers, wait_for

from experiments import cli
from experiments.config import Config, RunError
from experiments.training import checkpoint, folder, run, train
from experiments.training.checkpoint import Saved
from experiments.training.run import Hooks

CONFIG = Config(
    lag=10,
    cells=("gru", "rnn_orth"),
    hidden_size=8,
    batch_size=16,
    steps=200,
    seeds=2,
    learning_rates=(1e-3,),
    checkpoint_every=50,
)


def ran(path, stop=lambda: False, show=lambda *_: None, config=CONFIG):
    """Begins a run in the folder `path`, or goes on with it."""
    with folder.opened("adding", dataclasses.replace(config, out=str(path)), resume=True):
        return run.run(config, path, Hooks(show, stop))


def after(count):
    """Asks to stop at the question with this number, counted from 1."""
    questions = iter(range(1, 10**9))
    return lambda: next(questions) >= count


def last_checkpoint(path, cell, step=200):
    """The arrays of a checkpoint."""
    job, rows = train.make_job(CONFIG, cell), train.rows(CONFIG)
    with checkpoint.checkpoints(path / "checkpoints" / cell) as manager:
        saved, remarks = checkpoint.restore(manager, train.like(job, rows))
    assert saved.step == step and remarks == []
    return jax.tree.leaves(saved.state)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was never cut."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert ran(path)["status"] == "done"
    return path


def assert_same(path, whole):
    """Every number of the run and every bit of its last checkpoints are those
    of the run that was never cut.
    """
    assert numbers(path) == numbers(whole)
    for cell in CONFIG.cells:
        for a, b in zip(last_checkpoint(path, cell), last_checkpoint(whole, cell), strict=True):
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_a_run_that_is_stopped_after_every_50_updates_computes_the_same_bits(tmp_path, whole):
    statuses = [ran(tmp_path, after(1))["status"] for _ in range(9)]
    # at the end of a cell there is nothing to interrupt
    assert statuses == ["interrupted"] * 6 + ["done"] * 3
    assert_same(tmp_path, whole)


def test_what_was_computed_before_is_not_computed_again(tmp_path):
    ran(tmp_path, after(3))
    seen = []
    ran(
        tmp_path,
        after(2),
        lambda label, step, steps, text, done: seen.append((label.split()[0], step)),
    )
    assert seen == [("gru", 150), ("gru", 200), ("rnn_orth", 0), ("rnn_orth", 50)]


def damage(path, how):
    """Damages a checkpoint: every file of arrays,
    since part of one may be what the storage has written anew elsewhere.
    """
    if how == "deleted":
        shutil.rmtree(path)
    elif how == "emptied":
        shutil.rmtree(path / "state")
    else:
        for file in filter(lambda file: file.parent.name == "d", path.rglob("*")):
            spoil(file, how)


def spoil(file, how):
    """Cuts a file in half, or flips a bit in its middle."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data if how == "a bit flipped" else data[: len(data) // 2])


@pytest.mark.parametrize("how", ["truncated", "a bit flipped", "emptied", "deleted"])
def test_a_damaged_checkpoint_is_set_aside_and_the_run_goes_on_from_the_one_before(
    how, tmp_path, whole, capsys
):
    ran(tmp_path, after(3))
    damage(tmp_path / "checkpoints" / "gru" / "150", how)
    seen = []
    assert ran(tmp_path, show=lambda label, step, *_: seen.append(step))["status"] == "done"
    if how != "deleted":
        assert "checkpoints/gru/150 is damaged" in capsys.readouterr().err
        assert (tmp_path / "checkpoints" / "damaged" / "gru-150").is_dir()
    assert seen[:2] == [100, 150]
    assert_same(tmp_path, whole)


def test_what_is_restored_of_a_checkpoint_with_one_damaged_file_is_what_was_saved(tmp_path):
    """The storage leaves pages that nothing reads: one that loses nothing else is whole, to the
    bit; no other is taken for it.
    """
    ran(tmp_path, after(1))
    job, rows = train.make_job(CONFIG, "gru"), train.rows(CONFIG)
    saved, found = digests(tmp_path / "checkpoints", job, rows), []
    for file in sorted((tmp_path / "checkpoints" / "gru" / "50").rglob("d/*")):
        for how in ("truncated", "a bit flipped"):
            other = tmp_path / f"{file.name}-{how}"
            shutil.copytree(tmp_path / "checkpoints", other)
            spoil(other / file.relative_to(tmp_path / "checkpoints"), how)
            found.append(digests(other, job, rows))
    assert set(found) <= {saved, None} and found.count(None) >= 2


def digests(path, job, rows):
    """The digest of what is restored of the only checkpoint, or None where it is damaged."""
    with checkpoint.checkpoints(path / "gru") as manager:
        try:
            saved, _ = checkpoint.restore(manager, train.like(job, rows))
        except RunError as error:
            assert "gru/50 is damaged" in str(error)
            return None
    return checkpoint.digest(saved)


def test_where_no_checkpoint_is_whole_it_is_said_nothing_is_moved_and_without_them_it_begins_again(
    tmp_path, whole
):
    ran(tmp_path, after(3))
    for step in (50, 100, 150):
        damage(tmp_path / "checkpoints" / "gru" / str(step), "truncated")
    with pytest.raises(
        RunError,
        match=r"gru/150 is damaged .*/gru/50 is damaged .*; without .*/gru the cell begins again$",
    ):
        ran(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "gru").iterdir()) == [
        "100",
        "150",
        "50",
    ]
    shutil.rmtree(tmp_path / "checkpoints" / "gru")
    ran(tmp_path)
    assert_same(tmp_path, whole)


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), MemoryError("no memory")]
)
def test_what_the_system_refuses_to_read_is_not_taken_for_damaged(error, tmp_path, monkeypatch):
    def refuse(*_):
        raise error

    ran(tmp_path, after(3))
    monkeypatch.setattr(checkpoint, "_read", refuse)
    with pytest.raises(
        RunError, match=r"gru/150 could not be read: .*(Too many open files|no memory)$"
    ):
        ran(tmp_path)
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "gru").iterdir()) == [
        "100",
        "150",
        "50",
    ]


@pytest.mark.parametrize("name", ["config.yaml", "env.json", "summary.json"])
@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_file_of_a_run_is_one_line_that_names_it(name, text, tmp_path, capsys):
    for file in ("config.yaml", "env.json", "summary.json"):
        (tmp_path / file).write_text(folder.to_yaml(CONFIG) if file == "config.yaml" else "{}")
    (tmp_path / name).write_text(text)
    arguments = (
        "run adding --lag 10 --cells gru,rnn_orth --hidden_size 8 --batch_size "
        "16 --steps 200 --seeds 2"
    )
    arguments += (
        f" --learning_rates 1e-3 --checkpoint_every 50 --description= --out {tmp_path} --resume"
    )
    assert cli.main(arguments.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / name} is damaged: ") and error.count("\n") == 1


def test_a_run_without_its_configuration_is_not_taken_for_another(tmp_path):
    ran(tmp_path, after(1))
    (tmp_path / "config.yaml").unlink()
    for resume in (False, True):
        with pytest.raises(RunError, match=r"holds a run without its config\.yaml"):
            with folder.opened("adding", dataclasses.replace(CONFIG, out=str(tmp_path)), resume):
                pass


def test_a_run_that_goes_on_with_other_devices_says_so(tmp_path, capsys):
    ran(tmp_path, after(1))
    env = json.loads((tmp_path / "env.json").read_text())
    folder.write_json(tmp_path / "env.json", env | {"devices": 7, "jax": "0.1"})
    ran(tmp_path, after(1))
    assert (
        f"goes on elsewhere, which rounds differently: jax was 0.1 and is {jax.__version__}, "
        "devices was 7 and is 2" in (capsys.readouterr().err)
    )


def test_metrics_that_were_cut_in_a_line_or_lost_are_written_anew(tmp_path, whole):
    ran(tmp_path, after(3))
    text = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(text[: len(text) // 2])
    ran(tmp_path, after(1))
    (tmp_path / "metrics.jsonl").unlink()
    ran(tmp_path)
    assert_same(tmp_path, whole)


def test_a_checkpoint_that_cannot_be_written_says_which_and_the_one_before_stays(
    tmp_path, monkeypatch
):
    import orbax.checkpoint as ocp

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nmore")

    saved = Saved(50, {"a": np.arange(3.0)}, {})
    with checkpoint.checkpoints(tmp_path) as manager:
        checkpoint.save(manager, saved)
        monkeypatch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(
            RunError,
            match=r"/100 could not be written: RESOURCE_EXHAUSTED: No space left on device$",
        ):
            checkpoint.save(manager, saved._replace(step=100))
        again, remarks = checkpoint.restore(manager, {"a": np.zeros(3)})
    assert again.step == 50 and remarks == [] and again.state["a"].tolist() == [0, 1, 2]


def test_a_folder_with_another_configuration_is_refused_and_says_the_difference(tmp_path, capsys):
    ran(tmp_path, after(1))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    arguments = f"{TINY} --cells gru --out {tmp_path} --resume"
    assert cli.main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith(f"error: {tmp_path} holds another run: ")
        and "cells is ['gru', 'rnn_orth'] there and ['gru'] here" in error
    )
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_run_of_another_version_is_told_as_such_and_left_as_it_is(tmp_path, monkeypatch):
    asdict = dataclasses.asdict

    def earlier(value):
        found = asdict(value)
        found.pop("held_out", None)
        return found

    monkeypatch.setattr(run.dataclasses, "asdict", earlier)
    ran(tmp_path, after(6))
    monkeypatch.undo()
    before = sorted(path.name for path in (tmp_path / "checkpoints").rglob("*"))
    with pytest.raises(RunError, match="another version of the experiments"):
        ran(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").rglob("*")) == before


def test_a_run_that_is_done_is_reported_and_not_run_again(tmp_path, capsys):
    arguments = f"{TINY} --cells gru --steps 100 --out {tmp_path} --resume"
    assert cli.main(arguments.split()) == 0
    first, written = capsys.readouterr().out, (tmp_path / "metrics.jsonl").stat().st_mtime_ns
    assert cli.main(arguments.split()) == 0
    second = capsys.readouterr().out
    assert "compiling" in first and "compiling" not in second
    assert first.split("\n\n")[-4:] == second.split("\n\n")[-4:]
    assert (tmp_path / "metrics.jsonl").stat().st_mtime_ns == written


def test_the_environment_of_every_part_of_a_run_is_kept(tmp_path):
    for _ in range(3):
        summary = ran(tmp_path, after(1))
    assert len(summary["env"]["resumed"]) == 2 and summary["env"]["resumed"][1]["devices"] == 2


def test_a_second_process_is_told_who_has_the_folder(tmp_path):
    with folder.opened("adding", dataclasses.replace(CONFIG, out=str(tmp_path))):
        code, out, err = finish(command(f"{TINY} --out {tmp_path} --resume", tmp_path))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {tmp_path} is in use by process ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "number",
    slow.some([signal.SIGTERM, signal.SIGINT], signal.SIGTERM.__eq__, "the same handler"),
)
def test_a_signal_saves_and_ends_with_code_75_and_the_run_goes_on(number, tmp_path):
    arguments = (
        f"{TINY} --cells gru --steps 1000 --learning_rates 1e-9 --out {tmp_path / 'run'} --resume"
    )
    process = command(arguments, tmp_path)
    wait_for(process, "250/")
    process.send_signal(number)
    code, out, err = finish(process)
    assert (code, err) == (75, "")
    assert (
        "Interrupted: these are the results so far." in out
        and f"--out {tmp_path / 'run'} --resume" in out
    )
    steps = json.loads((tmp_path / "run" / "summary.json").read_text())["results"][0]["steps"]
    assert 250 <= steps < 1000 and (tmp_path / "run" / "checkpoints" / "gru" / str(steps)).is_dir()
    code, out, _ = finish(command(arguments, tmp_path))
    assert code == 0 and (f"{steps:,}/1,000  goes on from here" in out or steps % 250)


# Statements for a child: its files may not grow beyond this, where writing then fails as on a full
# disk; and root may no longer write where the permissions say no.
FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))"
UNPRIVILEGED = (
    "import ctypes; drop, dac_override = 24, 1; "
    "ctypes.CDLL(None).prctl(drop, dac_override, 0, 0, 0)"
)


@pytest.mark.slow("three processes, one after another")
def test_a_disk_that_is_full_ends_with_one_line_and_the_run_goes_on_when_there_is_room(
    tmp_path, whole
):
    arguments = (
        "run adding --lag 10 --cells gru,rnn_orth --hidden_size 8 --batch_size 16 --steps 200 "
        "--seeds 2 --learning_rates 1e-3"
    )
    arguments += f" --checkpoint_every 50 --out {tmp_path / 'run'} --resume"
    config = folder.to_yaml(CONFIG)
    code, _, err = finish(command(arguments, tmp_path, before=FULL))
    assert code == 1 and err.startswith("error: ") and err.count("\n") == 1
    assert str(tmp_path / "run") in err and "File too large" in err
    saved = (tmp_path / "run" / "config.yaml").read_text()
    assert saved.splitlines()[1:] == config.splitlines()[1:]
    assert finish(command(arguments, tmp_path))[0] == 0
    assert_same(tmp_path / "run", whole)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    path = tmp_path / "run"
    ran(path, after(1))
    for file in [path, *path.rglob("*")]:
        file.chmod(0o555 if file.is_dir() else 0o444)
    try:
        process = command(f"{TINY} --out {path} --resume", tmp_path, before=UNPRIVILEGED)
        assert finish(process) == (1, "", f"error: {path}/.lock: Permission denied\n")
    finally:
        for file in [path, *path.rglob("*")]:
            file.chmod(0o755)


def killed(count, folder, whole):
    """Kills runs at random moments until `count` were killed, each begun again where it was;
    compares all that come to an end.
    """
    rng, kills, runs = random.Random(count), 0, 0
    arguments = (
        "run adding --lag 10 --cells gru,rnn_orth --hidden_size 8 --batch_size 16 --steps 200 "
        "--seeds 2 --learning_rates 1e-3"
    )
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    while kills < count:
        path = folder / f"run-{runs}"
        process = command(
            f"{arguments} --checkpoint_every 50 --out {path} --resume", folder, env=cache
        )
        try:
            process.wait(rng.uniform(0, 10))
            assert process.returncode == 0, process.communicate()
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.communicate()
        if (path / "summary.json").exists():
            assert_same(path, whole)
            runs += 1
    assert (
        finish(
            command(f"{arguments} --checkpoint_every 50 --out {path} --resume", folder, env=cache)
        )[0]
        == 0
    )
    assert_same(path, whole)
    return kills, runs + 1


def test_what_a_killed_process_leaves_is_gone_when_the_run_goes_on(tmp_path, whole):
    ran(tmp_path, after(3))
    code = (
        "import os, sys; from pathlib import Path; from experiments.training import folder; "
        "path = Path(sys.argv[1]); "
    )
    code += (
        "folder.write(path / 'learning.png', lambda file: (file.write_text('half'), os._exit(9)))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert (
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=env, check=False).returncode
        == 9
    )
    half = tmp_path / "checkpoints" / "gru" / "170.orbax-checkpoint-tmp"
    half.mkdir()
    (half / "state").write_text("half")
    assert len(list(tmp_path.glob(".tmp-*"))) == 1
    ran(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in whole.iterdir()}
    assert not list(tmp_path.rglob("*tmp*"))
    assert_same(tmp_path, whole)


@pytest.mark.slow("20 processes, one after another")
def test_a_run_that_is_killed_20_times_at_random_moments_loses_nothing(tmp_path, whole):
    kills, _ = killed(20, tmp_path, whole)
    assert kills == 20


@pytest.mark.very_slow
@pytest.mark.timeout(3600)
def test_a_run_that_is_killed_200_times_at_random_moments_loses_nothing(tmp_path, whole):
    start = time.monotonic()
    kills, runs = killed(200, tmp_path, whole)
    print(
        f"{kills} kills in {runs} runs, none of which lost a bit, {time.monotonic() - start:.0f} s"
    )
    assert kills == 200
