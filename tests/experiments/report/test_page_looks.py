"""The page of a report in colours that everybody can tell apart, and in a browser: drawn, and
nowhere wider than the screen.
"""

import functools
import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import slow
import yaml
from datasets import needs
from pages import GRU, ROW, Page, make, make_sweep
from places import RESULTS

from experiments.cells import CELLS
from experiments.report import figures, page, page_figures, saved
from experiments.tasks import TASKS
from experiments.tasks import make as make_task


def page_colours(scheme):
    css = Path(page.__file__).with_name("page.css").read_text()
    return dict(re.findall(r"--(\w+): (#\w+);", css.split("prefers-color-scheme")[scheme]))


def linear(colour):
    parts = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("scheme", [0, 1])  # light, dark
def test_text_and_lines_stand_out_from_the_page(scheme):
    colours = page_colours(scheme)
    for name, colour in colours.items():
        low, high = sorted(float(linear(c) @ np.array(XYZ[1])) for c in (colour, colours["page"]))
        if name not in ("page", "raised", "line", "full"):
            assert (high + 0.05) / (low + 0.05) >= (
                4.5 if name in ("ink", "soft", "link") else 3
            ), name


@pytest.mark.parametrize("scheme", [0, 1])
def test_the_fields_of_the_matrix_can_be_read_at_every_share_and_told_apart(scheme):
    colours = page_colours(scheme)
    bright = {name: float(linear(c) @ np.array(XYZ[1])) for name, c in colours.items()}
    for field in ("full", "raised"):  # what they are mixed of
        low, high = sorted((bright["ink"], bright[field]))
        assert (high + 0.05) / (low + 0.05) >= 7, field
    none, all_of_them = (lab(linear(colours[name])) for name in ("raised", "full"))
    assert np.linalg.norm(none - all_of_them) > 18  # as much as lines of different cells


# Machado, Oliveira & Fernandes 2009: what protanopes, deuteranopes and tritanopes see of linear
# RGB.
EYES = (
    ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
)
# over the white point
XYZ = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0177, 0.1095, 0.8729))


def lab(rgb):
    x, y, z = np.cbrt(np.array(XYZ) @ np.clip(rgb, 0, 1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("eye", EYES, ids=("protanope", "deuteranope", "tritanope"))
def test_the_colour_blind_can_tell_the_lines_apart(eye, scheme):
    colours = page_colours(scheme)
    seen = [
        lab(np.array(eye) @ linear(colours[f"c{colour[1:].lower()}"]))
        for colour in figures.COLOURS[:6]
    ]
    least = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))
    # Okabe & Ito's own, too pale for lines on white, have 16 (CIE76; 2 is just noticeable)
    assert least > 18


def test_figures_are_drawn_in_the_colours_of_the_page_alone(tmp_path):
    losses = {cell: [0.1, 0.2] for cell in CELLS}
    every = saved.read([make(tmp_path / "run", losses=losses), RESULTS / "gradients"])
    panels = figures.learning_panels(every[0].config, every[0].metrics) + figures.gradient_panels(
        every[1].gradients
    )
    drawn = "".join(
        page_figures.svg(panel, "a", 3.0) for panel in panels + page_figures.cost(every[0])
    )
    css = Path(page.__file__).with_name("page.css").read_text()
    assert not re.findall(r"#[0-9a-f]{6}", drawn)
    assert len(used := set(re.findall(r"var\((--\w+)\)", drawn))) >= 10 and all(
        f"{name}:" in css for name in used
    )


def points(svg, colour, what="stroke"):
    """The corners [N, 2] of each path of a colour."""
    found = re.findall(
        rf'<path d="([^"]*)"[^>]*style="(?:fill: none; )?{what}: var\(--{colour}\)', svg
    )
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", path), dtype=float) for path in found]


