"""How far back a recurrent network reaches: its gradients, its Jacobians, its memory.

Most functions run a loop of their own, which eager calls compile anew: wrap them in `jax.jit`, with
the cell static, to call them often.
"""

from jaxrnn.diagnostics.dynamics import largest_lyapunov_exponent
from jaxrnn.diagnostics.fixed_points import FixedPoints, fixed_points
from jaxrnn.diagnostics.gradients import GradientNorms, carry_gradient_norms, carry_gradients
from jaxrnn.diagnostics.jacobians import (
    carry_jacobian_norms,
    carry_jacobian_singular_values,
    carry_jacobians,
)
from jaxrnn.diagnostics.memory import MemoryCapacity, effective_memory, memory_capacity
from jaxrnn.diagnostics.newton import NewtonConvergence, newton_convergence

__all__ = [
    "FixedPoints",
    "GradientNorms",
    "MemoryCapacity",
    "NewtonConvergence",
    "carry_gradient_norms",
    "carry_gradients",
    "carry_jacobian_norms",
    "carry_jacobian_singular_values",
    "carry_jacobians",
    "effective_memory",
    "fixed_points",
    "largest_lyapunov_exponent",
    "memory_capacity",
    "newton_convergence",
]
