"""The resident memory of one candidate's forward and backward pass, in a process of its own:
`python -m experiments.bench.child`.

What counts is how far the process grows beyond what it holds just before the first call, with its
inputs in place and its program compiled: temporary memory, outputs and gradients, and whatever else
the library takes for itself while it runs. The peak of the whole process would say more about the
compiler and the imports than about the run.
"""

import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any

from experiments.bench import measure, problem, run
from experiments.bench.candidate import Inputs
from experiments.bench.peers import BOTH, Choice
from experiments.bench.shapes import Job, parse

CALLS = 3  # the first may still set something up, the second meets what the first left


def main(arguments: list[str]) -> None:
    """Prints the numbers as JSON."""
    name, cell, shape, seed = arguments
    run.use_device("cpu", 1)
    print(json.dumps(grown(name, Job(cell, parse(shape)), int(seed))))


def grown(name: str, job: Job, seed: int) -> dict[str, Any]:
    """Bytes before the run, and by how much its peak lies above.

    Raises:
        OSError: this system is no Linux, or forbids resetting the peak.
    """
    given = problem.draw(job, seed)
    made = measure.make(Choice(name, "float32"), given, Inputs(given), "cpu", modes=(BOTH,))
    gc.collect()
    # else what the compiler freed would be taken again by the run, and not be seen
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (man proc_pid_clear_refs)
    before = resident("VmRSS")
    for _ in range(CALLS):
        made.run[BOTH]()
    return {"before_bytes": before, "resident_bytes": resident("VmHWM") - before}


def resident(field: str) -> int:
    """A field of /proc/self/status, in bytes: VmRSS now, VmHWM at its peak."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


if __name__ == "__main__":
    main(sys.argv[1:])
