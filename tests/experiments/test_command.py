"""The command line as its user starts it."""

import json
import os

from commands import command, finish

TINY = "run adding --cells gru --steps 100 --lag 10 --seeds 2 --hidden_size 8 --batch_size 16"


def test_a_tiny_run_writes_its_folder_and_prints_its_table(tmp_path):
    code, out, err = finish(command(TINY, tmp_path))
    assert code == 0 and err == ""
    summary = json.loads((tmp_path / "runs/adding/summary.json").read_text())
    assert summary["status"] == "done" and len(summary["results"][0]["final_loss"]) == 2
    assert "written: runs/adding" in out and "updates to solve" in out
    assert "not solved in 100 updates at this learning rate and initialisation" in out
    environment = json.loads((tmp_path / "runs/adding/env.json").read_text())
    assert environment["argv"] == ["python", "-m", "experiments", *TINY.split()]
    assert environment["devices"] == int(os.environ.get("JAX_NUM_CPU_DEVICES", len(os.sched_getaffinity(0))))  # all cores


def test_a_usage_error_ends_with_code_2_and_no_traceback(tmp_path):
    code, out, err = finish(command("run adding --lagg 10", tmp_path))
    assert code == 2 and out == ""
    assert err.startswith("error: unknown key 'lagg'; did you mean 'lag'?") and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
