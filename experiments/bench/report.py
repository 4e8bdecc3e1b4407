"""The words and tables that a benchmark ends with, from bench.json alone."""

from typing import Any

from experiments.bench.candidate import BOTH, MODES
from experiments.bench.peers import OURS, PEERS
from experiments.bench.stats import geometric_mean
from experiments.report import aligned

FAMILIES = {"float32": ("float32",), "strict float32": ("strict",), "16 bits": ("bfloat16", "float16")}
Row = dict[str, Any]


def report(results: dict[str, Any]) -> str:
    """Everything, in lines."""
    env, rates = results["env"], results["matmul_gflops"]
    libraries = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    lines = [
        f"{env['device']} ({env['cpus']} CPUs), jax {env['jax']}; {libraries}",
        "matmul in this run: " + ", ".join(f"{variant} {rate:,.0f} GFLOP/s" for variant, rate in rates.items()),
        f"load average at the start: {results['load']:g}; what else runs disturbs the times, torch's threads above all.",
        "Numbers under a peer: its time / the time of jaxrnn, the median over the rounds; above 1, jaxrnn is faster.",
        "limit: what the matrix products would take at the rate above, over the time of jaxrnn.",
    ]
    if any(row["cell"] == "gru" for row in results["rows"]):
        lines.append("The GRU's b_hn is zero for all, since flax.nnx.GRUCell has none.")
    for family, variants in FAMILIES.items():
        for mode in MODES:
            rows = [row for row in results["rows"] if row["mode"] == mode and row["variant"] in variants]
            if rows:
                lines += ["", f"{mode}, {family}", *times(rows)]
    lines += ["", *costs(results["rows"]), "", *remarks(results)]
    return "\n".join(lines)


def label(row: Row) -> str:
    return f"{row['peer']} fp16" if row["variant"] == "float16" else row["peer"]


def columns(rows: list[Row]) -> list[str]:
    """The labels of the peers in the order of `PEERS`, without ours."""
    order = list(PEERS)
    labels = {label(row): order.index(row["peer"]) for row in rows if row["peer"] != OURS}
    return sorted(labels, key=lambda name: labels[name])


def times(rows: list[Row]) -> list[str]:
    """A line for each shape and cell, and the geometric means."""
    peers = columns(rows)
    cells: list[tuple[str, ...]] = [("shape", "cell", "jaxrnn ms", "us/step", "limit", "rounds", *peers)]
    jobs = list(dict.fromkeys((row["shape"], row["cell"]) for row in rows))
    for shape, cell in jobs:
        mine = {label(row): row for row in rows if (row["shape"], row["cell"]) == (shape, cell)}
        ours = mine.get(OURS)
        head = ("-",) * 4 if ours is None else _head(ours)
        cells.append((shape, cell, *head, *(_ratio(mine.get(name)) for name in peers)))
    for cell in dict.fromkeys(cell for _, cell in jobs):
        means = (mean([row for row in rows if row["cell"] == cell and label(row) == name]) for name in peers)
        cells.append(("geometric mean", cell, *("",) * 4, *means))
    return aligned(cells)


def _head(row: Row) -> tuple[str, ...]:
    return f"{row['ms']:.3g}", f"{row['us_per_step']:.3g}", f"{row['of_limit']:.0%}", str(row["rounds"])


def _ratio(row: Row | None) -> str:
    return "-" if row is None or row["ratio"] is None else f"{row['ratio']:.2f}"


def mean(rows: list[Row]) -> str:
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    return f"{geometric_mean(ratios):.2f}" if ratios else "-"


def costs(rows: list[Row]) -> list[str]:
    """Compile time and temporary memory of forward and backward against ours, as geometric means over all shapes and cells."""
    ours = {_key(row): row for row in rows if row["peer"] == OURS}
    lines: list[tuple[str, ...]] = [("forward+backward, geometric mean of peer / jaxrnn", "compile time", "temporary memory")]
    for name in columns(rows):
        mine = [(row, ours.get(_key(row))) for row in rows if label(row) == name and row["mode"] == BOTH]
        values = ([a[k] / b[k] for a, b in mine if b and a[k] and b[k]] for k in ("compile_seconds", "temp_bytes"))
        lines.append((name, *(f"{geometric_mean(v):.2f}" if v else "-" for v in values)))
    return aligned(lines)


def _key(row: Row) -> tuple[str, ...]:
    return row["cell"], row["shape"], row["mode"], row["variant"]


def remarks(results: dict[str, Any]) -> list[str]:
    """What was not timed, and why."""
    lines = [f"missing: {name} ({module} is not installed)." for name, module in results["missing"].items()]
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for p in results["problems"]:
        where = f"{p['cell']} {p['shape']}" + (f" {p['variant']}" if p["variant"] != "float32" else "")
        grouped.setdefault((p["status"], p["peer"], p["message"]), []).append(where)
    for (status, peer, message), where in grouped.items():
        lines.append(f"{status}: {peer}: {message} ({where[0]}{f', and {len(where) - 1} more' * (len(where) > 1)}).")
    lines += [f"left out, no time was left: {job}." for job in results["left_out"]]
    return lines + ["Interrupted: these are the results so far."] * (results["status"] == "interrupted")
