"""Cells as headers of C."""

from jaxrnn.interop.c.header import to_c

__all__ = ["to_c"]
