"""Who knows the tasks on formal languages, signals and real data; as in `answers`,
from the inputs alone.
"""

import numpy as np

from experiments.tasks import data
from experiments.tasks.text import reference
from experiments.tasks.word_problem import GROUPS


def _strings(inputs, mask):
    """For each sequence its first step and its symbols, -1 where the input is zero."""
    symbols = np.where(inputs.any(axis=-1), inputs.argmax(axis=-1), -1)
    return [
        (int(mask[:, b].argmax()), symbols[mask[:, b], b].tolist()) for b in range(mask.shape[1])
    ]


def _sure(steps):
    """Outputs that leave no doubt about what is in the sets."""
    return np.where(steps, 50.0, -50.0)


def counting(letters):
    def answer(task, inputs, mask):
        outputs = np.zeros((*mask.shape, letters + 1), bool)
        for b, (start, string) in enumerate(_strings(inputs, mask)):
            for t in range(len(string)):
                seen = [string[: t + 1].count(letter) for letter in range(1, letters + 1)]
                now = max((k for k in range(letters) if seen[k]), default=None)
                if now is None:
                    legal = {0}
                elif now == 0:
                    legal = {0, 1}
                else:
                    legal = {now if seen[now] < seen[0] else now + 1}
                outputs[start + t, b, sorted(legal)] = True
        return _sure(outputs)

    return answer


def dyck(task, inputs, mask):
    outputs = np.zeros((*mask.shape, 2 * task.kinds), bool)
    for b, (start, string) in enumerate(_strings(inputs, mask)):
        text = ""
        for t, symbol in enumerate(string):
            text += chr(97 + symbol) if symbol < task.kinds else chr(65 + symbol - task.kinds)
            for k in range(task.kinds):  # a pair in the middle vanishes
                text = text.removesuffix(chr(97 + k) + chr(65 + k))
            outputs[start + t, b, : task.kinds] = True
            if text:
                outputs[start + t, b, task.kinds + ord(text[-1]) - 97] = True
    return _sure(outputs)


def _given_back(answer):
    def answers(task, inputs, mask):
        outputs = np.zeros((*mask.shape, task.symbols))
        for b, (_, string) in enumerate(_strings(inputs, mask)):
            given = answer(string[: string.index(task.symbols)])
            outputs[len(mask) - len(given) :, b] = 50.0 * np.eye(task.symbols)[given]
        return outputs

    return answers


def flip_flop(task, inputs, mask):
    outputs = inputs.copy()
    for t in range(1, len(inputs)):
        outputs[t] = np.where(inputs[t] == 0, outputs[t - 1], inputs[t])
    return outputs


def linear_memory(task, inputs, mask):
    u = inputs[..., 0]
    outputs = np.zeros((*u.shape, task.lag), np.float32)
    for k in range(1, task.lag + 1):
        outputs[k:, :, k - 1] = u[:-k]
    return outputs


def mackey_glass(task, inputs, mask):
    """Continues the series from its last 18 values; the equation is linear within a step,
    which makes it one line.
    """
    x = list(inputs[..., 0].astype(float) * 0.2281 + 0.9285)
    outputs = np.zeros_like(inputs)
    decay = 1 - 0.1 + 0.1**2 / 2 - 0.1**3 / 6 + 0.1**4 / 24  # exp(-0.1) to fourth order
    for t in range(17, len(x)):
        past = x[t - 17 : t + 1]
        for _ in range(task.horizon):
            delayed = past[-18]
            past.append(decay * past[-1] + (1 - decay) * 2 * delayed / (1 + delayed**10))
        outputs[t, :, 0] = (past[-1] - 0.9285) / 0.2281
    return outputs


def lorenz(task, inputs, mask):
    """Continues from the present state with Taylor's series of the solution,
    whose terms follow from one another.
    """
    mean, deviation = np.array([0, 0, 23.553]), np.array([7.925, 9.010, 8.619])
    state, h = np.moveaxis(inputs * deviation + mean, -1, 0), 0.015
    for _ in range(2 * task.horizon):
        x, y, z = ([part] for part in state)
        for n in range(12):
            xz, xy = (sum(x[i] * other[n - i] for i in range(n + 1)) for other in (z, y))
            x.append(10 * (y[n] - x[n]) / (n + 1))
            y.append((28 * x[n] - xz - y[n]) / (n + 1))
            z.append((xy - 8 / 3 * z[n]) / (n + 1))
        state = [sum(term * h**n for n, term in enumerate(terms)) for terms in (x, y, z)]
    return (np.moveaxis(np.array(state), 0, -1) - mean) / deviation


def _looked_up(load, kinds=10):
    """The class of the one example that is the same, bit for bit."""

    def answer(task, inputs, mask):
        known = {
            value.astype(np.float32).tobytes(): k for value, k in zip(*load(task), strict=True)
        }
        return (
            50.0
            * np.eye(kinds)[[known[sequence.tobytes()] for sequence in np.moveaxis(inputs, 1, 0)]]
        )

    return answer


def _digits(task):
    bunch = data.package("digits", "datasets").load_digits()
    return bunch.images / 16, bunch.target


