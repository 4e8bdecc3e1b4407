"""The tables of experiments/README.md, made from the tasks, the presets and the calibration.

`python tests/support/catalogue_tables.py` from the root of the project writes them into the
page.
"""

import base64
import json
import math
import re
import statistics

import nbformat
import yaml
from places import RESULTS, ROOT

PAGE = ROOT / "experiments" / "README.md"
CALIBRATION = RESULTS / "calibration"
FIGURE = RESULTS / "lstm_or_gru" / "figure.png"


# the manual is another one in each version of Python; the clothes are not everywhere
FIXED = {"text": ("3.23 to 3.26", "1.43 to 1.50"), "fashion_mnist": ("2.303", "0.05")}


def tasks() -> list[str]:
    """A row for each task at its default lag."""
    from experiments.tasks import TASKS

    lines = [
        "| task | asks for | lag | baseline | solved below | metric |",
        "|---|---|---|---|---|---|",
    ]
    for name, kind in sorted(TASKS.items()):
        task = kind()
        told = FIXED.get(name)
        if told is None:
            told = (f"{task.levels.baseline:.4g}", f"{task.levels.solved:.3g}")
        lines.append(
            f"| `{name}` | {task.description} | {task.lag} | "
            f"{' | '.join(told)} | {task.score.label} |"
        )
    return lines


IN_THE_RUN = ("full", "long")  # tiers that were run with three seeds


def tier(name: str) -> list[str]:
    """A row for each cell of the presets of a tier: what five seeds did."""
    bars = yaml.safe_load((ROOT / "experiments" / "tiers.yaml").read_text())[name]
    head = (
        "| preset | cell | parameters | solved | updates, median (range) | metric, "
        "median (range) | at other lags | held to |"
    )
    lines = [
        f"{head} in the run |" if name in IN_THE_RUN else head,
        "|---|---|---|---|---|---|---|---|" + "---|" * (name in IN_THE_RUN),
    ]
    for preset in bars:
        summary = json.loads((CALIBRATION / preset / "summary.json").read_text())
        results = summary["results"]
        several = len({result["learning_rate"] for result in results}) > 1
        ran = in_the_run(preset, summary, bars[preset]) if name in IN_THE_RUN else {}
        for result in results:
            line = f"| `{preset}` {row(result, bars[preset].get(result['cell']), several)}"
            last = f" {ran.get(result['cell'], 'not run')} |" if name in IN_THE_RUN else ""
            lines.append(line + last)
    return lines


def in_the_run(preset: str, calibration, bars) -> dict[str, str]:
    """What `check full` or `check long` found for each cell of a preset: of three seeds,
    how many reached the bar, or solved the task.
    """
    from experiments.training.check import compare

    place = RESULTS / f"{preset.split('_')[0]}_tier" / preset / "summary.json"
    if not place.exists():
        return {}
    summary = json.loads(place.read_text())
    cells = {}
    for line in compare(summary, bars, calibration):
        seeds, updates, verdict = line[3], line[5], line[7]
        words = [verdict, f"{seeds}/{summary['seeds']}", *([updates] if updates != "-" else [])]
        cells[line[0]] = ", ".join(word for word in words if word)
    return cells


def row(result, bar, several: bool) -> str:
    """What a cell did, at one of several learning rates or at the only one."""
    steps = [step for step in result["steps_to_solve"] if step]
    solved = f"{len(steps)}/{len(result['steps_to_solve'])}"
    updates = (
        f"{statistics.median(steps):,.0f} ({min(steps):,}-{max(steps):,})"
        if steps
        else f"none in {result['steps']:,}"
    )
    others = "; ".join(
        f"{lag}: {spread(scores['metric'])}" for lag, scores in result.get("tests", {}).items()
    )
    held = "" if bar is None else f"{bar['metric']:g}" if "metric" in bar else "solved"
    held += f" at {bar['lag']}" if bar and "lag" in bar else ""
    metric = spread(result["final_metric"])
    cell = f"{result['cell']}, {result['learning_rate']:g}" if several else result["cell"]
    return (
        f"| {cell} | {result['parameters']:,} | {solved} | {updates} | {metric} | "
        f"{others} | {held} |"
    )


