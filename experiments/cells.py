"""The cells that are compared. Which initialisation a cell has decides what it can learn, so it is part of the name."""

from collections.abc import Callable
from typing import NamedTuple

from jaxrnn import Cell, Chrono, GRUCell, LSTMCell, RNNCell
from jaxrnn.initializers import Normal


class NamedCell(NamedTuple):
    description: str
    make: Callable[[int, int], Cell]  # (hidden_size, lag) -> cell


CELLS: dict[str, NamedCell] = {
    "rnn_orth": NamedCell("tanh RNN, orthogonal recurrent kernel", lambda H, lag: RNNCell(H)),
    "rnn_glorot": NamedCell(
        "tanh RNN, recurrent kernel N(0, 1/H): Glorot's variance", lambda H, lag: RNNCell(H, recurrent_init="lecun_normal")
    ),
    "rnn_small": NamedCell("tanh RNN, recurrent kernel N(0, 0.1^2)", lambda H, lag: RNNCell(H, recurrent_init=Normal(0.1))),
    "irnn": NamedCell(
        "ReLU RNN, identity recurrent kernel, input kernel N(0, 0.001^2) (Le et al. 2015)",
        lambda H, lag: RNNCell(H, "relu", recurrent_init="identity", input_init=Normal(0.001)),
    ),
    "lstm_fb0": NamedCell("LSTM, orthogonal per gate, forget bias 0", lambda H, lag: LSTMCell(H, forget_bias=0.0)),
    "lstm": NamedCell("LSTM, orthogonal per gate, forget bias 1", lambda H, lag: LSTMCell(H, forget_bias=1.0)),
    "lstm_chrono": NamedCell(
        "LSTM, orthogonal per gate, forget bias log U(1, lag - 1)", lambda H, lag: LSTMCell(H, forget_bias=Chrono(lag))
    ),
    "gru": NamedCell("GRU, orthogonal per gate, update bias 0", lambda H, lag: GRUCell(H, update_bias=0.0)),
    "gru_chrono": NamedCell(
        "GRU, orthogonal per gate, update bias log U(1, lag - 1)", lambda H, lag: GRUCell(H, update_bias=Chrono(lag))
    ),
}