def mnist(task, inputs, mask):
    """As `_looked_up`, in quarters of a grey level, so that the means of four pixels are whole."""
    pictures, classes = task.pictures().training
    pictures = (
        pictures.reshape(-1, 14, 2, 14, 2).sum(axis=(2, 4)) if task.lag == 196 else pictures * 4.0
    )
    order = np.random.default_rng(0).permutation(task.lag) if task.permuted else np.arange(task.lag)
    steps = pictures.reshape(len(pictures), task.lag, -1)[:, order].astype(int)
    known = {step.tobytes(): k for step, k in zip(steps, classes, strict=True)}
    seen = np.round(np.moveaxis(inputs, 1, 0) * 1020.0).astype(int)
    return 50.0 * np.eye(10)[[known[step.tobytes()] for step in seen]]


def _utterances(task):
    """Zeros before the beginning of each, so that all end together."""
    values, classes = data.japanese_vowels().training
    lengths = np.isfinite(values[..., 0]).sum(axis=1)
    moved = np.zeros_like(values)
    for row, (value, length) in enumerate(zip(values, lengths, strict=True)):
        moved[row, 29 - length :] = value[:length]
    return moved, classes


def _masked(answer):
    """The same for what is behind a mask alone."""
    return lambda task, inputs, mask: answer(task, np.where(mask[..., None], inputs, 0), None)


def santa_fe(task, inputs, mask):
    """Finds each window in the raw series by what it looks like, and reads on."""
    raw = data.santa_fe()
    mean, deviation = raw[:7000].mean(), raw[:7000].std()
    windows = np.lib.stride_tricks.sliding_window_view(raw, task.lag)
    index = {
        window.tobytes(): start
        for start, window in enumerate(windows[: len(raw) - task.lag - task.horizon + 1])
    }
    starts = [
        index[np.round(window.astype(float) * deviation + mean).tobytes()]
        for window in inputs[..., 0].T
    ]
    ahead = np.array(starts) + task.horizon + np.arange(task.lag)[:, None]
    return ((raw[ahead] - mean) / deviation)[..., None]


def text(task, inputs, mask):
    """Finds each window in the text, and reads on."""
    whole = reference()
    kinds = len(whole.alphabet)
    string = whole.symbols.tobytes()
    ahead = []
    for window in inputs.argmax(-1).astype(np.uint8).T:
        start = string.index(window.tobytes())
        ahead.append(whole.symbols[start + 1 : start + 1 + task.lag])
    return 50.0 * np.eye(kinds)[np.stack(ahead, axis=1)]


def word_problem(task, inputs, mask):
    """By permutation matrices, numbered in the order in which they are found."""
    moves = [np.eye(len(generator))[generator] for generator in GROUPS[task.group]]
    found = [np.eye(len(moves[0]))]
    number = {found[0].tobytes(): 0}
    for element in found:
        for move in moves:
            product = move @ element
            if product.tobytes() not in number:
                number[product.tobytes()] = len(found)
                found.append(product)
    classes = np.zeros(inputs.shape[:2], int)
    for b in range(inputs.shape[1]):
        product = found[0]
        for t in range(len(inputs)):
            product = moves[int(inputs[t, b].argmax())] @ product
            classes[t, b] = number[product.tobytes()]
    return 50.0 * np.eye(len(found))[classes]


def flip_flop_language(task, inputs, mask):
    outputs = np.zeros((*inputs.shape[:2], 2))
    for b in range(inputs.shape[1]):
        text = "".join("01wir"[k] for k in inputs[:, b].argmax(axis=-1))
        for t in range(0, len(text), 2):
            bit = text[text.rindex("w", 0, t + 1) + 1]
            outputs[t, b, int(bit)] = 50.0
    return outputs


def count_recall(task, inputs, mask):
    cards, asked = (part.argmax(axis=-1) for part in np.split(inputs, 2, axis=-1))
    counts = [
        [cards[: t + 1, b].tolist().count(asked[t, b]) for b in range(cards.shape[1])]
        for t in range(len(cards))
    ]
    return 50.0 * np.eye(task.lag // task.kinds + 1)[counts]


def repeat_previous(task, inputs, mask):
    return 50.0 * np.concatenate([np.zeros_like(inputs[: task.lag]), inputs[: -task.lag]])


ANSWERS = {
    "word_problem": word_problem,
    "flip_flop_language": flip_flop_language,
    "count_recall": count_recall,
    "repeat_previous": repeat_previous,
    "a_n_b_n": counting(2),
    "a_n_b_n_c_n": counting(3),
    "dyck": dyck,
    "reverse": _given_back(lambda string: string[::-1]),
    "duplicate": _given_back(lambda string: string + string),
    "flip_flop": flip_flop,
    "linear_memory": linear_memory,
    "mackey_glass": mackey_glass,
    "lorenz": lorenz,
    "digits": _looked_up(_digits),
    "mnist": mnist,
    "fashion_mnist": mnist,
    "japanese_vowels": _masked(_looked_up(_utterances, kinds=9)),
    "mnist_1d": _looked_up(lambda task: data.mnist_1d(task.shuffled).training),
    "santa_fe": santa_fe,
    "text": text,
}