def spread(scores) -> str:
    found = [score for score in scores if score is not None]
    return f"{statistics.median(found):.3f} ({min(found):.3f}-{max(found):.3f})" if found else "-"


def lags() -> list[str]:
    """How many seeds of each cell solved first_symbol, a row for each lag;
    first the cells that go least far.
    """
    runs = json.loads((RESULTS / "first_symbol_lags" / "sweep.json").read_text())["runs"]
    found = {}
    for run in runs:
        summary = json.loads(
            (RESULTS / "first_symbol_lags" / run["folder"] / "summary.json").read_text()
        )
        found[summary["lag"]] = {
            row["cell"]: sum(map(bool, row["steps_to_solve"])) for row in summary["results"]
        }
    cells = sorted(
        found[50], key=lambda cell: (sum(counts[cell] for counts in found.values()), cell)
    )
    lines = [f"| lag | {' | '.join(cells)} |", "|---" * (len(cells) + 1) + "|"]
    return lines + [
        f"| {lag} | {' | '.join(str(counts[cell]) for cell in cells)} |"
        for lag, counts in sorted(found.items())
    ]


EVERY_LAG = (50, 200)


def at_both_lags() -> dict[str, dict[int, dict]]:
    """What every cell did on first_symbol, by its lag."""
    found = {}
    for sweep in ("first_symbol_lags", "first_symbol_lags_cells"):
        for run in json.loads((RESULTS / sweep / "sweep.json").read_text())["runs"]:
            summary = json.loads((RESULTS / sweep / run["folder"] / "summary.json").read_text())
            for row in summary["results"] if summary["lag"] in EVERY_LAG else ():
                found.setdefault(row["cell"], {})[summary["lag"]] = row
    return found


def correlations() -> list[str]:
    """How what is known of every cell before it is trained goes with how often it is right at the
    end: correlations of ranks over the cells."""
    from experiments.report.statistics import rank_correlation

    found = at_both_lags()
    saved = json.loads((RESULTS / "gradients_every_cell" / "gradients.json").read_text())
    left = [saved["curves"][cell]["before"]["jacobian"][50] for cell in found]
    exponents = [saved["exponents"][cell]["before"] for cell in found]
    known = {
        "gradient left over 50 steps": left,
        "how near it is to all of it": [-abs(value) for value in left],
        "largest Lyapunov exponent": exponents,
        "how near it is to 0": [-abs(value) for value in exponents],
    }
    lines = ["| before training | right at the end, lag 50 | lag 200 |", "|---|---|---|"]
    for name, values in known.items():
        entries = []
        for lag in EVERY_LAG:
            right = [statistics.median(rows[lag]["final_metric"]) for rows in found.values()]
            entries.append("{:.2f} ({:.2f} to {:.2f})".format(*rank_correlation(values, right)))
        lines.append(f"| {name} | {' | '.join(entries)} |")
    return lines


def every_cell() -> list[str]:
    """How many of five seeds of every cell solved first_symbol, and how often they were right at
    the end; and the gradient that it began with, the largest first.
    """
    lags, found = EVERY_LAG, at_both_lags()
    curves = json.loads((RESULTS / "gradients_every_cell" / "gradients.json").read_text())["curves"]
    left = {cell: curves[cell]["before"]["jacobian"][50] for cell in found}
    lines = [
        "| cell | gradient left over 50 steps | below the bar at lag 50 | right at the end | "
        "at lag 200 | right at the end |",
        "|---|---|---|---|---|---|",
    ]
    for cell in sorted(found, key=lambda cell: (-left[cell], cell)):
        kept = round(left[cell], 1) + 0.0  # no negative zero
        columns = [
            f"{seeds(found[cell][lag]['steps_to_solve'])} | {share(found[cell][lag])}"
            for lag in lags
        ]
        lines.append(f"| `{cell}` | 10^{kept:.1f} | {' | '.join(columns)} |")
    return lines


