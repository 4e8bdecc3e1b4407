"""The tables of experiments/README.md are those of the tasks and of the calibration."""

import catalogue_tables
import pytest

from experiments.config import PRESETS, TIERS


@pytest.mark.parametrize("tier", TIERS)
def test_the_table_of_a_tier_has_the_numbers_of_the_calibration(tier):
    assert "\n".join(catalogue_tables.tier(tier)) in catalogue_tables.PAGE.read_text()


@pytest.mark.parametrize("table", [catalogue_tables.lags, catalogue_tables.adding_1000])
def test_the_table_of_a_result_has_its_numbers(table):
    assert "\n".join(table()) in catalogue_tables.PAGE.read_text()


def test_the_table_of_tasks_names_every_task_with_its_levels():
    pytest.importorskip("mlxtend", reason="pip install 'jaxrnn[data]'")
    assert "\n".join(catalogue_tables.tasks()) in catalogue_tables.PAGE.read_text()


def test_every_preset_of_a_tier_is_in_the_tier_and_named_after_it():
    for name in PRESETS:
        if name.startswith(("fast_", "full_")):
            assert name in TIERS[name[:4]]
