"""The cells that are compared. Which initialisation a cell has decides what it can learn, so it is part of the name."""

from collections.abc import Callable
from typing import NamedTuple

import jaxrnn as rnn
from jaxrnn.initializers import Normal


class NamedCell(NamedTuple):
    description: str
    make: Callable[[int, int], rnn.Cell]  # (hidden_size, lag) -> cell


CELLS: dict[str, NamedCell] = {
    "rnn_orth": NamedCell("tanh RNN, orthogonal recurrent kernel", lambda H, lag: rnn.RNNCell(H)),
    "rnn_glorot": NamedCell(
        "tanh RNN, recurrent kernel N(0, 1/H): Glorot's variance", lambda H, lag: rnn.RNNCell(H, recurrent_init="lecun_normal")
    ),
    "rnn_small": NamedCell("tanh RNN, recurrent kernel N(0, 0.1^2)", lambda H, lag: rnn.RNNCell(H, recurrent_init=Normal(0.1))),
    "irnn": NamedCell(
        "ReLU RNN, identity recurrent kernel, input kernel N(0, 0.001^2) (Le et al. 2015)",
        lambda H, lag: rnn.RNNCell(H, "relu", recurrent_init="identity", input_init=Normal(0.001)),
    ),
    "lstm_fb0": NamedCell("LSTM, orthogonal per gate, forget bias 0", lambda H, lag: rnn.LSTMCell(H, forget_bias=0.0)),
    "lstm": NamedCell("LSTM, orthogonal per gate, forget bias 1", lambda H, lag: rnn.LSTMCell(H, forget_bias=1.0)),
    "lstm_chrono": NamedCell(
        "LSTM, orthogonal per gate, forget bias log U(1, lag - 1)", lambda H, lag: rnn.LSTMCell(H, forget_bias=rnn.Chrono(lag))
    ),
    "gru": NamedCell("GRU, orthogonal per gate, update bias 0", lambda H, lag: rnn.GRUCell(H, update_bias=0.0)),
    "gru_ub1": NamedCell("GRU, orthogonal per gate, update bias 1", lambda H, lag: rnn.GRUCell(H, update_bias=1.0)),
    "gru_chrono": NamedCell(
        "GRU, orthogonal per gate, update bias log U(1, lag - 1)", lambda H, lag: rnn.GRUCell(H, update_bias=rnn.Chrono(lag))
    ),
    "gru_before": NamedCell("GRU with the reset before the product", lambda H, lag: rnn.GRUResetBeforeCell(H)),
    "lstmp": NamedCell("LSTM, projected to half of its units", lambda H, lag: rnn.LSTMPCell(H, max(H // 2, 1))),
    "ln_rnn": NamedCell("tanh RNN with layer norm", lambda H, lag: rnn.LayerNormRNNCell(H)),
    "ln_lstm": NamedCell("LSTM with layer norm", lambda H, lag: rnn.LayerNormLSTMCell(H)),
    "ln_gru": NamedCell("GRU with layer norm", lambda H, lag: rnn.LayerNormGRUCell(H)),
    "peephole": NamedCell("LSTM whose gates see the cell", lambda H, lag: rnn.PeepholeLSTMCell(H)),
    "cifg": NamedCell("LSTM with coupled input and forget gates", lambda H, lag: rnn.CIFGCell(H)),
    "janet": NamedCell("JANET: forget gate only, forget bias 1", lambda H, lag: rnn.JANETCell(H)),
    "janet_chrono": NamedCell(
        "JANET, forget bias log U(1, lag - 1)", lambda H, lag: rnn.JANETCell(H, forget_bias=rnn.Chrono(lag))
    ),
    "mgu": NamedCell("minimal gated unit", lambda H, lag: rnn.MGUCell(H)),
    "mgu_after": NamedCell("minimal gated unit, the gate after the product", lambda H, lag: rnn.MGUResetAfterCell(H)),
    "ugrnn": NamedCell("update gate RNN", lambda H, lag: rnn.UGRNNCell(H)),
    "ligru": NamedCell("light GRU: no reset gate, ReLU", lambda H, lag: rnn.LiGRUCell(H)),
    "indrnn": NamedCell("IndRNN: one recurrent weight per unit, ReLU", lambda H, lag: rnn.IndRNNCell(H)),
    "mh_rnn": NamedCell("tanh RNN of four heads", lambda H, lag: rnn.MultiHeadRNNCell(H, heads=4)),
    "mh_lstm": NamedCell("LSTM of four heads", lambda H, lag: rnn.MultiHeadLSTMCell(H, heads=4)),
    "mh_gru": NamedCell("GRU of four heads", lambda H, lag: rnn.MultiHeadGRUCell(H, heads=4)),
    "lem": NamedCell("long expressive memory, time step 1", lambda H, lag: rnn.LEMCell(H)),
    "cornn": NamedCell("coupled oscillators", lambda H, lag: rnn.CoRNNCell(H)),
    "unicornn": NamedCell("undamped independent oscillators", lambda H, lag: rnn.UnICORNNCell(H)),
    "antisymmetric": NamedCell("antisymmetric RNN", lambda H, lag: rnn.AntisymmetricRNNCell(H)),
    "antisymmetric_gated": NamedCell("antisymmetric RNN with a gate", lambda H, lag: rnn.GatedAntisymmetricRNNCell(H)),
    "exprnn": NamedCell("orthogonal RNN, exp of a skew-symmetric matrix", lambda H, lag: rnn.ExpRNNCell(H)),
    "conv_lstm": NamedCell("convolutional LSTM, 3 x 3, for pictures", lambda H, lag: rnn.ConvLSTMCell(H, 3, dims=2)),
    "conv_gru": NamedCell("convolutional GRU, 3 x 3, for pictures", lambda H, lag: rnn.ConvGRUCell(H, 3, dims=2)),
}
