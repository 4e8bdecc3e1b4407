"""State dicts of torch: names, shapes, dtypes, errors."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from modules import APIS, Nnx, random_weights
from parity import CASES, torch_installed

import jaxrnn
import jaxrnn.nnx as rnn
from jaxrnn.cells import GRUResetBeforeCell, LSTMPCell
from jaxrnn.interop import ConversionError, from_torch, to_torch

pytestmark = pytest.mark.usefixtures("quick_compilation")
both = pytest.mark.parametrize("api", APIS, ids=lambda a: a.name)
live = pytest.mark.skipif(not torch_installed(), reason="needs torch: pip install 'jaxrnn[parity]'")


def bits(array):
    return np.frombuffer(array.tobytes(), np.uint8)


@both
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_loading_what_was_written_changes_no_bit(api, name, dtype):
    module = random_weights(api(name, 3, 5, 2, bidirectional=True, param_dtype=dtype))
    before = module.to_torch()
    before["bias_ih_l0"][0] = -0.0
    module.load_torch(before)
    after = module.to_torch()
    for key, array in before.items():
        np.testing.assert_array_equal(bits(array), bits(after[key]), err_msg=key)
        assert array.flags.c_contiguous


def test_written_biases_are_ours_and_zero():
    weights = random_weights(Nnx("GRU", 3, 5)).to_torch()
    assert (weights["bias_hh_l0"][:10] == 0).all() and (weights["bias_hh_l0"][10:] != 0).all()
    assert (random_weights(Nnx("LSTM", 3, 5)).to_torch()["bias_hh_l0"] == 0).all()


@both
def test_the_module_keeps_its_own_param_dtype(api):
    module = api("LSTM", 3, 5, param_dtype=jnp.bfloat16)
    module.load_torch({k: np.full(a.shape, 1 / 3) for k, a in module.to_torch().items()})
    weights = module.to_torch()
    # bfloat16 written out wider, since torch reads none from NumPy
    assert weights["weight_ih_l0"].dtype == np.float32
    assert weights["weight_ih_l0"][0, 0] == ml_dtypes.bfloat16(1 / 3)
    assert weights["bias_ih_l0"][0] == ml_dtypes.bfloat16(2 / 3)  # summed before it was rounded


@both
def test_what_does_not_fit_is_listed_whole_and_changes_nothing(api):
    module = api("LSTM", 3, 5, 2)
    before, wrong = module.to_torch(), module.to_torch()
    wrong["weight_ih_l2"] = wrong.pop("weight_ih_l1")
    wrong["bias_hh_l0"] = np.zeros(3, np.float32)
    message = (
        r"missing: weight_ih_l1; unexpected: weight_ih_l2; misshapen: "
        r"bias_hh_l0 \(3,\), expected \(20,\)"
    )
    with pytest.raises(ValueError, match=message):
        module.load_torch(wrong)
    np.testing.assert_array_equal(module.to_torch()["weight_ih_l0"], before["weight_ih_l0"])


@both
def test_a_prefix_takes_one_module_out_of_a_larger_one(api):
    module = random_weights(api("GRU", 3, 5))
    larger = {f"encoder.rnn.{k}": a for k, a in module.to_torch().items()} | {
        "head.weight": np.zeros((2, 5), np.float32)
    }
    other = api("GRU", 3, 5)
    with pytest.raises(ValueError, match=r"Pass prefix='encoder\.rnn\.'"):
        other.load_torch(larger)
    other.load_torch(larger, prefix="encoder.rnn.")
    np.testing.assert_array_equal(
        other.to_torch()["weight_ih_l0"], module.to_torch()["weight_ih_l0"]
    )
    assert set(other.to_torch(prefix="a.")) == {f"a.{k}" for k in module.to_torch()}


def test_an_entry_of_integers_is_refused():
    module = Nnx("GRU", 3, 5)
    with pytest.raises(TypeError, match="weight_ih_l0 has dtype int8, expected floating point"):
        module.load_torch(module.to_torch() | {"weight_ih_l0": np.zeros((15, 3), np.int8)})


@pytest.mark.parametrize("given", ["weights.pt", {"weight_ih_l0": [1.0]}])
def test_what_is_no_state_dict_is_refused(given):
    with pytest.raises(TypeError, match=r"state_dict must map names to arrays, got (str|dict)"):
        Nnx("GRU", 3, 5).load_torch(given)


def test_a_module_in_place_of_its_state_dict_is_told_what_to_pass():
    class Module:
        def state_dict(self):
            return {}

    with pytest.raises(TypeError, match=r"got Module\. Pass module\.state_dict\(\)"):
        Nnx("GRU", 3, 5).load_torch(Module())


def test_a_cell_that_torch_does_not_have_is_refused():
    stack = jaxrnn.Stack((GRUResetBeforeCell(4),))
    with pytest.raises(ConversionError, match="torch has no module of these cells"):
        to_torch(stack, stack.init(jax.random.key(0), 3))
    with pytest.raises(ConversionError, match="torch has no module of these cells"):
        from_torch(stack, 3, {})


def test_directions_that_are_not_concatenated_are_refused():
    stack = jaxrnn.Stack([jaxrnn.GRUCell(4)], bidirectional=True, merge="sum")
    with pytest.raises(
        ConversionError,
        match="torch concatenates the outputs of both directions, this stack has merge='sum'",
    ):
        to_torch(stack, stack.init(jax.random.key(0), 3))


UNEQUAL = {
    "nonlinearity": (jaxrnn.RNNCell(4), jaxrnn.RNNCell(4, "relu")),
    "hidden_size": (jaxrnn.LSTMCell(4), jaxrnn.LSTMCell(8)),
    "bias": (jaxrnn.GRUCell(4), jaxrnn.GRUCell(4, bias=False)),
    "proj_size": (LSTMPCell(4, 2), LSTMPCell(4, 3)),
}


@pytest.mark.parametrize("name", UNEQUAL)
def test_layers_that_differ_are_refused_by_what_differs(name):
    stack = jaxrnn.Stack(UNEQUAL[name])
    with pytest.raises(
        ConversionError, match=rf"torch's layers share one {name}, those of this stack have \["
    ):
        to_torch(stack, stack.init(jax.random.key(0), 3))
    with pytest.raises(ConversionError, match=f"torch's layers share one {name}"):
        from_torch(stack, 3, {})


def test_parameters_of_another_stack_are_not_written():
    stack, other = jaxrnn.Stack((jaxrnn.GRUCell(4),)), jaxrnn.Stack((jaxrnn.GRUCell(5),))
    with pytest.raises(
        ValueError, match=r"params do not fit Stack.* \(3, 3, 5\), expected \(3, 3, 4\)"
    ):
        to_torch(stack, other.init(jax.random.key(0), 3))


def test_loading_keeps_the_sharding_of_the_parameters():
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    module = rnn.GRU(3, 4, rngs=nnx.Rngs(0))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, None, "model"))
    module.weights["0"]["w_h"][...] = jax.device_put(module.params[0].w_h, place)
    module.load_torch(module.to_torch())
    assert module.weights["0"]["w_h"][...].sharding == place


@live
@pytest.mark.parity
@pytest.mark.parametrize("case", CASES[::7], ids=str)
def test_torch_loads_what_we_write(case):
    import torch

    weights = case.make(rnn, 2, 3, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16).to_torch()
    module = case.make(torch.nn, 2, 3)
    module.load_state_dict({k: torch.as_tensor(a) for k, a in weights.items()}, strict=True)
    np.testing.assert_array_equal(module.weight_hh_l0.detach().numpy(), weights["weight_hh_l0"])


@live
@pytest.mark.parity
@both
def test_bfloat16_tensors_and_parameters_that_require_grad_are_accepted(api):
    import torch

    source = torch.nn.LSTM(3, 5).to(torch.bfloat16)
    module = api("LSTM", 3, 5)
    module.load_torch(dict(source.named_parameters()))
    np.testing.assert_array_equal(
        module.to_torch()["weight_ih_l0"], source.weight_ih_l0.detach().float().numpy()
    )