def test_lines_of_success_lie_at_the_shares():
    never = {lag: [None, None, None] for lag in (50, 100, 200)}
    shares = {
        "rnn_orth": never,
        "gru": {50: [10, 10, 10], 100: [10, None, 10], 200: [None, 10, None]},
    }
    svg = page_figures.svg(*page_figures.success(shares), "a", 3.0)
    zero, some = (max(points(svg, colour), key=len)[:3, 1] for colour in ("cd55e00", "c009e73"))
    assert len(zero) == 3 and np.ptp(zero) == 0
    np.testing.assert_allclose((zero - some) / (zero - some)[0], [1, 2 / 3, 1 / 3], rtol=1e-5)


def test_bars_are_as_long_as_the_numbers(tmp_path):
    (run,) = saved.read([make(tmp_path / "run")])
    for panel, numbers in zip(page_figures.cost(run), ((1153, 3425), (9.86, 32.2)), strict=True):
        first, second = (
            np.ptp(bar[:, 0])
            for bar in points(page_figures.svg(panel, "a", 3.0), "c0072b2", "fill")
        )
        np.testing.assert_allclose(first / second, numbers[0] / numbers[1], rtol=1e-4)


def boxes(ax):
    """The names of the levels, and where they are drawn, in pixels."""
    ax.figure.draw_without_rendering()
    named = [text for text in ax.texts if text.get_text()]
    return named, [text.get_window_extent() for text in named]


@pytest.mark.parametrize(
    "task", slow.some(TASKS, set(list(TASKS)[::4]).__contains__, "levels at other heights")
)
def test_no_name_of_a_level_lies_over_a_curve_or_another_name(task, tmp_path):
    needs(task)
    lags = {"associative_recall": 16, "modular_arithmetic": 13, "linear_memory": 12, "mnist": 196}
    lags |= {"digits": 64, "fashion_mnist": 196, "japanese_vowels": 29}
    config = {"task": task, "lag": lags.get(task, 40)}
    (run,) = saved.read([make(tmp_path / "run", config)])
    levels = make_task(task, config["lag"], {}).levels
    fig, _ = figures.together(figures.learning_panels(run.config, run.metrics), 1, (4.2, 3.1))
    named, found = boxes(fig.axes[0])
    assert len(named) == (3 if levels.partial else 2)
    assert all(box.x0 > fig.axes[0].bbox.x1 for box in found)  # outside, to the right
    assert not any(a.overlaps(b) for a, b in itertools.combinations(found, 2))
    assert all(box.x1 <= fig.bbox.x1 and box.y0 >= fig.bbox.y0 for box in found)


@pytest.fixture(scope="module")
def chromium():
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        assert "chromium" not in os.environ.get("JAXRNN_REQUIRE", ""), (
            "JAXRNN_REQUIRE names chromium, and there is none"
        )
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    return found


MEASURE = """<script>addEventListener("load", () => {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const ink = getComputedStyle(document.body).color;
  const svgs = [...document.querySelectorAll("svg")].map(svg => {
    const box = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")];
    const outside = r => r.left < box.left - 1 || r.right > box.right + 1;
    const out = texts.filter(t => outside(t.getBoundingClientRect()));
    const large = box => box.width + box.height > 20;
    const paths = [...svg.querySelectorAll("path")].filter(p => large(p.getBBox()));
    return {width: box.width, height: box.height, right: box.right, paths: paths.length,
      out: out.map(t => t.textContent), inked: texts.some(t => getComputedStyle(t).fill === ink)};
  });
  const cut = [...document.querySelectorAll(".scroll")].filter(d => d.scrollWidth > d.clientWidth);
  const clipped = cut.map(d => d.getAttribute("aria-label"));
  const count = figure => figure.querySelectorAll("svg").length;
  const figures = [...document.querySelectorAll("figure")].map(count);
  const table = document.querySelector(".matrix");
  const matrix = table ? table.getBoundingClientRect().bottom : 0;
  console.log("measured");
  const scroll = document.documentElement.scrollWidth;
  parent.postMessage({width: innerWidth, scroll, ink, svgs, figures, clipped, matrix}, "*");
});</script>"""
FRAME = """<!DOCTYPE html><body>
<iframe src="page.html" style="border:0;width:{}px;height:900px"></iframe><script>
addEventListener("message", e => {{
  document.body.dataset.found = JSON.stringify(e.data);
}});</script>"""


