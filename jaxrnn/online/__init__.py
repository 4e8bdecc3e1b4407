"""Learning while a sequence runs: gradients at every step, in memory that does not grow with it."""

from jaxrnn.online.dense import DenseRTRL
from jaxrnn.online.learner import Learner, Moment, State
from jaxrnn.online.stream import Learned, learn
from jaxrnn.online.unitwise import RTRL, EProp, SnAp1
from jaxrnn.online.uoro import UORO

__all__ = [
    "RTRL",
    "UORO",
    "DenseRTRL",
    "EProp",
    "Learned",
    "Learner",
    "Moment",
    "SnAp1",
    "State",
    "learn",
]
