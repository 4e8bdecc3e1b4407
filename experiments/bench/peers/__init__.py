"""The peers: which library each needs, which cells it has, on which devices and in which precisions it runs.

Nothing is imported before it is needed. A variant is a precision: "float32" (on a GPU with TF32 products, the default of JAX
and of cuDNN), "strict" (float32 products), "bfloat16" and "float16".
"""

import importlib
import importlib.util
from typing import Any, NamedTuple

JAX = ("float32", "strict", "bfloat16")


class Peer(NamedTuple):
    module: str  # what must be installed
    make: str  # "file:function" in this folder
    cells: tuple[str, ...] = ("lstm", "gru", "rnn")
    variants: tuple[str, ...] = JAX
    devices: tuple[str, ...] = ("cpu", "gpu")
    about: str = ""

    def load(self) -> Any:
        """The function that makes the peer's program."""
        file, function = self.make.split(":")
        return getattr(importlib.import_module(f"experiments.bench.peers.{file}"), function)

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


OURS = "jaxrnn"
PEERS = {
    OURS: Peer("jaxrnn", "ours:jaxrnn", about="unroll, default method"),
    "jaxrnn_scan": Peer("jaxrnn", "ours:jaxrnn_scan", about='unroll, method="scan"'),
    "hand_scan": Peer("jax", "ours:hand_scan", about="a plain lax.scan"),
    "flax_nnx": Peer("flax", "flax:flax_nnx", about="nnx.RNN"),
    "flax_linen": Peer("flax", "flax:flax_linen", about="linen.RNN"),
    "keras": Peer("keras", "keras:keras_jax", about="Keras 3 on JAX"),
    "haiku": Peer("haiku", "haiku:haiku", cells=("lstm",), about="hk.dynamic_unroll"),
    "equinox": Peer("equinox", "equinox:equinox", cells=("lstm", "gru"), about="its cell under lax.scan"),
    "torch": Peer("torch", "torch:TorchRun", variants=(*JAX, "float16"), about="torch.nn"),
    "cudnn": Peer("jax", "cudnn:cudnn", ("lstm",), ("float32", "strict"), ("gpu",), "jax.experimental.rnn.lstm"),
}
