"""The recurrent layers as Flax linen modules: they hold parameters and fix the layout,
and call the pure core for all else.

`RNN`, `LSTM` and `GRU` have the constructor arguments, shapes and return values of their namesakes
in `torch.nn`; `Recurrent` runs any cell or stack. The parameters are nested dicts under the entry
"cell": the fields of the core's parameters by name, and the layers and directions of a stack by
number ("0", "1", ...), as `flax.serialization` writes them. `jaxrnn.unroll` takes them too.
"""

from jaxrnn.interop.torch_states import LSTMState
from jaxrnn.linen.flax_cells import CellForRNN, FromLinen
from jaxrnn.linen.recurrent import Recurrent
from jaxrnn.linen.scanned import ScannedRNN
from jaxrnn.linen.torch_layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "CellForRNN", "FromLinen", "LSTMState", "Recurrent", "ScannedRNN"]
