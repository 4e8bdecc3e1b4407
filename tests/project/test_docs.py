"""Examples in docstrings run and print what they say."""

import doctest
import importlib
import pathlib

import pytest

import jaxrnn

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROOT = pathlib.Path(jaxrnn.__file__).parent
NAMES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in ROOT.rglob("*.py")
)


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_docstrings_are_right(name):
    module = importlib.import_module(name.removesuffix(".__init__"))
    assert doctest.testmod(module).failed == 0
