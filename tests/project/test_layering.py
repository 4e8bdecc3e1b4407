"""Imports run one way, and the core does not need flax."""

import ast
import subprocess
import sys

import pytest
from places import ROOT

CORE = {"cell", "checks", "structure", "directions"}
ORDER = {  # what each part of jaxrnn may import from jaxrnn
    "checks": set(),
    "structure": set(),
    "directions": set(),
    "cell": {"checks", "structure"},
    "devices": set(),
    "affine": {"cell", "checks"},
    "sequences": CORE,
    "initializers": CORE,
    "cells": CORE | {"initializers"},
    "wrappers": CORE | {"initializers", "cells", "stack"},
    "running": CORE | {"affine", "sequences"},
    "stack": CORE | {"running"},
    "hardware": CORE | {"cells", "wrappers", "running", "stack"},
    "methods": {"running", "hardware"},
    "interop": CORE | {"sequences", "initializers", "cells", "wrappers", "running", "stack"},
    "diagnostics": CORE | {"initializers", "cells", "running", "stack"},
    "online": CORE | {"running", "stack"},
    "testing": CORE | {"initializers", "cells", "running", "stack"},
}
ORDER["modules"] = CORE | {"initializers", "cells", "running", "sequences", "stack", "interop"}
ORDER["nnx"] = ORDER["modules"] | {"modules"}
ORDER["linen"] = ORDER["modules"] | {"modules"}
ORDER["__init__"] = set(ORDER) - {"nnx", "linen", "modules", "hardware"}
EVERYWHERE = {"jax", "numpy"}
OUTSIDE = {"nnx": {"flax"}, "linen": {"flax"}}  # what else each part may import
INSIDE_FUNCTIONS = {"interop": {"safetensors", "onnx"}}
FILES = sorted((ROOT / "jaxrnn").rglob("*.py"))


def part(path):
    return path.relative_to(ROOT / "jaxrnn").with_suffix("").parts[0]


def imported(tree):
    """Full names: `from jaxrnn import stack` is jaxrnn.stack."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (
                (f"jaxrnn.{alias.name}" for alias in node.names)
                if node.module == "jaxrnn"
                else (node.module,)
            )


def test_every_part_has_its_place_in_the_order():
    assert {part(path) for path in FILES} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    names = set(imported(ast.parse(path.read_text())))
    inner = {name.split(".")[1] for name in names if name.startswith("jaxrnn.")} - {part(path)}
    assert inner <= ORDER[part(path)]
    outer = {name.split(".")[0] for name in names} - {"jaxrnn"} - set(sys.stdlib_module_names)
    assert outer <= EVERYWHERE | OUTSIDE.get(part(path), set()) | INSIDE_FUNCTIONS.get(
        part(path), set()
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_formats_are_imported_inside_functions_only(path):
    top = ast.Module(
        [
            node
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        ],
        [],
    )
    assert not {name.split(".")[0] for name in imported(top)} & {"safetensors", "onnx"}


def test_importing_jaxrnn_does_not_import_flax_until_a_module_is_asked_for():
    code = (
        "import sys, jaxrnn; before = 'flax' in sys.modules; "
        "jaxrnn.nnx.LSTM, jaxrnn.linen.LSTM; sys.exit(before or 'flax' not in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
