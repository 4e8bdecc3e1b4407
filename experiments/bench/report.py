"""The words and tables that a benchmark ends with, from bench.json alone."""

from typing import Any

from experiments.bench import tables
from experiments.bench.peers import MODES, OURS, PEERS

FAMILIES = {
    "float32": ("float32",),
    "strict float32": ("strict",),
    "16 bits": ("bfloat16", "float16"),
}


def report(results: dict[str, Any]) -> str:
    """Everything, in lines."""
    rows = results["rows"]
    lines = heading(results)
    for family, variants in FAMILIES.items():
        for mode in MODES:
            mine = [row for row in rows if row["mode"] == mode and row["variant"] in variants]
            lines += part(f"{mode}, {family}", tables.times(mine) if mine else [])
            title = f"{mode}, {family}, batch split over two CPU devices: time / time of jaxrnn x2"
            lines += part(title, tables.split_times(mine))
    lines += ["", *tables.costs(rows)]
    long_rows = results.get("long_rows")
    resident_rows = results.get("resident_rows")
    title = (
        "temporary memory of the gradients of a long sequence (compiled, not run), "
        "and its part of flax_nnx's"
    )
    lines += part(title, tables.long_memory(long_rows) if long_rows else [])
    title = (
        "resident memory: growth of a process of its own while it runs forward+backward, "
        "and its part of jaxrnn's"
    )
    lines += part(title, tables.resident_memory(resident_rows) if resident_rows else [])
    return "\n".join([*lines, "", *remarks(results)])


def part(title: str, lines: list[str]) -> list[str]:
    return ["", title, *lines] if lines else []


def heading(results: dict[str, Any]) -> list[str]:
    """The machine, and what the numbers mean."""
    env = results["env"]
    rates = results["matmul_gflops"]
    libraries = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    lines = [
        f"{env['device']} ({env['cpus']} CPUs), jax {env['jax']}; {libraries}",
        "matmul in this run: "
        + ", ".join(f"{variant} {rate:,.0f} GFLOP/s" for variant, rate in rates.items()),
        (
            f"load average at the start: {results['load']:g}; "
            "what else runs disturbs the times, torch's threads above all."
        ),
        (
            "Numbers under a peer: its time / the time of jaxrnn, the median over the rounds; "
            "above 1, jaxrnn is faster."
        ),
        "limit: what the matrix products would take at the rate above, over the time of jaxrnn.",
    ]
    if aside := fewer(results["rows"]):
        lines.append(f"In every third round only: {', '.join(aside)}.")
    if any(row["cell"] == "gru" for row in results["rows"]):
        lines.append("The GRU's b_hn is zero for all, since flax.nnx.GRUCell has none.")
    return lines


def fewer(rows: list[tables.Row]) -> list[str]:
    """Who ran in fewer rounds than jaxrnn."""
    ours = {tables.key(row): row["rounds"] for row in rows if tables.label(row) == OURS}
    found = [tables.label(row) for row in rows if row["rounds"] < ours.get(tables.key(row), 0)]
    return list(dict.fromkeys(found))


def remarks(results: dict[str, Any]) -> list[str]:
    """What was not timed, and why."""
    lines = [
        f"missing: {name} ({module} is not installed)."
        for name, module in results["missing"].items()
    ]
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for p in results["problems"]:
        variant = f" {p['variant']}" if p["variant"] != "float32" else ""
        where = f"{p['cell']} {p['shape']}{variant}"
        grouped.setdefault((p["status"], tables.label(p), p["message"]), []).append(where)
    for (status, peer, message), where in grouped.items():
        lines.append(
            f"{status}: {peer}: {message} "
            f"({where[0]}{f', and {len(where) - 1} more' * (len(where) > 1)})."
        )
    measured = {row["peer"] for row in results["rows"]}
    lines += [
        f"{name} is timed from T = {PEERS[name].least_steps} on."
        for name in measured
        if PEERS[name].least_steps
    ]
    if not results.get("memory", True):
        lines.append(
            "left out: resident memory and that of long sequences, "
            "as --quick or --memory false says."
        )
    lines += [f"left out, no time was left: {job}." for job in results["left_out"]]
    if results["status"] == "interrupted":
        lines.append("Interrupted: these are the results so far.")
    return lines
