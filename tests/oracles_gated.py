"""Oracles of the gated variants: see `oracles.py`."""

from typing import Any

GATED: list[Any] = []
