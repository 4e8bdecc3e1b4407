"""Streams against their definitions, the learners against each other, and the command."""

import json

import jax
import numpy as np
import pytest

from experiments.config import UsageError
from experiments.online import command, cosines, learners
from experiments.online.config import PARTS, OnlineConfig, window
from experiments.online.streams import adding, copying, drifting
from jaxrnn.cells import LRUCell, MinGRUCell

pytestmark = pytest.mark.usefixtures("standard_promotion")
T, B, LAG = 60, 3, 10
KEY = jax.random.key(0)


def test_copying_asks_for_what_came_before():
    xs, targets, weights, reset, _ = map(np.asarray, copying(KEY, T, B, LAG))
    assert set(np.unique(xs)) == {-1, 1}
    np.testing.assert_array_equal(targets[LAG:], xs[:-LAG, :, 0])
    assert not weights[:LAG].any()
    assert weights[LAG:].all()
    assert not reset.any()


def test_adding_asks_for_the_sum_at_the_end_of_each_sequence():
    xs, targets, weights, reset, baseline = map(np.asarray, adding(KEY, T, B, LAG))
    for k in range(T // LAG):
        own = slice(k * LAG, (k + 1) * LAG)
        values, marks = np.moveaxis(xs[own], -1, 0)
        assert (marks[: LAG // 2].sum(0) == 1).all()
        assert (marks[LAG // 2 :].sum(0) == 1).all()
        np.testing.assert_allclose(targets[own][-1], (values * marks).sum(0), rtol=1e-6)
        assert weights[own].tolist() == [[0.0] * B] * (LAG - 1) + [[1.0] * B]
        assert reset[own].tolist() == [[True] * B] + [[False] * B] * (LAG - 1)
    many = np.asarray(adding(KEY, 20_000, 10, LAG).targets)[LAG - 1 :: LAG]
    assert many.var() == pytest.approx(float(baseline), rel=0.03)


def test_drifting_turns_from_one_lag_to_the_other():
    xs, targets, _, _, baseline = map(np.asarray, drifting(KEY, 12_000, B, LAG))
    xs = xs[..., 0]
    np.testing.assert_allclose(targets[10_000], xs[10_000 - LAG], atol=1e-4)
    np.testing.assert_allclose(targets[2500], xs[2500 - LAG // 2], atol=1e-4)
    np.testing.assert_allclose(targets[5000], -xs[5000 - LAG], atol=1e-4)
    assert targets.var() == pytest.approx(float(baseline), rel=0.05)


def test_in_its_first_window_truncated_backpropagation_is_exact():
    config = OnlineConfig(steps=12 * PARTS, every=12, learners=("rtrl", "bptt_12"))
    stream = copying(KEY, 12 * PARTS, B, 3)
    cell = LRUCell(8)
    ours, theirs = (
        np.asarray(learners.losses(cell, config, name, stream, KEY, 1e-2))
        for name in ("rtrl", "bptt_12")
    )
    # each part is a window: the second has the first update behind it
    np.testing.assert_allclose(ours[:2], theirs[:2], rtol=1e-5)
    assert not np.allclose(ours[5:], theirs[5:], rtol=1e-4)


@pytest.mark.parametrize("name", ["rtrl", "snap1", "eprop", "uoro", "bptt_12"])
def test_every_learner_learns(name):
    config = OnlineConfig(steps=24 * PARTS, every=12, learners=(name,))
    stream = copying(KEY, 24 * PARTS, 8, 2)
    found = np.asarray(learners.losses(MinGRUCell(16), config, name, stream, KEY, 1e-2))
    assert found[-5:].mean() < 0.8 * found[:2].mean()


def test_the_command_writes_what_it_found(tmp_path, capsys):
    out = str(tmp_path / "run")
    config = OnlineConfig(
        measures=("learning", "cosines"),
        streams=("adding",),
        networks=("mingru",),
        lags=(4,),
        learners=("rtrl", "bptt_4"),
        cells=("gru",),
        hidden_size=8,
        steps=8 * PARTS,
        every=4,
        learning_rates=(1e-3, 1e-2),
        seeds=2,
        out=out,
    )
    command.run(config)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["learner"] for row in summary["learning"]] == ["rtrl", "bptt_4"]
    assert all(np.shape(row["losses"]) == (2, PARTS) for row in summary["learning"])
    assert all(f"{r['learning_rate']:g}" in r["tried"] for r in summary["learning"])
    exact = [r for r in summary["cosines"] if r["lag"] == 1 and r["method"] in ("snap1", "eprop")]
    # of one step there is no past
    assert all(value == pytest.approx(1, abs=1e-3) for row in exact for value in row["cosines"])
    far = [r for r in summary["cosines"] if r["lag"] == 20 and r["method"] == "eprop"]
    assert all(abs(value) < 0.999 for row in far for value in row["cosines"])
    assert (tmp_path / "run" / "losses.png").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert "adding" in said
    assert "bptt_4" in said


def test_in_a_stack_one_step_is_exact_and_of_fifty_the_lowest_layer_is_not(monkeypatch):
    monkeypatch.setattr(cosines, "STACKED", ("mingru",))
    monkeypatch.setattr(cosines, "LAGS", (1, 50))
    rows = list(cosines.stacks(OnlineConfig(measures=("stacks",), hidden_size=8, seeds=1)))
    assert len(rows) == 2 * 2 * 2  # depths, lags, parts
    for row in rows:
        if row["lag"] == 1:
            assert row["cosines"][0] == pytest.approx(1, abs=1e-3)
        elif row["lag"] == 50 and "lowest" in row["method"]:
            assert row["cosines"][0] < 0.99


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learners": ("bptt_0",)}, "bptt_W"),
        ({"learners": ("rtl",)}, "none of rtrl"),
        ({"streams": ("coping",)}, "did you mean"),
        ({"networks": ("lru", "lru")}, "one for each"),
        ({"steps": 1000}, "multiple of 50"),
        ({"lags": (1,)}, "at least 2"),
        ({"learning_rates": (0.0,)}, "above 0"),
        ({"hidden_size": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        OnlineConfig(**changes)


def test_a_rate_at_the_end_of_its_grid_is_not_the_best_yet():
    tried = []

    def loss(rate):
        tried.append(rate)
        return abs(np.log(rate / 1.2e-4))

    assert command.best_of(command.try_rates(loss, (1e-3, 3e-3))) == 1.1e-4
    assert tried == [1e-3, 3e-3, 3.3e-4, 1.1e-4, 3.7e-5]
    failing = command.try_rates(lambda rate: np.nan if rate > 0.01 else 1 / rate, (1e-3,))
    assert command.best_of(failing) == 9e-3


def test_windows_are_read_from_names():
    assert window("bptt_32") == 32
    assert window("rtrl") is None
    assert window("bptt_x") is None
