"""The affine scan against a loop in NumPy, and its derivatives against those of a plain loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxrnn
from jaxrnn.affine import scan, ways

pytestmark = pytest.mark.usefixtures("quick_compilation")
T, B, H = 7, 3, 4
FORMS = ("diagonal", "constant", "blocks", "constant blocks", "dense", "constant dense")


def problem(form, T=T, batch=(B,), seed=0, dtype=np.float64):
    """(a, b, start, first), random."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(dtype)  # noqa: E731
    steps = 1 if "constant" in form else T
    if "blocks" in form:
        a = ((draw(steps, *batch, H), draw(steps, *batch, H)), (None, draw(steps, *batch, H)))
        b, start, first = ((draw(*t, *batch, H), draw(*t, *batch, H)) for t in ((T,), (), ()))
        return a, b, start, first
    wide = (H, H) if "dense" in form else (H,)
    scale = 0.5 if "dense" in form else 1.0
    return scale * draw(steps, *batch, *wide), draw(T, *batch, H), draw(*batch, H), draw(*batch, H)


def slots(tree):
    return tree if isinstance(tree, tuple) else (tree,)


def loop(a, b, start, first=None, mask=None, reset=None, reverse=False):
    """All states, step by step, by the definition."""
    rows = a if isinstance(a, tuple) else ((a,),)
    h = [np.array(s) for s in slots(start)]
    count = len(slots(b)[0])
    out = [np.zeros_like(x) for x in slots(b)]
    for t in reversed(range(count)) if reverse else range(count):
        if reset is not None:
            for s, begin in zip(h, slots(first), strict=True):
                s[reset[t]] = begin[reset[t]]
        new = []
        for row, push in zip(rows, slots(b), strict=True):
            total = np.array(push[t])
            for x, s in zip(row, h, strict=True):
                if x is not None:
                    x = x[0] if len(x) == 1 else x[t]
                    total += np.einsum("...ij,...j->...i", x, s) if x.ndim > s.ndim else x * s
            new.append(total)
        if mask is not None:
            new = [np.where(mask[t][:, None], n, s) for n, s in zip(new, h, strict=True)]
        h = [np.array(n) for n in new]
        for o, s in zip(out, h, strict=True):
            o[t] = s
    return out


def conditions(seed=1):
    rng = np.random.default_rng(seed)
    return rng.random((T, B)) < 0.6, rng.random((T, B)) < 0.3


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_conditions", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("x64")
def test_states_are_those_of_the_loop(form, with_conditions, reverse):
    a, b, start, first = problem(form)
    mask, reset = conditions() if with_conditions else (None, None)
    last, hs = jaxrnn.affine_scan(a, b, start, mask=mask, reset=reset, first=first, reverse=reverse)
    want = loop(a, b, start, first, mask, reset, reverse)
    for got, end, expected in zip(slots(hs), slots(last), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(end, got[0 if reverse else -1])


@pytest.mark.parametrize(
    "steps", slow.some([0, 1, 8, 30], {0, 30}.__contains__, "shorter than a row, or a whole one")
)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("x64")
def test_two_levels_are_the_loop(form, reverse, steps, monkeypatch):
    monkeypatch.setattr(ways, "CHUNK", 4)
    a, b, start, _ = (jax.tree.map(jnp.asarray, part) for part in problem(form, steps))
    some = jnp.asarray(np.random.default_rng(3).random((steps, B)) < 0.1)
    for cut in (None, some):
        want = ways.in_order(a, b, start, cut, reverse)
        got = ways.two_levels(a, b, start, cut, reverse)
        close = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11)
        jax.tree.map(close, got, want)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("x64")
def test_nothing_passes_a_reset_in_either_way(form, reverse, wrong, monkeypatch):
    monkeypatch.setattr(ways, "CHUNK", 4)
    a, b, start, _ = (jax.tree.map(jnp.asarray, part) for part in problem(form, 30))
    wrongly = jax.tree.map(lambda x: x.at[20 if reverse else 9].set(wrong), b)
    cut = jnp.zeros((30, B), bool).at[15].set(True)
    after = slice(None, 16) if reverse else slice(15, None)
    for way in (ways.in_order, ways.two_levels):
        got, want = (slots(way(a, some, start, cut, reverse)) for some in (wrongly, b))
        for h, expected in zip(got, want, strict=True):
            np.testing.assert_allclose(h[after], expected[after], rtol=1e-11, atol=1e-11)


