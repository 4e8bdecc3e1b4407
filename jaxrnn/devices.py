"""One loss over several devices."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

AXIS = "split_batch"


def split_batch(
    loss: Callable[..., Any], in_axes: Any, devices: Sequence[jax.Device] | None = None
) -> Callable[..., Any]:
    """The same loss with its batch split over devices, each of which runs `loss` on its share;
    the results are averaged.

    Differentiate what is returned, and jit the whole:
    `jax.jit(jax.value_and_grad(jaxrnn.split_batch(loss, in_axes=(None, 1))))`. Gradients are added
    up over the devices once, after the whole backward pass. A recurrent loop of small products
    leaves most cores of a CPU idle, one of products of 512 x 512 and more does not. JAX takes cores
    as devices of their own when told so before it is first used, by
    `jax.config.update("jax_num_cpu_devices", 2)` or `JAX_NUM_CPU_DEVICES=2` in the environment.

    The average of the shares' means is the mean of the whole but for rounding, since all shares are
    of one size: the number of devices may change the last digits. Not so where `loss` divides by
    what differs between shares, such as the number of valid steps of padded sequences. An argument
    that is the same for all devices is so for random keys too: draw noise outside and hand it over
    with its batch axis. A Flax nnx module among the arguments draws from its own stream, something
    else on each device.

    Args:
        loss: any function of arrays or pytrees of them, which returns means over its batch: a
            scalar or a pytree of scalars.
        in_axes: where the batch axis of the arguments is, as in `jax.vmap`: an int, None for what
            every device gets whole, or a tuple with an int, None or pytree prefix of them for each
            argument.
        devices: which devices; None means all local ones of the default backend.

    Returns:
        A function with the arguments and results of `loss`. With one device it is `loss`, after the
        checks.

    Raises:
        TypeError: `in_axes` holds what is no axis, or `devices` what is no device.
        ValueError: when called: no argument has a batch axis, their sizes differ, the devices do
            not divide them, or a result is not a scalar.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> cell = jaxrnn.GRUCell(4)
        >>> params, xs = cell.init(jax.random.key(0), input_size=3), jnp.ones((5, 8, 3))
        >>> def loss(params, xs):
        ...     return jnp.mean(jaxrnn.unroll(cell, params, xs)[1] ** 2)
        >>> split = jax.jit(jax.value_and_grad(jaxrnn.split_batch(loss, in_axes=(None, 1))))
        >>> value, gradients = split(params, xs)
        >>> bool(jnp.allclose(value, loss(params, xs), atol=1e-5))
        True
    """
    in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
    _check_kinds(in_axes, devices)

    def averaged(*args: Any) -> Any:
        chosen = jax.local_devices() if devices is None else list(devices)
        if not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"devices must be one or more, each once, got {chosen}.")
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise ValueError(f"in_axes has {len(in_axes)} entries for {len(args)} arguments.")
        pairs = _with_axes(in_axes, args)
        _check_sizes({(jnp.shape(a), axis) for axis, a in pairs if axis is not None}, len(chosen))
        if len(chosen) == 1:
            return jax.tree.map(_scalar, loss(*args))
        specs = jax.tree.unflatten(jax.tree.structure(args), [_spec(axis, a) for axis, a in pairs])
        mesh = Mesh(np.array(chosen), (AXIS,))
        keys = [stream() for stream in _streams(args)]

        def share(keys: list[jax.Array], *args: Any) -> Any:
            # A stream that stands in two places is two in the copies.
            for number, stream in enumerate(_streams(args)):
                key = jax.random.fold_in(keys[number % len(keys)], number)
                stream.key[...] = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
            return jax.tree.map(lambda mean: _scalar(mean)[None], loss(*args))

        # Nothing in `share` communicates, so there is nothing to check; with the check, JAX refuses
        # loops that start from constants, and adds up the gradients of what is the same for all in
        # every step of a loop.
        specs = (PartitionSpec(), *specs)
        run = jax.shard_map(
            share, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
        )
        return jax.tree.map(lambda means: jnp.mean(means, axis=0), run(keys, *args))

    return averaged


def _check_kinds(in_axes: Any, devices: Any) -> None:
    """Raises TypeError where `in_axes` holds what is no axis, or `devices` what is no device."""
    whole = in_axes is None or isinstance(in_axes, int | tuple)
    if not whole or any(type(axis) is not int for axis in jax.tree.leaves(in_axes)):
        raise TypeError(
            f"in_axes must be an axis, None, or a tuple of them for each argument, got {in_axes!r}."
        )
    listed = isinstance(devices, Sequence | np.ndarray) and not isinstance(devices, str)
    if devices is not None and not (listed and all(isinstance(d, jax.Device) for d in devices)):
        raise TypeError(f"devices must be a list of jax.Device, got {devices!r}.")


def _streams(args: Any) -> list[Any]:
    """The random streams of the Flax nnx modules in the arguments. What a share draws is lost with
    its copy of them, so that they are advanced outside, once, for a key that each share folds its
    number into."""
    nnx = sys.modules.get("flax.nnx")  # who has not imported it has no modules of it
    if nnx is None:
        return []
    nodes = [node for arg in args for _, node in nnx.iter_graph(arg)]
    return [node for node in nodes if isinstance(node, nnx.RngStream)]


def _with_axes(in_axes: Any, args: tuple[Any, ...]) -> list[tuple[int | None, Any]]:
    """Every leaf of `args` with its batch axis, in their order."""
    axes, prefix = jax.tree.flatten(in_axes, is_leaf=lambda a: a is None)
    parts = prefix.flatten_up_to(args)
    return [
        (axis, leaf)
        for axis, part in zip(axes, parts, strict=True)
        for leaf in jax.tree.leaves(part)
    ]


def _spec(axis: int | None, a: Any) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * (axis % jnp.ndim(a)), AXIS)


def _scalar(mean: Any) -> Any:
    if jnp.ndim(mean):
        raise ValueError(
            f"the loss returned an array of shape {jnp.shape(mean)}, expected scalars: "
            "means over its batch."
        )
    return jnp.asarray(mean)


def _check_sizes(batched: set[tuple[tuple[int, ...], int]], devices: int) -> None:
    """Raises ValueError unless all arrays have one batch size, which the devices divide."""
    if not batched:
        raise ValueError("in_axes names no batch axis: give an int for at least one argument.")
    for shape, axis in batched:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(
                f"in_axes names axis {axis} of an array of shape {shape}, which has no such axis."
            )
    sizes = sorted({shape[axis] for shape, axis in batched})
    if len(sizes) > 1:
        raise ValueError(
            f"batch sizes differ between arguments: {', '.join(map(str, sizes))}; "
            "does in_axes name the batch axis?"
        )
    if sizes[0] % devices:
        raise ValueError(
            f"a batch of {sizes[0]} cannot be split evenly over {devices} devices; "
            "pass fewer as devices=."
        )
