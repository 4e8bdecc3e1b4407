"""Does a cell keep the contract of `jaxrnn.Cell`? For the built-in cells and for a user's own."""

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array, Carry, Cell, Noise, Params, Tree, cast, dot
from jaxrnn.checks import fit_noise
from jaxrnn.running import explain, unroll

# steps, batch axes, and the size of every spatial axis of a convolutional cell
T = 4
BATCH = (2, 3)
SPACE = 3
TOLERANCE = 1e-9  # of float64 results that differ in the order of sums only, over a few steps
# central differences are off by SMALL^2 and by 1e-16 / SMALL, times the third derivative
SMALL = 1e-5
SLOPE_TOLERANCE = 1e-6


class Case(NamedTuple):
    """A cell with random parameters and inputs, in float64."""

    cell: Any  # the Cell; None while traced
    params: Params
    prepared: Params
    carry: Carry  # leaves [2, 3, ...]
    xs: Array  # [T, 2, 3, *space, I]
    drawn: Noise
    noise: Noise  # what `absorb` leaves of it
    random: Any  # the np.random.Generator; None while traced


def check_cell(cell: Cell, input_size: int = 3, *, seed: int = 0) -> None:
    """Checks a cell against the contract of `jaxrnn.Cell`, in float64 with random parameters,
    and in bfloat16.

    Checked: configuration, dtypes, carries, batch axes, `dot`, tiles, what is read as linear, the
    sequence against single steps, gradients against finite differences, masks and resets. A
    bidirectional stack has no single step, so it is not for this function.

    Args:
        cell: the cell.
        input_size: the number of input features.
        seed: of the random parameters and inputs. A kink (relu) within 1e-5 of a drawn value makes
            finite differences wrong; another seed tells.

    Raises:
        AssertionError: the cell breaks the contract; the message says which clause, and what to do.

    Example:
        >>> import jaxrnn
        >>> from jaxrnn.testing import check_cell
        >>> check_cell(jaxrnn.GRUCell(hidden_size=4))
    """
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        _guarded(_configuration, cell)
        _guarded(_parameters, cell, input_size)
        case = _guarded(_case, cell, input_size, seed)
        for clause in CLAUSES:
            _guarded(clause, case)


def _guarded(clause: Callable[..., Any], *args: Any) -> Any:
    """Runs one clause; whatever it raises becomes an AssertionError that names the clause."""
    try:
        return clause(*args)
    except Exception as error:
        detail = (
            str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        )
        name = type(args[0].cell if isinstance(args[0], Case) else args[0]).__name__
        broken = " ".join((clause.__doc__ or "").split())
        raise AssertionError(f"{name} breaks the contract of a cell: {broken}\n{detail}") from error


def _configuration(cell: Cell) -> None:
    """A cell is a jaxrnn.Cell, a frozen dataclass, hashable,
    and equal to a cell with equal fields.
    """
    assert isinstance(cell, Cell), "derive it from jaxrnn.Cell."
    assert dataclasses.is_dataclass(cell), (
        "put @dataclasses.dataclass(frozen=True) above the class."
    )
    name = dataclasses.fields(cell)[0].name if dataclasses.fields(cell) else "size"
    twin = copy.deepcopy(cell)
    try:
        setattr(twin, name, getattr(twin, name, None))
    except dataclasses.FrozenInstanceError:
        assert hash(cell) == hash(twin) and cell == twin, (
            "fields must be plain values, no arrays or functions made per cell."
        )
    else:
        raise AssertionError("its fields can be set: write @dataclasses.dataclass(frozen=True).")


def _parameters(cell: Cell, size: int) -> None:
    """init(key, input_size, dtype) returns arrays of the dtype asked for,
    and input_size(params) is the size they are for.
    """
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float64):
        params = jax.eval_shape(
            lambda key, dtype=dtype: cell.init(key, size, dtype), jax.random.key(0)
        )
        wrong = [
            (jax.tree_util.keystr(p), str(a.dtype))
            for p, a in jax.tree.leaves_with_path(params)
            if a.dtype != dtype
        ]
        assert not wrong, (
            f"asked for {jnp.dtype(dtype)}, got {wrong}; draw in at least float32, "
            "then cast to dtype."
        )
    given = cell.input_size(params)
    assert given in (None, size), (
        f"for parameters made for {size} features, input_size(params) is {given}; override it."
    )


