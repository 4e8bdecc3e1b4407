"""The table "What was published, and what came out here": each row says what its files say."""

import json
import re
import statistics

import nbformat
import pytest
import yaml
from places import RESULTS, ROOT

from experiments.tasks.word_problem import WordProblem

PAGE = (ROOT / "experiments" / "README.md").read_text()


def results(folder, cell):
    """The rows of a cell in the summary of a folder of results, one for each learning rate."""
    path = RESULTS / folder
    path = path if path.exists() else RESULTS / "calibration" / folder
    rows = json.loads((path / "summary.json").read_text())["results"]
    return [row for row in rows if row["cell"] == cell]


def found(folder, cell):
    """The only row of a cell."""
    (row,) = results(folder, cell)
    return row


def updates(folder, cell):
    return sorted(step for step in found(folder, cell)["steps_to_solve"] if step)


def solved(folder, cell):
    """ "5/5": how many seeds solved the task."""
    return f"{len(updates(folder, cell))}/{len(found(folder, cell)['steps_to_solve'])}"


def span(values, form=",.0f"):
    """ "1,000 to 1,550" """
    return f"{min(values):{form}} to {max(values):{form}}"


def right(folder, cell, lag=None):
    """Percent of what was right at the end, of each seed at each learning rate."""
    scores = [
        row["final_metric"] if lag is None else row["tests"][str(lag)]["metric"]
        for row in results(folder, cell)
    ]
    return [100 * score for some in scores for score in some]


def percent(values, form=".0f"):
    return f"{span(values, form)} %"


def both(folder, cells, of):
    return [value for cell in cells for value in of(folder, cell)]


def counted(cell):
    """How far each of 40 seeds counts a^n b^n, of n up to 50."""
    row = found("a_n_b_n_seeds", cell)
    return [round(50 * score) for score in row["tests"]["50"]["metric"]]


def at_a_length(cell, form):
    scores = right("fast_cycle_navigation", cell, 60)
    return form.format(percent(scores), f"{statistics.median(scores):.0f} %")


def verdicts(pair):
    """On how many tasks the LSTM and the GRU of a pair are ahead, as the notebook counts."""
    cells = nbformat.read(ROOT / "notebooks" / "03_lstm_or_gru.ipynb", as_version=4).cells
    text = "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []))
    ((lstm, gru, neither),) = re.findall(rf"{pair} +LSTM +(\d+) +GRU +(\d+) +neither +(\d+)", text)
    assert int(lstm) + int(gru) + int(neither) == 25
    return lstm, gru


def asked(**wanted):
    """The folder of the only run of the sweep of questions whose configuration has these."""
    found = []
    for path in sorted((RESULTS / "questions").glob("task=*")):
        config = yaml.safe_load((path / "config.yaml").read_text())
        if all(config[key] == value for key, value in wanted.items()):
            found.append(str(path.relative_to(RESULTS)))
    (one,) = found
    return one


def word(length, layers):
    return asked(task="word_problem", lag=length, layers=layers, task_options={"group": "a5"})


def copied(cell, layers):
    """ "45 to 47": percent of the symbols that a stack copies selectively."""
    return span(right(asked(task="selective_copying", layers=layers), cell), ".0f")


def linear(task):
    """The folder of a task in the sweep of linear recurrences."""
    (path,) = (RESULTS / "linear").glob(f"task={task}-*")
    return str(path.relative_to(RESULTS))


