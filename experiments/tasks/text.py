"""Text: predict the next character of the reference manual that comes with Python."""

import dataclasses
import functools
import importlib
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.ngram import NGram
from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options

WASHOUT = 32  # steps that are not scored, so that every scored one has a context
ORDER = 6  # of the model that counts
RARE = 20  # what occurs less often is one symbol, for all of it


@dataclasses.dataclass(frozen=True)
class Text(Task):
    """Characters of `pydoc_data.topics`, the language reference that Python's `help` shows: 370,000
    and more, one-hot, of some ninety kinds. Which they are depends on the version of Python.

    Of the topics, in the order of their names, nine tenths of the characters are for training.
    Training draws windows of `lag` steps at random places. The rest is cut into windows, each of
    which begins 32 steps before the last one ends; every second one is for the checks, the others
    are for the evaluation. Every step of a window but the first 32 is asked for the next character,
    so that none is scored twice.

    Baselines: the frequencies of the scored characters over all windows of the training part.
    Solved is what knows more than a model that counts: the last five characters, interpolated
    (Witten and Bell 1991), on all that is not for training.

    Args:
        lag: T, the length of the window.

    Source: character-level language models as in Graves 2013, arXiv:1308.0850, section 3, in nats
    (a bit is 0.693).
    """

    lag: int = 128
    description: ClassVar[str] = "the next character of Python's reference manual"
    least_lag: ClassVar[int] = WASHOUT + 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, lag=(WASHOUT + 1, 2000))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(len(reference().alphabet))

    @property
    def levels(self) -> Levels:
        frequencies = self.frequencies()
        baseline = -float(np.sum(frequencies * np.log(frequencies)))
        return Levels(baseline, solved=count(self.lag))

    @property
    def constant(self) -> Array:
        return jnp.asarray(np.log(self.frequencies()), jnp.float32)

    def frequencies(self) -> np.ndarray:
        """Of the scored characters over all windows of the training part: those near its ends are
        in fewer windows than others."""
        text = reference()
        windows = text.training - self.lag
        place = np.arange(text.training + 1)
        # the windows in which a character is scored: of those that begin WASHOUT to lag before it
        among = np.clip(place - 1 - WASHOUT, -1, windows - 1) - np.clip(
            place - 1 - self.lag, -1, windows - 1
        )
        some = np.bincount(text.symbols[: text.training + 1], among, minlength=len(text.alphabet))
        some = np.maximum(some, 0.5)  # a symbol that training lacks is not impossible
        return some / some.sum()

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws windows: inputs [lag, B, V], targets [lag, B]."""
        return self.windows(
            jax.random.randint(key, (batch_size,), 0, reference().training - self.lag)
        )

    def held_out(self) -> Batch:
        return self.windows(jnp.asarray(starts(self.lag)[::2]))

    def evaluation(self) -> Batch:
        """The windows between those that are held out."""
        return self.windows(jnp.asarray(starts(self.lag)[1::2]))

    def windows(self, starts: Array) -> Batch:
        """The windows that begin there, [B]."""
        text = reference()
        symbols = jnp.asarray(text.symbols)
        steps = starts + jnp.arange(self.lag)[:, None]
        scored = jnp.broadcast_to(jnp.arange(self.lag)[:, None] >= WASHOUT, steps.shape)
        inputs = jax.nn.one_hot(symbols[steps], len(text.alphabet))
        return Batch(inputs, symbols[steps + 1].astype(jnp.int32), scored=scored)


class Reference(NamedTuple):
    """A text, of which the first part is for training."""

    alphabet: str  # the last stands for all that are rare
    symbols: np.ndarray  # [N], uint8, places in the alphabet
    training: int  # how many of them

    def encode(self, text: str) -> np.ndarray:
        places = {character: k for k, character in enumerate(self.alphabet)}
        other = len(self.alphabet) - 1
        return np.array([places.get(character, other) for character in text], np.uint8)

    def decode(self, symbols: np.ndarray) -> str:
        return "".join(self.alphabet[k] for k in symbols.tolist())


@functools.cache
def reference() -> Reference:
    """The topics of Python's `help`, in the order of their names, each paragraph once: some topics
    stand in others word for word, and what is judged must not stand in the training part."""
    topics = importlib.import_module("pydoc_data.topics").topics
    paragraphs = (part for name in sorted(topics) for part in topics[name].strip().split("\n\n"))
    text = "\n\n".join(dict.fromkeys(paragraphs))
    often = sorted(
        c for c in set(text) if text.count(c) >= RARE and c != "\N{REPLACEMENT CHARACTER}"
    )
    made = Reference("".join(often) + "\N{REPLACEMENT CHARACTER}", np.zeros(0, np.uint8), 0)
    symbols = made.encode(text)
    return made._replace(symbols=symbols, training=len(symbols) * 9 // 10)


def starts(lag: int) -> np.ndarray:
    """Where the windows begin that are not for training; each character is scored once."""
    text = reference()
    return np.arange(text.training, len(text.symbols) - lag, lag - WASHOUT)


@functools.cache
def count(lag: int) -> float:
    """What the model that counts scores on all windows that are not for training, in nats."""
    text = reference()
    model = NGram.of(text.symbols[: text.training], ORDER, len(text.alphabet))
    places = starts(lag)[:, None] + np.arange(WASHOUT, lag) + 1
    return model.nats(text.symbols.tobytes(), places.ravel())
