"""Who knows a task: for each, the outputs that its definition asks for,
computed in NumPy from what the model sees.

Each function takes the task and the inputs [T, B, I] with the mask [T, B] (or None), never the
targets, and returns the outputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Answer = Callable[[Any, np.ndarray, Any], np.ndarray]


def certain(classes, size):
    """Outputs that leave no doubt about the classes."""
    return 50.0 * (np.asarray(classes)[..., None] == np.arange(size))


def words(inputs, mask=None):
    """The symbols of each sequence as a list, without padding."""
    symbols = inputs.argmax(axis=-1)
    mask = np.full(symbols.shape, True) if mask is None else mask
    return [symbols[mask[:, b], b].tolist() for b in range(symbols.shape[1])]


def adding(task, inputs, mask):
    return (inputs[..., 0] * inputs[..., 1]).sum(axis=0)[:, None]


def temporal_order(task, inputs, mask):
    marks = [[symbol - 4 for symbol in word if symbol in (4, 5)] for word in words(inputs, mask)]
    return certain([int("".join(map(str, marked)), 2) for marked in marks], 2**task.symbols)


def copying(task, inputs, mask):
    sequences = words(inputs)
    answers = [[0] * (task.lag + task.items) + word[: task.items] for word in sequences]
    return certain(np.array(answers).T, task.symbols + 1)


def moving_pattern(task, inputs, mask):
    return inputs[-10]  # the way to and fro takes ten steps


def parity(task, inputs, mask):
    return certain([sum(word) % 2 for word in words(inputs, mask)], 2)


def perceptual_decision(task, inputs, mask):
    return certain(inputs[..., 0].sum(axis=0) > 0, 2)


def context_decision(task, inputs, mask):
    sums = inputs[..., :2].sum(axis=0)
    return certain(np.where(inputs[0, :, 2] == 1, sums[:, 0], sums[:, 1]) > 0, 2)


def delayed_match(task, inputs, mask):
    return certain(inputs[0].argmax(axis=-1) == inputs[-1].argmax(axis=-1), 2)


ANSWERS: dict[str, Answer] = {
    "adding": adding,
    "context_decision": context_decision,
    "copying": copying,
    "delayed_match": delayed_match,
    "moving_pattern": moving_pattern,
    "parity": parity,
    "perceptual_decision": perceptual_decision,
    "temporal_order": temporal_order,
}
