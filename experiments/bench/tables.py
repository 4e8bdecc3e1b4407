"""The tables of a benchmark, from the rows of bench.json alone."""

from collections.abc import Callable, Sequence
from typing import Any

from experiments.bench.peers import BOTH, OURS, PEERS
from experiments.bench.stats import geometric_mean
from experiments.report.prose import aligned

Row = dict[str, Any]
Cells = tuple[str, ...]


def label(row: Row) -> str:
    """The peer, with " fp16", and " x2" where its batch is split over two devices."""
    return (
        row["peer"] + " fp16" * (row["variant"] == "float16") + " x2" * (row.get("devices", 1) == 2)
    )


def columns(rows: Sequence[Row]) -> list[str]:
    """The labels in the order of `PEERS`, without ours."""
    order = list(PEERS)
    labels = {
        label(row): order.index(row["peer"])
        for row in rows
        if label(row) not in (OURS, f"{OURS} x2")
    }
    return sorted(labels, key=lambda name: labels[name])


def times(rows: Sequence[Row]) -> list[str]:
    """On one device: a line for each shape and cell, and the geometric means of the ratios."""
    rows = [row for row in rows if row.get("devices", 1) == 1]

    def head(ours: Row | None) -> Cells:
        if ours is None:
            return ("-",) * 4
        return (
            f"{ours['ms']:.3g}",
            f"{ours['us_per_step']:.3g}",
            f"{ours['of_limit']:.0%}",
            str(ours["rounds"]),
        )

    return ratios(
        rows, columns(rows), "ratio", ("jaxrnn ms", "us/step", "limit", "rounds"), OURS, head
    )


def split_times(rows: Sequence[Row]) -> list[str]:
    """Against jaxrnn with its batch split over two devices: itself on one device,
    what else is split, and torch.
    """
    rows = [row for row in rows if row.get("split_ratio") is not None]

    def head(ours: Row | None) -> Cells:
        return ("-", "-") if ours is None else (f"{ours['ms']:.3g}", f"{ours['of_limit']:.0%}")

    names = split_columns(rows)
    return (
        ratios(rows, names, "split_ratio", ("jaxrnn x2 ms", "limit"), f"{OURS} x2", head)
        if rows
        else []
    )


def split_columns(rows: Sequence[Row]) -> list[str]:
    """What is compared with jaxrnn on two devices."""
    return [OURS, *(name for name in columns(rows) if name == "torch" or name.endswith(" x2"))]


def ratios(
    rows: Sequence[Row],
    names: list[str],
    kind: str,
    titles: Cells,
    base: str,
    head: Callable[[Row | None], Cells],
) -> list[str]:
    """A table of `kind` for the peers of `names`, after the numbers of `base` that `head` makes."""
    cells: list[Cells] = [("shape", "cell", *titles, *names)]
    jobs = list(dict.fromkeys((row["shape"], row["cell"]) for row in rows))
    for shape, cell in jobs:
        mine = {label(row): row for row in rows if (row["shape"], row["cell"]) == (shape, cell)}
        cells.append(
            (
                shape,
                cell,
                *head(mine.get(base)),
                *(_number(mine.get(name, {}).get(kind)) for name in names),
            )
        )
    for cell in dict.fromkeys(cell for _, cell in jobs):
        means = (
            mean([row[kind] for row in rows if row["cell"] == cell and label(row) == name])
            for name in names
        )
        cells.append(("geometric mean", cell, *("",) * len(titles), *means))
    return aligned(cells)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{geometric_mean(known):.2f}" if known else "-"


def costs(rows: Sequence[Row]) -> list[str]:
    """Compile time and temporary memory of forward and backward against ours,
    as geometric means over all shapes and cells.
    """
    ours = {key(row): row for row in rows if label(row) == OURS}
    lines: list[Cells] = [
        ("forward+backward, geometric mean of peer / jaxrnn", "compile time", "temporary memory")
    ]
    for name in columns(rows):
        mine = [
            (row, ours.get(key(row))) for row in rows if label(row) == name and row["mode"] == BOTH
        ]
        values = (
            [a[k] / b[k] for a, b in mine if b and a[k] and b[k]]
            for k in ("compile_seconds", "temp_bytes")
        )
        lines.append((name, *(mean(list(v)) for v in values)))
    return aligned(lines)


def key(row: Row) -> Cells:
    """What is timed in the same rounds."""
    return row["cell"], row["shape"], row["mode"], row["variant"]


def long_memory(rows: Sequence[Row]) -> list[str]:
    """Megabytes that the gradients of a loss need for a very long sequence,
    and the part of flax.nnx.RNN's.
    """
    names = list(dict.fromkeys(row["peer"] for row in rows))
    lines: list[Cells] = [("shape", "cell", "loss", *names)]
    for shape, cell, loss in dict.fromkeys(
        (row["shape"], row["cell"], row["loss"]) for row in rows
    ):
        mine = {
            row["peer"]: row["temp_bytes"]
            for row in rows
            if (row["shape"], row["cell"], row["loss"]) == (shape, cell, loss)
        }
        lines.append(
            (
                shape,
                cell,
                loss,
                *(megabytes(mine.get(name), mine.get("flax_nnx")) for name in names),
            )
        )
    return aligned(lines)


def resident_memory(rows: Sequence[Row]) -> list[str]:
    """By how many megabytes the process of each peer grows,
    and how often jaxrnn's growth that is.
    """
    kinds = list(dict.fromkeys((row["cell"], row["shape"]) for row in rows))
    sizes = {(row["peer"], row["cell"], row["shape"]): row["resident_bytes"] for row in rows}
    lines: list[Cells] = [("peer", *(f"{cell} {shape}" for cell, shape in kinds))]
    for name in dict.fromkeys(row["peer"] for row in rows):
        lines.append(
            (
                name,
                *(megabytes(sizes.get((name, *kind)), sizes.get((OURS, *kind))) for kind in kinds),
            )
        )
    return aligned(lines)


def megabytes(size: int | None, base: int | None) -> str:
    """In MB, and as a part of `base` where there is one."""
    if size is None:
        return "-"
    return f"{size / 1e6:.3g} MB" + (f" ({size / base:.3g})" if base else "")
