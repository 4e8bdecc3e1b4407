"""The command line as its user starts it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = "run adding --cells gru --steps 100 --lag 10 --seeds 2 --hidden_size 8 --batch_size 16"


def command(arguments, folder):
    """Starts `python -m experiments` in `folder`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited from a suite in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen([sys.executable, "-m", "experiments", *arguments.split()], cwd=folder, env=env, **pipes)


def test_a_tiny_run_writes_its_folder_and_prints_its_table(tmp_path):
    process = command(TINY, tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0 and err == ""
    summary = json.loads((tmp_path / "runs/adding/summary.json").read_text())
    assert summary["status"] == "done" and len(summary["results"][0]["final_loss"]) == 2
    assert "written: runs/adding" in out and "updates to solve" in out
    assert "not solved in 100 updates at this learning rate and initialisation" in out
    environment = json.loads((tmp_path / "runs/adding/env.json").read_text())
    assert environment["argv"] == ["python", "-m", "experiments", *TINY.split()]
    assert environment["devices"] == int(os.environ.get("JAX_NUM_CPU_DEVICES", len(os.sched_getaffinity(0))))  # all cores


def test_a_usage_error_ends_with_code_2_and_no_traceback(tmp_path):
    process = command("run adding --lagg 10", tmp_path)
    out, err = process.communicate()
    assert process.returncode == 2 and out == ""
    assert err.startswith("error: unknown key 'lagg'; did you mean 'lag'?") and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_ends_a_run_with_code_130_and_what_was_done_so_far(tmp_path):
    process = command(f"{TINY} --steps 1000000 --learning_rates 1e-9", tmp_path)
    while "250/" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130 and err == ""
    assert "Interrupted: these are the results so far." in out
    summary = json.loads((tmp_path / "runs/adding/summary.json").read_text())
    assert summary["status"] == "interrupted" and summary["results"][0]["steps"] >= 250
