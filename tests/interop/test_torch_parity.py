"""The same numbers as torch from the same weights: values and all gradients, in both precisions.

Where torch is not installed the answers are those that torch gave once (tests/golden), and the run says so at its end.
"""

import pytest
from parity import CASES, assert_same, golden_answers, our_answers, torch_answers, torch_installed

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),  # torch's own, about its speed
]
LIVE = torch_installed()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float64_equals_torch_to_1e_12(case):
    theirs = torch_answers(case, "float64") if LIVE else golden_answers(case)
    assert_same(our_answers(case, "float64"), theirs, 1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_equals_torch_to_1e_5(case):
    theirs = torch_answers(case, "float32") if LIVE else golden_answers(case)
    assert_same(our_answers(case, "float32"), theirs, 1e-5)


def test_the_committed_answers_are_those_of_torch():
    for case in CASES if LIVE else []:
        assert_same(golden_answers(case), torch_answers(case, "float64"), 1e-12)
    assert {len(golden_answers(case)) for case in CASES} <= set(range(4, 40))
