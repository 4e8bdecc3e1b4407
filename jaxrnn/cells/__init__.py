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
from jaxrnn.cells.dropout import DropConnect, RecurrentDropout, VariationalDropout, Zoneout
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
from jaxrnn.cells.multihead import (
    MultiHeadGRUCell,
    MultiHeadGRUParams,
    MultiHeadLSTMCell,
    MultiHeadLSTMParams,
    MultiHeadRNNCell,
    MultiHeadRNNParams,
)
from jaxrnn.cells.peephole import PeepholeLSTMCell, PeepholeLSTMParams
from jaxrnn.cells.rnn import RNNCarry, RNNCell, RNNParams
from jaxrnn.cells.ugrnn import UGRNNCell, UGRNNParams
from jaxrnn.cells.unicornn import UnICORNNCarry, UnICORNNCell, UnICORNNParams
from jaxrnn.cells.wrappers import LayerNormInput, LearnedInitialCarry, Residual, Skip, Wrapper

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
    "DropConnect",
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
    "LayerNormInput",
    "LayerNormLSTMCell",
    "LayerNormLSTMParams",
    "LayerNormRNNCell",
    "LayerNormRNNParams",
    "LearnedInitialCarry",
    "LiGRUCell",
    "LiGRUParams",
    "MGUCell",
    "MGUParams",
    "MGUResetAfterCell",
    "MGUResetAfterParams",
    "MultiHeadGRUCell",
    "MultiHeadGRUParams",
    "MultiHeadLSTMCell",
    "MultiHeadLSTMParams",
    "MultiHeadRNNCell",
    "MultiHeadRNNParams",
    "PeepholeLSTMCell",
    "PeepholeLSTMParams",
    "RNNCarry",
    "RNNCell",
    "RNNParams",
    "RecurrentDropout",
    "Residual",
    "Skip",
    "UGRNNCell",
    "UGRNNParams",
    "UnICORNNCarry",
    "UnICORNNCell",
    "UnICORNNParams",
    "VariationalDropout",
    "Wrapper",
    "Zoneout",
]
