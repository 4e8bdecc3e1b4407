"""The command line as its user starts it."""

import ast
import json
import os
import signal
import struct
import sys

import pytest
from commands import ROOT, command, finish, wait_for

from experiments import cli
from experiments.training import dist

TINY = "run adding --cells gru --steps 100 --lag 10 --seeds 2 --hidden_size 8 --batch_size 16"


def test_a_tiny_run_writes_its_folder_and_prints_its_table(tmp_path):
    code, out, err = finish(command(TINY, tmp_path))
    assert code == 0 and err == ""
    summary = json.loads((tmp_path / "runs/adding/summary.json").read_text())
    assert summary["status"] == "done" and len(summary["results"][0]["final_loss"]) == 2
    assert "written: runs/adding" in out and "updates to solve" in out
    assert "not in 100 updates at this learning rate and initialisation" in out
    environment = json.loads((tmp_path / "runs/adding/env.json").read_text())
    assert environment["argv"] == ["python", "-m", "experiments", *TINY.split()]
    # all cores
    assert environment["devices"] == int(
        os.environ.get("JAX_NUM_CPU_DEVICES", len(os.sched_getaffinity(0)))
    )


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
@pytest.mark.parametrize(
    ("given", "starts"), [({}, ["None", "1"]), ({"MALLOC_ARENA_MAX": "2"}, ["2"])]
)
def test_it_begins_again_where_the_allocator_was_not_set(given, starts, tmp_path, monkeypatch):
    for name in ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    said = "import os; print(os.environ.get('MALLOC_ARENA_MAX'), flush=True)"
    (tmp_path / "sitecustomize.py").write_text(said)
    code, out, _ = finish(command("list", tmp_path, {"PYTHONPATH": f"{tmp_path}:{ROOT}", **given}))
    assert code == 0 and out.splitlines()[: len(starts) + 1] == [*starts, "tasks"]


def test_a_usage_error_ends_with_code_2_and_no_traceback(tmp_path):
    code, out, err = finish(command("run adding --lagg 10", tmp_path))
    assert code == 2 and out == ""
    assert err.startswith("error: unknown key 'lagg'; did you mean 'lag'?") and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_who_reads_only_the_first_line_gets_no_traceback_and_no_message(tmp_path):
    process = command("list", tmp_path)
    process.stdout.close()  # as `head` does, before anything is written
    code = process.wait()
    assert (code, process.stderr.read()) == (cli.UNREAD, "") and code == 141
    process.stderr.close()


@pytest.mark.slow("one more run in a process of its own")
def test_a_run_goes_on_when_its_reader_has_gone(tmp_path):
    process = command(TINY, tmp_path)
    wait_for(process, "writing")
    process.stdout.close()
    code = process.wait()
    assert code in (cli.DONE, cli.UNREAD) and process.stderr.read() == ""
    process.stderr.close()
    summary = json.loads((tmp_path / "runs/adding/summary.json").read_text())
    assert summary["status"] == "done"


@pytest.mark.slow("one more run in a process of its own")
def test_the_losses_are_written_for_tensorboard_too(tmp_path):
    code, _, err = finish(command(f"{TINY} --tensorboard", tmp_path))
    assert (code, err) == (0, "")
    (file,) = (tmp_path / "runs/adding/tensorboard").iterdir()
    events = b"".join(records(file.read_bytes()))
    rows = [
        json.loads(line)
        for line in (tmp_path / "runs/adding/metrics.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 4 and events.count(b"gru/learning_rate_0.005/seed_0") == 2
    # six digits are kept there, all of them here
    assert all(struct.pack("<f", row["loss"])[1:] in events for row in rows)


def records(data):
    """The records of a file of TensorBoard: length (8 bytes), its checksum (4), the record,
    its checksum (4).
    """
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + size]
        data = data[16 + size :]


def test_a_second_ctrl_c_ends_at_once_and_a_first_one_waits_for_the_updates_under_way():
    with dist.stopping() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_experiments_stay_small():
    files = [
        file
        for file in (ROOT / "experiments").rglob("*.py")
        if not {"tasks", "bench", "agents", "online"} & set(file.parts)
    ]
    assert 10_000 < sum(map(syntax_nodes, files)) <= 25_700


def syntax_nodes(path):
    """How much code there is, however wide its lines are."""
    tree = ast.parse(path.read_text())
    return sum(not isinstance(node, ast.expr_context) for node in ast.walk(tree))
