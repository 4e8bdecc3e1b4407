"""The products with the input and with the state as one, `[x, h]` times both kernels, where a step uses only their sum."""

from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
from jax import lax

from jaxrnn.typing import Array, Cell, Dot, Params
from jaxrnn.unroll.scan import Sequence
from jaxrnn.unroll.study import Part, Study


class Joint(NamedTuple):
    kernel: Array  # [I + H, ...], that of the input before that of the state
    rest: Any  # what the projected input holds besides: the bias, without batch axes
    weights: list[Array]  # those of the products, of which one is `kernel`


def join(cell: Cell, params: Params, study: Study, weights: list[Array], sequence: Sequence) -> Joint | None:
    """The two products as one; None where they are not two kernels of one shape, or their sum is not all that is used of both.

    Args:
        cell, params, study: what is run.
        weights: those of the products.
        sequence: what it runs over, of which no value counts.
    """
    number = _number(study)
    if number is None or len(study.vectors[number] or ()) != study.rows + 1 or jax.tree.leaves(sequence.noise):
        return None
    found = _affine(cell, params, sequence.xs[(0,) * (study.rows + 1)])
    if found is None or found[0].shape[1:] != weights[number].shape[1:]:
        return None
    kernel = lax.optimization_barrier(jnp.concatenate([found[0], weights[number]]))  # made once, not in the loop
    return Joint(
        kernel, jax.tree.unflatten(study.tree, [found[1]]), [kernel if k == number else w for k, w in enumerate(weights)]
    )


def with_input(dot: Dot, joint: Joint, x: Array) -> Dot:
    """`dot`, in which the vector of the joint kernel is joined to an input."""

    def product(v: Array, w: Array, op: Any = None) -> Array:
        return dot(jnp.concatenate([x, v], axis=-1), w, op) if w is joint.kernel else dot(v, w, op)

    return product


def _number(study: Study) -> int | None:
    """The product of which every part is only added to the same part of the projected input."""
    if len(study.us) != 1 or not study.sums:
        return None
    number, features = study.sums[0][0].leaf, study.us[0][study.rows :]
    whole, gates = {(Part(number, None), Part(0, None))}, {(Part(number, g), Part(0, g)) for g in range(sum(features[:1]))}
    return number if set(study.sums) in (whole, gates) else None


def _affine(cell: Cell, params: Params, x: Array) -> tuple[Array, Array] | None:
    """(kernel, rest) where `project` is `dot(x, kernel) + rest` as its equations stand; None where they are others."""
    program = jax.make_jaxpr(lambda params, x: cell.project(params, x, None))(params, x)
    jaxpr, x_in = program.jaxpr, program.jaxpr.invars[-1]
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars[:-1]], [*program.consts, *jax.tree.leaves(params)], strict=True))
    kernel, rests = None, {}  # of what holds the product so far, what was added to it

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jax.extend.core.Literal) else known.get(atom)

    for equation in jaxpr.eqns:
        operands, name = [read(atom) for atom in equation.invars], equation.primitive
        unknown = [atom for atom, value in zip(equation.invars, operands, strict=True) if value is None]
        if not unknown:
            found = name.bind(*operands, **name.get_bind_params(equation.params))
            known |= zip(equation.outvars, found if name.multiple_results else [found], strict=True)
        elif name is lax.dot_general_p and kernel is None and unknown == [x_in] == equation.invars[:1]:
            kernel, rests[equation.outvars[0]] = operands[1], None
            if equation.params["dimension_numbers"] != (((0,), (0,)), ((), ())):
                return None
        elif name is lax.add_p and len(unknown) == 1 and unknown[0] in rests:
            other, rest = next(value for value in operands if value is not None), rests[unknown[0]]
            rests[equation.outvars[0]] = other if rest is None else rest + other
        else:
            return None
    if kernel is None or jaxpr.outvars[0] not in rests:
        return None
    rest, u = rests[jaxpr.outvars[0]], jaxpr.outvars[0].aval
    return kernel, jnp.zeros(u.shape, u.dtype) if rest is None else jnp.broadcast_to(rest, u.shape)  # a number is a rest too