def _case(cell: Cell, size: int, seed: int) -> Case:
    """init, prepare, init_carry, noise and absorb run;
    what is left of the noise has the leading axes [T or 1, *batch].
    """
    # NumPy, since XLA takes a second to compile each shape of a float64 normal
    random = np.random.default_rng(seed)
    x = np.zeros((*BATCH, *(SPACE,) * (cell.feature_axes - 1), size))
    with jax.enable_x64(False):
        params = cell.init(jax.random.key(seed), size)
        drawn = noise = cell.noise(jax.random.key(seed + 1), T, jnp.asarray(x, jnp.float32))
    params = _perturbed(params, random)  # zero biases would hide mistakes
    prepared = jax.jit(cell.prepare)(params)
    if noise is not None:
        prepared, noise = cell.absorb(prepared, noise)
    noise = fit_noise(noise, T)
    for leaf in jax.tree.leaves(noise):
        assert leaf.shape[1:3] == BATCH, (
            f"a leaf of noise has shape {leaf.shape}, expected {(T, *BATCH)} and features."
        )
    carry = _perturbed(cell.init_carry(prepared, jnp.asarray(x)), random)
    xs = jnp.asarray(random.normal(size=(T, *x.shape)))
    drawn, noise = cast((drawn, noise), jnp.float64)
    return Case(cell, params, prepared, carry, xs, drawn, noise, random)


def _carries(case: Case) -> None:
    """step keeps the structure, shapes and dtypes of init_carry,
    and every leaf begins with the batch axes.
    """
    before, _, (after, y) = jax.eval_shape(
        lambda: _one(case, case.carry, case.xs[0], _first(case.noise))
    )
    told = [
        str(jax.tree.map(lambda a: f"{a.dtype}{list(a.shape)}", tree)) for tree in (before, after)
    ]
    assert told[0] == told[1], f"init_carry gives {told[0]}, step gives {told[1]}."
    for leaf in jax.tree.leaves((after, y)):
        assert leaf.shape[:2] == BATCH, (
            f"a leaf has shape {leaf.shape}, expected {BATCH} and features."
        )


def _batch(case: Case) -> None:
    """init_carry, project and step take any leading axes and never mix entries of them;
    project never mixes steps.
    """

    def run(case: Case, cell: Cell) -> Any:
        one = functools.partial(_one, case._replace(cell=cell))
        now = (case.carry, case.xs[0], _first(case.noise))
        whole = cell.project(case.prepared, case.xs, case.noise)
        steps = jax.vmap(one, (None, 0, 0))(case.carry, case.xs, case.noise)[1]
        return one(*now), jax.vmap(jax.vmap(one))(*now), whole, steps

    batched, each, whole, steps = _compiled(run, case)
    _same(
        batched,
        each,
        "a step on [2, 3, ...] and on each entry differ; index and reduce feature axes "
        "only, from the end.",
    )
    _same(whole, steps, "project of all steps at once and of each step differ.")


def _products(case: Case) -> None:
    """What step gives to dot is linear in the vector and in the weight."""

    for number, (v, w, op, product) in enumerate(_record(case)[1]):
        v2, w2 = _perturbed((v, w), case.random)
        run = jax.jit(functools.partial(dot, op=op))
        _same(
            run(v + v2, w),
            product + run(v2, w),
            f"product {number} is not linear in its vector: move the rest into step.",
        )
        _same(
            run(v, w + w2),
            product + run(v, w2),
            f"product {number} is not linear in its weight: move the rest into prepare.",
        )


def _tiles(case: Case) -> None:
    """An elementwise step runs on a tile: on half of the hidden units, given the products,
    it gives half of the result.
    """

    def run(case: Case, cell: Cell) -> tuple[Any, Any]:
        case = case._replace(cell=cell)
        result, calls = _record(case)
        products = iter([_half(product) for _, _, _, product in calls])
        u = _half(_project(case))

        def replay(v: Array, w: Array, op: Any = None) -> Array:
            return next(products)

        return cell.step(_half(case.prepared), _half(case.carry), u, replay), _half(result)

    if case.cell.elementwise:
        advice = (
            "use the sizes of arrays, never hidden_size; put every product through dot; "
            "or set elementwise = False."
        )
        try:
            _same(*_compiled(run, case), advice)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"{advice} {error}") from error


