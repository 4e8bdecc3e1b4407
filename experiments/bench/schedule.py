"""Sharing out the time: every job gets about as many rounds as the others, and the whole ends when it shall."""

from typing import NamedTuple

from experiments.bench.shapes import Job, flops

LEAST_ROUNDS = 5


def order(jobs: list[Job], device: str) -> list[Job]:
    """The most expensive first: an estimate that is wrong then leaves the small ones, and not the large ones, too few rounds."""
    return sorted(jobs, key=lambda job: -cost(job, device))


def cost(job: Job, device: str) -> float:
    """A rough time of one candidate, for sharing out what is left: arithmetic, and the overhead of each step."""
    rate, step = {"cpu": (1e11, 1e-5), "gpu": (1e14, 3e-5)}[device]
    return flops(job, True) / rate + job.shape.T * job.shape.layers * job.shape.directions * step


class Spent(NamedTuple):
    """What the jobs so far have told."""

    preparing: float = 0.0  # seconds
    jobs: int = 0
    rounds: float = 0.0  # seconds of one round of each
    costs: float = 0.0  # what `cost` said of them

    def after(self, preparing: float, seconds: float, cost: float) -> "Spent":
        """One job more: what it took to prepare, what a round takes, and what `cost` said."""
        return Spent(self.preparing + preparing, self.jobs + 1, self.rounds + seconds, self.costs + cost)


def count(spent: Spent, seconds: float, rest: list[float], left: float, most: int) -> int:
    """How many rounds a job gets.

    Args:
        spent: of the jobs so far, this one among them.
        seconds: of a round of this job.
        rest: what `cost` says of the jobs that follow.
        left: seconds until the end.
        most: rounds; at least 5 are made whatever `left` says, where this allows them.
    """
    timing = left - len(rest) * spent.preparing / spent.jobs
    per_round = seconds + sum(rest) * spent.rounds / spent.costs
    return min(most, max(int(timing / per_round), LEAST_ROUNDS))
