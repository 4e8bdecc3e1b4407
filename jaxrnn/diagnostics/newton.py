"""How Newton's iterations go."""

import dataclasses
from typing import Any, NamedTuple

import jax

from jaxrnn.cell import Array, Carry, Cell, Params
from jaxrnn.checks import as_array
from jaxrnn.diagnostics.given import checked
from jaxrnn.running.newton import Newton
from jaxrnn.running.problem import Problem
from jaxrnn.running.run import Run


class NewtonConvergence(NamedTuple):
    """Of one cell, [] each."""

    iterations: Array  # how many there were
    residual: Array  # the largest s_t - f(s_{t-1}), relative to the larger of 1 and the largest s
    converged: Array  # whether that is below the tolerance; where not, the loop ran


def newton_convergence(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    method: Newton | None = None,
) -> tuple[NewtonConvergence, ...]:
    """How `method="newton"` gets on with these numbers.

    Args:
        cell, params, xs, carry, mask, reset: as in `unroll`.
        method: its options; None are the usual ones.

    Returns:
        One for each cell that runs, in the order of `explain`.

    Raises:
        TypeError, ValueError: as `unroll`, also where the method cannot run the cell.

    Source: Gonzalez et al. 2025, arXiv:2508.16817: iterations grow with the largest Lyapunov
    exponent of the trained network, which `largest_lyapunov_exponent` gives.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.ParaGRUCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> xs = jax.random.normal(jax.random.key(1), (100, 2, 3))
        >>> (told,) = jaxrnn.diagnostics.newton_convergence(cell, params, xs)
        >>> bool(told.converged), int(told.iterations) < 6
        (True, True)
    """
    method = Newton() if method is None else method
    if not isinstance(method, Newton):
        raise TypeError(f"method must be a jaxrnn.methods.Newton, got {method!r}.")
    cell, params, xs, first = checked(cell, params, xs, carry, one=False)
    mask, reset = (
        None if rows is None else as_array(name, rows)
        for name, rows in (("mask", mask), ("reset", reset))
    )

    @jax.jit
    def run(params: Params, xs: Array, first: Carry, mask: Any, reset: Any) -> Any:
        told: list[Any] = []
        watched = _Watched(method.tolerance, method.iterations, method.guess, told)
        with_all = Run(mask=mask, reset=reset, method=watched)
        with_all(cell, params, xs, first, noise=None, reverse=False)
        return tuple(told)

    found = run(params, xs, first, mask, reset)
    return tuple(NewtonConvergence(*told) for told in found)


@dataclasses.dataclass(frozen=True)
class _Watched(Newton):
    """Keeps how each of its runs went."""

    told: list[Any] = dataclasses.field(default_factory=list, compare=False)

    def run(self, plan: Any, problem: Problem) -> tuple[Carry, Any]:
        out, found = self.solve(plan, problem)
        self.told.append(found)
        return out