def _linear(case: Case) -> None:
    """A step that is read as linear in the carry, unit by unit, has the same derivative
    everywhere, and none of a unit by another.
    """
    if hasattr(case.cell, "unroll_layers"):  # its layers are cells of their own
        return
    (found,) = explain(case.cell, case.xs.shape, case.xs.dtype, params=case.params)
    if "affine" in found.refused:
        return
    way = _perturbed(jax.tree.map(jnp.zeros_like, case.carry), case.random)
    elsewhere = _perturbed(case.carry, case.random)
    others = jax.tree.map(lambda a: a.at[..., 0].set(0), way)

    def along(carry: Carry, way: Carry) -> Carry:
        def after(carry: Carry) -> Carry:
            return _one(case, carry, case.xs[0], _first(case.noise))[2][0]

        return jax.jvp(after, (carry,), (way,))[1]

    advice = "the reading of the step is wrong: please report the cell."
    _same(along(elsewhere, way), along(case.carry, way), advice)
    first = jax.tree.map(lambda a: a[..., 0], along(case.carry, others))
    _same(first, jax.tree.map(jnp.zeros_like, first), advice)


def _sequence(case: Case) -> None:
    """unroll equals a loop over cell(params, carry, x),
    and T = 0 returns the carry it was given.
    """
    step = jax.jit(case.cell.__call__)
    carry = case.carry
    ys = []
    for x in case.xs:
        carry, y = step(case.params, carry, x)
        ys.append(y)
    _same(
        unroll(case.cell, case.params, case.xs, case.carry),
        (carry, jnp.stack(ys)),
        "does step keep a state of its own?",
    )
    _same(
        unroll(case.cell, case.params, case.xs[:0], case.carry)[0],
        case.carry,
        "T = 0 changed the carry.",
    )


def _sixteen_bits(case: Case) -> None:
    """In bfloat16 the carry is float32, the outputs are bfloat16, and no equation mixes dtypes."""
    params, xs = cast((case.params, case.xs), jnp.bfloat16)
    carry, ys = jax.eval_shape(lambda: unroll(case.cell, params, xs, noise=case.drawn))
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(carry) if _sloped(leaf)}
    assert dtypes <= {"float32", "complex64"} and ys.dtype == jnp.bfloat16, (
        f"the carry is {dtypes}, the outputs are {ys.dtype}."
    )


def _gradients(case: Case) -> None:
    """Gradients are those of finite differences;
    what stands in the padding (NaN too) reaches none, with resets as without.
    """
    named = jax.tree.leaves_with_path((case.params, case.xs, case.carry))
    tree = jax.tree.structure((case.params, case.xs, case.carry))
    whole = [leaf for _, leaf in named]
    names = {k: jax.tree_util.keystr(path) for k, (path, a) in enumerate(named) if _sloped(a)}

    def at(leaves: list[Array], xs: Array, mask: Array, reset: Array) -> Array:
        chosen = dict(zip(names, leaves, strict=True))
        params, _, carry = tree.unflatten([chosen.get(k, a) for k, a in enumerate(whole)])
        return _loss(case, (params, xs, carry), mask, reset)

    loss = jax.jit(jax.value_and_grad(at, argnums=(0, 1)))
    leaves = [whole[k] for k in names]
    rows = np.ones((T, *BATCH), bool)
    slopes = loss(leaves, case.xs, rows, ~rows)[1]
    points = [*zip(names.values(), slopes[0], strict=True), ("[1]", slopes[1])]
    for index, (name, slope) in enumerate(points):
        way = case.random.normal(size=slope.shape)
        values = []
        for d in (SMALL, -SMALL):
            moved = [*leaves, case.xs]
            moved[index] = moved[index] + (d * way).astype(moved[index].dtype)
            values.append(loss(moved[:-1], moved[-1], rows, ~rows)[0])
        difference = (values[0] - values[1]) / (2 * SMALL)
        along = np.sum(np.asarray(slope) * way).real
        _same(along, difference, f"at (params, xs, carry){name}.", SLOPE_TOLERANCE)
    mask, reset = case.random.random((2, T, *BATCH)) < 0.6
    mask[:, 0, 0] = False
    xs = np.where(mask.reshape(*mask.shape, *(1,) * case.cell.feature_axes), case.xs, np.nan)
    slopes = loss(leaves, xs, mask, reset)[1]
    points = [*zip(names.values(), slopes[0], strict=True), ("[1]", slopes[1])]
    for name, slope in points:
        assert np.isfinite(slope).all(), (
            f"at (params, xs, carry){name}: NaN; is step differentiable at an input of 0?"
        )


