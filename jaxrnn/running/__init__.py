"""How a cell runs over time. It knows the contract of a cell, never a cell."""

from jaxrnn.running.explain import Explanation, explain
from jaxrnn.running.generate import Generated, generate
from jaxrnn.running.stepper import Stepper, initial_carry, stepper
from jaxrnn.running.unroll import unroll, unroll_carries, unroll_windows

__all__ = [
    "Explanation",
    "Generated",
    "Stepper",
    "explain",
    "generate",
    "initial_carry",
    "stepper",
    "unroll",
    "unroll_carries",
    "unroll_windows",
]
