"""`method="affine"`: a cell whose carry is linear, unit by unit, runs as one affine scan."""

from jaxrnn.running.affine.method import Affine

__all__ = ["Affine"]
