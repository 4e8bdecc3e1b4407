"""The cells: one definition each, from which everything else follows."""

from jaxrnn.cells.antisymmetric import (
    AntisymmetricParams,
    AntisymmetricRNNCell,
    GatedAntisymmetricRNNCell,
)
from jaxrnn.cells.cifg import CIFGCell, CIFGParams
from jaxrnn.cells.conv import ConvGRUCell, ConvLSTMCell
from jaxrnn.cells.convolution import ConvParams
from jaxrnn.cells.cornn import CoRNNCarry, CoRNNCell, CoRNNParams
from jaxrnn.cells.exprnn import ExpRNNCell, ExpRNNParams
from jaxrnn.cells.gru import GRUCarry, GRUCell, GRUParams, GRUResetBeforeCell, GRUResetBeforeParams
from jaxrnn.cells.indrnn import IndRNNCell, IndRNNParams
from jaxrnn.cells.janet import JANETCell, JANETParams
from jaxrnn.cells.layer_norm import (
    LayerNormGRUCell,
    LayerNormGRUParams,
    LayerNormLSTMCell,
    LayerNormLSTMParams,
    LayerNormRNNCell,
    LayerNormRNNParams,
)
from jaxrnn.cells.lem import LEMCarry, LEMCell, LEMParams
from jaxrnn.cells.ligru import LiGRUCell, LiGRUParams
from jaxrnn.cells.lstm import LSTMCarry, LSTMCell, LSTMParams, LSTMPCell, LSTMPParams
from jaxrnn.cells.mgu import MGUCell, MGUParams, MGUResetAfterCell, MGUResetAfterParams
from jaxrnn.cells.peephole import PeepholeLSTMCell, PeepholeLSTMParams
from jaxrnn.cells.rnn import RNNCarry, RNNCell, RNNParams
from jaxrnn.cells.ugrnn import UGRNNCell, UGRNNParams
from jaxrnn.cells.unicornn import UnICORNNCarry, UnICORNNCell, UnICORNNParams

__all__ = [
    "AntisymmetricParams",
    "AntisymmetricRNNCell",
    "CIFGCell",
    "CIFGParams",
    "CoRNNCarry",
    "CoRNNCell",
    "CoRNNParams",
    "ConvGRUCell",
    "ConvLSTMCell",
    "ConvParams",
    "ExpRNNCell",
    "ExpRNNParams",
    "GRUCarry",
    "GRUCell",
    "GRUParams",
    "GRUResetBeforeCell",
    "GRUResetBeforeParams",
    "GatedAntisymmetricRNNCell",
    "IndRNNCell",
    "IndRNNParams",
    "JANETCell",
    "JANETParams",
    "LEMCarry",
    "LEMCell",
    "LEMParams",
    "LSTMCarry",
    "LSTMCell",
    "LSTMPCell",
    "LSTMPParams",
    "LSTMParams",
    "LayerNormGRUCell",
    "LayerNormGRUParams",
    "LayerNormLSTMCell",
    "LayerNormLSTMParams",
    "LayerNormRNNCell",
    "LayerNormRNNParams",
    "LiGRUCell",
    "LiGRUParams",
    "MGUCell",
    "MGUParams",
    "MGUResetAfterCell",
    "MGUResetAfterParams",
    "PeepholeLSTMCell",
    "PeepholeLSTMParams",
    "RNNCarry",
    "RNNCell",
    "RNNParams",
    "UGRNNCell",
    "UGRNNParams",
    "UnICORNNCarry",
    "UnICORNNCell",
    "UnICORNNParams",
]
