"""What is left out by default is few, and says why."""

from types import SimpleNamespace

import pytest
import slow
from places import ROOT


def test_every_slow_test_says_why():
    found = list(slow.reasons())
    assert len(found) > 40
    assert not [f"{file}:{line}" for file, line, why in found if not why]


def test_of_some_values_the_others_are_slow():
    first, second = slow.some(["a", "b"], "a".__eq__, "like the other")
    assert (first.values, first.id, list(first.marks)) == (("a",), "a", [])
    (mark,) = second.marks
    assert (second.values, mark.name, mark.args) == (("b",), "slow", ("like the other",))


@pytest.mark.parametrize("share", [1, 4])
def test_a_share_keeps_the_first_case_of_each_test_and_some_of_the_others(share, pytestconfig):
    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    items = [SimpleNamespace(nodeid=f"{test}[{k}]") for test in "ab" for k in range(100)]
    items.append(SimpleNamespace(nodeid="alone"))
    every = items[:]
    left = []
    hook = SimpleNamespace(pytest_deselected=lambda items: left.extend(items))
    config = SimpleNamespace(getoption=lambda name: {"share": share}[name], hook=hook)
    conftest.pytest_collection_modifyitems(config, items)
    kept = {item.nodeid for item in items}
    assert {"a[0]", "b[0]", "alone"} <= kept and len(items) + len(left) == len(every)
    assert len(items) == len(every) if share == 1 else 30 < len(items) < 75
