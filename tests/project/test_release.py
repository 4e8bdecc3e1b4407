"""What a release says of itself is said once, or the same everywhere."""

import re
import tomllib

import yaml
from places import DOCS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_where_it_is_written():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (cited,) = re.findall(r"version = \{(.*)\}", (DOCS / "citing.md").read_text())
    assert citation["version"] == cited == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_changelog_has_a_date_for_every_release_but_the_next():
    heads = re.findall(r"^## (.*)$", (DOCS / "changelog.md").read_text(), flags=re.MULTILINE)
    next_one, *released = heads
    assert re.fullmatch(r"\d+\.\d+\.\d+, not released yet|\d+\.\d+\.\d+, \d{4}-\d\d-\d\d", next_one)
    assert all(re.fullmatch(r"\d+\.\d+\.\d+, \d{4}-\d\d-\d\d", head) for head in released)


def test_the_page_of_versions_has_the_lower_bounds():
    page = (DOCS / "versions.md").read_text()
    bounds = dict(bound.split(">=") for bound in PROJECT["dependencies"])
    bounds["Python"] = PROJECT["requires-python"].removeprefix(">=")
    for name, least in bounds.items():
        assert re.search(rf"^\| {name} \|.*\| {re.escape(least)} \|$", page, flags=re.MULTILINE)


def test_the_pythons_that_are_promised_are_those_that_are_tested():
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    page = (DOCS / "versions.md").read_text()
    assert f"| Python | {', '.join(promised)} |" in page
