"""The peers: which library each needs, which cells it has,
on which devices and in which precisions it runs.

Nothing is imported before it is needed. A variant is a precision: "float32" (on a GPU with TF32
products, the default of JAX and of cuDNN), "strict" (float32 products), "bfloat16" and "float16".
"""

import importlib
import importlib.util
from typing import Any, NamedTuple

JAX = ("float32", "strict", "bfloat16")
FORWARD = "forward"
BOTH = "forward+backward"
MODES = (FORWARD, BOTH)


class Peer(NamedTuple):
    module: str  # what must be installed
    make: str  # "file:function" in this folder
    cells: tuple[str, ...] = ("lstm", "gru", "rnn")
    variants: tuple[str, ...] = JAX
    devices: tuple[str, ...] = ("cpu", "gpu")
    about: str = ""
    modes: tuple[str, ...] = MODES
    splits: bool = True  # whether its batch can be split over devices
    least_steps: int = 0  # shorter sequences are not what it is for
    extra: bool = False  # runs only where it is asked for
    # beside the question who is faster: runs in every third round only, which leaves more rounds to
    # the rest
    aside: bool = False

    def load(self) -> Any:
        """The function that makes the peer's program."""
        file, function = self.make.split(":")
        return getattr(importlib.import_module(f"experiments.bench.peers.{file}"), function)

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


class Choice(NamedTuple):
    """Which peer, in which precision, on how many devices."""

    peer: str
    variant: str
    devices: int = 1

    @property
    def every(self) -> int:
        """It runs in every so many rounds: in the third where it is aside, as what others than
        jaxrnn do on two devices is.
        """
        return 3 if PEERS[self.peer].aside or (self.devices == 2 and self.peer != OURS) else 1


OURS = "jaxrnn"
PEERS = {
    OURS: Peer("jaxrnn", "ours:jaxrnn", about="unroll, default method"),
    "jaxrnn_scan": Peer(
        "jaxrnn", "ours:jaxrnn_scan", about='unroll, method="scan"', extra=True, aside=True
    ),
    "jaxrnn_carry": Peer(
        "jaxrnn", "ours:jaxrnn_carry", about='unroll, remat="carry"', modes=(BOTH,), aside=True
    ),
    "jaxrnn_sqrt": Peer(
        "jaxrnn",
        "ours:jaxrnn_sqrt",
        about='unroll, remat="sqrt"',
        modes=(BOTH,),
        least_steps=512,
        extra=True,
        aside=True,
    ),
    "jaxrnn_cudnn": Peer(
        "jaxrnn",
        "ours:jaxrnn_cudnn",
        ("lstm",),
        ("float32", "strict"),
        ("gpu",),
        'unroll, method="cudnn"',
        splits=False,
        aside=True,
    ),
    "jaxrnn_persistent": Peer(
        "jaxrnn",
        "ours:jaxrnn_persistent",
        variants=("float32", "bfloat16"),
        devices=("gpu",),
        about='unroll, method="persistent"',
        splits=False,
        aside=True,
    ),
    "hand_scan": Peer("jax", "ours:hand_scan", about="a plain lax.scan"),
    "flax_nnx": Peer("flax", "flax:flax_nnx", about="nnx.RNN"),
    "flax_linen": Peer("flax", "flax:flax_linen", about="linen.RNN"),
    "keras": Peer("keras", "keras:keras_jax", about="Keras 3 on JAX"),
    "haiku": Peer("haiku", "haiku:haiku", cells=("lstm",), about="hk.dynamic_unroll"),
    "equinox": Peer(
        "equinox", "equinox:equinox", cells=("lstm", "gru"), about="its cell under lax.scan"
    ),
    "torch": Peer(
        "torch", "torch:TorchRun", variants=(*JAX, "float16"), about="torch.nn", splits=False
    ),
    "cudnn": Peer(
        "jax",
        "cudnn:cudnn",
        ("lstm",),
        ("float32", "strict"),
        ("gpu",),
        "jax.experimental.rnn.lstm",
        splits=False,
    ),
}
