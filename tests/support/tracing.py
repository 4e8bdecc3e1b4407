"""What is read from a step of a cell."""

import jax
import jax.numpy as jnp
from oracles import inputs, parameters

from jaxrnn.running.problem import Problem, Steps
from jaxrnn.running.trace import trace


def traced(cell, params=None):
    params = cell.prepare(jax.tree.map(jnp.asarray, parameters(cell) if params is None else params))
    xs = jnp.asarray(inputs(cell, 1, (3,)))
    first = cell.init_carry(params, xs[0])
    nothing = jax.tree.map(lambda a: None, first)
    problem = Problem(params, Steps(xs), first, nothing, first, consts=[], cell=cell, trace=None)
    return trace(problem)[0], params
