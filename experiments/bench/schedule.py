"""Sharing out the time: every job gets about as many rounds as the others,
and the whole ends when it shall.
"""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.bench.peers import PEERS, Choice
from experiments.bench.shapes import Job, flops

LEAST_ROUNDS = 5
# seconds: as many rounds as fit in it are made whatever is left, since small jobs come last
CHEAP = 2.0


class Size(NamedTuple):
    """What is known of a job before it is made: times follow from it and
    from what the jobs before took.
    """

    cost: float  # of running one candidate, in rough seconds
    programs: int  # to compile, times layers and directions


def size(job: Job, choices: Sequence[Choice], device: str) -> Size:
    able = [choice for choice in choices if job.cell in PEERS[choice.peer].cells]
    programs = sum(len(PEERS[choice.peer].modes) for choice in able)
    return Size(cost(job, device), programs * job.shape.layers * job.shape.directions)


def cost(job: Job, device: str) -> float:
    """Arithmetic, and the overhead of each step."""
    rate, step = {"cpu": (1e11, 1e-5), "gpu": (1e14, 3e-5)}[device]
    return flops(job, True) / rate + job.shape.T * job.shape.layers * job.shape.directions * step


def order(jobs: list[Job], device: str) -> list[Job]:
    """The most expensive first: an estimate that is wrong then leaves the small ones, and not the
    large ones, too few rounds.
    """
    return sorted(jobs, key=lambda job: -cost(job, device))


class Took(NamedTuple):
    """Seconds that a job took: to compile, for everything else before it is timed,
    and for one round.
    """

    compiling: float = 0.0
    checking: float = 0.0
    a_round: float = 0.0


class Done(NamedTuple):
    """The sums over the jobs so far."""

    size: Size = Size(0.0, 0)
    took: Took = Took()

    def after(self, size: Size, took: Took) -> "Done":
        """With one job more."""
        sizes = Size(self.size.cost + size.cost, self.size.programs + size.programs)
        return Done(sizes, Took(*(a + b for a, b in zip(self.took, took, strict=True))))


def count(done: Done, a_round: float, ahead: Sequence[Size], left: float, most: int) -> int:
    """How many rounds a job gets: those that the time left affords it and all that follow.

    Args:
        done: the jobs so far, this one among them.
        a_round: seconds of a round of this job.
        ahead: the jobs that follow.
        left: seconds until the end.
        most: rounds; at least 5, and those of two seconds, are made whatever `left` says, where
            this allows them.
    """
    if not a_round:  # nobody is timed
        return LEAST_ROUNDS
    cost = sum(size.cost for size in ahead)
    programs = sum(size.programs for size in ahead)
    running = cost / done.size.cost
    preparing = (
        programs / max(done.size.programs, 1) * done.took.compiling + running * done.took.checking
    )
    rounds = (left - preparing) / (a_round + running * done.took.a_round)
    return min(most, max(int(rounds), int(CHEAP / a_round), LEAST_ROUNDS))
