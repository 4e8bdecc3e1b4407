"""Every public entry with one thing wrong.

`python tests/endurance/bad_inputs.py --out FILE.json` calls each entry with right arguments, of
which one, or one leaf of one, is changed: its shape, its dtype, its structure, its name. Each call
is a refusal of ours that names the argument, or one that does not, an error of somebody else's, a
result that is as before (where the change keeps the value), or another result, which is to be read:
a silent wrong one is among those.
"""

import argparse
import collections
import dataclasses
import functools
import json
import os
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    import sys

    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "support")]
    import settings_of_scripts  # noqa: F401

import jax
import jax.numpy as jnp
import numpy as np
from entries import Entry, of_cell, of_modules, of_none
from oracles import EVERY

SAME = "same"  # as with the right argument
CELLS = {name: cell for name, cell, _ in EVERY}


class Change(NamedTuple):
    kind: str
    value: Any
    same: bool = False  # the value is what it was, in another form


# --- what may be wrong ----------------------------------------------------------------------------


def changes(value: Any) -> Iterator[Change]:
    """What may stand in the place of a value, each one change away."""
    if isinstance(value, bool):
        yield from (Change("1 for a flag", int(value)), Change("a word for a flag", str(value)))
        yield from (Change("None for a flag", None), Change("NumPy's flag", np.bool_(value), True))
    elif isinstance(value, int):
        yield from _of_integer(value)
    elif isinstance(value, float):
        yield from _of_number(value)
    elif isinstance(value, str):
        yield from _of_word(value)
    elif isinstance(value, (jax.Array, np.ndarray)):
        yield from _of_array(value)
    elif isinstance(value, dict):
        yield from _of_dict(value)
    elif isinstance(value, (tuple, list)):
        yield from _of_sequence(value)
    elif dataclasses.is_dataclass(value):
        yield Change("a class for an object", type(value))
        yield from _of_anything()
    elif value is not None:
        yield from _of_anything()


def _of_anything() -> Iterator[Change]:
    yield from (Change("None", None), Change("a word", "this"), Change("a number", 3))
    yield Change("an object", object())


def _of_integer(value: int) -> Iterator[Change]:
    yield from (Change("0", 0), Change("negative", -1), Change("a fraction", value + 0.5))
    yield from (Change("a float", float(value)), Change("True", True), Change("None", None))
    yield from (Change("a word", str(value)), Change("a tuple", (value,)))
    yield from (Change("one more", value + 1), Change("NumPy's", np.int64(value), True))
    yield Change("infinite", float("inf"))


def _of_number(value: float) -> Iterator[Change]:
    yield from (Change("NaN", float("nan")), Change("infinite", float("inf")))
    yield from (Change("negative", -1.0), Change("two", 2.0), Change("a word", str(value)))
    yield from (Change("None", None), Change("True", True))
    yield from (Change("a list", [value]), Change("NumPy's", np.float64(value), True))


def _of_word(value: str) -> Iterator[Change]:
    yield from (Change("a typo", value + "x"), Change("capitals", value.upper()))
    yield from (Change("nothing in it", ""), Change("None", None), Change("a number", 1))
    yield from (Change("bytes", value.encode()), Change("a list", [value]))


def _of_array(value: Any) -> Iterator[Change]:
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield from (Change("a number for a key", 0), Change("None", None))
        yield Change("a float for a key", jnp.zeros((2,), jnp.float32))
        yield from (Change("a word", "key"), Change("several keys", jax.random.split(value, 3)))
        return
    for axis in range(value.ndim):
        yield Change(f"axis {axis} one longer", _longer(value, axis))
        if value.shape[axis] > 1:
            yield Change(f"axis {axis} one shorter", jnp.delete(value, 0, axis))
        yield Change(f"axis {axis} empty", value[(slice(None),) * axis + (slice(0, 0),)])
        yield Change(f"axis {axis} gone", value[(slice(None),) * axis + (0,)])
    yield Change("an axis more", value[None])
    if value.ndim > 1 and value.shape[0] != value.shape[-1]:
        yield Change("axes in reverse", jnp.transpose(value))
    if jnp.issubdtype(value.dtype, jnp.floating):
        yield Change("integers", jnp.asarray(np.asarray(value) * 3).astype(jnp.int32))
        yield Change("booleans", jnp.asarray(np.asarray(value) > 0))
        yield Change("complex", jnp.asarray(value).astype(complex))
        yield Change("bfloat16", jnp.asarray(value).astype(jnp.bfloat16))
        yield Change("float16", jnp.asarray(value).astype(jnp.float16))
    else:
        yield Change("floats", jnp.asarray(value).astype(float))
    yield Change("NumPy's", np.asarray(value), True)
    yield Change("a list of numbers", np.asarray(value).tolist())
    yield from (Change("None", None), Change("a number", 1.5), Change("a word", "this"))
    yield from (Change("a tuple of it", (value,)), Change("an object", object()))
    yield Change("an array of objects", np.full(np.shape(value), None))
    yield Change("its shape", jax.ShapeDtypeStruct(value.shape, value.dtype))


def _longer(value: Any, axis: int) -> Any:
    return jnp.concatenate([value, jax.lax.slice_in_dim(value, 0, 1, axis=axis)], axis)


def _of_dict(value: dict[str, Any]) -> Iterator[Change]:
    for key in value:
        yield Change("a key gone", {k: v for k, v in value.items() if k != key})
        yield Change("a key misspelt", {(k + "x" if k == key else k): v for k, v in value.items()})
        for change in changes(value[key]):
            yield change._replace(kind=f"{change.kind} in it", value=value | {key: change.value})
    yield Change("a key more", value | {"more": 1})
    yield Change("pairs", list(value.items()))
    yield from _of_anything()


