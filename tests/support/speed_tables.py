"""The tables of speed in README.md and docs/speed.md, made from the committed measurements.

`python tests/support/speed_tables.py` from the root of the project writes them into the pages.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from places import DOCS, RESULTS, ROOT

MODES = ("forward", "forward+backward")
PEERS = {
    "hand_scan": "a `lax.scan` written by hand",
    "flax_nnx": "`flax.nnx.RNN`",
    "flax_linen": "`flax.linen.RNN`",
    "haiku": "Haiku",
    "equinox": "Equinox",
    "keras": "Keras",
    "torch": "torch",
}
NEWEST, OLDER, GPU, MEMORY = "bench_cpu_newest", "bench_cpu", "bench_h100", "bench_memory"
Row = dict


def rows(folder: str, **wanted: object) -> list[Row]:
    """The rows of a committed measurement that have these values, on one device."""
    found = json.loads((RESULTS / folder / "bench.json").read_text())["rows"]
    wanted = {"devices": 1, "variant": "float32"} | wanted
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def mean(values: Iterable[float]) -> float:
    """Geometric."""
    return float(np.exp(np.mean(np.log([*values]))))


def ratios(folder: str, cell: str, peer: str, mode: str) -> list[float]:
    """How many times as long the peer takes, at each shape with several sequences."""
    found = rows(folder, cell=cell, peer=peer, mode=mode)
    return [row["ratio"] for row in found if not row["shape"].startswith("1x")]


def home(peer: str) -> str:
    """torch was measured on the older jax only."""
    return OLDER if peer == "torch" else NEWEST


def beside(cells: tuple[str, ...], peers: Iterable[str], folder: Callable[[str], str]) -> list[str]:
    """Lines of a table: the geometric means, and in brackets the least, of each mode."""
    lines = []
    for peer in peers:
        found = [ratios(folder(peer), cell, peer, mode) for cell in cells for mode in MODES]
        entries = [f"{mean(some):.2f} ({min(some):.2f})" if some else "-" for some in found]
        lines.append(f"| {PEERS[peer]} | {' | '.join(entries)} |")
    return lines


def readme() -> list[str]:
    peers = ("hand_scan", "flax_nnx", "keras", "torch")
    lines = ["| beside | forward | forward and backward |", "|---|---|---|"]
    for peer in peers:
        found = [mean(ratios(home(peer), "lstm", peer, mode)) for mode in MODES]
        lines.append(f"| {PEERS[peer]} | {' | '.join(f'{value:.2f}' for value in found)} |")
    return lines


HEAD = [
    "| beside | LSTM forward | LSTM forward, backward | GRU forward | GRU forward, backward |",
    "|---|---|---|---|---|",
]


def cpu() -> list[str]:
    return HEAD + beside(("lstm", "gru"), PEERS, home)


def gpu() -> list[str]:
    return HEAD + beside(("lstm", "gru"), ("hand_scan", "flax_nnx", "torch"), lambda _: GPU)


def memory() -> list[str]:
    """Time and temporary memory of each `remat`, over those of "none"."""
    lines = [
        "| `remat` | LSTM, time | LSTM, memory | GRU, time | GRU, memory |",
        "|---|---|---|---|---|",
    ]
    for name in ("carry", "sqrt"):
        entries = []
        for cell in ("lstm", "gru"):
            mode = "forward+backward"
            plain = {r["shape"]: r for r in rows(MEMORY, cell=cell, peer="jaxrnn", mode=mode)}
            found = rows(MEMORY, cell=cell, peer=f"jaxrnn_{name}", mode=mode)
            entries.append(mean(row["ratio"] for row in found))
            sizes = [(row["temp_bytes"], plain[row["shape"]]["temp_bytes"]) for row in found]
            entries.append(mean(size / before for size, before in sizes))
        lines.append(f'| `"{name}"` | {" | ".join(f"{value:.2f}" for value in entries)} |')
    return lines


def every_cell() -> list[str]:
    """The default beside the plain scan, over all cells."""
    lines = ["| shapes | forward and backward | forward | the slowest |", "|---|---|---|---|"]
    for folder in ("every_cell", "every_cell_unseen"):
        found = json.loads((RESULTS / folder / "cells.json").read_text())["rows"]
        means = []
        every = []
        for mode in reversed(MODES):
            some = [row[mode]["ratio"][0] if row[mode]["ratio"] else 1.0 for row in found]
            means.append(mean(some))
            every += some
        shapes = ", ".join(dict.fromkeys(row["shape"] for row in found))
        lines.append(f"| {shapes} | {means[0]:.2f} | {means[1]:.2f} | {min(every):.2f} |")
    return lines


def linear() -> list[str]:
    """Each linear recurrence by ours, and how many times as long the other ways take."""
    found = json.loads((RESULTS / "bench_linear" / "linear.json").read_text())["rows"]
    lines = [
        "| what | shape | ms | forward and backward, beside it | forward, beside it |",
        "|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        groups.setdefault((row["recurrence"], row["shape"]), []).append(row)
    for (what, shape), (ours, *others) in groups.items():
        entries = [
            ", ".join(f"{row['by']} {row[mode]['ratio'][0]:.2f}" for row in others)
            for mode in reversed(MODES)
        ]
        ms = ours["forward+backward"]["ms"]
        lines.append(f"| {what} | {shape} | {ms:.3g} | {' | '.join(entries)} |")
    return lines


def agents() -> list[str]:
    """How many times as long the module that is written by hand takes."""
    found = json.loads((RESULTS / "bench_agents" / "agents.json").read_text())["rows"]
    ways = [
        f"{cell} {way}" for cell in ("gru", "lstm") for way in ("forward", "backward", "rollout")
    ]
    titles = [f"{way.split()[0].upper()} {way.split()[1]}" for way in ways]
    lines = [f"| T×B×H | {' | '.join(titles)} |", "|---|" + "---|" * len(ways)]
    ratios = {(row["shape"], row["way"]): row["ratio"][0] for row in found}
    for shape in dict.fromkeys(row["shape"] for row in found):
        B, T, _, H = shape.split("x")
        entries = " | ".join(f"{ratios[shape, way]:.2f}" for way in ways)
        lines.append(f"| {T}×{B}×{H} | {entries} |")
    return lines


def earned() -> list[str]:
    """What trained agents earn: the median of the seeds, and how many are at the optimum."""
    lines = ["| environment | length | cell | return, of each seed |", "|---|---|---|---|"]
    for folder in sorted((RESULTS / "agents").iterdir()):
        found = json.loads((folder / "summary.json").read_text())
        for row in found["rows"]:
            returns = ", ".join(f"{value:.2f}" for value in sorted(row["returns"]))
            lines.append(
                f"| `{found['environment']}` | {row['length']} | {row['cell']} | {returns} |"
            )
    return lines


def in_the_maze() -> list[str]:
    """What agents earn in the T-maze, by how they are trained."""
    folders = [RESULTS / "agents" / "t_maze", *sorted((RESULTS / "agents_online").iterdir())]
    found: dict[tuple[str, str], dict[int, str]] = {}
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text())
        for row in summary["rows"]:
            key = (row["cell"], summary.get("learner", "ppo"))
            returns = ", ".join(f"{value:.2f}" for value in sorted(row["returns"]))
            found.setdefault(key, {})[row["length"]] = returns
    forward = {cell for cell, learner in found if learner != "ppo"}
    lengths = (8, 16, 32)
    lines = [f"| cell | learned by | {' | '.join(map(str, lengths))} |", "|---|---|---|---|---|"]
    for (cell, learner), row in sorted(found.items()):
        if cell in forward:
            lines.append(f"| {cell} | {learner} | {' | '.join(row[T] for T in lengths)} |")
    return lines


def shipped() -> list[str]:
    """Microseconds of a step, bytes of the file, and the largest difference."""
    found = json.loads((RESULTS / "bench_shipped" / "shipped.json").read_text())["rows"]
    lines = [
        "| 32 units | by | microseconds a step | bytes | from `unroll` |",
        "|---|---|---|---|---|",
    ]
    for row in found:
        size = "" if row["bytes"] is None else f"{row['bytes']:,}"
        lines.append(
            f"| {row['cell'].upper()} | {row['way']} | {row['us']:g} | {size} | "
            f"{row['difference']:.0e} |"
        )
    return lines


def _online(measure: str) -> list[Row]:
    return json.loads((RESULTS / "online" / "summary.json").read_text())[measure]


def streams() -> list[str]:
    """The loss in the last quarter of each stream, over that of the best constant."""
    found = _online("learning")
    learners = list(dict.fromkeys(row["learner"] for row in found))
    lines = [
        f"| stream | lag | cell | {' | '.join(learners)} |",
        "|---|---|---|" + "---|" * len(learners),
    ]
    for stream in dict.fromkeys(row["stream"] for row in found):
        own = {row["learner"]: row for row in found if row["stream"] == stream}
        first = next(iter(own.values()))
        entries = []
        for learner in learners:
            losses = np.array(own[learner]["losses"], float)
            ends = losses[:, -(losses.shape[1] // 4) :].mean(1)
            entries.append(f"{np.median(ends):.3f} ({ends.min():.3f}-{ends.max():.3f})")
        head = f"{stream} | {first['lag']} | {first['cell']}"
        lines.append(f"| {head} | {' | '.join(entries)} |")
    return lines


def cosines() -> list[str]:
    """The median cosine to the exact gradient, by number of steps."""
    return _by_lag(_online("cosines"))


def stacks() -> list[str]:
    """The same of stacks."""
    found = json.loads((RESULTS / "online_stacks" / "summary.json").read_text())
    return _by_lag(found["stacks"])


def _by_lag(found: list[dict[str, Any]]) -> list[str]:
    lags = sorted({row["lag"] for row in found})
    lines = [f"| cell | method | {' | '.join(map(str, lags))} |", "|---|---|" + "---|" * len(lags)]
    for cell, method in dict.fromkeys((row["cell"], row["method"]) for row in found):
        own = [r["cosines"] for r in found if (r["cell"], r["method"]) == (cell, method)]
        entries = " | ".join(f"{np.median(values):.2f}" for values in own)
        lines.append(f"| {cell} | {method} | {entries} |")
    return lines


def forward_costs() -> list[str]:
    """Time and memory of RTRL beside backpropagation through 100 steps."""
    lines = [
        "| cell | H | B | μs a step | over backpropagation | MB | MB of backpropagation |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in _online("cost"):
        sizes = " | ".join(f"{row[f'{name}_bytes'] / 1e6:.2f}" for name in ("rtrl", "bptt"))
        lines.append(
            f"| {row['cell']} | {row['hidden_size']} | {row['batch']} | {row['rtrl_us']:,.0f} | "
            f"{row['ratio'][0]:.1f} | {sizes} |"
        )
    return lines


TABLES = {
    ROOT / "README.md": {"speed": readme},
    DOCS / "speed.md": {"cpu": cpu, "gpu": gpu, "memory": memory, "every_cell": every_cell},
    DOCS / "linear_recurrences.md": {"linear": linear},
    DOCS / "agents.md": {"agents": agents, "earned": earned},
    DOCS / "saving.md": {"shipped": shipped},
    DOCS / "online.md": {
        "streams": streams,
        "maze": in_the_maze,
        "cosines": cosines,
        "stacks": stacks,
        "forward_costs": forward_costs,
    },
}


def write() -> None:
    for page, tables in TABLES.items():
        text = page.read_text()
        for name, table in tables.items():
            mark = f"<!-- {name} -->\n"
            new = mark + "\n".join(table()) + "\n"
            text = re.sub(f"{mark}(\\|.*\n)*", lambda _, new=new: new, text)
        page.write_text(text)


if __name__ == "__main__":
    write()
