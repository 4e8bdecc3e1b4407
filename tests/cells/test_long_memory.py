"""Long-memory and convolutional cells: closed forms, invariants, and Keras,
beyond what every cell is held to.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close, inputs, parameters, randomised

import jaxrnn
from jaxrnn.cells import (
    AntisymmetricRNNCell,
    ConvGRUCell,
    ConvLSTMCell,
    CoRNNCarry,
    CoRNNCell,
    ExpRNNCell,
    GatedAntisymmetricRNNCell,
    GRUResetBeforeCell,
    LEMCarry,
    LEMCell,
    LSTMCarry,
    UnICORNNCarry,
    UnICORNNCell,
)

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
KEY = jax.random.key(11)


def slopes(cell, p, xs, lags):
    """|d h_T[0] / d h_0| for every T of `lags`."""

    @jax.jit
    def norms(p, xs):
        starts = [jaxrnn.initial_carry(cell, p)] * len(lags)

        def ends(starts):
            runs = zip(lags, starts, strict=True)
            return [jaxrnn.unroll(cell, p, xs[:T], carry)[0].h[0] for T, carry in runs]

        return [jnp.linalg.norm(d.h) for d in jax.grad(lambda starts: sum(ends(starts)))(starts)]

    return np.array(norms(p, xs))


def silent(cell):
    """Parameters of zeros, and inputs that do not count."""
    return jax.tree.map(np.zeros_like, parameters(cell))


# --- LEM ------------------------------------------------------------------------------------------


def test_a_short_time_step_of_lem_keeps_the_state_to_first_order():
    p, xs = parameters(LEMCell(4)), inputs(LEMCell(4), 6, (3,))
    carry = jax.tree.map(lambda a: 0.5 * a, randomised(LEMCarry(*np.zeros((2, 3, 4)))))
    moved = []
    for dt in (1e-4, 1e-6):
        after, _ = jaxrnn.unroll(LEMCell(4, dt=dt), p, xs, carry)
        moved.append([(a - b) / dt for a, b in zip(after, carry, strict=True)])
        # 6 steps, each below
        assert max(np.abs(m).max() for m in moved[-1]) < 6 * (
            1 + max(np.abs(a).max() for a in carry)
        )
    assert_close(moved[1], moved[0], 1e-2)  # the same slope, at a hundredth of the step
    assert min(np.abs(m).max() for m in moved[1]) > 0.1


def test_lem_is_drawn_from_the_papers_uniform_distribution_biases_too():
    H = 100
    for leaf in map(np.asarray, jax.jit(lambda: LEMCell(H).init(KEY, 7))()):
        assert np.abs(leaf).max() <= 0.1
        np.testing.assert_allclose(np.std(leaf), 0.1 / np.sqrt(3), rtol=0.1)


# --- oscillators ----------------------------------------------------------------------------------


def test_a_cornn_without_weights_is_the_damped_oscillator_of_the_closed_form():
    dt, gamma, epsilon, T = 1e-3, 4.0, 0.6, 3000
    cell = CoRNNCell(4, dt=dt, gamma=gamma, epsilon=epsilon)
    start = CoRNNCarry(y=np.array([1.0, 0.5, -1.0, 2.0]), z=np.array([0.0, 1.0, 0.5, -1.0]))
    carries, _ = jaxrnn.unroll_carries(cell, silent(cell), inputs(cell, T), start)
    t, rate, omega = dt * np.arange(1, T + 1)[:, None], epsilon / 2, np.sqrt(gamma - epsilon**2 / 4)
    y = np.exp(-rate * t) * (
        start.y * np.cos(omega * t) + (start.z + rate * start.y) / omega * np.sin(omega * t)
    )
    # an Euler step is off by dt^2 each, and there are 3 / dt of them
    np.testing.assert_allclose(carries.y, y, atol=5e-3)
    energy = 0.5 * (np.asarray(carries.z) ** 2 + gamma * np.asarray(carries.y) ** 2).sum(-1)
    # after half a period y and z come back, with the other sign and exp(-rate t) smaller
    period = round(np.pi / omega / dt)
    np.testing.assert_allclose(
        energy[period:] / energy[:-period], np.exp(-2 * rate * period * dt), rtol=5e-3
    )


def test_a_step_of_unicornn_can_be_undone():
    cell = UnICORNNCell(4, dt=0.7, alpha=1.5)
    p, xs = parameters(cell), inputs(cell, 50, (3,))
    carry = start = randomised(UnICORNNCarry(*np.zeros((2, 3, 4))))
    carry, _ = jaxrnn.unroll(cell, p, xs, start)
    y, z = np.asarray(carry.y), np.asarray(carry.z)
    assert np.abs(y - start.y).max() > 0.1
    for x in xs[::-1]:  # the two lines of the step, backward
        pace = 0.7 / (1 + np.exp(-p.c))
        y = y - pace * z
        z = z + pace * (np.tanh(p.w * y + x @ p.w_x + p.b) + 1.5 * y)
    assert_close((y, z), (start.y, start.z), 1e-10)  # 50 steps, of which each may double a rounding


def test_a_step_of_unicornn_preserves_volumes_and_couples_no_units():
    cell = UnICORNNCell(4, dt=0.7, alpha=1.5)
    p, x = parameters(cell), inputs(cell, 1)[0]
    carry = randomised(UnICORNNCarry(*np.zeros((2, 4))))
    blocks = jax.jit(jax.jacobian(lambda carry: cell(p, carry, x)[0]))(carry)
    jacobian = np.block([[np.asarray(blocks[a][b]) for b in (0, 1)] for a in (0, 1)])
    np.testing.assert_allclose(np.linalg.det(jacobian), 1, rtol=1e-12)
    within = np.tile(np.eye(4, dtype=bool), (2, 2))
    assert np.all(jacobian[~within] == 0) and np.all(jacobian[within] != 0)


# --- orthogonal and antisymmetric matrices --------------------------------------------------------


@pytest.mark.parametrize("draws", ["henaff", "cayley"])
def test_the_matrix_of_exprnn_is_orthogonal_and_stays_so_over_steps_of_the_gradient(draws):
    cell = ExpRNNCell(7, recurrent_init=draws)
    p, xs = jax.jit(lambda: cell.init(KEY, 3, jnp.float64))(), inputs(cell, 5, (3,))
    slope = jax.jit(jax.grad(lambda p: jnp.sum((jaxrnn.unroll(cell, p, xs)[1] - 1) ** 2)))
    prepare, matrices = jax.jit(cell.prepare), []
    for _ in range(3):
        matrices.append(np.asarray(prepare(p).w_h))
        p = jax.tree.map(lambda a, d: np.asarray(a) - 0.1 * np.asarray(d), p, slope(p))
    for w_h in matrices:
        assert_close(w_h @ w_h.T, np.eye(7), 1e-13)
        assert_close(np.linalg.det(w_h), np.float64(1))
    assert np.abs(matrices[2] - matrices[0]).max() > 0.01


def test_the_draws_of_exprnn_turn_pairs_of_units_by_the_angles_of_the_papers():
    for draws, low, high in (("henaff", -np.pi, np.pi), ("cayley", -np.tan(np.pi / 4), 0)):
        cell = ExpRNNCell(401, recurrent_init=draws)
        a = np.asarray(jax.jit(lambda cell=cell: cell.init(KEY, 3, jnp.float64).a)())
        pairs = a[np.arange(0, 400, 2), np.arange(1, 401, 2)]
        assert np.count_nonzero(a) == 200 and low <= pairs.min() < pairs.max() <= high
        # uniform on (-pi, pi), and on (0, pi / 2)
        angles = pairs if draws == "henaff" else -2 * np.arctan(pairs)
        middle, spread = (0, 2 * np.pi) if draws == "henaff" else (np.pi / 4, np.pi / 2)
        assert abs(angles.mean() - middle) < 0.1 * spread
        np.testing.assert_allclose(angles.std(), spread / np.sqrt(12), rtol=0.1)


def test_gradients_of_exprnn_do_not_vanish_over_any_lag_and_those_of_an_lstm_do():
    lags, norms = (1, 40, 300), {}
    for cell in (ExpRNNCell(8), jaxrnn.LSTMCell(8)):
        p = jax.jit(lambda cell=cell: cell.init(KEY, 3, jnp.float64))()
        p = p._replace(b=jnp.zeros_like(p.b))  # |v| + 0: modReLU is the identity
        norms[type(cell)] = slopes(cell, p, inputs(cell, 300), lags)
    assert_close(norms[ExpRNNCell], np.ones(3), 1e-11)  # 300 products
    assert norms[jaxrnn.LSTMCell][2] < 1e-20


@pytest.mark.parametrize("make", [AntisymmetricRNNCell, GatedAntisymmetricRNNCell])
def test_the_eigenvalues_of_the_antisymmetric_matrix_have_the_real_part_minus_gamma(make):
    cell = make(6, epsilon=0.1, gamma=0.3)
    values = np.linalg.eigvals(cell.prepare(parameters(cell)).w_h)
    assert_close(values.real, np.full(6, -0.3), 1e-13)
    assert np.abs(values.imag).max() > 0.5


def test_gradients_of_an_antisymmetric_network_neither_vanish_nor_explode():
    cell = AntisymmetricRNNCell(8, epsilon=0.01, gamma=0.0)
    p = jax.jit(lambda: cell.init(KEY, 3, jnp.float64))()
    norms = slopes(cell, p, 0.1 * inputs(cell, 400), (1, 50, 400))
    # forward Euler of a rotation: (1 + epsilon^2 |eigenvalue|^2)^(T / 2)
    assert 0.3 < np.min(norms) <= np.max(norms) < 3


# --- convolutions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "make, dense",
    [
        (ConvLSTMCell, jaxrnn.LSTMCell),
        (ConvGRUCell, GRUResetBeforeCell),
    ],
)
def test_with_kernels_of_one_pixel_each_pixel_is_a_cell_of_its_own(make, dense, dims):
    cell = make(4, 1, dims=dims)
    p, xs = parameters(cell), inputs(cell, 5, (2,))
    each = jax.eval_shape(lambda: dense(4).init(KEY, 3))
    each = type(each)(*(np.reshape(a, like.shape) for a, like in zip(p, each, strict=True)))
    assert_close(tuple(jaxrnn.unroll(cell, p, xs)), tuple(jaxrnn.unroll(dense(4), each, xs)))


@pytest.mark.parametrize("make", [ConvLSTMCell, ConvGRUCell])
def test_a_convolution_over_three_axes_holds_those_over_fewer(make):
    cells = [make(2, 3, dims=dims) for dims in (1, 2, 3)]
    p = parameters(cells[0])
    xs = np.random.default_rng(5).normal(size=(4, 2, 5, 3))
    outputs = []
    # the other axes have one pixel, of which only the middle of the kernel sees anything
    for extra, cell in enumerate(cells):
        w_x, w_h = (
            np.pad(w[(None,) * extra], [(1, 1)] * extra + [(0, 0)] * w.ndim) for w in (p.w_x, p.w_h)
        )
        own = p._replace(w_x=w_x, w_h=w_h)
        _, ys = jaxrnn.unroll(cell, own, xs.reshape(4, 2, *(1,) * extra, 5, 3))
        outputs.append(np.reshape(ys, (4, 2, 5, 2)))
    assert_close(outputs[1:], [outputs[0], outputs[0]])


@pytest.mark.parametrize(
    "dims, options",
    [
        (1, dict(padding="same", strides=2)),
        (1, dict(padding="valid", dilation=2)),
        (2, dict(padding="same")),
        (2, dict(padding="valid", strides=(2, 1))),
        (2, dict(padding="same", dilation=(1, 2))),
        (3, dict(padding="valid", strides=(1, 2, 1))),
    ],
    ids=str,
)
@pytest.mark.peers
def test_the_convolutional_lstm_has_the_numbers_of_keras(dims, options):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    if keras.config.backend() != "jax":
        pytest.fail("set KERAS_BACKEND=jax: Keras was imported with another backend.")
    cell = ConvLSTMCell(2, (3, 2, 3)[:dims], **options)
    p = parameters(cell)
    xs = np.random.default_rng(3).normal(size=(4, 2, *(7, 6, 5)[:dims], 3))
    theirs = {name.replace("dilation", "dilation_rate"): value for name, value in options.items()}
    make = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)[dims - 1]
    with jax.numpy_dtype_promotion("standard"):
        layer = make(
            2, (3, 2, 3)[:dims], return_sequences=True, return_state=True, dtype="float32", **theirs
        )
        batch_first = np.swapaxes(xs, 0, 1).astype(np.float32)
        layer.build(batch_first.shape)
        layer.set_weights(
            [
                p.w_x.reshape(*p.w_x.shape[:-2], -1),
                p.w_h.reshape(*p.w_h.shape[:-2], -1),
                p.b.reshape(-1),
            ]
        )
        ys, h, c = (np.asarray(a) for a in layer(batch_first))
    # Keras is float32 here
    assert_close(jaxrnn.unroll(cell, p, xs), (LSTMCarry(h=h, c=c), np.swapaxes(ys, 0, 1)), 1e-5)


def test_a_convolutional_cell_is_drawn_gate_by_gate_with_the_bias_of_its_forget_gate():
    draw = lambda cell: jax.tree.map(np.asarray, jax.jit(lambda: cell.init(KEY, 4, jnp.float64))())  # noqa: E731
    p = draw(ConvLSTMCell(5, (2, 3), forget_bias=1.5))
    w = np.moveaxis(p.w_h.reshape(30, 4, 5), 1, 0)
    assert_close(np.swapaxes(w, 1, 2) @ w, np.broadcast_to(np.eye(5), (4, 5, 5)))
    assert_close(p.b, np.repeat([0, 1.5, 0, 0], 5))
    chrono = draw(ConvLSTMCell(5, forget_bias=jaxrnn.Chrono(50), recurrent_init="glorot_uniform")).b
    chrono = chrono.reshape(4, 5)
    assert_close((chrono[0], chrono[2:]), (-chrono[1], np.zeros((2, 5))))
    assert np.all((chrono[1] >= 0) & (chrono[1] <= np.log(49))) and np.ptp(chrono[1]) > 0.1
    assert_close(
        draw(ConvGRUCell(5, update_bias=0.5, recurrent_init="glorot_uniform")).b,
        np.repeat([0, 0.5, 0], 5),
    )


def test_equal_windows_make_equal_cells():
    assert ConvLSTMCell(4) == ConvLSTMCell(4, (3, 3), dims=2, strides=[1, 1], dilation=(1, 1))
    assert ConvLSTMCell(4, dims=1) != ConvLSTMCell(4)


def test_convolutional_states_take_the_space_that_is_left():
    cell = ConvGRUCell(4, 3, strides=(2, 1), padding="valid")
    p = cell.init(KEY, 3)
    carry = jaxrnn.initial_carry(cell, p, (5,), spatial_shape=(8, 7))
    assert carry.h.shape == (5, 3, 5, 4)
    stack = jaxrnn.Stack([cell, ConvLSTMCell(2, strides=2)])
    xs = np.random.default_rng(0).normal(size=(3, 5, 8, 7, 3))
    params = parameters(stack)
    carries, ys = jaxrnn.unroll(stack, params, xs)
    _, middle = jaxrnn.unroll(cell, params[0], xs)
    want = jaxrnn.unroll(stack.cells[1], params[1], middle)
    assert_close((carries[1], ys), want)
    assert ys.shape == (3, 5, 2, 3, 2)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        LEMCell(4),
        CoRNNCell(4),
        UnICORNNCell(4),
        AntisymmetricRNNCell(4),
        GatedAntisymmetricRNNCell(4),
        ConvLSTMCell(4),
        ConvGRUCell(4),
    ],
    ids=lambda cell: type(cell).__name__,
)
def test_without_a_bias_the_numbers_are_those_of_a_bias_of_zero(cell):
    bare = LEMCell(4, bias=False) if isinstance(cell, LEMCell) else type(cell)(4, bias=False)
    p, xs = parameters(bare), inputs(cell, 4, (2,))
    assert p.b is None and bare.init(KEY, 3).b is None
    zero = p._replace(b=np.zeros(parameters(cell).b.shape))
    assert_close(jaxrnn.unroll(bare, p, xs), jaxrnn.unroll(cell, zero, xs))


@pytest.mark.parametrize("make", [LEMCell, CoRNNCell, AntisymmetricRNNCell])
def test_an_initialiser_that_is_given_takes_the_place_of_the_papers(make):
    cell = make(4, recurrent_init="identity", input_init=jaxrnn.initializers.Normal(0.0))
    p = jax.tree.map(np.asarray, jax.jit(lambda: cell.init(KEY, 3))())
    kernels = [leaf for name, leaf in p._asdict().items() if name in ("w_h", "w_y", "w_z")]
    for kernel in kernels:
        kernel = kernel if kernel.ndim == 3 else kernel[:, None]
        assert_close(np.moveaxis(kernel, 1, 0), np.broadcast_to(np.eye(4), (kernel.shape[1], 4, 4)))
    assert np.all(p.w_x == 0)


def test_a_numpy_number_as_an_option_is_a_plain_one():
    assert LEMCell(4, dt=np.float32(0.5)) == LEMCell(4, dt=0.5)
    assert type(CoRNNCell(4, gamma=np.float64(1)).gamma) is float


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LEMCell(0), "hidden_size must be an integer of at least 1, got 0"),
        (lambda: LEMCell(3, dt=0.0), "dt must be a number above 0, got 0.0"),
        (
            lambda: LEMCell(3, recurrent_init="orthogonl"),
            "recurrent_init='orthogonl' is no known initializer. Did you mean 'orthogonal'",
        ),
        (
            lambda: LEMCell(3).init(KEY, 0),
            "input_size must be an integer of at least 1, got 0",
        ),
        (lambda: CoRNNCell(3, dt=-1.0), "dt must be a number above 0, got -1.0"),
        (
            lambda: CoRNNCell(3, gamma=-1.0),
            "gamma must be a number at least 0, got -1.0",
        ),
        (
            lambda: CoRNNCell(3, epsilon=float("nan")),
            "epsilon must be a number at least 0, got nan",
        ),
        (
            lambda: UnICORNNCell(3, alpha="1"),
            "alpha must be a number at least 0, got '1'",
        ),
        (
            lambda: AntisymmetricRNNCell(3, epsilon=0),
            "epsilon must be a number above 0, got 0",
        ),
        (
            lambda: GatedAntisymmetricRNNCell(3, gamma=-0.1),
            "gamma must be a number at least 0, got -0.1",
        ),
        (
            lambda: ExpRNNCell(3, recurrent_init="haar"),
            r"must be one of \('henaff', 'cayley'\), got 'haar'",
        ),
        (
            lambda: ConvLSTMCell(3, dims=4),
            "dims, the number of spatial axes, must be 1, 2 or 3, got 4",
        ),
        (
            lambda: ConvLSTMCell(3, (3, 3), dims=1),
            r"kernel_size=\(3, 3\) must have one entry for each of dims=1",
        ),
        (
            lambda: ConvLSTMCell(3, strides=(1, 2, 1)),
            r"strides=\(1, 2, 1\) must have one entry for each of dims=2",
        ),
        (
            lambda: ConvLSTMCell(3, dilation=0),
            "dilation must be an integer of at least 1, got 0",
        ),
        (lambda: ConvLSTMCell(3, ()), r"kernel_size=\(\) must have one entry"),
        (
            lambda: ConvGRUCell(3, padding="full"),
            "padding must be 'same' or 'valid', got 'full'",
        ),
        (
            lambda: ConvGRUCell(3).init(KEY, 0),
            "input_size must be an integer of at least 1, got 0",
        ),
        (
            lambda: jaxrnn.unroll(
                ConvGRUCell(3, 5, padding="valid"),
                parameters(ConvGRUCell(3, 5)),
                np.ones((2, 1, 4, 6, 3)),
            ),
            r"xs has the space \(4, 6\), too small for kernel_size=\(5, 5\)",
        ),
    ],
)
def test_an_option_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