PARITY = linear("parity")
BITS = asked(task="parity")
READS = asked(task="flip_flop_language")
SELECTIVE = linear("selective_copying")
ARITHMETIC = linear("modular_arithmetic")
SIGNED = ("mingru_signed", "rglru_signed")
POSITIVE = ("mingru", "rglru", "qrnn")  # whose factors are between 0 and 1
GATED = ("lstm", "gru")
CHRONO = ("lstm_chrono", "gru_chrono")
CLAIMS = {
    "tanh RNNs do not learn temporal order": lambda: [
        f"`rnn_small` {solved('fast_temporal_order', 'rnn_small')} at 50 steps",
        f"LSTM {solved('fast_temporal_order', 'lstm')} in "
        f"{span(updates('fast_temporal_order', 'lstm'))}",
        {"1/5": "one of five RNNs"}[solved("fast_temporal_order", "rnn_orth")],
    ],
    "an LSTM learns adding at T = 200": lambda: [
        f"{solved('full_adding', 'lstm')}, in {span(updates('full_adding', 'lstm'))} updates",
        f"Glorot's variance {solved('full_adding', 'rnn_glorot')}",
    ],
    "a GRU needs fewer updates": lambda: [
        "on {1} of 25 tasks, the LSTM on {0} others".format(*verdicts("bias 1")),
        "on {} and {} without a bias".format(*verdicts("bias 0")),
        "on {1} and {0} with biases that know the lag".format(*verdicts("lag known")),
    ],
    "biases that know the lag speed up": lambda: [
        f"{solved('full_first_symbol', 'lstm')} without and "
        f"{solved('full_first_symbol', 'lstm_chrono')} with"
    ],
    "the noisy long lag is solved": lambda: [
        f"with forget bias 1 ({solved('full_first_symbol', 'lstm')})",
        f"at lag 50 in {span(updates('fast_first_symbol', 'lstm'))} "
        f"({solved('fast_first_symbol', 'lstm')})",
    ],
    "an Elman network does not learn": lambda: [
        f"it does, {solved('fast_embedded_reber', 'rnn_orth')}",
        f"{span(right('fast_embedded_reber', 'rnn_orth'), '.1f')} %".replace("100.0", "100"),
    ],
    "LSTMs count, GRUs do not": lambda: [
        f"up to n = {span(counted('lstm'))} of 50",
        f"(median {statistics.median(counted('lstm')):.0f}, {len(counted('lstm'))} seeds",
        f"the GRU to {span(counted('gru'))} ({statistics.median(counted('gru')):.0f})",
        f"the tanh RNN to {span(counted('rnn_orth'))} "
        f"({statistics.median(counted('rnn_orth')):.0f})",
        f"where {({2: 'two'})[sum(n == 50 for n in counted('peephole'))]} of 40 seeds",
        f"with eight peephole cells {span(counted('peephole'))}",
    ],
    "tanh RNN and LSTM keep parity": lambda: [
        {100.0: "no error on 41 to 256 in 15 of 15 runs"}[
            min(score for cell in ("rnn_orth", *GATED) for score in right("full_parity", cell, 256))
        ]
    ],
    "so they do the place on a cycle": lambda: [
        at_a_length("rnn_orth", "the tanh RNN is right in {} (median {})"),
        at_a_length("lstm", "the LSTM in {} ({})"),
        at_a_length("gru", "the GRU in {} ({})"),
    ],
    "multiplication is brittle": lambda: [
        f"LSTM and GRU {solved('full_multiplication', 'gru')} in "
        f"{span(both('full_multiplication', GATED, updates))} updates"
    ],
    "LSTMs do not copy where": lambda: [
        f"{solved('fast_copying', 'lem')} of LEM in {span(updates('fast_copying', 'lem'))} updates",
        f"of the GRU in {span(updates('fast_copying', 'gru'))}",
        f"of the LSTM in {span(updates('fast_copying', 'lstm'))}",
    ],
    "an orthogonal recurrent matrix solves": lambda: [
        f"expRNN recalls {percent(right('long_copying', 'exprnn'))}",
        f"the GRU {percent(right('long_copying', 'gru'))} and "
        f"LEM {percent(right('long_copying', 'lem'))}",
        f"the LSTM {percent(right('long_copying', 'lstm'))}",
        f"only begins orthogonal {percent(right('long_copying', 'rnn_orth'))}",
    ],
    "an LSTM keeps the first of 1,000": lambda: [
        f"in {span([32 * step for step in both('first_symbol_1000', CHRONO, updates)])} sequences"
    ],
    "an LSTM learns adding at T = 1,000": lambda: [
        f"{solved('adding_1000', 'lstm')} seeds with forget bias 1"
    ],
    "an LSTM with forget bias 1 needs 16,500": lambda: [
        " and ".join(f"{step:,}" for step in updates("adding_1000", "lstm"))
    ],
    "biases that know the lag solve adding": lambda: [
        f"{solved('adding_1000', 'lstm_chrono')} in "
        f"{span(updates('adding_1000', 'lstm_chrono'))} updates"
    ],
    "LEM solves adding at T = 2,000": lambda: [
        f"{solved('adding_2000', 'lem')}, in {span(updates('adding_2000', 'lem'))}",
        f"LSTMs with chrono biases ({span(updates('adding_2000', 'lstm_chrono'))})",
        f"GRUs ({span(updates('adding_2000', 'gru'))})",
        f"At 1,000 LEM takes {span(updates('adding_1000', 'lem'))}",
    ],
    "read pixel by pixel, MNIST": lambda: [
        f"GRU {percent(right('long_mnist', 'gru'))}",
        f"LSTM {percent(right('long_mnist', 'lstm'))}",
        f"tanh RNN {percent(right('long_mnist', 'rnn_orth'))}",
    ],
    "in a fixed random order": lambda: [
        f"LSTM {percent(right('long_mnist_permuted', 'lstm'))}",
        f"GRU {percent(right('long_mnist_permuted', 'gru'))}",
        percent(right("long_mnist_permuted", "rnn_orth")),
    ],
    "LSTMs recall 36 %": lambda: [
        percent(both("long_associative_recall", GATED, right)),
    ],
    "a GRU knows 91 %": lambda: [
        percent(right("full_mnist_1d", "gru"), ".1f"),
        f"the LSTM {percent(right('full_mnist_1d', 'lstm'), '.1f')}",
        f"comes to {percent(right('full_mnist_1d', 'rnn_orth'))}",
    ],
    "LSTMs stay at chance on induction": lambda: [
        f"LSTM {solved('full_induction', 'lstm')} in {span(updates('full_induction', 'lstm'))}",
        f"GRU {solved('full_induction', 'gru')} in {span(updates('full_induction', 'gru'))}",
    ],
    "tanh RNN and LSTM do modular": lambda: [
        f"the tanh RNN {solved('full_modular_arithmetic', 'rnn_orth')}",
        f"the LSTM {solved('full_modular_arithmetic', 'lstm')}, but "
        f"{percent(right('full_modular_arithmetic', 'lstm', 25))} right",
    ],
    "none of them gives strings back": lambda: [
        f"{percent(both('full_reverse', ('rnn_orth', *GATED), lambda f, c: right(f, c, 20)))}",
        f"{percent(both('full_duplicate', GATED, lambda f, c: right(f, c, 20)))} of the bits",
    ],
    "the latch is solved": lambda: [
        f"{solved('full_latch', 'lstm_chrono')} with biases that know the lag, "
        f"{solved('full_latch', 'lstm')} in 1,000 updates"
    ],
    "linear recurrences with positive factors": lambda: [
        f"minGRU, RG-LRU and QRNN {solved(PARITY, 'mingru')}",
        f"right in {percent(both(PARITY, POSITIVE, right))} of the sequences",
        f"the LRU {solved(PARITY, 'lru')}",
        f"modular arithmetic {percent(both(ARITHMETIC, (*POSITIVE, 'lru'), right))}",
        f"LSTM, GRU and sLSTM {solved(PARITY, 'gru')}",
        f"the LSTM of two blocks {solved(PARITY, 'lstm_blocks')}",
        f"minGRU and RG-LRU keep it, {solved(BITS, 'mingru_signed')} each",
        {"3/3": "3/3 each"}[solved(BITS, "rglru_signed")],
        f"{percent(both(BITS, SIGNED, lambda f, c: right(f, c, 200)))} of 200 bits",
    ],
    "depth has to grow": lambda: [
        f"four in one layer ({solved(word(4, 1), 'mingru_signed')})",
        {"3/3": "eight in two"}[solved(word(8, 2), "mingru_signed")],
        f"in one {solved(word(8, 1), 'mingru_signed')}, "
        f"{percent(right(word(8, 1), 'mingru_signed'))} right",
        {"0/3": "sixteen in none"}[solved(word(16, 4), "mingru_signed")],
        {"0/3": "of up to four"}[solved(word(16, 2), "mingru_signed")],
        f"({percent(right(word(16, 4), 'mingru_signed'))})",
        {"3/3": "a tanh RNN does all in one layer"}[solved(word(16, 1), "rnn_orth")],
    ],
    "small LSTMs keep the flip-flop": lambda: [
        {100.0: "all reads right where bits lie ten times as far apart, 5/5"}[
            min(score for cell in ("rnn_orth", *GATED) for score in right(READS, cell, 640))
        ],
        f"{percent(both(READS, ('mingru', 'rglru', 'lru'), lambda f, c: right(f, c, 640)))}",
    ],
    "one layer of minGRU": lambda: [
        f"one layer {solved(SELECTIVE, 'mingru')}, {percent(right(SELECTIVE, 'mingru'))} of the",
        f"in two blocks, at as many parameters, {solved(SELECTIVE, 'mingru_blocks')}",
        f"the GRU {solved(SELECTIVE, 'gru')} in one layer",
        f"{copied('mingru', 1)}, {copied('mingru', 2)} and {copied('mingru', 3)} %",
        f"{copied('minlstm', 1)}, {copied('minlstm', 2)} and {copied('minlstm', 3)} %",
    ],
    "a recurrence that is the same": lambda: [
        f"the LRU {solved(SELECTIVE, 'lru')}, {percent(right(SELECTIVE, 'lru'))}",
        f"RG-LRU {percent(right(SELECTIVE, 'rglru'))}",
        f"minGRU {percent(right(SELECTIVE, 'mingru'))}",
        f"QRNN {percent(right(SELECTIVE, 'qrnn'))}",
    ],
    "a tanh RNN learns the flip-flop": lambda: [
        f"{solved('fast_flip_flop', 'rnn_orth')} in "
        f"{span(both('fast_flip_flop', ('rnn_orth', 'rnn_glorot'), updates))} updates"
    ],
    "exact gradients forward in time reach": lambda: [
        f"copying across 20 steps {stream('copying', 'rtrl')}, windows of 8 "
        f"{stream('copying', 'bptt_8')}, of 32 {stream('copying', 'bptt_32')}",
        f"of a target that drifts {stream('drifting', 'rtrl')}, {stream('drifting', 'bptt_8')} and "
        f"{stream('drifting', 'bptt_32')}, of 128 {stream('drifting', 'bptt_128')}",
    ],
    "agents learn by them": lambda: [
        f"the T-maze of 32 steps {turned('rtrl', 'lru', 32)}, as PPO",
        {"3/3": "as PPO"}[turned("../agents/t_maze", "lru", 32)],
        f"minGRU {turned('rtrl', 'mingru', 32)} and RG-LRU {turned('rtrl', 'rglru', 32)}",
        f"PPO has {turned('ppo', 'mingru', 32)} and {turned('ppo', 'rglru', 32)}",
    ],
    "such gradients cost twice": lambda: [
        f"{costs(1)} times the time of backpropagation for one sequence",
        f"{costs(16)} times for sixteen",
    ],
    "SnAp-1 and e-prop are near": lambda: [
        f"after 20 steps {near('snap1', 20)} and {near('eprop', 20)} of an LSTM",
        f"of a tanh RNN {near('snap1', 20, 'rnn_orth')}",
        f"of JANET {near('snap1', 20, 'janet')}",
        f"a GRU learns the T-maze by SnAp-1, {turned('snap1', 'gru', 16)} at 16 steps and "
        f"{turned('snap1', 'gru', 32)} at 32",
        f"an LSTM {turned('snap1', 'lstm', 16)} and {turned('snap1', 'lstm', 32)}",
    ],
}


