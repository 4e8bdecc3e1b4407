"""The tasks, one per file: pure samplers with a loss, a metric, and the closed form of what a constant predictor scores."""

from experiments.tasks.adding import Adding
from experiments.tasks.moving_pattern import MovingPattern
from experiments.tasks.task import Batch, Task
from experiments.tasks.temporal_order import TemporalOrder

TASKS: dict[str, type[Task]] = {"adding": Adding, "moving_pattern": MovingPattern, "temporal_order": TemporalOrder}

__all__ = ["TASKS", "Adding", "Batch", "MovingPattern", "Task", "TemporalOrder"]
