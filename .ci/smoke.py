"""Whether an installed jaxrnn works by itself: the core, both Flax APIs, weights and no more."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx

assert importlib.util.find_spec("experiments") is None and importlib.util.find_spec("optax")
assert pathlib.Path(jaxrnn.__file__).with_name("py.typed").exists()
xs = jnp.ones((5, 2, 3))
cell = jaxrnn.Stack((jaxrnn.LSTMCell(4), jaxrnn.GRUCell(4)), bidirectional=True)
params = cell.init(jax.random.key(0), input_size=3)
gradients = jax.grad(lambda params: jaxrnn.unroll(cell, params, xs)[1].sum())(params)
assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
lstm = jaxrnn.nnx.LSTM(3, 4, rngs=nnx.Rngs(0))
linen = jaxrnn.linen.LSTM(3, 4)
output, (h_n, c_n) = linen.apply(linen.load(lstm), xs)
assert (output == lstm(xs)[0]).all() and h_n.shape == c_n.shape == (1, 2, 4)
lstm.load_torch(lstm.to_torch())
print(f"jaxrnn {jaxrnn.__version__} works, on jax {jax.__version__}")
