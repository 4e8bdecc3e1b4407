"""Weights to and from other libraries, none of which is imported."""

from jaxrnn.interop.torch import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]
