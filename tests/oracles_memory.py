"""Oracles of the long-memory and convolutional cells: see `oracles.py`."""

from typing import Any

MEMORY: list[Any] = []
