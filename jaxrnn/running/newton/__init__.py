"""`method="newton"`: all steps of a nonlinear cell are solved for at once."""

from jaxrnn.running.newton.method import Newton

__all__ = ["Newton"]
