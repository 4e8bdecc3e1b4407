"""Operations of a step in C."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.interop.c.lines import Lines, Place, heads, index, wrapped
from jaxrnn.interop.layouts import ConversionError
from jaxrnn.interop.program import Operation, Value

# what an operation makes of C expressions of its operands
ELEMENTWISE: dict[str, Callable[..., str]] = {
    "add": "{0} + {1}".format,
    "sub": "{0} - {1}".format,
    "mul": "{0} * {1}".format,
    "div": "{0} / {1}".format,
    "max": "fmaxf({0}, {1})".format,
    "min": "fminf({0}, {1})".format,
    "pow": "powf({0}, {1})".format,
    "neg": "-{0}".format,
    "exp": "expf({0})".format,
    "exp2": "exp2f({0})".format,
    "expm1": "expm1f({0})".format,
    "log": "logf({0})".format,
    "log1p": "log1pf({0})".format,
    "tanh": "tanhf({0})".format,
    "sin": "sinf({0})".format,
    "cos": "cosf({0})".format,
    "erf": "erff({0})".format,
    "logistic": "1.0f / (1.0f + expf(-{0}))".format,
    "sqrt": "sqrtf({0})".format,
    "rsqrt": "1.0f / sqrtf({0})".format,
    "abs": "fabsf({0})".format,
    "square": "{0} * {0}".format,
    "floor": "floorf({0})".format,
    "ceil": "ceilf({0})".format,
    "sign": "(float)(({0} > 0.0f) - ({0} < 0.0f))".format,
    "gt": "(float)({0} > {1})".format,
    "lt": "(float)({0} < {1})".format,
    "ge": "(float)({0} >= {1})".format,
    "le": "(float)({0} <= {1})".format,
    "eq": "(float)({0} == {1})".format,
    "ne": "(float)({0} != {1})".format,
    "and": "{0} * {1}".format,
    "or": "fmaxf({0}, {1})".format,
    "not": "1.0f - {0}".format,
    "select_n": "{0} != 0.0f ? {2} : {1}".format,
    "clamp": "fminf(fmaxf({1}, {0}), {2})".format,
}
SAME = ("reshape", "squeeze", "expand_dims", "copy", "copy_p", "stop_gradient")


class Operations(Lines):
    """Writes what each operation computes, into places of its own."""

    def write(self, operation: Operation) -> None:
        name = operation.name
        inputs = [self.place(operand) for operand in operation.inputs]
        out = operation.outputs[0]
        if name in SAME:
            self.places[out.number] = inputs[0]._replace(shape=out.shape)
        elif name == "convert_element_type":
            self._converted(operation, inputs[0])
        elif name in ELEMENTWISE:
            _check_kinds(operation)
            form = ELEMENTWISE[name]
            inputs = [self._spread(place, out.shape) for place in inputs]
            self._each(out, lambda i: form(*(wrapped(place.at(i)) for place in inputs)))
        elif name == "integer_pow":
            self._power(operation, inputs[0])
        elif name == "dot_general":
            self._dot(operation, inputs)
        elif name.startswith("reduce_"):
            self._reduce(operation, inputs[0])
        else:
            self._moved(operation, inputs)

    def _each(self, out: Value, value: Callable[[str], str]) -> None:
        place = self.fresh(out.shape)
        self.places[out.number] = place
        self.loop(math.prod(out.shape), lambda i: f"{place.at(i)} = {value(i)};")

    def _converted(self, operation: Operation, a: Place) -> None:
        """All numbers are floats: whole ones are cut, and truth is 0 or 1."""
        before = jnp.dtype(operation.inputs[0].dtype)
        out = operation.outputs[0]
        after = jnp.dtype(out.dtype)
        if after == jnp.bool_:
            self._each(out, lambda i: f"(float)({a.at(i)} != 0.0f)")
        elif jnp.issubdtype(after, jnp.integer) and jnp.issubdtype(before, jnp.floating):
            self._each(out, lambda i: f"truncf({a.at(i)})")
        elif jnp.issubdtype(after, jnp.floating) and jnp.finfo(after).bits < 32:
            raise ConversionError(f"a step rounds to {after}, which C has not.")
        else:
            self.places[out.number] = a._replace(shape=out.shape)

    def _spread(self, a: Place, shape: tuple[int, ...]) -> Place:
        """The same numbers over the axes of which `a` has one entry."""
        if a.is_number or math.prod(a.shape) == math.prod(shape):
            return a
        if math.prod(a.shape) == 1:
            return Place(a.at("0"), shape, is_number=True)
        return self._gather(shape, a, range(len(shape)))

    def _power(self, operation: Operation, a: Place) -> None:
        y = operation.params["y"]
        form = " * ".join(["{0}"] * abs(y)) if 0 < abs(y) <= 4 else f"powf({{0}}, {abs(y)}.0f)"
        form = f"1.0f / ({form})" if y < 0 else form
        self._each(operation.outputs[0], lambda i: form.format(wrapped(a.at(i))))

    def _dot(self, operation: Operation, inputs: list[Place]) -> None:
        (left, right), batch = operation.params["dimension_numbers"]
        lhs, rhs = operation.inputs
        out = operation.outputs[0]
        place = self.fresh(out.shape)
        self.places[out.number] = place
        of_vector = isinstance(rhs, np.ndarray) and len(lhs.shape) == len(left) and not batch[0]
        if of_vector:  # its weights lie as they are read
            free = [axis for axis in range(rhs.ndim) if axis not in right]
            kernel = np.transpose(rhs, (*right, *free))
            kernel = kernel.reshape(math.prod(lhs.shape), -1)
            if list(left) == sorted(left):
                self.product(inputs[0], self.constant(kernel), place, None)
                return
        self._contract(inputs, place, (left, right), batch)

    def product(self, v: Place, kernel: Place, out: Place, bias: Any) -> None:
        """out = v kernel + bias, row by row of the kernel, which a compiler makes vectors of."""
        rows, columns = kernel.shape
        start = Place("0.0f", (), is_number=True) if bias is None else self.constant(bias)
        self.loop(columns, lambda j: f"{out.at(j)} = {start.at(j)};")
        w = kernel.at(f"i * {columns} + j")
        self.lines += [
            f"    for (int i = 0; i < {rows}; i++) {{",
            f"        const float a = {v.at('i')};",
            f"        for (int j = 0; j < {columns}; j++) {out.at('j')} += a * {w};",
            "    }",
        ]

    def _contract(self, inputs: list[Place], out: Place, contract: Any, batch: Any) -> None:
        """Any other product of two arrays: a loop for each axis."""
        names: list[list[str]] = [[""] * len(place.shape) for place in inputs]
        loops = []
        for k, (a, b) in enumerate(zip(*batch, strict=True)):
            names[0][a] = names[1][b] = f"b{k}"
            loops.append((f"b{k}", inputs[0].shape[a]))
        for k, (a, b) in enumerate(zip(*contract, strict=True)):
            names[0][a] = names[1][b] = f"k{k}"
        for side, place in enumerate(inputs):
            for axis, size in enumerate(place.shape):
                if not names[side][axis]:
                    names[side][axis] = f"f{side}{axis}"
                    loops.append((f"f{side}{axis}", size))
        inner = [(f"k{k}", inputs[0].shape[a]) for k, a in enumerate(contract[0])]
        left, right = (
            place.at(index(own, place.shape)) for place, own in zip(inputs, names, strict=True)
        )
        target = out.at(index([n for n, _ in loops], [size for _, size in loops]))
        body = ["float sum = 0.0f;", *heads(inner), f"    sum += {left} * {right};"]
        self.nested(loops, [*body, f"{target} = sum;"])

    def _reduce(self, operation: Operation, a: Place) -> None:
        form = {
            "reduce_sum": ("0.0f", "sum += {};"),
            "reduce_max": ("-INFINITY", "sum = fmaxf(sum, {});"),
            "reduce_min": ("INFINITY", "sum = fminf(sum, {});"),
            "reduce_prod": ("1.0f", "sum *= {};"),
        }.get(operation.name)
        if form is None:
            raise _unknown(operation)
        out = operation.outputs[0]
        place = self.fresh(out.shape)
        self.places[out.number] = place
        names = [f"i{axis}" for axis in range(len(a.shape))]
        pairs = list(zip(names, a.shape, strict=True))
        axes = operation.params["axes"]
        outer = [pair for axis, pair in enumerate(pairs) if axis not in axes]
        inner = [pair for axis, pair in enumerate(pairs) if axis in axes]
        term = form[1].format(a.at(index(names, a.shape)))
        target = place.at(index([n for n, _ in outer], [size for _, size in outer]))
        body = [f"float sum = {form[0]};", *heads(inner), f"    {term}", f"{target} = sum;"]
        self.nested(outer, body)

    def _moved(self, operation: Operation, inputs: list[Place]) -> None:
        """What only puts numbers elsewhere."""
        p = operation.params
        a = inputs[0]
        out = operation.outputs[0]
        rank = len(a.shape)
        if operation.name == "broadcast_in_dim":
            self.places[out.number] = self._gather(out.shape, a, p["broadcast_dimensions"])
        elif operation.name == "transpose":
            places = [p["permutation"].index(axis) for axis in range(rank)]
            self.places[out.number] = self._gather(out.shape, a, places)
        elif operation.name == "slice":
            steps = p["strides"] or (1,) * rank
            found = self._gather(out.shape, a, range(rank), p["start_indices"], steps)
            self.places[out.number] = found
        elif operation.name in ("split", "unstack"):
            self._apart(operation, a)
        elif operation.name == "concatenate":
            self._joined(operation, inputs)
        elif operation.name == "rev":
            last = [n - 1 if k in p["dimensions"] else 0 for k, n in enumerate(a.shape)]
            steps = [-1 if k in p["dimensions"] else 1 for k in range(rank)]
            self.places[out.number] = self._gather(out.shape, a, range(rank), last, steps)
        else:
            raise _unknown(operation)

    def _apart(self, operation: Operation, a: Place) -> None:
        """Parts along an axis, as they lie where they lie together."""
        axis = operation.params["axis"]
        start = 0
        for out in operation.outputs:
            whole = out.shape
            if operation.name == "unstack":
                whole = (*out.shape[:axis], 1, *out.shape[axis:])
            if math.prod(a.shape[:axis]) == 1 and not a.is_number:
                offset = start * math.prod(a.shape[axis + 1 :])
                self.places[out.number] = Place(f"({a.text} + {offset})", out.shape)
            else:
                starts = [start if k == axis else 0 for k in range(len(a.shape))]
                found = self._gather(whole, a, range(len(whole)), starts)
                self.places[out.number] = found._replace(shape=out.shape)
            start += whole[axis]

    def _joined(self, operation: Operation, inputs: list[Place]) -> None:
        out = operation.outputs[0]
        place = self.fresh(out.shape)
        self.places[out.number] = place
        axis = operation.params["dimension"]
        start = 0
        for a in inputs:
            names = [f"i{k}" for k in range(len(a.shape))]
            there = [f"({n} + {start})" if k == axis else n for k, n in enumerate(names)]
            line = f"{place.at(index(there, out.shape))} = {a.at(index(names, a.shape))};"
            self.nested(list(zip(names, a.shape, strict=True)), [line])
            start += a.shape[axis]

    def _gather(
        self,
        shape: tuple[int, ...],
        a: Place,
        axes: Sequence[int],
        starts: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
    ) -> Place:
        """out[i] = a[start + step * i], where axis k of `a` goes along axis `axes[k]` of `out`."""
        place = self.fresh(shape)
        names = [f"i{k}" for k in range(len(shape))]
        starts = starts or [0] * len(a.shape)
        steps = steps or [1] * len(a.shape)
        there = []
        for axis, size, start, step in zip(axes, a.shape, starts, steps, strict=True):
            is_spread = size == 1 and shape[axis] > 1
            there.append("0" if is_spread else f"({start} + {step} * {names[axis]})")
        line = f"{place.at(index(names, shape))} = {a.at(index(there, a.shape))};"
        self.nested(list(zip(names, shape, strict=True)), [line])
        return place


def _check_kinds(operation: Operation) -> None:
    """Raises where floats do not stand for what the operands are."""
    whole = [jnp.issubdtype(a.dtype, jnp.integer) for a in operation.inputs]
    if operation.name in ("and", "or", "not", "div", "pow") and any(whole):
        raise ConversionError(f"a step has {operation.name!r} of whole numbers, not written here.")
    if operation.name == "select_n" and len(operation.inputs) != 3:
        raise ConversionError("a step chooses between more than two, which is not written here.")


def _unknown(operation: Operation) -> ConversionError:
    return ConversionError(
        f"a step has the equation {operation.name!r}, which has no form in C here."
    )
