"""How a cell runs over time. It knows the contract of a cell, never a cell."""

from jaxrnn.running.explain import Explanation, explain
from jaxrnn.running.stepper import Stepper, initial_carry, stepper
from jaxrnn.running.unroll import unroll, unroll_carries, unroll_windows

__all__ = [
    "Explanation",
    "Stepper",
    "explain",
    "initial_carry",
    "stepper",
    "unroll",
    "unroll_carries",
    "unroll_windows",
]
