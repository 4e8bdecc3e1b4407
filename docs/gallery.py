"""The gallery of cells: equations from their docstrings, numbers from committed measurements."""

import html
import inspect
import json
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import yaml

import jaxrnn

HERE = pathlib.Path(__file__).parent
RESULTS = HERE.parent / "experiments" / "results"
SIZE = 128  # inputs and units of the cells whose parameters are counted
WORDS = {
    "sigmoid": r"\sigma",
    "log_sigmoid": r"\log \sigma",
    "tanh": r"\tanh",
    "relu": r"\operatorname{relu}",
    "exp": r"\exp",
    "sign": r"\operatorname{sign}",
    "N": r"\operatorname{N}",
    "dt": r"\Delta t",
    "epsilon": r"\epsilon",
    "gamma": r"\gamma",
    "theta": r"\theta",
    "lambda": r"\lambda",
    "nu": r"\nu",
    "softplus": r"\operatorname{softplus}",
    "silu": r"\operatorname{silu}",
    "sqrt": r"\operatorname{sqrt}",
    "Re": r"\operatorname{Re}",
    "max": r"\max",
    "where": r"\text{ where }",
    "else": r"\text{ else }",
    "alpha": r"\alpha",
    "xi": r"\xi",
    "beta": r"\beta",
}
NUMBERS = {"dt", "epsilon", "gamma", "alpha"}  # what multiplies as one number
TOKEN = re.compile(r"[A-Za-z]+(?:_[A-Za-z]+)?'?|\d+|\^T|\S")


class Entry(NamedTuple):
    group: str
    cell: str  # a class of jaxrnn.cells
    use: str
    name: str  # in the experiments


def entries() -> list[Entry]:
    groups = yaml.safe_load((HERE / "gallery.yaml").read_text())
    return [
        Entry(group, cell, **words)
        for group, some in groups.items()
        for cell, words in some.items()
    ]


def equations(cell: str) -> list[str]:
    """The lines of the docstring that are equations."""
    lines = inspect.getdoc(getattr(jaxrnn.cells, cell)).split("Args:")[0].splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


def latex(line: str, convolution: bool = False) -> str:
    """An equation of a docstring as LaTeX."""
    parts = []
    before = ""
    for token in TOKEN.findall(line):
        if token == "*":
            one = before.strip("'") in NUMBERS
            parts.append(r"\ast" if convolution else r"\," if one else r"\odot")
        else:
            parts.append(symbol(token))
        before = token
    return " ".join(parts)


def formula(line: str, convolution: bool) -> str:
    """An equation of a docstring as MathML, which browsers draw without a script."""
    from latex2mathml import converter  # which the tests of the rest do without

    return converter.convert(latex(line, convolution), display="block")


def symbol(token: str) -> str:
    if token == "^T":
        return r"^{\top}"
    if token == "|":
        return r"\vert"
    if not token[0].isalpha():
        return token
    if token in WORDS:
        return WORDS[token]
    name, _, below = token.strip("'").partition("_")
    name = WORDS.get(name, name if len(name) == 1 else rf"\mathrm{{{name}}}")
    prime = "'" * token.count("'")
    return f"{name}_{{{below}}}{prime}" if below else f"{name}{prime}"


def source(cell: str) -> str:
    """The first sentence of the source that the docstring names."""
    text = inspect.getdoc(getattr(jaxrnn.cells, cell)).split("Source: ")[1]
    text = " ".join(re.split(r"\n\n|Differs", text)[0].replace("`", "").split())
    text = re.split(r"(?<!al)\. (?=[A-Z])", text)[0].rstrip(".;,")
    return re.sub(r"arXiv:([\d.]+\d)", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)


def parameters(cell: str) -> int:
    """How many a cell of SIZE has, convolutions of 3 x 3 over two axes."""
    options: dict[str, Any] = {"proj_size": SIZE // 2} if cell == "LSTMPCell" else {}
    options |= {"kernel_size": 3, "dims": 2} if cell.startswith("Conv") else {}
    options |= {"memory_size": SIZE, "theta": SIZE} if cell == "LMUCell" else {}
    made = getattr(jaxrnn.cells, cell)(SIZE, **options)
    shapes = jax.eval_shape(lambda key: made.init(key, SIZE), jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


# which the results have beside the library's cells, of which two have the same names since
STRANGERS = {"attending", "block_gru", "deep_transition", "low_rank"}


def times() -> dict[str, float]:
    """By name: the time of a step, forward and backward, over the LSTM's: the geometric mean of
    the shapes at which it was measured."""
    rows = json.loads((RESULTS / "every_cell" / "cells.json").read_text())["rows"]
    found = {(row["cell"], row["shape"]): row["forward+backward"]["ms"] for row in rows}
    ratios: dict[str, list[float]] = {"lstm": [1.0]}
    for (name, shape), ms in found.items():
        if ms is not None and name not in STRANGERS:
            ratios.setdefault(name, []).append(ms / found["lstm_fb0", shape])
    return {name: math.prod(some) ** (1 / len(some)) for name, some in ratios.items()}


def curves() -> dict[str, list[float]]:
    """By name: log10 of the norm of the derivative of a state by that so many steps before."""
    file = RESULTS / "gradients_every_cell" / "gradients.json"
    found = json.loads(file.read_text())["curves"]
    return {name: phases["before"]["jacobian"] for name, phases in found.items()}


def picture(values: list[float], cell: str) -> str:
    """A small picture of a gradient against the lag: 0 to 100 steps, 1 down to 10^-8."""
    low, high = (-8.0, 2.0)
    wide, tall = (120.0, 60.0)
    last = len(values) - 1
    points = [
        (wide * lag / last, tall * (high - min(max(value, low), high)) / (high - low))
        for lag, value in enumerate(-99.0 if value is None else value for value in values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    level = tall * high / (high - low)
    half = values[last // 2]
    said = f"{cell}: of the gradient 10 to the {half:.1f} is left after {last // 2} steps"
    return (
        f'<svg class="curve" viewBox="-2 -2 {wide + 4:g} {tall + 4:g}" role="img" '
        f'aria-label="{html.escape(said)}"><title>{html.escape(said)}</title>'
        f'<path d="M0,{level:.1f}H{wide:g}" class="one"/><polyline points="{line}"/></svg>'
    )


def lines() -> Iterator[str]:
    """The reStructuredText of the gallery."""
    pace = times()
    left = curves()
    group = ""
    for entry in entries():
        if entry.group != group:
            group = entry.group
            yield from ("", f".. rubric:: {group.capitalize()}", "   :heading-level: 2", "")
        ratio = f"{pace[entry.name]:.2f} of the LSTM's time" if entry.name in pace else ""
        facts = [f"{parameters(entry.cell):,} parameters", ratio, source(entry.cell)]
        convolution = entry.cell.startswith("Conv")
        maths = "".join(formula(line, convolution) for line in equations(entry.cell))
        yield from (
            "",
            ".. container:: gallery-cell",
            "",
            f"   .. rubric:: `{entry.cell} <api/cells.html#jaxrnn.cells.{entry.cell}>`__",
            "      :heading-level: 3",
            "",
            f"   {entry.use.replace('`', '``')}",
            "",
        )
        svg = picture(left[entry.name], entry.cell) if entry.name in left else ""
        yield from ("   .. raw:: html", "", f"      {svg}<div class='equations'>{maths}</div>", "")
        yield from ("   .. container:: facts", "", f"      {' · '.join(filter(None, facts))}", "")
