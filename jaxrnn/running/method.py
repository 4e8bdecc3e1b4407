"""Ways to run a problem, as objects: what every method is, its name, and which one is taken."""

import dataclasses
import importlib
from typing import Any, ClassVar, NamedTuple

from jaxrnn.cell import Carry
from jaxrnn.running.problem import Problem


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why a method cannot run a problem."""

    reason: str  # a sentence


class Method:
    """A way to run a `Problem`: a frozen dataclass of its options, hashable by value.

    A method defines `run`, and `plan` where it cannot run everything. `jaxrnn.unroll(...,
    method=Mine())` checks and prepares, gives it one `Problem` for each cell and direction, and
    `jaxrnn.explain` asks it too. Masks, resets, stacks and modules need nothing of it.
    """

    name: ClassVar[str] = ""  # how it is called in `explain`; "" is the name of the class
    # Whether it is offered a stack whole, of which there is no trace and nothing is held. It must
    # not know "sqrt" then: a second direction would begin anew in each chunk.
    takes_stacks: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ("none",)  # the values of `remat` that it knows

    def plan(self, problem: Problem) -> Any:
        """How it will run: any hashable value; or a `Refusal`.

        Only shapes, dtypes and the equations of a step count, never a number, and not how many
        rows there are where it matters: under `jax.vmap` one is seen.
        """
        return None

    def run(self, plan: Any, problem: Problem) -> tuple[Carry, Any]:
        """Runs it: the last `Problem.carry`, and `Problem.out` of every step, time first."""
        raise NotImplementedError(f"{type(self).__name__} does not define run(plan, problem).")

    def why(self, plan: Any) -> str:
        """Why it is taken where nobody asked for it, as the end of a sentence; "" is the reason
        for which the one before it is not."""
        return ""

    def describe(self, plan: Any) -> tuple[str, ...]:
        """What it does, a sentence a line, for `explain`."""
        return ()


NAMES = {
    "scan": ("jaxrnn.running.scan", "Scan"),
    "affine": ("jaxrnn.running.affine", "Affine"),
    "fused": ("jaxrnn.running.fused", "Fused"),
    "newton": ("jaxrnn.running.newton", "Newton"),
    "cudnn": ("jaxrnn.hardware.cudnn", "CuDNN"),
    "persistent": ("jaxrnn.hardware.persistent", "Persistent"),
}  # by name, since those for one kind of hardware stand above this and are imported when asked for
# tried in this order; the last one refuses nothing
DEFAULT: dict[str, dict[str, Any]] = {
    "affine": {"where_it_pays": True},
    "fused": {"where_it_pays": True},
    "scan": {},
}
REMAT = ("none", "carry", "sqrt")


def named(name: str, **options: Any) -> Method:
    """The method of that name, with its default options but for those given."""
    module, kind = NAMES[name]
    return getattr(importlib.import_module(module), kind)(**options)


def name_of(method: Method) -> str:
    return method.name or type(method).__name__


def resolve(method: Any, remat: str) -> Method | None:
    """The object of a name, so that both compile once; None stays, for the default.

    Raises:
        ValueError: no such name, or no such `remat` for it.
        TypeError: an object that is no method, or that is not hashable by value.
    """
    found = None if method is None else _object(method)
    known = REMAT if found is None else found.memory
    if remat not in known:
        name = None if found is None else name_of(found)
        raise ValueError(f"remat must be one of {known} for method={name!r}, got {remat!r}.")
    return found


def _object(method: Any) -> Method:
    """A method from its name or itself."""
    if isinstance(method, type) and issubclass(method, Method):
        raise TypeError(f"method is the class {method.__name__}; make one: {method.__name__}().")
    found = named(method) if isinstance(method, str) and method in NAMES else method
    if not isinstance(found, Method):
        names = (None, *NAMES)
        raise ValueError(
            f"method must be one of {names} or a jaxrnn.methods.Method, got {method!r}."
        )
    _check_hashable(found)
    return found


def _check_hashable(method: Method) -> None:
    """A method is part of the key of a compiled program."""
    name = type(method).__name__
    if type(method).__hash__ is object.__hash__:
        raise TypeError(f"{name} is not hashable by value; make it a frozen dataclass.")
    try:
        hash(method)
    except TypeError as error:
        raise TypeError(
            f"{name} is not hashable ({error}); make it a frozen dataclass of plain values."
        ) from error


class Choice(NamedTuple):
    """The method that runs a problem."""

    method: Method
    plan: Any
    why: str  # the end of a sentence

    def run(self, problem: Problem) -> tuple[Carry, Any]:
        return self.method.run(self.plan, problem)


def choose(problem: Problem, method: Method | None) -> Choice:
    """The method that was asked for, or the first that does not refuse.

    Raises:
        ValueError: the method that was asked for refuses.
    """
    if method is not None:
        plan = method.plan(problem)
        if isinstance(plan, Refusal):
            raise ValueError(refusal(method, problem, plan.reason))
        return Choice(method, plan, "it was asked for.")
    reason = None
    for name, options in DEFAULT.items():
        method = named(name, **options)
        plan = method.plan(problem)
        if not isinstance(plan, Refusal):
            return Choice(method, plan, method.why(plan) or reason or "")
        reason = plan.reason
    raise AssertionError("the last of the default methods refuses nothing")


def refusal(method: Method, problem: Problem, reason: str) -> str:
    """The message of a method that cannot run a cell."""
    name = name_of(method)
    cell = type(problem.cell).__name__
    return f'method="{name}" cannot run {cell}: {reason} method=None runs everything.'
