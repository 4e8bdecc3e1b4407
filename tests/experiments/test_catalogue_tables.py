"""The tables of experiments/README.md are those of the tasks and of the calibration."""

import catalogue_tables
import pytest

from experiments.config import PRESETS, TIERS


@pytest.mark.parametrize("tier", ["fast", "full", "long"])
def test_the_table_of_a_tier_has_the_numbers_of_the_calibration(tier):
    assert "\n".join(catalogue_tables.tier(tier)) in catalogue_tables.PAGE.read_text()


@pytest.mark.parametrize(
    "table",
    [
        catalogue_tables.lags,
        catalogue_tables.every_cell,
        catalogue_tables.far,
        catalogue_tables.papers,
        catalogue_tables.reproduced,
        catalogue_tables.linear,
        catalogue_tables.language_model,
        catalogue_tables.gpu,
    ],
)
def test_the_table_of_a_result_has_its_numbers(table):
    assert "\n".join(table()) in catalogue_tables.PAGE.read_text()


def test_the_table_and_the_figure_of_lstm_or_gru_are_those_of_the_notebook():
    table, figure = catalogue_tables.lstm_or_gru()
    assert len(table) == 27 and "\n".join(table) in catalogue_tables.PAGE.read_text()
    assert catalogue_tables.FIGURE.read_bytes() == figure


def test_the_table_of_tasks_names_every_task_with_its_levels():
    pytest.importorskip("mlxtend", reason="pip install 'jaxrnn[data]'")
    assert "\n".join(catalogue_tables.tasks()) in catalogue_tables.PAGE.read_text()


def test_every_preset_of_a_tier_is_in_the_tier_and_named_after_it():
    for name in PRESETS:
        if (tier := name.split("_")[0]) in TIERS:
            assert name in TIERS[tier]
