"""Settings of the whole suite: strict dtype promotion, on the CPU unless told otherwise,
without a display.
"""

import collections
import gc
import importlib.metadata
import importlib.util
import itertools
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Programs of tests are compiled once and run once: LLVM spends no time on them, nor on threads,
    # and XLA's former generator of loops makes them in half the time (a newer one ends the process:
    # it does not know the flag). With XLA_FLAGS="", as CI tests the parity with torch, they are
    # compiled as users have it.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_parallel_codegen_split_count=1 --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false",
    )
else:
    # The interpreter of Pallas (test_persistent) blocks a thread of XLA's pool for each warpgroup
    # that waits at a barrier; where all are blocked, which on two cores came in one run of four, no
    # test goes on. So the pool has more threads than cores.
    os.environ.setdefault("NPROC", "8")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")

_tests_run = itertools.count(1)

# what some tests need, as their reasons name it
NEEDS = (
    "torch",
    "keras",
    "haiku",
    "equinox",
    "onnx",
    "memax",
    "NVIDIA GPU",
    "Hopper GPU",
    "chromium",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share", type=int, default=1, help="of each test one case in so many, and one at least"
    )


@pytest.hookimpl(trylast=True)  # behind -m, which must not leave a test without a case
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --share keeps of each test its first case, and those whose names say so: not every
    n-th one, which of a list of pairs would have the same partner each time.
    """
    share = config.getoption("share")
    seen: set[str] = set()
    left: list[pytest.Item] = []
    for item in items[:]:
        test = item.nodeid.partition("[")[0]
        if test in seen and zlib.crc32(item.nodeid.encode()) % share:
            items.remove(item)
            left.append(item)
        seen.add(test)
    if left:
        config.hook.pytest_deselected(items=left)


def pytest_configure(config: pytest.Config) -> None:
    wanted = [name for name in os.environ.get("JAXRNN_REQUIRE", "").split(",") if name]
    # that: test_page_looks
    missing = [
        name for name in wanted if name != "chromium" and importlib.util.find_spec(name) is None
    ]
    if missing:
        raise pytest.UsageError(
            f"JAXRNN_REQUIRE names {', '.join(missing)}: pip install 'jaxrnn[parity,bench]'."
        )


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """What needs a library or a device that is not here is left out, and counted once."""
    if report.skipped and not hasattr(report, "wasxfail"):
        return "left out", "", "LEFT OUT"
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what was left out, and for want of what."""
    missing = collections.Counter(map(_lacking, terminalreporter.stats.get("left out", [])))
    if missing:
        words = (f"{count} ({need})" for need, count in missing.most_common())
        terminalreporter.write_line(f"left out: {', '.join(words)}")
    if "torch" in missing:
        passed = terminalreporter.stats.get("passed", [])
        golden = sum("parity" in report.keywords for report in passed)
        terminalreporter.write_line(f"compared with arrays that torch gave once: {golden}")


def _lacking(report: pytest.TestReport) -> str:
    """What a test was left out for: the library or device, else its reason."""
    reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longreprtext
    reason = reason.removeprefix("Skipped: ")
    return next((need for need in NEEDS if need in reason), reason)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Compiled programs are dropped before there are too many of them.

    Each holds about four mappings of memory, Linux gives a process 65,530, and XLA ends the process
    where it gets none.
    """
    maps = Path("/proc/self/maps")
    if next(_tests_run) % 20 or not maps.exists():
        return
    if maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64() -> Iterator[None]:
    """64-bit arrays."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion() -> Iterator[None]:
    """Promotion of dtypes as users have it, which optax needs."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def own_names() -> Iterator[None]:
    """What a test registers is known to it alone."""
    from experiments import cells, own, tasks
    from experiments.training import folder

    kept = (dict(cells.CELLS), dict(tasks.TASKS), list(own.LOGGERS))
    yield
    own.restore(*kept)
    for forgotten in (folder.IMPORTED, own.PLACES, own.FILES):
        forgotten.clear()
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """Compiles two to four times faster into slower code:
    for tests of many small functions that run once.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
