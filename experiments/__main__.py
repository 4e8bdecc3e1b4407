"""`python -m experiments`; see `experiments.cli`."""

import os
import sys
from importlib.metadata import version

# glibc gives memory above 32 MB back after each call, and the next one waits for it, page by page
# (docs/speed.md). It reads these when a process begins, so it begins again; who has set one of
# them keeps what they have.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
if sys.platform == "linux" and not ALLOCATOR.keys() & os.environ.keys():
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ALLOCATOR)

# With jaxlib 0.10 and 0.11 a loop of one row is one kernel only where this says so, as it is with
# newer ones anyway: for what is compared, all libraries alike.
ONE_KERNEL = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000000"
if "bench" in sys.argv and version("jaxlib").startswith(("0.10.", "0.11.")):
    os.environ["XLA_FLAGS"] = f"{ONE_KERNEL} {os.environ.get('XLA_FLAGS', '')}"
# One CPU device per core, for batches to be split over: JAX reads this when it is imported. Who has
# set it keeps it.
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores))

try:
    from experiments.cli import main

    sys.exit(main())
except KeyboardInterrupt:  # while the libraries are still being imported
    sys.exit(130)
