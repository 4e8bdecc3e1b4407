"""Cells around cells: each takes a cell and is one."""

from jaxrnn.wrappers.attention import AttentionCarry, AttentionInput, AttentionParams
from jaxrnn.wrappers.base import Wrapper
from jaxrnn.wrappers.bidirectional import Bidirectional
from jaxrnn.wrappers.block import Block, Mixer
from jaxrnn.wrappers.connections import Residual, Skip
from jaxrnn.wrappers.constraints import DaleLaw, Sparse
from jaxrnn.wrappers.constraints import Mask as Mask  # of which saved cells are made
from jaxrnn.wrappers.drop_connect import DropConnect
from jaxrnn.wrappers.dropout import RecurrentDropout, VariationalDropout
from jaxrnn.wrappers.feedback import Feedback, FeedbackCarry, FeedbackParams
from jaxrnn.wrappers.learned import LearnedInitialCarry
from jaxrnn.wrappers.multihead import MultiHead
from jaxrnn.wrappers.norm import LayerNormInput, RMSNormInput
from jaxrnn.wrappers.zoneout import Zoneout

__all__ = [
    "AttentionCarry",
    "AttentionInput",
    "AttentionParams",
    "Bidirectional",
    "Block",
    "DaleLaw",
    "DropConnect",
    "Feedback",
    "FeedbackCarry",
    "FeedbackParams",
    "LayerNormInput",
    "LearnedInitialCarry",
    "Mixer",
    "MultiHead",
    "RMSNormInput",
    "RecurrentDropout",
    "Residual",
    "Skip",
    "Sparse",
    "VariationalDropout",
    "Wrapper",
    "Zoneout",
]
