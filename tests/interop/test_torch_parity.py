"""The same numbers as torch from the same weights: values and all gradients, in both precisions.

Where torch is not installed the answers in float64 are those that torch gave once (tests/golden),
the float32 cases are skipped, and the run says at its end how many live comparisons were left out.
"""

import pytest
from parity import (
    CASES,
    KINDS,
    assert_same,
    golden_answers,
    our_answers,
    torch_answers,
    torch_installed,
)

pytestmark = [
    pytest.mark.parity,
    pytest.mark.usefixtures("quick_compilation"),
    # torch's own, about its speed
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
LIVE = torch_installed()


def few(case):
    """A quarter of the cases in which every pair of options occurs in every combination;
    the others are slow tests.
    """
    many, odd = case.layers > 1, KINDS.index(case.kind) % 2 == 1
    return many ^ case.bidirectional ^ case.bias and many ^ case.ragged ^ odd


MARKED = [
    pytest.param(
        case,
        id=str(case),
        marks=[]
        if few(case)
        else [pytest.mark.slow("all of torch's options, of which a few stand for the rest")],
    )
    for case in CASES
]
live = pytest.mark.skipif(not LIVE, reason="needs torch: pip install 'jaxrnn[parity]'")


@pytest.mark.parametrize("case", MARKED)
def test_float64_equals_torch_to_1e_12(case):
    theirs = torch_answers(case, "float64") if LIVE else golden_answers(case)
    assert_same(our_answers(case, "float64"), theirs, 1e-12)


@live
@pytest.mark.parametrize("case", MARKED)
def test_float32_equals_torch_to_1e_5(case):
    assert_same(our_answers(case, "float32"), torch_answers(case, "float32"), 1e-5)


@live
def test_the_committed_answers_are_those_of_torch():
    for case in CASES:
        assert_same(golden_answers(case), torch_answers(case, "float64"), 1e-12)
