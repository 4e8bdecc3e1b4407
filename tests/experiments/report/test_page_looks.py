"""The page of a report in colours that everybody can tell apart, and in a browser: drawn, and
nowhere wider than the screen.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pages import Page, make, make_sweep
from places import RESULTS

from experiments.cells import CELLS
from experiments.report import figures, page, page_figures, saved


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
        if name not in ("page", "raised", "line"):
            assert (high + 0.05) / (low + 0.05) >= (
                4.5 if name in ("ink", "soft", "link") else 3
            ), name


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
  const count = figure => figure.querySelectorAll("svg").length;
  const figures = [...document.querySelectorAll("figure")].map(count);
  console.log("measured");
  const scroll = document.documentElement.scrollWidth;
  parent.postMessage({width: innerWidth, scroll, ink, svgs, figures}, "*");
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


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of many runs, and one of two."""
    folder = tmp_path_factory.mktemp("pages")
    many = make_sweep(folder / "sweep"), RESULTS / "gradients", RESULTS / "adding_rnn_sweep"
    two = make(folder / "one"), make(folder / "two", {"hidden_size": 64})
    for name, folders in {"many": many, "two": two}.items():
        page.write(folders, folder / f"{name}.html")
    return {name: (folder / f"{name}.html").read_text() for name in ("many", "two")}


@pytest.mark.parametrize(
    "kind, width, dark", [("many", 1280, 0), ("many", 360, 1), ("two", 1280, 1), ("two", 360, 0)]
)
def test_a_browser_draws_every_figure_and_nothing_overflows(
    kind, width, dark, pages, chromium, tmp_path
):
    text = pages[kind]
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