def test_the_gradient_in_what_stands_before_a_reset_is_zero():
    a, b, start, first = problem("diagonal", dtype=np.float32)
    b[1] = np.inf
    reset = np.zeros((T, B), bool)
    reset[3] = True

    def loss(a, b, start, first):
        return jnp.sum(jaxrnn.affine_scan(a, b, start, reset=reset, first=first)[1][3:] ** 2)

    d_a, d_b, d_start, d_first = jax.grad(loss, (0, 1, 2, 3))(a, b, start, first)
    # of a, 0 * inf is NaN: so in every loop
    assert not np.any(d_b[:3]) and not np.any(d_start)
    for slope in (d_a[3:], d_b[3:], d_first):
        assert np.isfinite(slope).all() and np.all(slope != 0)


def test_arguments_that_do_not_fit_say_what_is_expected():
    a, b, start, _ = problem("diagonal", dtype=np.float32)
    yes = np.ones((T, B), bool)
    for options, error, message in (
        ({"mask": yes[:, 0]}, None, ""),
        ({"mask": yes[0]}, ValueError, r"mask has shape \(3,\), expected the first axes of b"),
        ({"reset": yes.T}, ValueError, r"reset has shape \(3, 7\), expected the first axes"),
        ({"reset": 1.0 * yes}, TypeError, "reset must be boolean, got float32"),
        ({"mask": True}, ValueError, r"mask has shape \(\), expected the first axes of b"),
        ({"first": start[0]}, ValueError, r"first has shape \(4,\), expected \(3, 4\)"),
    ):
        if error is None:
            jaxrnn.affine_scan(a, b, start, **options)
            continue
        with pytest.raises(error, match=message):
            jaxrnn.affine_scan(a, b, start, **options)
    for given, message in (
        ((0.5, b, start), r"a has shape \(\), expected \(7 or 1, 3, 4\)"),
        ((a, 1.0, start), "b must have a time axis"),
        ((a, list(b), start), None),
        (([a], b, start), r"a has shape \(1, 7, 3, 4\)"),
        ((a, b, 0.0), r"start has shape \(\), expected \(3, 4\)"),
        ((a, b, (start, start)), "start must have 1 slots, as b has, got 2"),
        (((a,), b, start), "a must be 1 x 1 blocks"),
        ((((a, a), (a,)), (b, b), (start, start)), "a must be 2 x 2 blocks"),
        ((((a, a), (a, a)), (b, b), start), "start must have 2 slots"),
    ):
        if message is None:
            jaxrnn.affine_scan(*given)
            continue
        with pytest.raises(ValueError, match=message):
            jaxrnn.affine_scan(*given)


def plain(a, b, start, mask=None, reset=None, first=None, reverse=False):
    """The same by a loop that autodiff goes through."""
    a, b, start = (jax.tree.map(jnp.asarray, part) for part in (a, b, start))
    if mask is not None or reset is not None:
        a, b = scan._conditioned(a, b, first, mask, reset)
    return ways.in_order(a, b, start, None if reset is None else jnp.asarray(reset), reverse)


def weighted(states, weights):
    return sum(jnp.vdot(w, h**2 + h) for w, h in zip(slots(weights), slots(states), strict=True))


@pytest.mark.parametrize(
    "both", slow.some([True, False], bool, "neither conditions nor the other direction")
)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("x64")
def test_derivatives_of_both_modes_and_orders_are_those_of_autodiff(form, both):
    a, b, start, first = (jax.tree.map(jnp.asarray, part) for part in problem(form))
    weights = problem(form, seed=5)[1]
    mask, reset = conditions() if both else (None, None)
    options = {"mask": mask, "reset": reset, "first": first, "reverse": both}

    def ours(a, b, start):
        return weighted(jaxrnn.affine_scan(a, b, start, **options)[1], weights)

    def theirs(a, b, start):
        return weighted(plain(a, b, start, **options), weights)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
    where = (a, b, start)
    push = jax.tree.map(lambda x: jnp.cos(x), where)
    for transform in (
        lambda f: jax.jit(jax.grad(f, argnums=(0, 1, 2)))(*where),
        lambda f: jax.grad(f, argnums=1)(*where),  # some arguments only
        lambda f: jax.jvp(f, where, push)[1],
        lambda f: jax.jvp(jax.grad(f, argnums=(0, 1, 2)), where, push)[1],  # forward over reverse
        lambda f: jax.grad(lambda *w: jax.jvp(f, w, push)[1], argnums=(0, 2))(*where),
        lambda f: jax.grad(lambda *w: weighted(jax.grad(f, argnums=1)(*w), weights))(*where),
        lambda f: jax.linearize(f, *where)[1](*push),
    ):
        got, want = jax.jit(lambda t=transform: (t(ours), t(theirs)))()
        jax.tree.map(close, got, want)


