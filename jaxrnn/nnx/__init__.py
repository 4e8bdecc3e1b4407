"""The recurrent layers as Flax nnx modules: they hold parameters and fix the layout,
and call the pure core for all else.

`RNN`, `LSTM` and `GRU` have the constructor arguments, shapes and return values of their namesakes
in `torch.nn`; `Recurrent` runs any cell or stack. Modules train by default, as in torch:
`module.eval()` and `module.train()` switch dropout. Their variables are nested dicts under
`weights`: the fields of the core's parameters by name, and the layers and directions of a stack by
number ("0", "1", ...), as `jaxrnn.linen` has them; `module.params` is the core's structure.
"""

from jaxrnn.interop.torch_states import LSTMState
from jaxrnn.nnx.flax_cells import CellForRNN, FromNnx
from jaxrnn.nnx.recurrent import Recurrent
from jaxrnn.nnx.scanned import ScannedRNN
from jaxrnn.nnx.torch_layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "CellForRNN", "FromNnx", "LSTMState", "Recurrent", "ScannedRNN"]