CLAUSES = (
    _carries,
    _batch,
    _products,
    _tiles,
    _linear,
    _sequence,
    _sixteen_bits,
    _gradients,
)


def _loss(case: Case, at: tuple[Params, Array, Carry], mask: Array, reset: Array) -> Array:
    params, xs, carry = at
    result = unroll(case.cell, params, xs, carry, mask=mask, reset=reset, noise=case.drawn)
    return jnp.sum(jnp.stack([_wave(a) for a in jax.tree.leaves(result)]))


def _wave(a: Array) -> Array:
    """One number of an array, in which every entry has a weight of its own."""
    parts = [a.real, a.imag] if jnp.iscomplexobj(a) else [a.astype(jnp.float64)]
    at = jnp.arange(a.size, dtype=jnp.float64).reshape(a.shape)
    return sum((jnp.vdot(part, jnp.cos(at + k)) for k, part in enumerate(parts)), jnp.zeros(()))


def _sloped(a: Array) -> bool:
    """Whether there are gradients in it: not in a counter or a flag."""
    return jnp.issubdtype(a.dtype, jnp.inexact)


def _one(
    case: Case, carry: Carry, x: Array, noise: Noise
) -> tuple[Carry, Any, tuple[Carry, Array]]:
    u = case.cell.project(case.prepared, x, noise)
    return case.cell.init_carry(case.prepared, x), u, case.cell.step(case.prepared, carry, u)


def _compiled(run: Callable[[Case, Cell], Tree], case: Case) -> Tree:
    return jax.jit(lambda arrays: run(arrays, case.cell))(case._replace(cell=None, random=None))


def _record(case: Case) -> tuple[Any, list[tuple[Array, Array, Any, Array]]]:
    """The result of one step, and the vector, weight, operation and product of each call of dot."""
    calls = []

    def recording(v: Array, w: Array, op: Any = None) -> Array:
        calls.append((v, w, op, dot(v, w, op)))
        return calls[-1][-1]

    return case.cell.step(case.prepared, case.carry, _project(case), recording), calls


def _project(case: Case) -> Any:
    return case.cell.project(case.prepared, case.xs[0], _first(case.noise))


def _first(tree: Tree) -> Tree:
    return jax.tree.map(lambda a: a[0], tree)


def _half(tree: Tree) -> Tree:
    """The first half of the last axis of every array; scalars and axes of size 1 stay."""
    return jax.tree.map(lambda a: a[..., : max(1, a.shape[-1] // 2)] if a.ndim else a, tree)


def _perturbed(tree: Tree, random: np.random.Generator) -> Tree:
    """A tree with random numbers added to all floating-point numbers; counters and flags stay."""

    def move(a: Array) -> Array:
        if not _sloped(a):
            return a
        wide = np.asarray(a, np.complex128 if jnp.iscomplexobj(a) else np.float64)
        return jnp.asarray(wide + 0.3 * random.normal(size=a.shape))

    return jax.tree.map(move, tree)


def _same(got: Any, want: Any, advice: str, tolerance: float = TOLERANCE) -> None:
    """Raises unless the trees agree, relative to the larger of 1 and the largest entry wanted."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.shape == b.shape, f"{advice} Got shape {a.shape}, expected {b.shape}."
        wide = np.complex128 if np.iscomplexobj(b) else np.float64
        a = np.asarray(a, wide)
        b = np.asarray(b, wide)
        error = np.max(np.abs(a - b), initial=0.0) / max(1.0, np.max(np.abs(b), initial=0.0))
        assert error <= tolerance, f"{advice} Off by {error:.1e}."
