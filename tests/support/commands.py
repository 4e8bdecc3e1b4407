"""The command line in processes of its own, as its user starts it."""

import json
import os
import signal
import subprocess
import sys

from places import ROOT

TINY = "run adding --lag 10 --seeds 2 --hidden_size 8 --batch_size 16 --checkpoint_every 50"


def command(arguments, folder, env=None, before="pass"):
    """Starts `python -m experiments` in `folder`, with more in its environment, after the
    statements `before` in the process.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **(env or {})}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # inherited from a suite in the background
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    words = (
        [sys.executable, "-c", f"{before}; import os, sys; os.execv(sys.executable, sys.argv[1:])"]
        if before != "pass"
        else []
    )
    return subprocess.Popen(
        [*words, sys.executable, "-m", "experiments", *arguments.split()],
        cwd=folder,
        env=env,
        **pipes,
    )


def finish(process):
    """(exit code, output, errors)"""
    out, err = process.communicate()
    return process.returncode, out, err


def wait_for(process, text):
    """Reads the output up to the line with `text`."""
    while text not in (line := process.stdout.readline()):
        assert line or process.poll() is None, process.communicate()


def numbers(path):
    """Everything that a run computed, without what the clock says."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    results = json.loads((path / "summary.json").read_text())["results"]
    clock = ("seconds", "ms_per_update")
    return [
        [{k: v for k, v in row.items() if k not in clock} for row in lines]
        for lines in (rows, results)
    ]
