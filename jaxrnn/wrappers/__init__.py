"""Cells around cells: each takes a cell and is one."""

from jaxrnn.wrappers.base import Wrapper
from jaxrnn.wrappers.bidirectional import Bidirectional
from jaxrnn.wrappers.connections import Residual, Skip
from jaxrnn.wrappers.drop_connect import DropConnect
from jaxrnn.wrappers.dropout import RecurrentDropout, VariationalDropout
from jaxrnn.wrappers.learned import LearnedInitialCarry
from jaxrnn.wrappers.multihead import MultiHead
from jaxrnn.wrappers.norm import LayerNormInput
from jaxrnn.wrappers.zoneout import Zoneout

__all__ = [
    "Bidirectional",
    "DropConnect",
    "LayerNormInput",
    "LearnedInitialCarry",
    "MultiHead",
    "RecurrentDropout",
    "Residual",
    "Skip",
    "VariationalDropout",
    "Wrapper",
    "Zoneout",
]