def look(chromium, folder, width, dark):
    """What a browser makes of page.html in a frame that is so wide,
    and what it wrote on its console.
    """
    # windows have a least width, frames have none
    (folder / "frame.html").write_text(FRAME.format(width))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
    ]
    options += [
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]
    command = [chromium, *options, (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (found,) = [marks["data-found"] for tag, marks in Page(done.stdout).tags if tag == "body"]
    return json.loads(found), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def long_names(path):
    """A run of every cell, each with numbers of as many digits as there may be."""
    steps = {"steps_to_solve": [11_100, 11_400, 11_750], "first_below": [11_100, 11_400, 11_750]}
    rows = [GRU | steps | {"cell": name, "description": c.description} for name, c in CELLS.items()]
    return make(path, summary={"results": rows})


KINDS = {
    "many": lambda at: (
        make_sweep(at / "sweep"),
        RESULTS / "gradients",
        RESULTS / "adding_rnn_sweep",
    ),
    "two": lambda at: (make(at / "one"), make(at / "two", {"hidden_size": 64})),
    "tier": lambda at: sorted((RESULTS / "calibration").glob("fast_*")),
    "cells": lambda at: (long_names(at / "cells"),),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Gives the page of a kind: of many runs, of two, of a tier, of every cell."""

    @functools.cache
    def made(kind):
        folder = tmp_path_factory.mktemp(kind)
        page.write(KINDS[kind](folder), folder / "page.html")
        return (folder / "page.html").read_text()

    return made


@pytest.mark.parametrize("width", [1280, 1100])
@pytest.mark.parametrize("kind", ["two", "tier", "cells"])
def test_no_column_is_clipped_on_a_screen_of_1100_pixels(kind, width, pages, chromium, tmp_path):
    text = pages(kind).replace("</head>", f"{MEASURE}</head>")
    (tmp_path / "page.html").write_text(text)
    found, _ = look(chromium, tmp_path, width, dark=0)
    assert found["scroll"] <= width and found["clipped"] == []


def test_the_matrix_of_the_whole_catalogue_is_on_one_screen(chromium, tmp_path):
    folders = sorted((RESULTS / "calibration").iterdir())
    runs = []
    for folder in folders:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        rows = [ROW | {"cell": cell, "steps_to_solve": [1_100] * 3} for cell in config["cells"]]
        config = {key: config[key] for key in ("task", "lag", "task_options")}
        runs.append(make(tmp_path / folder.name, config, {"results": rows}, losses={}))
    page.write(runs, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text().replace("</head>", f"{MEASURE}</head>")
    (tmp_path / "page.html").write_text(text)
    found, _ = look(chromium, tmp_path, 1280, dark=0)
    assert text.count('<th scope="row"') == len(folders) >= 34
    assert "Seeds that solved each task" not in found["clipped"] and found["matrix"] < 1000


@pytest.mark.parametrize(
    "kind, width, dark",
    [
        *[("many", 1280, 0), ("many", 360, 1), ("two", 1280, 1), ("two", 360, 0)],
        *[("tier", 400, 0), ("tier", 1280, 1)],
    ],
)
def test_a_browser_draws_every_figure_and_nothing_overflows(
    kind, width, dark, pages, chromium, tmp_path
):
    text = pages(kind)
    (tmp_path / "page.html").write_text(text.replace("</head>", f"{MEASURE}</head>"))
    found, console = look(chromium, tmp_path, width, dark)
    assert len(console) == 1 and "measured" in console[0]
    assert found["width"] == width and found["scroll"] <= width
    assert len(found["svgs"]) == text.count("<svg") == sum(found["figures"]) and all(
        found["figures"]
    )
    for svg in found["svgs"]:
        assert (
            svg["width"] > 250
            and svg["height"] > 50
            and svg["right"] <= width
            and svg["paths"] >= 4
        )
        assert svg["inked"] and svg["out"] == []
    # rgb: light letters on a dark page
    assert (sum(map(int, re.findall(r"\d+", found["ink"]))) > 384) == dark
