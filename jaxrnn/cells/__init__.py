"""The cells: one definition each, from which everything else follows."""

from jaxrnn.cells.gru import GRUCarry, GRUCell, GRUParams, GRUResetBeforeCell, GRUResetBeforeParams
from jaxrnn.cells.lstm import LSTMCarry, LSTMCell, LSTMParams, LSTMPCell, LSTMPParams
from jaxrnn.cells.rnn import RNNCarry, RNNCell, RNNParams

__all__ = [
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
    "RNNCarry",
    "RNNCell",
    "RNNParams",
]
