"""One assignment a line: what the house style asks for, and ruff has no rule for."""

import ast

import pytest
from places import ROOT

FILES = sorted(
    str(path.relative_to(ROOT))
    for part in ("jaxrnn", "experiments")
    for path in (ROOT / part).rglob("*.py")
)


def packed(source):
    """The lines that assign a tuple of values, none of them starred, to a tuple of names."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
        and not any(isinstance(value, ast.Starred) for value in node.value.elts)
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_line_assigns_one_thing(name):
    assert packed((ROOT / name).read_text()) == []


def test_a_packed_assignment_is_found_and_what_only_looks_like_one_is_not():
    source = "a, b = 1, 2\na, b = f()\na, b = *c, d\na = 1, 2\n(a, b), c = f(), g()\n"
    assert packed(source) == [1, 5]
