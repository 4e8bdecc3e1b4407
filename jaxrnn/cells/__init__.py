"""The cells: one definition each, from which everything else follows."""

from jaxrnn.cells.dropout import DropConnect, RecurrentDropout, VariationalDropout, Zoneout
from jaxrnn.cells.gru import GRUCarry, GRUCell, GRUParams, GRUResetBeforeCell, GRUResetBeforeParams
from jaxrnn.cells.lstm import LSTMCarry, LSTMCell, LSTMParams, LSTMPCell, LSTMPParams
from jaxrnn.cells.rnn import RNNCarry, RNNCell, RNNParams
from jaxrnn.cells.wrappers import LayerNormInput, LearnedInitialCarry, Residual, Skip, Wrapper

__all__ = [
    "DropConnect",
    "GRUCarry",
    "GRUCell",
    "GRUParams",
    "GRUResetBeforeCell",
    "GRUResetBeforeParams",
    "LSTMCarry",
    "LSTMCell",
    "LSTMPCell",
    "LSTMPParams",
    "LSTMParams",
    "LayerNormInput",
    "LearnedInitialCarry",
    "RNNCarry",
    "RNNCell",
    "RNNParams",
    "RecurrentDropout",
    "Residual",
    "Skip",
    "VariationalDropout",
    "Wrapper",
    "Zoneout",
]
