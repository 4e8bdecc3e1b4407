"""Which data is here."""

import pytest

from experiments.tasks import TASKS


def needs(name):
    """Skips where the package that holds the data of a task is not installed."""
    try:
        _ = TASKS[name]().levels
    except ImportError as error:
        pytest.skip(str(error))