def asked() -> list[tuple[dict, dict]]:
    """(configuration, summary) of each run of the sweep of questions, in its order."""
    folder = RESULTS / "questions"
    runs = json.loads((folder / "sweep.json").read_text())["runs"]
    places = [folder / run["folder"] for run in runs]
    return [
        (
            yaml.safe_load((place / "config.yaml").read_text()),
            json.loads((place / "summary.json").read_text()),
        )
        for place in places
    ]


def question(wanted, column) -> list[str]:
    """What each cell did, a column for each run that is wanted: the seeds that solved it, how many
    answers were right at the end, and at the farthest other lag; medians.

    Args:
        wanted: config -> whether the run belongs here.
        column: config -> what is above it.
    """
    runs = [(config, summary) for config, summary in asked() if wanted(config)]
    cells = dict.fromkeys(row["cell"] for _, summary in runs for row in summary["results"])
    lines = [
        f"| cell | {' | '.join(column(config) for config, _ in runs)} |",
        "|---" * (len(runs) + 1) + "|",
    ]
    for cell in cells:
        entries = [
            next((done(row) for row in summary["results"] if row["cell"] == cell), "")
            for _, summary in runs
        ]
        lines.append(f"| {cell} | {' | '.join(entries)} |")
    return lines


def depth() -> list[str]:
    """Products in a5: a row for each cell and number of layers, a column for each length."""
    found = {}
    for config, summary in asked():
        if group(config) == "a5":
            for row in summary["results"]:
                key = (row["cell"], config["layers"])
                row.pop("tests", None)
                found.setdefault(key, {})[config["lag"]] = done(row)
    lines = ["| cell | layers | 4 | 8 | 16 |", "|---|---|---|---|---|"]
    for (cell, layers), row in sorted(found.items()):
        if 4 in row:
            lines.append(f"| {cell} | {layers} | {' | '.join(row[lag] for lag in (4, 8, 16))} |")
    return lines


def done(row) -> str:
    text = f"{seeds(row['steps_to_solve']).split(',')[0]}, {statistics.median(known(row)):.2f}"
    tests = row.get("tests", {})
    if tests:
        far = max(tests, key=int)
        text += f"; {statistics.median(known(tests[far], 'metric')):.2f} at {far}"
    return text


def known(row, name="final_metric") -> list[float]:
    """A seed that was lost is never right."""
    return [0.0 if value is None else value for value in row[name]]


def group(config) -> str:
    return config["task_options"].get("group", "")


def is_a_state(config) -> bool:
    return config["task"] == "parity" or (
        config["task"] == "word_problem" and (config["lag"], config["layers"]) == (16, 1)
    )


def is_a_memory(config) -> bool:
    return config["task"] in ("flip_flop_language", "repeat_previous", "count_recall", "copying")


QUESTIONS = {
    "states": (is_a_state, lambda c: f"{c['task']} {group(c)}".strip()),
    "memories": (is_a_memory, lambda c: f"{c['task']}, {c['lag']}"),
    "selective": (
        lambda c: c["task"] == "selective_copying",
        lambda c: f"{c['layers']} layers".replace("1 layers", "1 layer"),
    ),
    "recall": (
        lambda c: c["task"] == "associative_recall",
        lambda c: f"{c['hidden_size']} units",
    ),
    "arithmetic": (
        lambda c: c["task"] == "modular_arithmetic",
        lambda c: f"{c['steps']:,} updates",
    ),
}


def seeds(steps) -> str:
    """How many seeds solved a task, and after how many updates."""
    some = [step for step in steps if step]
    return f"{len(some)}/{len(steps)}" + (f", {statistics.median(some):,.0f}" if some else "")


