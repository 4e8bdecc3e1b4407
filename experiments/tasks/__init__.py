"""The tasks, one per file: pure samplers with a loss, a metric,
and the closed form of what a constant predictor scores.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.tasks.adding import Adding
from experiments.tasks.associative_recall import AssociativeRecall
from experiments.tasks.copying import Copying
from experiments.tasks.count_recall import CountRecall
from experiments.tasks.counting import AnBn, AnBnCn
from experiments.tasks.cycle_navigation import CycleNavigation
from experiments.tasks.decisions import ContextDecision, DelayedMatch, PerceptualDecision
from experiments.tasks.digits import Digits
from experiments.tasks.dyck import Dyck
from experiments.tasks.embedded_reber import EmbeddedReber
from experiments.tasks.even_pairs import EvenPairs
from experiments.tasks.first_symbol import FirstSymbol
from experiments.tasks.flip_flop import FlipFlop
from experiments.tasks.flip_flop_language import FlipFlopLanguage
from experiments.tasks.induction import Induction
from experiments.tasks.japanese_vowels import JapaneseVowels
from experiments.tasks.latch import Latch
from experiments.tasks.linear_memory import LinearMemory
from experiments.tasks.lorenz import Lorenz
from experiments.tasks.mackey_glass import MackeyGlass
from experiments.tasks.mnist import FashionMnist, Mnist
from experiments.tasks.mnist_1d import Mnist1D
from experiments.tasks.modular_arithmetic import ModularArithmetic
from experiments.tasks.moving_pattern import MovingPattern
from experiments.tasks.multiplication import Multiplication
from experiments.tasks.parity import Parity
from experiments.tasks.repeat_previous import RepeatPrevious
from experiments.tasks.reverse import Duplicate, Reverse
from experiments.tasks.santa_fe import SantaFe
from experiments.tasks.selective_copying import SelectiveCopying
from experiments.tasks.task import Batch, Levels, Task, evaluation_batch, held_out_batch
from experiments.tasks.temporal_order import TemporalOrder
from experiments.tasks.text import Text
from experiments.tasks.word_problem import WordProblem

TASKS: dict[str, type[Task]] = {
    "a_n_b_n": AnBn,
    "a_n_b_n_c_n": AnBnCn,
    "adding": Adding,
    "associative_recall": AssociativeRecall,
    "context_decision": ContextDecision,
    "copying": Copying,
    "count_recall": CountRecall,
    "cycle_navigation": CycleNavigation,
    "delayed_match": DelayedMatch,
    "digits": Digits,
    "duplicate": Duplicate,
    "dyck": Dyck,
    "embedded_reber": EmbeddedReber,
    "even_pairs": EvenPairs,
    "fashion_mnist": FashionMnist,
    "first_symbol": FirstSymbol,
    "flip_flop": FlipFlop,
    "flip_flop_language": FlipFlopLanguage,
    "induction": Induction,
    "japanese_vowels": JapaneseVowels,
    "latch": Latch,
    "linear_memory": LinearMemory,
    "lorenz": Lorenz,
    "mackey_glass": MackeyGlass,
    "mnist": Mnist,
    "mnist_1d": Mnist1D,
    "modular_arithmetic": ModularArithmetic,
    "moving_pattern": MovingPattern,
    "multiplication": Multiplication,
    "parity": Parity,
    "perceptual_decision": PerceptualDecision,
    "repeat_previous": RepeatPrevious,
    "reverse": Reverse,
    "santa_fe": SantaFe,
    "selective_copying": SelectiveCopying,
    "temporal_order": TemporalOrder,
    "text": Text,
    "word_problem": WordProblem,
}

__all__ = ["TASKS", "Batch", "Levels", "Task", "evaluation_batch", "held_out_batch", "make"]


def make(name: str, lag: int, options: Mapping[str, Any]) -> Task:
    """The task of a name. Options have the types of their defaults; an integer is a float too.

    Raises:
        ValueError: an option is of another type, or the task refuses one.
        TypeError: there is no such option.
    """
    kinds: dict[str, Any] = {
        field.name: type(field.default) for field in dataclasses.fields(TASKS[name])
    }
    given = dict(options)
    for option, value in options.items():
        kind = kinds.get(option, type(value))
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(
                f"task_options.{option} must be of type {kind.__name__}, got {value!r}."
            )
        given[option] = kind(value)
    return TASKS[name](lag, **given)
