"""Linear recurrences: one affine scan."""

from jaxrnn.affine.scan import affine_scan

__all__ = ["affine_scan"]
