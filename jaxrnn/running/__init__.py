"""How a cell runs over time. It knows the contract of a cell, never a cell."""

from jaxrnn.running.explain import Explanation, explain
from jaxrnn.running.unroll import initial_carry, unroll, unroll_carries, unroll_windows

__all__ = [
    "Explanation",
    "explain",
    "initial_carry",
    "unroll",
    "unroll_carries",
    "unroll_windows",
]
