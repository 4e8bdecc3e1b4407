"""Who knows a task of recall or of a finite automaton: as in answers.py."""

import functools
import re

import numpy as np
from answers import Answer, certain, words


def multiplication(task, inputs, mask):
    values, marks = np.moveaxis(inputs, -1, 0)
    return np.array([[np.prod(values[marks[:, b] == 1, b])] for b in range(inputs.shape[1])])


def first_symbol(task, inputs, mask):
    return certain([word[1] == task.distractors + 1 for word in words(inputs, mask)], 2)


def latch(task, inputs, mask):
    sequences = [inputs[mask[:, b], b, 0] for b in range(inputs.shape[1])]
    return certain([sequence[: task.informative].sum() > 0 for sequence in sequences], 2)


def selective_copying(task, inputs, mask):
    outputs = np.zeros((*inputs.shape[:2], task.symbols))
    for b, word in enumerate(words(inputs)):
        kept = [symbol - 1 for symbol in word if 1 <= symbol <= task.symbols]
        asked = [t for t, symbol in enumerate(word) if symbol > task.symbols]
        outputs[asked, b] = certain(kept, task.symbols)
    return outputs


def associative_recall(task, inputs, mask):
    classes = np.zeros(inputs.shape[:2], int)
    for b, word in enumerate(words(inputs)):
        for t, symbol in enumerate(word):
            first = word.index(symbol)
            if first < t and symbol > 0:
                classes[t, b] = word[first + 1] - task.vocabulary // 2
    return certain(classes, task.score.output_size)


def induction(task, inputs, mask):
    return certain([word[word.index(task.symbols) + 1] for word in words(inputs)], task.symbols)


def even_pairs(task, inputs, mask):
    return certain(
        [
            len(re.findall("0(?=1)|1(?=0)", "".join(map(str, word)))) % 2
            for word in words(inputs, mask)
        ],
        2,
    )


def cycle_navigation(task, inputs, mask):
    return certain([(word.count(1) - word.count(2)) % 5 for word in words(inputs, mask)], 5)


def modular_arithmetic(task, inputs, mask):
    texts = ["".join("01234+-*="[symbol] for symbol in word) for word in words(inputs, mask)]
    return certain([eval(text.removesuffix("=")) % 5 for text in texts], 5)


INNER = {  # the Reber grammar: what may follow at each of its places
    "start": {"B": "open"},
    "open": {"T": "t", "P": "p"},
    "t": {"S": "t", "X": "x"},
    "p": {"T": "p", "V": "v"},
    "x": {"X": "p", "S": "close"},
    "v": {"P": "x", "V": "close"},
    "close": {"E": "end"},
}


def follow(place):
    """What may follow a place of the whole grammar: None behind the first B,
    or the outer symbol and the place within.
    """
    if place is None:
        return {"T": ("T", "start"), "P": ("P", "start")}
    outer, inner = place
    ends = {"end": {outer: (outer, "last")}, "last": {"E": (outer, "done")}, "done": {}}
    return (
        ends[inner]
        if inner in ends
        else {symbol: (outer, after) for symbol, after in INNER[inner].items()}
    )


@functools.cache
def to_come(place, gone, shortest, longest):
    """The probability of all legal endings, each times the weight of its symbols in the loss."""
    if place is not None and place[1] == "done":
        return (shortest <= gone <= longest) / (gone - 1)
    after = follow(place).values()
    return (
        sum(to_come(there, gone + 1, shortest, longest) for there in after) / len(after)
        if gone < longest
        else 0.0
    )


def embedded_reber(task, inputs, mask):
    """One who knows the grammar and the lengths, but not what comes."""
    outputs = np.full((*inputs.shape[:2], 7), -50.0)
    for b, word in enumerate(words(inputs, mask)):
        place, start = None, inputs.shape[0] - len(word)
        for t, symbol in enumerate(word):
            place = follow(place)["BTPSXVE"[symbol]] if t > 0 else None
            for letter, there in follow(place).items():
                outputs[start + t, b, "BTPSXVE".index(letter)] = np.log(
                    to_come(there, t + 2, task.shortest, task.lag) + 1e-30
                )
    return outputs


ANSWERS: dict[str, Answer] = {
    "associative_recall": associative_recall,
    "cycle_navigation": cycle_navigation,
    "embedded_reber": embedded_reber,
    "even_pairs": even_pairs,
    "first_symbol": first_symbol,
    "induction": induction,
    "latch": latch,
    "modular_arithmetic": modular_arithmetic,
    "multiplication": multiplication,
    "selective_copying": selective_copying,
}
