"""When a seed has solved its task, and what is reported of it."""

import dataclasses
import math

import numpy as np
import pytest

from experiments.config import Config
from experiments.training.history import History, beyond

CONFIG = Config(steps=1000, checks=3, seeds=1)
BAR = 0.01


def trained(held_out, lost=0):
    """A history of one seed with these losses held out."""
    history = History("gru", 0.01)
    for k, loss in enumerate(held_out, start=1):
        history.add([0.1], [[loss], [0.5]], [1.0], [lost if lost and 50 * k >= lost else 0], 1.0)
    return history


@pytest.mark.parametrize(
    "held_out, first, held",
    [
        ([0.1, 0.009, 0.008, 0.007], 100, 100),
        ([0.009, 0.1, 0.008, 0.007, 0.006], 50, 150),
        ([0.009, 0.1, 0.009, 0.1], 50, None),  # passed twice, never held
        ([0.1, 0.1, 0.009, 0.009], 150, None),  # not for long enough
        ([0.1, math.nan, 0.1], None, None),
    ],
)
def test_solved_is_what_is_held_and_the_first_passage_stands_apart(held_out, first, held):
    outcome = trained(held_out).outcome(200, BAR, checks=3)
    assert (outcome["first_below"], outcome["steps_to_solve"]) == ([first], [held])


def test_a_seed_that_passed_and_fell_back_goes_on_and_one_that_holds_ends():
    assert trained([0.009, 0.1, 0.1]).going(CONFIG, BAR).tolist() == [True]
    assert trained([0.1, 0.009, 0.009, 0.009]).going(CONFIG, BAR).tolist() == [False]
    steps = dataclasses.replace(CONFIG, until="steps")
    assert trained([0.1, 0.009, 0.009, 0.009]).going(steps, BAR).tolist() == [True]
    assert trained([0.1] * 20).going(steps, BAR).tolist() == [False]


def test_the_training_loss_solves_nothing():
    history = History("gru", 0.01)
    for _ in range(5):
        history.add([1e-6], [[0.5], [0.0]], [1.0], [0], 1.0)
    assert history.outcome(200, BAR, checks=3)["steps_to_solve"] == [None]
    assert history.going(CONFIG, BAR).tolist() == [True]


def test_a_seed_that_has_ended_stays_so_and_has_no_more_lines():
    history = History("gru", 0.01)
    for k in range(4):
        second = math.nan if k == 3 else 0.009
        first = 0.1
        history.add([first, second], [[first, second], [0.5, second]], [1.0, second], [0, 0], 1.0)
    config = dataclasses.replace(CONFIG, seeds=2)
    assert history.going(config, BAR).tolist() == [True, False]
    history.seed = 7
    rows = history.rows()
    assert [(row["step"], row["seed"]) for row in rows] == [
        (50, 7), (50, 8), (100, 7), (100, 8), (150, 7), (150, 8), (200, 7),
    ]  # fmt: skip
    assert history.outcome(200, BAR, checks=3)["updates"] == [200, 150]


def test_patience_counts_from_the_lowest_loss_held_out():
    config = dataclasses.replace(CONFIG, patience=150)
    assert trained([0.5, 0.4, 0.6, 0.6]).going(config, BAR).tolist() == [True]
    assert trained([0.5, 0.4, 0.6, 0.6, 0.6]).going(config, BAR).tolist() == [False]


def test_a_seed_that_was_lost_has_a_line_that_says_so_and_ends():
    history = trained([0.5, math.nan], lost=73)
    assert history.going(CONFIG, BAR).tolist() == [False]
    history.losses[-1] = [math.nan]
    (_, row) = history.rows()
    assert row["loss"] is None and row["held_out_loss"] is None


def test_scores_of_the_last_and_of_the_best_parameters_are_apart():
    history = trained([0.5])
    history.final = {
        "200": {"last": [[0.2], [0.7]], "best": [[0.1], [0.9]]},
        "400": {"last": [[0.4], [0.5]], "best": [[0.3], [np.nan]]},
    }
    outcome = history.outcome(200, BAR, checks=3)
    assert (outcome["final_loss"], outcome["final_metric"]) == ([0.2], [0.7])
    assert (outcome["best_params_loss"], outcome["best_params_metric"]) == ([0.1], [0.9])
    there = outcome["tests"]["400"]
    assert (there["loss"], there["best_params_metric"]) == ([0.4], [None])


def test_a_grid_is_widened_beyond_the_edge_where_its_best_is_up_to_a_bound():
    better, worse = (0.0, 100.0, -1.0), (0.0, 200.0, -1.0)
    assert beyond({1e-3: worse, 3e-3: better, 1e-2: worse}, 4, 3) is None
    assert beyond({1e-3: worse, 3e-3: worse, 1e-2: better}, 4, 3) == 0.0333
    assert beyond({1e-3: better, 3e-3: worse, 1e-2: worse}, 4, 3) == 0.000333
    assert beyond({1e-3: worse, 1e-2: better}, 0, 2) is None
    assert beyond({1e-3: worse, 1e-2: worse, 1e-1: better}, 1, 2) is None
    assert beyond({1e-2: better}, 4, 1) is None  # one rate is no grid
