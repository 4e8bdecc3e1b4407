"""The tasks, one per file: pure samplers with a loss, a metric, and the closed form of what a constant predictor scores."""

from experiments.tasks.adding import Adding
from experiments.tasks.associative_recall import AssociativeRecall
from experiments.tasks.copying import Copying
from experiments.tasks.cycle_navigation import CycleNavigation
from experiments.tasks.embedded_reber import EmbeddedReber
from experiments.tasks.even_pairs import EvenPairs
from experiments.tasks.first_symbol import FirstSymbol
from experiments.tasks.induction import Induction
from experiments.tasks.latch import Latch
from experiments.tasks.modular_arithmetic import ModularArithmetic
from experiments.tasks.moving_pattern import MovingPattern
from experiments.tasks.multiplication import Multiplication
from experiments.tasks.parity import Parity
from experiments.tasks.selective_copying import SelectiveCopying
from experiments.tasks.task import Batch, Levels, Task
from experiments.tasks.temporal_order import TemporalOrder

TASKS: dict[str, type[Task]] = {
    "adding": Adding,
    "associative_recall": AssociativeRecall,
    "copying": Copying,
    "cycle_navigation": CycleNavigation,
    "embedded_reber": EmbeddedReber,
    "even_pairs": EvenPairs,
    "first_symbol": FirstSymbol,
    "induction": Induction,
    "latch": Latch,
    "modular_arithmetic": ModularArithmetic,
    "moving_pattern": MovingPattern,
    "multiplication": Multiplication,
    "parity": Parity,
    "selective_copying": SelectiveCopying,
    "temporal_order": TemporalOrder,
}

__all__ = ["TASKS", "Batch", "Levels", "Task"]
