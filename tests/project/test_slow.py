"""What is left out by default is few, and says why."""

import slow


def test_every_slow_test_says_why():
    found = list(slow.reasons())
    assert len(found) > 40
    assert not [f"{file}:{line}" for file, line, why in found if not why]


def test_of_some_values_the_others_are_slow():
    first, second = slow.some(["a", "b"], "a".__eq__, "like the other")
    assert (first.values, first.id, list(first.marks)) == (("a",), "a", [])
    (mark,) = second.marks
    assert (second.values, mark.name, mark.args) == (("b",), "slow", ("like the other",))
