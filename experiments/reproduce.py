"""`reproduce`: what was published, what the committed run found, and what it finds now."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from experiments.arguments import parse
from experiments.config import HERE, Config, Launch, choose
from experiments.listing import columns
from experiments.report import prose
from experiments.report.matrix import fields
from experiments.training.folder import read_json

Row = dict[str, Any]
Wanted = str | dict[str, float]  # "solves", "fails", {above: x} or {below: x}, at a lag
Train = Callable[[str, Config, Launch], tuple[Row, Path]]
RESULTS = HERE / "results"
HEAD = ("claim", "cell", "published", "committed", "now", "verdict")


class Claim(NamedTuple):
    """What was published of some cells, with the folder of the run that was committed."""

    claim: str
    source: str
    results: str
    published: dict[str, Wanted]

    @property
    def folder(self) -> Path:
        return RESULTS / self.results

    def config(self, out: Path, seed: int | None) -> Config:
        """The committed configuration, of the cells that the claim is of."""
        config = parse(Config, ["--config", str(self.folder / "config.yaml")], "reproduce")
        cells = tuple(cell for cell in config.cells if cell in self.published)
        changed = config.seed if seed is None else seed
        return dataclasses.replace(config, cells=cells, out=str(out), seed=changed)


CLAIMS = {
    name: Claim(**entry)
    for name, entry in yaml.safe_load((HERE / "claims.yaml").read_text()).items()
}


def run(names: Sequence[str], parent: Path, seed: int | None, train: Train) -> tuple[str, str]:
    """Runs what the claims rest on in folders below `parent`, or goes on with it.

    Args:
        names: of the claims.
        parent: the folder.
        seed: the first of the seeds; None takes the committed ones.
        train: runs one configuration.

    Returns:
        "done", or "failed" where a verdict is another than that of the committed run, or
        "interrupted"; and the table.
    """
    lines: list[tuple[str, ...]] = [HEAD]
    same = True
    for name in names:
        claim = CLAIMS[name]
        summary, _ = train(name, claim.config(parent / name, seed), Launch(resume=True))
        if summary["status"] == "interrupted":
            return "interrupted", "interrupted: the same command goes on"
        rows = compare(name, summary)
        same &= all(row[-1] != "CHANGED" for row in rows)
        lines += rows
    verdict = "as it was" if same else "NOT as it was"
    text = "\n".join(["", *prose.aligned(lines), "", f"claims: {len(names)}, {verdict}"])
    return "done" if same else "failed", text


def compare(name: str, summary: Row) -> list[tuple[str, ...]]:
    """A line for each cell of a claim."""
    claim = CLAIMS[name]
    committed = read_json(claim.folder / "summary.json")
    lines: list[tuple[str, ...]] = []
    for cell, wanted in claim.published.items():
        before, now = (best(found, cell) for found in (committed, summary))
        held = [holds(wanted, row) for row in (before, now)]
        verdict = "as published" if held[1] else "otherwise"
        words = (told(wanted), found(wanted, before), found(wanted, now))
        lines.append((name, cell, *words, verdict if held[0] == held[1] else "CHANGED"))
    return lines


def committed() -> str:
    """The claims, with what the committed runs say of them."""
    lines = {}
    for name, claim in CLAIMS.items():
        summary = read_json(claim.folder / "summary.json")
        right = [holds(wanted, best(summary, cell)) for cell, wanted in claim.published.items()]
        verdict = "as published" if all(right) else "otherwise" if not any(right) else "in part"
        lines[name] = f"{claim.claim}: {verdict}"
    return columns(lines)


def check_names(names: Sequence[str]) -> None:
    """Raises UsageError where one is not known."""
    for name in names:
        choose("claim", name, CLAIMS)


def best(summary: Row, cell: str) -> Row:
    """What a cell did at its best learning rate."""
    return summary["results"][fields(summary["results"])[cell].row]


def holds(wanted: Wanted, row: Row) -> bool:
    """Whether a cell did what is said of it."""
    if isinstance(wanted, str):
        steps = row["steps_to_solve"]
        solved = sum(step is not None for step in steps) > len(steps) / 2
        return solved == (wanted == "solves")
    middle = statistics.median(_metric(wanted, row))
    return middle > wanted["above"] if "above" in wanted else middle < wanted["below"]


def told(wanted: Wanted) -> str:
    if isinstance(wanted, str):
        return wanted
    bar = f"above {wanted['above']:g}" if "above" in wanted else f"below {wanted['below']:g}"
    return f"{bar} at {wanted['at']}" if "at" in wanted else bar


def found(wanted: Wanted, row: Row) -> str:
    """What there is of a cell to hold against it."""
    if isinstance(wanted, str):
        steps = row["steps_to_solve"]
        return f"{sum(step is not None for step in steps)}/{len(steps)}"
    scores = _metric(wanted, row)
    return f"{statistics.median(scores):.3f} ({min(scores):.3f}-{max(scores):.3f})"


def _metric(wanted: dict[str, float], row: Row) -> list[float]:
    """Of each seed; a seed that was lost knows nothing."""
    scores = row["tests"][str(wanted["at"])]["metric"] if "at" in wanted else row["final_metric"]
    return [0.0 if score is None else score for score in scores]
