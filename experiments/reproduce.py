"""`reproduce`: what was published, what the committed run found, and what it finds now."""

import dataclasses
import math
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
# "solves", "fails", {above: x} or {below: x} with or without a lag `at`, {sooner_than: cell}
Wanted = str | dict[str, Any]
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
        wanted = [one for one in self.published.values() if isinstance(one, dict)]
        beside = [one["sooner_than"] for one in wanted if "sooner_than" in one]
        cells = tuple(cell for cell in config.cells if cell in (*self.published, *beside))
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
        place = parent / (name if seed is None else f"{name}-seed-{seed}")
        summary, _ = train(name, claim.config(place, seed), Launch(resume=True))
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
        before = found(wanted, committed, cell)
        now = found(wanted, summary, cell)
        verdict = "as published" if now.holds else "otherwise"
        verdict = verdict if now.holds == before.holds else "CHANGED"
        lines.append((name, cell, told(wanted), before.words, now.words, verdict))
    return lines


def committed() -> str:
    """The claims, with what the committed runs say of them."""
    lines = {}
    for name, claim in CLAIMS.items():
        summary = read_json(claim.folder / "summary.json")
        right = [found(wanted, summary, cell).holds for cell, wanted in claim.published.items()]
        verdict = "as published" if all(right) else "otherwise" if not any(right) else "in part"
        lines[name] = f"{claim.claim}: {verdict}"
    return columns(lines)


def check_names(names: Sequence[str]) -> None:
    """Raises UsageError where one is not known."""
    for name in names:
        choose("claim", name, CLAIMS)


class Found(NamedTuple):
    """What a run says of a cell."""

    words: str
    holds: bool | None  # whether it is what was published; None where the run ended before


def found(wanted: Wanted, summary: Row, cell: str) -> Found:
    """What there is of a cell, at its best learning rate, to hold against what was published."""
    rows = fields(summary["results"])
    if cell not in rows or not summary["results"][rows[cell].row]["finished"]:
        return Found("ended before", None)
    row = summary["results"][rows[cell].row]
    if isinstance(wanted, str):
        steps = row["steps_to_solve"]
        solved = sum(step is not None for step in steps)
        return Found(f"{solved}/{len(steps)}", (solved > len(steps) / 2) == (wanted == "solves"))
    if "sooner_than" in wanted:
        other = summary["results"][rows[wanted["sooner_than"]].row]
        first, second = (_median_updates(one) for one in (row, other))
        return Found(f"{first:,.0f} and {second:,.0f}", first < second)
    scores = _metric(wanted, row)
    middle = statistics.median(scores)
    holds = middle > wanted["above"] if "above" in wanted else middle < wanted["below"]
    return Found(f"{middle:.3f} ({min(scores):.3f}-{max(scores):.3f})", holds)


def told(wanted: Wanted) -> str:
    if isinstance(wanted, str):
        return wanted
    if "sooner_than" in wanted:
        return f"sooner than {wanted['sooner_than']}"
    bar = f"above {wanted['above']:g}" if "above" in wanted else f"below {wanted['below']:g}"
    return f"{bar} at {wanted['at']}" if "at" in wanted else bar


def _median_updates(row: Row) -> float:
    """Infinite where most seeds never solved it."""
    return statistics.median(math.inf if k is None else k for k in row["steps_to_solve"])


def _metric(wanted: dict[str, Any], row: Row) -> list[float]:
    """Of each seed; a seed that was lost knows nothing."""
    scores = row["tests"][str(wanted["at"])]["metric"] if "at" in wanted else row["final_metric"]
    return [0.0 if score is None else score for score in scores]
