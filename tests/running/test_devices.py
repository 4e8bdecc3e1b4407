"""A batch split over two CPU devices gives what one device gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxrnn
from jaxrnn.cells import LSTMCarry

pytestmark = pytest.mark.usefixtures("quick_compilation")
T, B, I, H = 7, 6, 3, 4
CELL = jaxrnn.LSTMCell(H)


def params_and_inputs():
    keys = jax.random.split(jax.random.key(0), 3)
    params = CELL.init(keys[0], I)
    params = params._replace(b=jax.random.normal(keys[1], params.b.shape))
    return params, jax.random.normal(keys[2], (T, B, I))


EAGER = pytest.mark.slow("the same call without jit")


def by_unroll(params, xs):
    return jnp.mean(jaxrnn.unroll(CELL, params, xs)[1] ** 2)


def by_hand(params, xs):
    """A loop of the user's own, which knows nothing of devices and starts from constants."""
    zeros = jnp.zeros((xs.shape[1], H))
    _, ys = lax.scan(lambda carry, x: CELL(params, carry, x), LSTMCarry(zeros, zeros), xs)
    return jnp.mean(ys**2)


def close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), a, b)


@pytest.mark.parametrize("loss", [by_unroll, by_hand])
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(jax.jit, id="jit"),
        pytest.param(lambda f: f, id="eager", marks=EAGER),
    ],
)
def test_split_values_and_gradients_equal_those_of_one_device(loss, wrap):
    params, xs = params_and_inputs()
    split = wrap(jax.value_and_grad(jaxrnn.split_batch(loss, in_axes=(None, 1)), argnums=(0, 1)))
    close(split(params, xs), jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, xs))


def test_each_device_sees_its_own_share_once():
    seen = jaxrnn.split_batch(
        lambda x: {"size": jnp.float32(x.shape[0]), "sum": x.sum()}, in_axes=0
    )(jnp.arange(6.0))
    assert seen == {"size": 3.0, "sum": 7.5}  # 0 + 1 + 2 and 3 + 4 + 5, averaged


def test_in_axes_may_be_a_prefix_with_negative_axes_and_arguments_without_arrays():
    params, xs = params_and_inputs()
    mask = jaxrnn.lengths_to_mask([7, 5, 3, 1, 0, 2], T)

    def loss(params, batch, state):
        assert batch["mask"].shape == (T, B // 2) and state[0] is None
        ys = jaxrnn.unroll(CELL, params, batch["xs"], LSTMCarry(*state[1]), mask=batch["mask"])[1]
        return jnp.mean(ys**2), {"largest": jnp.max(params.b)}

    state = (None, (jnp.ones((B, H)), jnp.full((B, H), 0.5)))
    split = jaxrnn.split_batch(loss, in_axes=[None, {"xs": -2, "mask": 1}, 0])
    (value, aux), gradients = jax.jit(jax.value_and_grad(split, has_aux=True))(
        params, {"xs": xs, "mask": mask}, state
    )

    def whole(params):
        return jnp.mean(jaxrnn.unroll(CELL, params, xs, LSTMCarry(*state[1]), mask=mask)[1] ** 2)

    close((value, gradients), jax.jit(jax.value_and_grad(whole))(params))
    assert aux["largest"] == params.b.max()


def test_split_gradients_may_be_vmapped():
    params, xs = params_and_inputs()
    several = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    over = jax.jit(
        jax.vmap(jax.grad(jaxrnn.split_batch(by_unroll, in_axes=(None, 1))), in_axes=(0, None))
    )
    close(over(several, xs), jax.jit(jax.vmap(jax.grad(by_unroll), in_axes=(0, None)))(several, xs))


def test_one_device_is_the_loss_itself():
    params, xs = params_and_inputs()
    one = jaxrnn.split_batch(by_hand, in_axes=(None, 1), devices=jax.local_devices()[:1])
    assert str(jax.make_jaxpr(one)(params, xs)) == str(jax.make_jaxpr(by_hand)(params, xs))


@pytest.mark.parametrize(
    ("in_axes", "message"),
    [
        ((None, 0), "a batch of 7 cannot be split evenly over 2 devices; pass fewer as devices="),
        ((None, None), "in_axes names no batch axis"),
        (
            (None, 3),
            r"in_axes names axis 3 of an array of shape \(7, 6, 3\), which has no such axis",
        ),
        (1, "batch sizes differ between arguments: 4, 6"),
    ],
)
def test_batches_that_cannot_be_split_are_refused(in_axes, message):
    with pytest.raises(ValueError, match=message):
        jaxrnn.split_batch(lambda w, xs: xs.mean() + w.mean(), in_axes)(
            jnp.ones((3, 4)), jnp.ones((T, B, I))
        )


@pytest.mark.parametrize("devices", [1, 2])
def test_results_that_are_no_means_are_refused(devices):
    split = jaxrnn.split_batch(lambda x: x, in_axes=0, devices=jax.local_devices()[:devices])
    with pytest.raises(
        ValueError,
        match=r"the loss returned an array of shape .*expected scalars: means over its batch",
    ):
        split(jnp.ones(6))
