"""Cases of a test that are run by `-m slow` alone. `python tests/support/slow.py` lists all of
them, with why.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]


def some(values: Iterable[Any], quick: Callable[[Any], bool], why: str, name: Any = str) -> list:
    """The values as parameters; those that are not `quick` are slow, and `why` says what they add
    to the others."""
    slow = pytest.mark.slow(why)
    return [
        pytest.param(value, id=name(value), marks=[] if quick(value) else [slow])
        for value in values
    ]


def reasons() -> Iterator[tuple[str, int, str | None]]:
    """Of each mark in the tests its file, its line, and its reason."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            words = _reason(node)
            if words is not NOT_A_MARK:
                yield str(path.relative_to(TESTS)), node.lineno, words


NOT_A_MARK = object()


def _reason(node: ast.AST) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("slow.some", "pytest.mark.slow"):
        texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
        return next((text for text in texts if isinstance(text, str)), None)
    return NOT_A_MARK


if __name__ == "__main__":
    for file, line, why in reasons():
        print(f"{file}:{line}: {why}")
