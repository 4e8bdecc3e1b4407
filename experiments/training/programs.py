"""Room for compiled programs in a process that runs for hours."""

from pathlib import Path

import jax

MAPS = Path("/proc/self/maps")
LIMIT = Path("/proc/sys/vm/max_map_count")


def make_room(share: float = 0.5) -> bool:
    """Forgets all compiled programs where they hold more than a share of what the system gives a
    process. Each holds pieces of memory of its own, whose number Linux limits: a long sweep would
    die of them.

    Returns:
        Whether they were forgotten; what is needed again is compiled again.
    """
    if not MAPS.exists() or not LIMIT.exists():
        return False
    with MAPS.open() as lines:
        held = sum(1 for _ in lines)
    if held <= share * int(LIMIT.read_text()):
        return False
    jax.clear_caches()
    return True
