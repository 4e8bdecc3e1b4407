"""What `jax.export` must know of this library to write a program to bytes, and to read it."""

import functools
import sys
from collections.abc import Iterator

from jax import export

from jaxrnn.interop.torch_states import LSTMState
from jaxrnn.sequences.packing import Packed


def register_for_export(*classes: type) -> None:
    """Makes the NamedTuples of jaxrnn, parameters, carries and the like, known to `jax.export`,
    which writes and reads no others.

    It is called once before `Exported.serialize` and once before `jax.export.deserialize`; a second
    call does nothing. A program may have symbols for the number of steps and of sequences: one file
    then serves every size. Such a file is for deployment: jax reads those of its last six months.
    Keep the weights with `save_pretrained`.

    Args:
        classes: NamedTuples of your own cells.

    Raises:
        ValueError: a class that was registered elsewhere.

    Example:
        >>> import jax, jaxrnn
        >>> from jax import export
        >>> jaxrnn.interop.register_for_export()
        >>> cell = jaxrnn.GRUCell(4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> xs = jax.ShapeDtypeStruct((*export.symbolic_shape("T, B"), 3), "float32")
        >>> program = export.export(jax.jit(lambda xs: jaxrnn.unroll(cell, params, xs)))(xs)
        >>> # bytes; needs the package flatbuffers: pip install 'jaxrnn[export]'
        >>> blob = program.serialize(vjp_order=1)
        >>> carry, ys = export.deserialize(blob).call(jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.h.shape
        ((5, 2, 4), (2, 4))
    """
    for kind in _own():
        _register(kind, f"jaxrnn.{kind.__name__}")
    for kind in set(classes).difference(_own()):
        _register(kind, f"{kind.__module__}.{kind.__qualname__}")


def _own() -> Iterator[type]:
    """The NamedTuples of the cells and of `Stack`, the state of an LSTM module,
    and packed sequences.
    """
    yield from (LSTMState, Packed)
    modules = {
        name: m
        for name, m in sys.modules.items()
        if name.startswith(("jaxrnn.cells.", "jaxrnn.wrappers.", "jaxrnn.stack"))
    }
    for name, module in sorted(modules.items()):
        for kind in vars(module).values():
            if (
                isinstance(kind, type)
                and issubclass(kind, tuple)
                and hasattr(kind, "_fields")
                and kind.__module__ == name
            ):
                yield kind


@functools.cache
def _register(kind: type, name: str) -> None:
    export.register_namedtuple_serialization(kind, serialized_name=name)