def _of_sequence(value: Any) -> Iterator[Change]:
    named = hasattr(value, "_fields")
    remake = (lambda leaves: type(value)(*leaves)) if named else type(value)
    for k, leaf in enumerate(value):
        for change in changes(leaf):
            leaves = [*value[:k], change.value, *value[k + 1 :]]
            yield change._replace(kind=f"{change.kind} in it", value=remake(leaves))
    if named:
        yield Change("a plain tuple", tuple(value))
        yield Change("a dict", dict(value._asdict()))
    yield Change("one more in it", (*value, *value[:1]))
    yield Change("one less in it", tuple(value[:-1]))
    yield Change("a list", list(value), not named and isinstance(value, tuple) and False)
    yield from _of_anything()


# --- what comes of it -----------------------------------------------------------------------------


class Outcome(NamedTuple):
    kind: str  # "refused", "unnamed", "foreign", "same", "other", "changed"
    words: str = ""


def outcome(entry: Entry, argument: str, change: Change, right: Any) -> Outcome:
    """What an entry does with a changed argument."""
    try:
        found = jax.block_until_ready(entry.call(**(entry.arguments | {argument: change.value})))
    except (TypeError, ValueError) as error:
        if not ours(error):
            return Outcome("foreign", told(error))
        return Outcome("refused" if names(str(error), argument, entry) else "unnamed", told(error))
    except TooLong:
        return Outcome("foreign", "it went on for a minute")
    except Exception as error:
        return Outcome("foreign", told(error))
    if equal(found, right):
        return Outcome("same")
    return Outcome("changed" if change.same else "other")


def told(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    return f"{type(error).__name__} at {place}: {str(error)[:300]}"


def ours(error: BaseException) -> bool:
    """Whether a line of jaxrnn's raised it, or Python as it bound the arguments of a call."""
    frames = traceback.extract_tb(error.__traceback__)
    if f"{os.sep}jaxrnn{os.sep}" in frames[-1].filename:
        return True
    bound = re.search(r"\(\) (got|missing|takes)", str(error))
    return isinstance(error, TypeError) and bound is not None


def names(message: str, argument: str, entry: Entry) -> bool:
    """Whether a message says which argument it is about."""
    words = {argument, *entry.words.get(argument, ())}
    return any(re.search(rf"\b{re.escape(word)}", message) for word in words)


def equal(a: Any, b: Any) -> bool:
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    try:
        return all(_equal(x, y) for x, y in pairs)
    except (TypeError, ValueError):  # what a result should not hold
        return False


def _equal(x: Any, y: Any) -> bool:
    if not (hasattr(x, "shape") and hasattr(y, "shape")):
        return hasattr(x, "shape") == hasattr(y, "shape") and bool(x == y)
    if x.shape != np.shape(y) or jnp.result_type(x) != jnp.result_type(y):
        return False
    if jnp.issubdtype(x.dtype, jax.dtypes.extended):
        return True
    return np.array_equal(np.asarray(x), np.asarray(y), equal_nan=x.dtype.kind in "fc")


class TooLong(Exception):
    pass


def _ring(*_: Any) -> None:
    raise TooLong


# --- the long run ---------------------------------------------------------------------------------


class Tally:
    """How many of each outcome there were, with one example of each kind."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.examples: dict[str, dict[str, list[Any]]] = collections.defaultdict(dict)

    def add(self, entry: Entry, argument: str, change: Change, found: Outcome) -> None:
        self.counts[found.kind] += 1
        if found.kind in ("refused", "same"):
            return
        key = f"{entry.kind}({argument}): {change.kind}"
        example = self.examples[found.kind].setdefault(key, [0, entry.name, found.words])
        example[0] += 1


def tried(entries: Iterator[Entry], tally: Tally) -> None:
    """Each entry with each change of each of its arguments."""
    for entry in entries:
        right = jax.block_until_ready(entry.call(**entry.arguments))
        for argument in entry.changed or entry.arguments:
            for change in changes(entry.arguments[argument]):
                signal.alarm(60)
                tally.add(entry, argument, change, outcome(entry, argument, change, right))
                signal.alarm(0)
        for argument in entry.arguments:
            misspelt = {(k + "x" if k == argument else k): v for k, v in entry.arguments.items()}
            call = functools.partial(lambda e, m, **_: e.call(**m), entry, misspelt)
            wrong = entry._replace(call=call)
            change = Change("its name misspelt", entry.arguments[argument])
            tally.add(wrong, argument, change, outcome(wrong, argument, change, right))


def run(names_of_cells: list[str], out: Path | None) -> dict[str, Any]:
    tally = Tally()
    began = time.monotonic()
    signal.signal(signal.SIGALRM, _ring)
    parts: list[tuple[str, Callable[[], Iterator[Entry]]]] = [
        ("entries of no cell", of_none),
        ("modules", of_modules),
        *((name, functools.partial(of_cell, name, CELLS[name])) for name in names_of_cells),
    ]
    found: dict[str, Any] = {}
    for name, make in parts:
        tried(make(), tally)
        jax.clear_caches()
        found = {
            "jax": jax.__version__,
            "seconds": round(time.monotonic() - began),
            "tried": tally.counts.total(),
            "counts": dict(tally.counts),
            "examples": tally.examples,
        }
        print(name, dict(tally.counts), f"{time.monotonic() - began:.0f} s", flush=True)
        if out is not None:
            out.write_text(json.dumps(found, indent=1) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", nargs="*", default=sorted(CELLS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    run(given.cells, given.out)


if __name__ == "__main__":
    main()