@pytest.mark.usefixtures("x64")
def test_vmap_over_any_of_the_arguments_is_a_loop_over_them():
    a, b, start, _ = problem("diagonal")
    many = np.stack([b, 2 * b])
    got = jax.vmap(lambda b: jaxrnn.affine_scan(a, b, start)[1])(many)
    for k in range(2):
        np.testing.assert_allclose(got[k], loop(a, many[k], start)[0], rtol=1e-12)
    gradient = jax.vmap(jax.grad(lambda a, b: jaxrnn.affine_scan(a, b, start)[1].sum()), (None, 0))
    assert gradient(a, many).shape == (2, *a.shape)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_number_of_batch_axes(batch):
    a, b, start, _ = problem("diagonal", batch=batch, dtype=np.float32)
    np.testing.assert_allclose(
        jaxrnn.affine_scan(a, b, start)[1], loop(a, b, start)[0], rtol=1e-5, atol=1e-5
    )


def test_no_steps_leave_the_start():
    a, b, start, _ = problem("diagonal", T=0, dtype=np.float32)
    last, hs = jaxrnn.affine_scan(a, b, start)
    np.testing.assert_array_equal(last, start)
    assert hs.shape == (0, B, H)
    gradient = jax.grad(lambda s: jaxrnn.affine_scan(a, b, s)[0].sum())(jnp.asarray(start))
    np.testing.assert_array_equal(gradient, np.ones((B, H)))


def test_nan_where_the_mask_is_false_or_before_a_reset_reaches_nothing():
    a, b, start, _ = problem("diagonal", dtype=np.float32)
    mask, reset = conditions()
    dirty = np.where(mask[..., None], b, np.nan).astype(np.float32)

    def loss(a, b, start):
        return (jaxrnn.affine_scan(a, b, start, mask=mask, reset=reset)[1] ** 2).sum()

    np.testing.assert_allclose(loss(a, dirty, start), loss(a, b, start), rtol=1e-6)
    for leaf in jax.grad(loss, argnums=(0, 1, 2))(a, dirty, start):
        assert jnp.isfinite(leaf).all()


def test_sixteen_bits_add_up_in_float32_and_decays_in_sixteen_bits_are_refused():
    steps = 4096
    a = jnp.full((steps, 1), 1 - 2.0**-12)
    b = jnp.full((steps, 1), 0.01, jnp.bfloat16)
    last, hs = jaxrnn.affine_scan(a, b, jnp.zeros(1, jnp.bfloat16))
    assert last.dtype == hs.dtype == jnp.float32
    exact = float(b[0, 0]) * (1 - (1 - 2.0**-12) ** steps) / 2.0**-12
    np.testing.assert_allclose(last[0], exact, rtol=1e-4)
    with pytest.raises(TypeError, match="a has dtype bfloat16: compute it in float32"):
        jaxrnn.affine_scan(a.astype(jnp.bfloat16), b, jnp.zeros(1))


