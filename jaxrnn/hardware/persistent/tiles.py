"""A step of one unit of one row, read as a program in which every number stands for a tile of units
and rows.

A step acts alike on every hidden unit and every row of the batch (`Cell.elementwise`), so that its
equations for a single unit are its equations for a tile. An array of the single unit, `[1]` or
`[G, 1]`, is an object array of as many tiles here: what only moves numbers about (unstack, stack,
reshape) moves tiles, and a gate is never sliced out of registers.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrnn.cell import Array
from jaxrnn.running.trace import CALLS

Tiles = np.ndarray  # of objects: a tile each, or a number that is the same everywhere

INLINED = (*CALLS, "custom_vjp_call")
ELEMENTWISE = frozenset(  # what Mosaic GPU has instructions for
    """abs add add_any and clamp convert_element_type cos div eq erf exp exp2 ge gt integer_pow le
    log log2 logistic lt max min mul ne neg not one_minus_square or rsqrt select_n sign sin sqrt
    square sub tanh xor""".split()
)


def _sliced(a: Tiles, p: dict[str, Any]) -> Tiles:
    steps = p["strides"] or (1,) * a.ndim
    return a[tuple(map(slice, p["start_indices"], p["limit_indices"], steps))]


def _broadcast(a: Tiles, p: dict[str, Any]) -> Tiles:
    sizes = dict(zip(p["broadcast_dimensions"], a.shape, strict=True))
    return np.broadcast_to(a.reshape([sizes.get(d, 1) for d in range(len(p["shape"]))]), p["shape"])


ARRANGING: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": lambda p, a: _broadcast(a, p),
    "concatenate": lambda p, *a: np.concatenate(a, p["dimension"]),
    "copy": lambda p, a: a,
    "reduce_sum": lambda p, a: np.asarray(np.sum(a, tuple(p["axes"])), object),
    "reshape": lambda p, a: a.reshape(p["new_sizes"]),
    "slice": lambda p, a: _sliced(a, p),
    "split": lambda p, a: np.split(a, np.cumsum(p["sizes"])[:-1], p["axis"]),
    "squeeze": lambda p, a: np.squeeze(a, tuple(p["dimensions"])),
    "stack": lambda p, *a: np.stack(a, p["axis"]),
    "transpose": lambda p, a: a.transpose(p["permutation"]),
    "unstack": lambda p, a: list(np.moveaxis(a, p["axis"], 0)),
}


class Program(NamedTuple):
    """A function of trees of arrays that returns a tuple of trees; on tiles, the leaves of each are
    a list."""

    jaxpr: jax.extend.core.ClosedJaxpr
    arguments: tuple[tuple[int, ...], ...]  # for each tree, the numbers of its inputs
    results: tuple[tuple[int, ...], ...]
    trees: tuple[Any, ...]  # the structures of the results

    def inputs(self, k: int) -> list[Any]:
        """Shapes and dtypes of the k-th argument."""
        return [self.jaxpr.in_avals[i] for i in self.arguments[k]]

    def outputs(self, k: int) -> list[Any]:
        return [self.aval(i) for i in self.results[k]]

    def aval(self, i: int) -> Any:
        return self.jaxpr.out_avals[i]


def program(function: Callable[..., Any], *arguments: Any) -> Program:
    """Traces a function on shapes and dtypes."""
    jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    return Program(
        jaxpr, _numbers(arguments), _numbers(shapes), tuple(map(jax.tree.structure, shapes))
    )


def _numbers(trees: Any) -> tuple[tuple[int, ...], ...]:
    counts = [len(jax.tree.leaves(tree)) for tree in trees]
    return tuple(tuple(range(sum(counts[:k]), sum(counts[: k + 1]))) for k in range(len(counts)))


def foreign(closed: Any) -> Iterator[str]:
    """The operations that the results of a jaxpr depend on and that do not act on tiles."""
    jaxpr = getattr(closed, "jaxpr", closed)
    needed = {v for v in jaxpr.outvars if not isinstance(v, jax.extend.core.Literal)}
    for equation in reversed(jaxpr.eqns):
        if not needed & set(equation.outvars):
            continue
        needed |= {v for v in equation.invars if not isinstance(v, jax.extend.core.Literal)}
        if equation.primitive.name in INLINED:
            yield from foreign(_inner(equation))
        else:
            odd = _odd(equation)
            if odd is not None:
                yield odd


def _odd(equation: Any) -> str | None:
    """What an equation does that does not act on tiles; None where it acts on them."""
    name = equation.primitive.name
    if name not in ELEMENTWISE and name not in ARRANGING:
        return name
    if name == "integer_pow" and equation.params["y"] < 0:
        # also the derivative of a division by what the state decides
        return "integer_pow with a negative exponent"
    if name == "reduce_sum" and equation.invars[0].aval.ndim - 1 in equation.params["axes"]:
        return "reduce_sum over the hidden units"
    return None


def _inner(equation: Any) -> Any:
    return equation.params.get("jaxpr", equation.params.get("call_jaxpr"))


class Running:
    """A program on tiles. Arguments may be given late: a result needs only those that it depends
    on."""

    def __init__(self, program: Program, shape: tuple[int, ...], *, approximate: bool) -> None:
        self.program = program
        self.shape = shape
        self.given: dict[int, Tiles] = {}
        instructions = APPROXIMATE if approximate else {}
        self.scope = _Scope(program.jaxpr, lambda i: self.given[i], shape, instructions)

    def give(self, k: int, tiles: list[Tiles]) -> None:
        self.given.update(zip(self.program.arguments[k], tiles, strict=True))

    def take(self, k: int) -> list[Tiles]:
        """The leaves of the k-th result, every entry a whole tile."""
        return [self._whole(i) for i in self.program.results[k]]

    def _whole(self, i: int) -> Tiles:
        found = self.scope.result(i)
        dtype = self.program.aval(i).dtype
        return _each(lambda a: _tile(jnp.asarray(a, dtype), self.shape), found)


class _Scope:
    def __init__(
        self,
        closed: Any,
        argument: Callable[[int], Tiles],
        shape: tuple[int, ...],
        instructions: dict[str, Callable[..., Array]],  # where another than the primitive's own
    ) -> None:
        jaxpr = getattr(closed, "jaxpr", closed)
        consts = getattr(closed, "consts", ())
        self.jaxpr = jaxpr
        self.argument = argument
        self.shape = shape
        self.instructions = instructions
        # By the id of the equation, which `jaxpr` keeps alive.
        self.inner: dict[int, _Scope] = {}
        self.values = {v: _numbers_in(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}
        self.inputs = {v: i for i, v in enumerate(jaxpr.invars)}
        self.origin = {
            v: (equation, k) for equation in jaxpr.eqns for k, v in enumerate(equation.outvars)
        }

    def result(self, k: int) -> Tiles:
        return self.read(self.jaxpr.outvars[k])

    def read(self, atom: Any) -> Tiles:
        if isinstance(atom, jax.extend.core.Literal):
            aval: Any = atom.aval
            return _numbers_in(np.asarray(atom.val, aval.dtype))
        if atom not in self.values:
            self.values[atom] = (
                self.argument(self.inputs[atom])
                if atom in self.inputs
                else self._computed(*self.origin[atom])
            )
        return self.values[atom]

    def _computed(self, equation: Any, k: int) -> Tiles:
        name = equation.primitive.name
        if name in INLINED:
            if id(equation) not in self.inner:
                argument = lambda i: self.read(equation.invars[i])  # noqa: E731
                inner = _Scope(_inner(equation), argument, self.shape, self.instructions)
                self.inner[id(equation)] = inner
            return self.inner[id(equation)].result(k)
        operands = [self.read(atom) for atom in equation.invars]
        if name in ARRANGING:
            found = ARRANGING[name](equation.params, *operands)
            return found[k] if equation.primitive.multiple_results else found
        bind = self.instructions.get(name, functools.partial(_bind, equation))
        return _each(lambda *a: bind(a, self.shape), *operands)


def _bind(equation: Any, operands: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    primitive = lax.add_p if equation.primitive.name == "add_any" else equation.primitive
    options = {} if primitive is lax.add_p else equation.params
    if any(np.shape(a) for a in operands):
        operands = tuple(_tile(a, shape) for a in operands)
    return primitive.bind(*operands, **options)


def _logistic(operands: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    (a,) = operands
    return 0.5 * jnp.tanh(0.5 * _tile(a, shape)) + 0.5


# A GPU has an instruction for an approximate tanh, and for a logistic function only those for an
# exponential and a quotient.
APPROXIMATE: dict[str, Callable[..., Array]] = {"logistic": _logistic}


def _tile(a: Any, shape: tuple[int, ...]) -> Any:
    return a if np.shape(a) else lax.broadcast_in_dim(a, shape, ())


def _each(function: Callable[..., Any], *arrays: Tiles) -> Tiles:
    """`function` of each entry of arrays of one shape, or of none."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    found = np.empty(math.prod(shape), object)
    whole = [np.broadcast_to(a, shape).flat for a in arrays]
    for i, entries in enumerate(zip(*whole, strict=True)):
        found[i] = function(*entries)
    return found.reshape(shape)


def _numbers_in(array: Any) -> Tiles:
    """A constant as an array of numbers that keep their dtype."""
    array = np.asarray(array)
    found = np.empty(array.size, object)
    found[:] = list(array.reshape(-1))
    return found.reshape(array.shape)
