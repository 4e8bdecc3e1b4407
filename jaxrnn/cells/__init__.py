"""The cells: one definition each, from which everything else follows."""

from jaxrnn.cells.antisymmetric import (
    AntisymmetricParams,
    AntisymmetricRNNCell,
    GatedAntisymmetricRNNCell,
)
from jaxrnn.cells.block_gru import BlockGRUCell, BlockGRUParams
from jaxrnn.cells.causal_conv import CausalConvCarry, CausalConvCell, CausalConvParams
from jaxrnn.cells.cifg import CIFGCell, CIFGParams
from jaxrnn.cells.conv import ConvGRUCell, ConvLSTMCell
from jaxrnn.cells.convolution import ConvParams
from jaxrnn.cells.cornn import CoRNNCarry, CoRNNCell, CoRNNParams
from jaxrnn.cells.dense import DenseCell, DenseParams
from jaxrnn.cells.exprnn import ExpRNNCell, ExpRNNParams
from jaxrnn.cells.gated_mlp import GatedMLPCell, GatedMLPParams, NoCarry
from jaxrnn.cells.gru import GRUCarry, GRUCell, GRUParams, GRUResetBeforeCell, GRUResetBeforeParams
from jaxrnn.cells.hgrn import HGRNCell, HGRNParams
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
from jaxrnn.cells.leaky import LeakyRNNCell, LowRankRNNCell, LowRankRNNParams
from jaxrnn.cells.lem import LEMCarry, LEMCell, LEMParams
from jaxrnn.cells.ligru import LiGRUCell, LiGRUParams
from jaxrnn.cells.lmu import LMUCarry, LMUCell, LMUParams
from jaxrnn.cells.lru import ComplexCarry, LRUCell, LRUParams
from jaxrnn.cells.lstm import LSTMCarry, LSTMCell, LSTMParams, LSTMPCell, LSTMPParams
from jaxrnn.cells.mgu import MGUCell, MGUParams, MGUResetAfterCell, MGUResetAfterParams
from jaxrnn.cells.mingru import MinGRUCell, MinGRUParams
from jaxrnn.cells.minlstm import MinLSTMCell, MinLSTMParams
from jaxrnn.cells.mlstm import MLSTMCarry, MLSTMCell, MLSTMParams
from jaxrnn.cells.paragru import ParaGRUCell, ParaGRUParams
from jaxrnn.cells.paralstm import ParaLSTMCell, ParaLSTMParams
from jaxrnn.cells.peephole import PeepholeLSTMCell, PeepholeLSTMParams
from jaxrnn.cells.qrnn import QRNNCarry, QRNNCell, QRNNParams
from jaxrnn.cells.rglru import RGLRUCell, RGLRUParams
from jaxrnn.cells.rnn import RNNCarry, RNNCell, RNNParams
from jaxrnn.cells.s5 import S5Cell, S5Params
from jaxrnn.cells.slstm import SLSTMCarry, SLSTMCell, SLSTMParams
from jaxrnn.cells.sru import SRUCarry, SRUCell, SRUParams
from jaxrnn.cells.ugrnn import UGRNNCell, UGRNNParams
from jaxrnn.cells.unicornn import UnICORNNCarry, UnICORNNCell, UnICORNNParams

__all__ = [
    "AntisymmetricParams",
    "AntisymmetricRNNCell",
    "BlockGRUCell",
    "BlockGRUParams",
    "CIFGCell",
    "CIFGParams",
    "CausalConvCarry",
    "CausalConvCell",
    "CausalConvParams",
    "CoRNNCarry",
    "CoRNNCell",
    "CoRNNParams",
    "ComplexCarry",
    "ConvGRUCell",
    "ConvLSTMCell",
    "ConvParams",
    "DenseCell",
    "DenseParams",
    "ExpRNNCell",
    "ExpRNNParams",
    "GRUCarry",
    "GRUCell",
    "GRUParams",
    "GRUResetBeforeCell",
    "GRUResetBeforeParams",
    "GatedAntisymmetricRNNCell",
    "GatedMLPCell",
    "GatedMLPParams",
    "HGRNCell",
    "HGRNParams",
    "IndRNNCell",
    "IndRNNParams",
    "JANETCell",
    "JANETParams",
    "LEMCarry",
    "LEMCell",
    "LEMParams",
    "LMUCarry",
    "LMUCell",
    "LMUParams",
    "LRUCell",
    "LRUParams",
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
    "LeakyRNNCell",
    "LiGRUCell",
    "LiGRUParams",
    "LowRankRNNCell",
    "LowRankRNNParams",
    "MGUCell",
    "MGUParams",
    "MGUResetAfterCell",
    "MGUResetAfterParams",
    "MLSTMCarry",
    "MLSTMCell",
    "MLSTMParams",
    "MinGRUCell",
    "MinGRUParams",
    "MinLSTMCell",
    "MinLSTMParams",
    "NoCarry",
    "ParaGRUCell",
    "ParaGRUParams",
    "ParaLSTMCell",
    "ParaLSTMParams",
    "PeepholeLSTMCell",
    "PeepholeLSTMParams",
    "QRNNCarry",
    "QRNNCell",
    "QRNNParams",
    "RGLRUCell",
    "RGLRUParams",
    "RNNCarry",
    "RNNCell",
    "RNNParams",
    "S5Cell",
    "S5Params",
    "SLSTMCarry",
    "SLSTMCell",
    "SLSTMParams",
    "SRUCarry",
    "SRUCell",
    "SRUParams",
    "UGRNNCell",
    "UGRNNParams",
    "UnICORNNCarry",
    "UnICORNNCell",
    "UnICORNNParams",
]
