"""`python -m experiments`; see `experiments.cli`."""

import os
import sys

# One CPU device per core, for batches to be split over: JAX reads this when it is imported. Who has
# set it keeps it.
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores))

try:
    from experiments.cli import main

    sys.exit(main())
except KeyboardInterrupt:  # while the libraries are still being imported
    sys.exit(130)
