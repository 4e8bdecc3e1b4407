"""What an experiment with agents is made of: a frozen dataclass of plain values, checked when it is
made, and saved with the results."""

import dataclasses

from experiments.cells import CELLS
from experiments.config import UsageError, choose
from experiments.online.config import FORWARD

MEMORYLESS = "memoryless"
# as in `experiments.agents.environments`, which loads JAX
KNOWN = ("t_maze", "repeat_previous", "cue_and_delay", "cart_pole")
PPO = "ppo"
OF_PPO = ("epochs", "minibatches", "trace", "clip", "burn_in")


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """Agents on one environment, for each cell and each length.

    Args:
        environment: t_maze, repeat_previous, cue_and_delay or cart_pole.
        lengths: how far apart what is seen and what is done are, in steps; of cart_pole the number
            of steps that the pole is to stand.
        cells: which cells, of `list cells`, or memoryless, which has none.
        learner: ppo, recurrent PPO with gradients back through rollouts; or rtrl, snap1, eprop or
            uoro, an actor-critic with gradients forward in time, which takes no epochs,
            minibatches, trace, clip and burn_in.
        hidden_size: H, the hidden units.
        environments: how many run side by side.
        steps: of each in one rollout, through which gradients go back; or from update to update.
        updates: so many rollouts are learned from.
        epochs: how often each rollout is learned from.
        minibatches: into so many parts the environments are divided in each epoch.
        learning_rate: of Adam, which falls to zero in a line.
        discount: gamma, of later rewards.
        trace: lambda, of the generalised advantages.
        clip: how far the ratio of the probabilities may leave 1.
        entropy: the weight of the entropy of the policy.
        burn_in: the first steps of each rollout that only bring the carry up to date.
        seed: what everything is drawn from.
        seeds: so many agents from one seed on, all at once.
        out: the folder to write; none means a new one under runs/.
    """

    environment: str = "t_maze"
    lengths: tuple[int, ...] = (16,)
    cells: tuple[str, ...] = ("gru", "lstm", "rnn_orth", "lru", MEMORYLESS)
    learner: str = PPO
    hidden_size: int = 64
    environments: int = 64
    steps: int = 64
    updates: int = 200
    epochs: int = 4
    minibatches: int = 4
    learning_rate: float = 2e-3
    discount: float = 0.99
    trace: float = 0.95
    clip: float = 0.2
    entropy: float = 0.01
    burn_in: int = 0
    seed: int = 0
    seeds: int = 3
    out: str | None = None

    def __post_init__(self) -> None:
        choose("environment", self.environment, KNOWN)
        for cell in self.cells:
            choose("cell", cell, (*CELLS, MEMORYLESS))
        choose("learner", self.learner, (PPO, *FORWARD))
        if self.learner != PPO:
            self._check_forward()
        self._check_counts()
        self._check_rates()

    def _check_forward(self) -> None:
        if MEMORYLESS in self.cells:
            raise UsageError(f"learner {self.learner!r} needs cells with a state, not memoryless.")
        for field in dataclasses.fields(self):
            if field.name in OF_PPO and getattr(self, field.name) != field.default:
                raise UsageError(f"{field.name} means nothing to learner {self.learner!r}.")

    def _check_counts(self) -> None:
        for name in ("lengths", "cells"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UsageError(f"{name} must be one or more different ones, got {values}.")
        counts = ("hidden_size", "environments", "steps", "updates", "epochs", "minibatches")
        for name in (*counts, "seeds"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if min(self.lengths) < 1:
            raise UsageError(f"lengths must be at least 1, got {self.lengths}.")
        if self.learner == PPO and self.environments % self.minibatches:
            raise UsageError(
                f"minibatches must divide environments, got {self.minibatches} and "
                f"{self.environments}."
            )
        if not 0 <= self.burn_in < self.steps:
            raise UsageError(f"burn_in must be from 0 to steps - 1, got {self.burn_in}.")

    def _check_rates(self) -> None:
        for name in ("discount", "trace", "clip"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name} must be above 0, to 1, got {getattr(self, name)}.")
        if self.learning_rate <= 0 or self.entropy < 0:
            raise UsageError("learning_rate must be above 0, and entropy not below.")
