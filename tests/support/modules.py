"""The two Flax APIs behind one face, so that each claim about modules is written once
and holds for both.
"""

import contextlib

import jax
import numpy as np
from flax import nnx

import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.structure import fit_params


class Nnx:
    """A module of `jaxrnn.nnx`."""

    name = "nnx"

    def __init__(self, name, *args, **options):
        self.module = getattr(jaxrnn.nnx, name)(*args, **options, rngs=nnx.Rngs(0))

    @property
    def weights(self):
        return self.module

    def __call__(self, xs, state=None, *, weights=None, **call):
        return (self.module if weights is None else weights)(xs, state, **call)

    def step(self, x, state=None, **call):
        return self.module.step(x, state, **call)

    def initial_state(self, batch_size, **options):
        return self.module.initial_state(batch_size, **options)

    def load(self, params):
        self.module.load(params)

    @property
    def params(self):
        return self.module.params

    def load_torch(self, state_dict, **options):
        self.module.load_torch(state_dict, **options)

    def to_torch(self, **options):
        return self.module.to_torch(**options)


class Linen:
    """A module of `jaxrnn.linen` with its variables."""

    name = "linen"

    def __init__(self, name, *args, **options):
        self.module = getattr(jaxrnn.linen, name)(*args, **options)
        size = next(a for a in args if isinstance(a, int))
        cell = options.get("cell", args[0])
        shape = (1,) * getattr(cell, "feature_axes", 1) + (size,)
        self.weights = self.module.init(jax.random.key(0), np.zeros(shape, np.float32))

    def __call__(self, xs, state=None, *, weights=None, **call):
        return self.module.apply(self.weights if weights is None else weights, xs, state, **call)

    def step(self, x, state=None, **call):
        return self.module.apply(self.weights, x, state, method="step", **call)

    def initial_state(self, batch_size, **options):
        return self.module.initial_state(batch_size, **options)

    def load(self, params):
        self.weights = self.module.load(params)

    @property
    def params(self):
        return fit_params(self.module.cell, self.weights, self.module.input_size)

    def load_torch(self, state_dict, **options):
        self.weights = self.module.from_torch(state_dict, **options)

    def to_torch(self, **options):
        return self.module.to_torch(self.weights, **options)


APIS = [Nnx, Linen]


def random_weights(module, seed=0):
    """Gives a module random weights, biases too, and returns it."""
    rng = np.random.RandomState(seed)
    module.load_torch(
        {
            name: rng.normal(0, 0.6, a.shape).astype(np.float32)
            for name, a in module.to_torch().items()
        }
    )
    return module


@contextlib.contextmanager
def compilations():
    """Counts what XLA compiles meanwhile: a list with one name per program."""
    names = []

    def listen(event, duration, **details):
        if event.endswith("backend_compile_duration"):
            names.append(details.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
