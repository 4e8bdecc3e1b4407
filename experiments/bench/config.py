"""What a benchmark measures: a frozen dataclass of plain values, checked when it is made,
and saved with the results.
"""

import dataclasses

from experiments.bench.peers import OURS, PEERS
from experiments.bench.shapes import GATES, MATRIX, QUICK, Job, Shape, parse
from experiments.config import UsageError, choose

VARIANTS = {"cpu": ("float32",), "gpu": ("float32", "strict", "bfloat16", "float16")}
KNOWN_VARIANTS = VARIANTS["gpu"]


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """Times of jaxrnn and its peers, forward and with the backward pass.

    Args:
        cells: which of lstm, gru and rnn.
        shapes: BxTxIxH (rows, steps, inputs, hidden units), with -2layers, -bidirectional or
            -ragged behind; none means the matrix of the device.
        peers: which libraries and ways to run; none means all but jaxrnn_scan and jaxrnn_sqrt.
            jaxrnn is always among them.
        split: which of the peers are timed again with the batch split over two CPU devices, where
            B >= 16; none of them means that the process has one device.
        variants: which of float32, strict, bfloat16 and float16; none means float32 on a CPU and
            all on a GPU.
        rounds: the most rounds for each cell, shape and mode.
        minutes: how long the whole may take; the number of rounds follows, and is at least 5.
        memory: whether resident memory, each candidate in a process of its own, and that of very
            long sequences are measured too.
        device: cpu or gpu.
        quick: a few small shapes and rounds and no `memory`, in under two minutes.
        every_cell: instead, each cell of the library and four of strangers against plain
            `lax.scan`, forward and backward and forward alone, at `shapes`, none of which means
            three of its own.
        calls: instead, what one call of a module costs beside Flax's own, eager and compiled, at
            `shapes`, none of which means two of its own.
        agents: instead, the `ScannedRNN` of agents beside the one that is written by hand, at
            `shapes`, none of which means eighteen of its own.
        shipped: instead, one step of a cell as C and as ONNX beside `jax.jit`, at `shapes`, none of
            which means one of its own.
        linear: instead, linear recurrences: `affine_scan` against loops, each linear cell by each
            method (an LRU by memax too, where that is installed), and two cells by Newton's method,
            at `shapes`, none of which means some of its own.
        seed: what weights, inputs and the order of the candidates are drawn from.
        out: the folder to write; none means a new one under runs/.
    """

    cells: tuple[str, ...] = ("lstm", "gru", "rnn")
    shapes: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    split: tuple[str, ...] = (OURS,)
    variants: tuple[str, ...] = ()
    rounds: int = 30
    minutes: float = 27.0
    memory: bool = True
    device: str = "cpu"
    quick: bool = False
    every_cell: bool = False
    calls: bool = False
    agents: bool = False
    shipped: bool = False
    linear: bool = False
    seed: int = 0
    out: str | None = None

    def __post_init__(self) -> None:
        choose("device", self.device, MATRIX)
        for kind, names, known in (
            ("cell of the benchmark", self.cells, GATES),
            ("peer", self.peers, PEERS),
            ("peer", self.split, [name for name, peer in PEERS.items() if peer.splits]),
            ("variant", self.variants, KNOWN_VARIANTS),
        ):
            for name in names:
                choose(kind, name, known)
        self.jobs()
        if sum(self.tables) > 1:
            raise UsageError(
                "calls, agents, shipped, every_cell and linear are tables; ask for one at a time."
            )
        if not self.cells:
            raise UsageError("cells must name at least one.")
        if self.rounds < 1 or not self.minutes > 0:
            raise UsageError(
                f"rounds and minutes must be positive, got {self.rounds} and {self.minutes}."
            )

    def jobs(self) -> list[Job]:
        """What is measured, the shapes in their order."""
        matrix: tuple[Shape, ...] = (
            tuple(map(parse, self.shapes)) or (QUICK if self.quick else MATRIX)[self.device]
        )
        return [Job(cell, shape) for shape in matrix for cell in self.cells]

    @property
    def names(self) -> list[str]:
        """The peers, jaxrnn first."""
        return [
            name
            for name, peer in PEERS.items()
            if name == OURS or (name in self.peers if self.peers else not peer.extra)
        ]

    @property
    def halved(self) -> list[str]:
        """The peers that run on two devices too; jaxrnn among them,
        since they are compared with it.
        """
        return [name for name in self.names if self.split and name in (OURS, *self.split)]

    @property
    def tables(self) -> tuple[bool, ...]:
        """Which of the tables are asked for that stand for themselves."""
        return (self.every_cell, self.calls, self.agents, self.shipped, self.linear)

    @property
    def cpu_devices(self) -> int:
        return 2 if self.split and self.device == "cpu" and not any(self.tables) else 1

    @property
    def precisions(self) -> tuple[str, ...]:
        return self.variants or VARIANTS[self.device]

    @property
    def measures_memory(self) -> bool:
        return self.memory and not self.quick

    @property
    def most_rounds(self) -> int:
        return min(self.rounds, 7) if self.quick else self.rounds

    @property
    def seconds(self) -> float:
        return 60 * (min(self.minutes, 1.6) if self.quick else self.minutes)