def share(row) -> str:
    """How often the seeds were right after the last update: median and range."""
    right = sorted(row["final_metric"])
    low = right[0]
    high = right[-1]
    middle = statistics.median(right)
    return f"{middle:.3f}" if low == high else f"{middle:.3f} ({low:.3f}-{high:.3f})"


FAR = ("adding_1000", "adding_2000", "adding_10000", "first_symbol_1000")


def far() -> list[str]:
    """A row for each cell across 1,000 steps and more, the fastest first."""
    lines = [
        "| preset | cell | parameters | below the bar | updates until then, of each seed | "
        "evaluation loss at the end, over the bar |",
        "|---|---|---|---|---|---|",
    ]
    for name in FAR:
        summary = json.loads((RESULTS / name / "summary.json").read_text())
        for found in sorted(
            summary["results"],
            key=lambda found: sum(step or 10**9 for step in found["steps_to_solve"]),
        ):
            steps = sorted(found["steps_to_solve"], key=lambda step: step or 10**9)
            words = ", ".join(f"{step:,}" for step in steps if step)
            words += (
                ("; " if words else "") + f"{steps.count(None)} not in {found['steps']:,}"
                if None in steps
                else ""
            )
            solved = f"{len(steps) - steps.count(None)}/{len(steps)}"
            low, *_, high = sorted(loss / summary["solved_below"] for loss in found["final_loss"])
            lines.append(
                f"| `{name}` | {found['cell']} | {found['parameters']:,} | {solved} | {words} | "
                f"{low:.2g}-{high:.2g} |"
            )
    return lines


# what was published of the runs of the sweep `papers`, by the cell
PUBLISHED = {
    "indrnn_clipped": "adding at 500 in about 1,500 updates (a figure of its port to TensorFlow)",
    "cornn_adding": "adding is solved, at 5,000 too; its code allows 60,000 updates",
    "exprnn": "copying across 1,000 and 2,000 is solved",
    "unicornn": "of permuted MNIST 63.7 % after one pass, 1,900 updates, and 98.4 % in the end",
}


