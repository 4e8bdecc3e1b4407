"""Commands that are killed at random moments and begun again, until they are done.

`python tests/endurance/kills.py --count 1000 --seed 0 --out FILE.json` kills `run`, `sweep` and a
run of two processes; what they leave in the end is compared with what the same command leaves that
nobody disturbs: every number, every bit of the last checkpoints, every name of a file. Now and then
the disk is full meanwhile (a file may not grow further), or the folder may not be written.
"""

import argparse
import collections
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from commands import command, finish, numbers  # noqa: E402

TINY = (
    "--lag 10 --hidden_size 8 --batch_size 16 --steps 200 --seeds 2 --learning_rates 1e-3 "
    "--checkpoint_every 50"
)
FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))"
READ_ONLY = (
    "import ctypes; drop, dac_override = 24, 1; "
    "ctypes.CDLL(None).prctl(drop, dac_override, 0, 0, 0)"
)


class Scenario(NamedTuple):
    name: str
    # (folder of the scenario, where it writes, what stands before) -> its processes
    begin: Callable[[Path, Path, str], list[subprocess.Popen[str]]]
    longest: float  # seconds that a whole one takes, about


def one(words: str) -> Callable[[Path, Path, str], list[subprocess.Popen[str]]]:
    def begin(folder: Path, out: Path, before: str) -> list[subprocess.Popen[str]]:
        return [command(f"{words} --out {out}", folder, before=before, env=cached(folder))]

    return begin


def two(folder: Path, out: Path, before: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    words = (
        f"run adding --cells gru {TINY} --out {out} --resume --dist explicit "
        f"--coordinator localhost:{port} --num_processes 2 --process_id"
    )
    env = cached(folder) | {"JAX_NUM_CPU_DEVICES": "1"}
    return [command(f"{words} {k}", folder, before=before, env=env) for k in range(2)]


def cached(folder: Path) -> dict[str, str]:
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


SCENARIOS = (
    Scenario("run", one(f"run adding --cells gru,rnn_orth {TINY} --resume"), 12),
    Scenario("sweep", one(f"sweep adding --cells gru {TINY} --grid.lag 10,12,14"), 16),
    Scenario("two processes", two, 14),
)


def whole(scenario: Scenario, folder: Path) -> Path:
    """What the command leaves that nobody disturbs."""
    out = folder / "whole" / "run"
    out.parent.mkdir(parents=True)
    for process in scenario.begin(folder, out, "pass"):
        code, said, err = finish(process)
        assert code == 0, (said, err)
    return out


def disturbed(
    scenario: Scenario, folder: Path, out: Path, rng: random.Random, tally: collections.Counter[str]
) -> None:
    """Begins a command again and again, kills it at a random moment, until it comes to its end."""
    while True:
        before, how = rng.choices(
            [("pass", "killed"), (FULL, "full disk"), (READ_ONLY, "read-only")], (18, 1, 1)
        )[0]
        if how == "read-only" and out.exists():
            _permit(out, 0o555, 0o444)
        processes = scenario.begin(folder, out, before)
        deadline = time.monotonic() + rng.uniform(0, scenario.longest)
        codes = [_wait(process, deadline) for process in processes]
        if None in codes:
            for process in rng.sample(processes, len(processes)):
                process.kill()
            tally["kills"] += 1
        said = [process.communicate() for process in processes]
        if out.exists():
            _permit(out, 0o755, 0o644)
        tally[how] += how != "killed"
        if codes == [0] * len(codes):
            return
        for code, (text, err) in zip(codes, said, strict=True):
            # killed; or ended by what was in its way, with one line that says so
            known = code in (None, 1, 75) and err.count("Traceback") == 0
            assert known, (scenario.name, how, code, text[-2000:], err[-2000:])


def _wait(process: subprocess.Popen[str], deadline: float) -> int | None:
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None


def _permit(out: Path, folders: int, files: int) -> None:
    for path in [out, *out.rglob("*")]:
        path.chmod(folders if path.is_dir() else files)


def compare(out: Path, reference: Path) -> None:
    """Raises where two folders do not hold the same."""
    assert _names(out) == _names(reference), _names(out) ^ _names(reference)
    for path in sorted(reference.rglob("summary.json")):
        there = path.parent.relative_to(reference)
        assert numbers(out / there) == numbers(reference / there), there
    for path in sorted(reference.rglob("*")):
        if path.is_file() and "checkpoints" in path.parts and "array" in path.name:
            other = out / path.relative_to(reference)
            assert other.read_bytes() == path.read_bytes(), other


def _names(folder: Path) -> set[str]:
    """The files that are not named by chance, as parts of a checkpoint are."""
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return {str(p) for p in found if "checkpoints" not in p.parts or len(p.parts) < 5}


def run(count: int, seed: int, out: Path) -> dict[str, Any]:
    rng = random.Random(seed)
    tally: dict[str, collections.Counter[str]] = {
        scenario.name: collections.Counter() for scenario in SCENARIOS
    }
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as parent:
        references = {}
        for scenario in SCENARIOS:
            folder = Path(parent, scenario.name.replace(" ", "-"))
            folder.mkdir()
            references[scenario.name] = (folder, whole(scenario, folder))
        while sum(each["kills"] for each in tally.values()) < count:
            scenario = min(SCENARIOS, key=lambda one: tally[one.name]["kills"])
            folder, reference = references[scenario.name]
            path = folder / "again" / "run"
            path.parent.mkdir(exist_ok=True)
            disturbed(scenario, folder, path, rng, tally[scenario.name])
            compare(path, reference)
            tally[scenario.name]["ended"] += 1
            shutil.rmtree(path.parent)
            found = {
                "seed": seed,
                "seconds": round(time.monotonic() - began),
                "scenarios": {name: dict(each) for name, each in tally.items()},
            }
            out.write_text(json.dumps(found, indent=1) + "\n")
            print(found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    run(given.count, given.seed, given.out)


if __name__ == "__main__":
    main()