@pytest.mark.parametrize(("form", "reverse"), [(form, k % 2 > 0) for k, form in enumerate(FORMS)])
def test_time_split_over_devices_is_the_whole(form, reverse):
    a, b, start, first = problem(form, T=8, dtype=np.float32)
    reset = np.random.default_rng(2).random((8, B)) < 0.2
    mesh = jax.make_mesh((2,), ("time",), axis_types=(AxisType.Auto,))
    along = PartitionSpec("time")
    spec = jax.tree.map(lambda x: along if len(x) > 1 else PartitionSpec(), a)

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(spec, jax.tree.map(lambda _: along, b), PartitionSpec(), along),
        out_specs=jax.tree.map(lambda _: along, b),
    )
    def run(a, b, start, reset):
        return jaxrnn.affine_scan(
            a, b, start, reset=reset, first=first, reverse=reverse, axis_name="time"
        )[1]

    for cut in (reset, np.zeros_like(reset)):
        want = loop(a, b, start, first, reset=cut, reverse=reverse)
        for got, expected in zip(slots(run(a, b, start, cut)), want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    weights = problem(form, T=8, seed=5, dtype=np.float32)[1]

    def gradient(states):
        loss = lambda *w: weighted(states(*w), weights)  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(a, b, start)

    ours = gradient(lambda *w: run(*w, reset))
    options = {"reset": reset, "first": first, "reverse": reverse}
    theirs = gradient(lambda *w: jaxrnn.affine_scan(*w, **options)[1])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    jax.tree.map(close, ours, theirs)


def test_over_devices_too_no_gradient_comes_from_before_a_reset():
    a, b, start, first = problem("diagonal", T=8, dtype=np.float32)
    start = np.full_like(start, np.inf)
    reset = np.zeros((8, B), bool)
    reset[0] = True
    mesh = jax.make_mesh((2,), ("time",), axis_types=(AxisType.Auto,))
    along = PartitionSpec("time")

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(along, along, PartitionSpec(), along), out_specs=along
    )
    def split(a, b, start, reset):
        return jaxrnn.affine_scan(a, b, start, reset=reset, first=first, axis_name="time")[1]

    def whole(a, b, start, reset):
        return jaxrnn.affine_scan(a, b, start, reset=reset, first=first)[1]

    got, want = (
        jax.jit(jax.grad(lambda a, run=run: jnp.sum(run(a, b, start, reset) ** 2)))(a)
        for run in (split, whole)
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("axes", [(None, "x"), (None, None, "x")])
def test_batches_and_features_may_be_split_over_a_mesh(kind, axes):
    a, b, start, _ = problem("diagonal", batch=(4,), dtype=np.float32)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        put = lambda x, spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))  # noqa: E731
        arguments = (put(a, axes), put(b, axes), put(start, axes[1:]))
        loss = jax.jit(lambda *w: (jaxrnn.affine_scan(*w)[1] ** 2).sum())
        value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*arguments)
    np.testing.assert_allclose(value, (loop(a, b, start)[0] ** 2).sum(), rtol=1e-5)
    for got, want in zip(
        gradients,
        jax.grad(lambda *w: (plain(*w) ** 2).sum(), argnums=(0, 1, 2))(a, b, start),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_training_compiles_to_one_loop_each_way_and_keeps_only_the_states():
    shape = (512, 16, 64)

    def loss(run, a, b):
        return (run(a, b, jnp.zeros(shape[1:])) ** 2).sum()

    def temporary(run):
        program = jax.jit(jax.grad(functools.partial(loss, run), argnums=(0, 1)))
        spec = jax.ShapeDtypeStruct(shape, jnp.float32)
        return program.lower(spec, spec).compile().memory_analysis().temp_size_in_bytes

    def autodiff(a, b, start):
        def step(h, inputs):
            h = inputs[0] * h + inputs[1]
            return h, h

        return lax.scan(step, start, (a, b))[1]

    assert temporary(lambda *w: jaxrnn.affine_scan(*w)[1]) <= 0.75 * temporary(autodiff)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"a": np.zeros((3, B, H), np.float32)},
            r"a has shape \(3, 3, 4\), expected \(7 or 1, 3, 4\)",
        ),
        ({"start": np.zeros(H, np.float32)}, r"start has shape \(4,\), expected \(3, 4\)"),
        ({"first": np.zeros(H, np.float32)}, r"first has shape \(4,\), expected \(3, 4\)"),
        ({"b": np.zeros((T, B, H), np.int32)}, "b must be floating-point, got int32"),
        ({"b": np.zeros((T, B, H), complex)}, "give a complex state as two slots"),
        ({"a": "fast"}, "a must be an array"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    a, b, start, first = problem("diagonal", dtype=np.float32)
    given = {"a": a, "b": b, "start": start, "first": first} | change
    with pytest.raises((TypeError, ValueError), match=message):
        jaxrnn.affine_scan(**given)