def online(measure, **wanted):
    """The rows of a measure of `python -m experiments online` that have these values."""
    found = json.loads((RESULTS / "online" / "summary.json").read_text())[measure]
    return [row for row in found if all(row[k] == v for k, v in wanted.items())]


def stream(name, learner):
    """The median over seeds of the loss in the last quarter."""
    (row,) = online("learning", stream=name, learner=learner)
    parts = [seed[-(len(seed) // 4) :] for seed in row["losses"]]
    return f"{statistics.median(statistics.mean(part) for part in parts):.3f}"


def turned(folder, cell, length):
    """How many agents of a run found the optimum of the T-maze."""
    rows = json.loads((RESULTS / "agents_online" / folder / "summary.json").read_text())["rows"]
    (row,) = [row for row in rows if (row["cell"], row["length"]) == (cell, length)]
    return f"{sum(value > 0.99 for value in row['returns'])}/{len(row['returns'])}"


def costs(batch):
    return span([row["ratio"][0] for row in online("cost", batch=batch)], ".1f")


def near(method, lag, cell="lstm"):
    (row,) = online("cosines", cell=cell, lag=lag, method=method)
    return f"{statistics.median(row['cosines']):.2f}"


def test_the_best_constants_of_words_are_those_of_the_page():
    last = {name: WordProblem(16, name).shares[-1] for name in ("z60", "s3", "a4_z5", "a5")}
    best = {name: f"{share.max():.2f}" for name, share in last.items()}
    words = (
        f"{best['z60']} of z60, where there are {(last['z60'] > 0).sum()} answers, in {best['s3']} "
        f"of s3, {best['a4_z5']} of a4_z5 and {best['a5']} of a5."
    )
    assert words in " ".join(PAGE.split())


def test_the_lru_copies_in_an_eighth_of_the_updates_of_the_gru():
    lru, gru = (statistics.median(updates(asked(task="copying"), cell)) for cell in ("lru", "gru"))
    assert round(gru / lru) == 8


def rows():
    """The lines of the table."""
    (table,) = re.findall(
        r"^\| claim \| source \| here \|\n\|---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE
    )
    return table.splitlines()


def test_every_row_has_numbers_that_are_read_from_its_files():
    begins = [line.strip("| ") for line in rows()]
    assert len(begins) == len(CLAIMS)
    assert all(any(line.startswith(claim) for claim in CLAIMS) for line in begins)


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_row_says_what_its_files_say(claim):
    (line,) = [line for line in rows() if line.strip("| ").startswith(claim)]
    for words in CLAIMS[claim]():
        assert words in line, words
