"""What an experiment with learning online is made of: a frozen dataclass of plain values."""

import dataclasses

from experiments.cells import CELLS
from experiments.config import UsageError, choose

MEASURES = ("learning", "cosines", "stacks", "cost")
# as in `experiments.online.streams` and `experiments.online.learners`, which load JAX
STREAMS = ("copying", "adding", "drifting")
FORWARD = ("rtrl", "snap1", "eprop", "uoro")


@dataclasses.dataclass(frozen=True)
class OnlineConfig:
    """Gradients forward in time beside truncated backpropagation, on streams that do not end.

    Args:
        measures: learning (losses along each stream), cosines (of approximate gradients to the
            exact one, against the lag), stacks (of those of stacked layers) and cost (time and
            memory beside backpropagation).
        streams: copying, adding or drifting.
        learners: rtrl, snap1, eprop, uoro; or bptt_W, truncated to windows of W steps.
        networks: for each stream, or for all, which cell learns it, of `list cells`.
        lags: for each stream, or for all, how many steps before, at the most, is what is asked for.
        cells: of which the cosines are measured.
        hidden_size: H, the hidden units.
        batch_size: so many streams side by side.
        steps: of each stream.
        every: steps from one update to the next, where gradients go forward; of bptt_W it is W.
        learning_rates: of Adam, each tried on a seed of its own, and up to three beyond the first
            or the last where that is the best; the best one is reported.
        seed: what everything is drawn from.
        seeds: so many networks and streams from one seed on.
        out: the folder to write; none means a new one under runs/.
    """

    measures: tuple[str, ...] = ("learning",)
    streams: tuple[str, ...] = STREAMS
    learners: tuple[str, ...] = ("rtrl", "bptt_8", "bptt_32", "bptt_128")
    networks: tuple[str, ...] = ("lru", "rglru", "lru")
    lags: tuple[int, ...] = (20, 50, 20)
    cells: tuple[str, ...] = ("rnn_orth", "lstm", "gru", "lem", "ligru", "janet")
    hidden_size: int = 32
    batch_size: int = 16
    steps: int = 51200
    every: int = 8
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    seed: int = 0
    seeds: int = 3
    out: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("measures", MEASURES), ("streams", STREAMS), ("cells", tuple(CELLS))):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UsageError(f"{name} must be one or more different ones, got {values}.")
            for value in values:
                choose(name.removesuffix("s"), value, known)
        for name in ("networks", "lags"):
            if len(getattr(self, name)) not in (1, len(self.streams)):
                raise UsageError(f"{name} must be one, or one for each of streams.")
        for network in self.networks:
            choose("cell", network, CELLS)
        for learner in self.learners:
            if learner not in FORWARD and window(learner) is None:
                raise UsageError(f"learner {learner!r} is none of {', '.join(FORWARD)}, bptt_W.")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in ("hidden_size", "batch_size", "steps", "every", "seeds"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if min(self.lags) < 2:
            raise UsageError(f"lags must be at least 2, got {self.lags}.")
        if not self.learners or not self.learning_rates or min(self.learning_rates) <= 0:
            raise UsageError("learners and learning_rates must be some, and rates above 0.")
        strides = [window(learner) or self.every for learner in self.learners]
        if any(self.steps % (stride * PARTS) for stride in strides):
            raise UsageError(
                f"steps={self.steps} must be a multiple of {PARTS} times every and each window."
            )

    def of(self, stream: str) -> tuple[str, int]:
        """The cell that learns a stream, and the lag of it."""
        place = self.streams.index(stream)
        network = self.networks[place if len(self.networks) > 1 else 0]
        return network, self.lags[place if len(self.lags) > 1 else 0]


PARTS = 50  # of a stream, whose losses are kept


def window(learner: str) -> int | None:
    """The W of bptt_W; None of another name."""
    kind, _, size = learner.partition("_")
    return int(size) if kind == "bptt" and size.isdecimal() and int(size) > 0 else None