def papers() -> list[str]:
    """A row for each run at the settings of a paper."""
    lines = [
        "| cell | task | units, layers | batch | rate | published | solved | loss / constant's | "
        "right |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for place in sorted((RESULTS / "papers").glob("task=*")):
        config = yaml.safe_load((place / "config.yaml").read_text())
        summary = json.loads((place / "summary.json").read_text())
        (found,) = summary["results"]
        low, *_, high = sorted(
            [*(loss / summary["evaluation_baseline"] for loss in found["final_loss"])] * 2
        )
        spread = f"{low:.2f}" if low == high else f"{low:.2f}-{high:.2f}"
        permuted = ", permuted" if config["task_options"].get("permuted") else ""
        lines.append(
            f"| `{found['cell']}` | `{config['task']}` {config['lag']:,}{permuted} | "
            f"{config['hidden_size']}, {config['layers']} | {config['batch_size']} | "
            f"{found['learning_rate']:g} | {PUBLISHED[found['cell']]} | "
            f"{seeds(found['steps_to_solve'])} in {found['steps']:,} | {spread} | {share(found)} |"
        )
    return lines


def reproduced() -> list[str]:
    """What `reproduce --all` found: a row for each cell of each claim."""
    from experiments import reproduce

    lines = [
        "| claim | cell | published | committed | now | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for name in reproduce.CLAIMS:
        place = RESULTS / "reproduce" / name / "summary.json"
        if not place.exists():
            lines.append(f"| `{name}` | | | | not run yet | |")
            continue
        found = reproduce.compare(name, json.loads(place.read_text()))
        lines += [f"| `{row[0]}` | {' | '.join(row[1:])} |" for row in found]
    return lines


def language_model() -> list[str]:
    """Bits per character of each cell on the evaluation, and of what does not learn."""
    summary = json.loads((RESULTS / "language_model" / "summary.json").read_text())

    def bits(losses) -> str:
        low, *_, high = found = sorted(loss / math.log(2) for loss in losses)
        return f"{statistics.median(found):.2f} ({low:.2f}-{high:.2f})"

    lines = [
        "| model | parameters | learning rate | bits per character | characters right |",
        "|---|---|---|---|---|",
        f"| frequencies | | | {summary['evaluation_baseline'] / math.log(2):.2f} | |",
        "| counts of six characters, on the windows of the checks too | | | "
        f"{summary['solved_below'] / math.log(2):.2f} | |",
    ]
    return lines + [
        f"| `{row['cell']}` | {row['parameters']:,} | {row['learning_rate']:g} | "
        f"{bits(row['final_loss'])} | {share(row)} |"
        for row in summary["results"]
    ]


def linear() -> list[str]:
    """What the seeds of each cell solved of each task, and how often they were right where
    none did.
    """
    runs = json.loads((RESULTS / "linear" / "sweep.json").read_text())["runs"]
    summaries = [
        json.loads((RESULTS / "linear" / run["folder"] / "summary.json").read_text())
        for run in runs
    ]
    order = [summary["task"] for summary in summaries]
    summaries.sort(key=lambda summary: (order.index(summary["task"]), summary["lag"]))
    heads = [f"`{summary['task']}` {summary['lag']}" for summary in summaries]
    lines = [f"| cell | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for rows in zip(*(summary["results"] for summary in summaries), strict=True):
        (cell,) = {row["cell"] for row in rows}
        told = [
            seeds(row["steps_to_solve"])
            if any(row["steps_to_solve"])
            else f"0, right {statistics.median(row['final_metric']):.2f}"
            for row in rows
        ]
        lines.append(f"| `{cell}` | {' | '.join(told)} |")
    return lines


def gpu() -> list[str]:
    """A row for each preset of the tier for a GPU: what it should show."""
    lines = [
        "| preset | lag | units | layers | batch | at most | cells | what it should show |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in yaml.safe_load((ROOT / "experiments" / "tiers.yaml").read_text())["gpu"]:
        preset = yaml.safe_load(
            (ROOT / "experiments" / "presets" / "gpu" / f"{name}.yaml").read_text()
        )
        sizes = (
            f"{preset.get(key, 1):,}"
            for key in ("lag", "hidden_size", "layers", "batch_size", "steps")
        )
        lines.append(
            f"| `{name}` | {' | '.join(sizes)} | {', '.join(preset['cells'])} | "
            f"{preset['description']} |"
        )
    return lines


def lstm_or_gru() -> tuple[list[str], bytes]:
    """The table and the figure of the notebook that compares them."""
    cells = nbformat.read(ROOT / "notebooks" / "03_lstm_or_gru.ipynb", as_version=4).cells
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    (table,) = (outputs["text/markdown"] for outputs in data if "text/markdown" in outputs)
    (figure,) = (outputs["image/png"] for outputs in data if "image/png" in outputs)
    return table.splitlines(), base64.b64decode(figure)


def write() -> None:
    """Puts each table between its marks, and the figure where the page has it."""
    comparison, figure = lstm_or_gru()
    FIGURE.write_bytes(figure)
    text = PAGE.read_text()
    tables = {
        "tasks": tasks(),
        "fast": tier("fast"),
        "full": tier("full"),
        "long": tier("long"),
        "lags": lags(),
        "every_cell": every_cell(),
        "correlations": correlations(),
        "depth": depth(),
        **{name: question(*how) for name, how in QUESTIONS.items()},
        "far": far(),
        "papers": papers(),
        "reproduced": reproduced(),
        "linear": linear(),
        "language_model": language_model(),
        "gpu": gpu(),
        "lstm_or_gru": comparison,
    }
    for name, lines in tables.items():
        mark = f"<!-- {name} -->\n"
        text = re.sub(f"{mark}(\\|.*\n)*", lambda _, m=mark, t=lines: m + "\n".join(t) + "\n", text)
    PAGE.write_text(text)


if __name__ == "__main__":
    write()
