"""The refusal of forward-mode differentiation, in words that say what to do."""

from typing import Any, NoReturn

import jax
import jax.extend.core
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from jaxrnn.cell import Tree

MESSAGE = (
    "forward-mode differentiation (jax.jvp, jax.jacfwd, jax.linearize) meets this run, whose "
    'method has a backward pass of its own. method="scan" has both modes.'
)


def refused(tree: Tree) -> Tree:
    """The same values. Of their tangents, only transposed ones are ever computed.

    `jax.custom_vjp` by itself is refused by JAX with words of its own. A tangent is an equation
    here, which reverse mode transposes and forward mode tries to compile.
    """
    leaves, structure = jax.tree.flatten(tree)
    differentiable = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
    chosen = [leaf for leaf, yes in zip(leaves, differentiable, strict=True) if yes]
    if not chosen:
        return tree
    same = iter(_same(*chosen))
    pairs = zip(leaves, differentiable, strict=True)
    return jax.tree.unflatten(structure, [next(same) if yes else leaf for leaf, yes in pairs])


@jax.custom_jvp
def _same(*leaves: Any) -> tuple[Any, ...]:
    return leaves


@_same.defjvp
def _tangents(primals: Any, tangents: Any) -> tuple[Any, Any]:
    # The primal values leave by themselves, so that another derivative of them sees no equation.
    return tuple(primals), tuple(_backward_only.bind(*tangents))


def is_refusal(error: TypeError) -> bool:
    """Whether JAX refuses forward mode of a `custom_vjp`: under `vmap` it comes before us."""
    return "forward-mode" in str(error) and "custom_vjp" in str(error)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise TypeError(MESSAGE)


def _transpose(cotangents: Any, *tangents: Any) -> list[Any]:
    pairs = zip(cotangents, tangents, strict=True)
    return [cotangent if ad.is_undefined_primal(tangent) else None for cotangent, tangent in pairs]


# One equation of all tangents: of one that is known to be zero alone, it would be computed.
_backward_only = jax.extend.core.Primitive("backward_only")
_backward_only.multiple_results = True
_backward_only.def_impl(_refuse)
_backward_only.def_abstract_eval(lambda *avals: avals)
ad.deflinear2(_backward_only, _transpose)
batching.primitive_batchers[_backward_only] = lambda args, axes: (
    _backward_only.bind(*args),
    axes,
)
mlir.register_lowering(_backward_only, _refuse)
