"""The benchmark: its peers compute what we compute, its numbers follow from its times,
and nothing is left out silently.
"""

import functools
import importlib
import json
import re

import jax
import numpy as np
import pytest

from experiments import cli
from experiments.bench import (
    candidate,
    figure,
    measure,
    problem,
    report,
    rows,
    run,
    schedule,
    shapes,
    stats,
)
from experiments.bench.config import BenchConfig
from experiments.bench.peers import BOTH, PEERS, Choice, Peer
from experiments.bench.shapes import Job, Shape
from experiments.config import UsageError

PLAIN = "2x3x2x3"
pytestmark = pytest.mark.usefixtures("quick_compilation", "as_peers_expect")


@pytest.fixture
def as_peers_expect():
    """The peers rely on JAX's default promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def problem_and_answers(cell, text):
    given = problem.draw(Job(cell, shapes.parse(text)), seed=1)
    return given, problem.reference(given)


def error(name, cell, text, variant="float32", devices=1):
    """How far a peer is from float64, in values and all gradients."""
    given, wanted = problem_and_answers(cell, text)
    made = measure.make(
        Choice(name, variant, devices), given, candidate.Inputs(given), "cpu", modes=(BOTH,)
    )
    return problem.error(given, made.answers(problem.masked(given)), wanted)


ON_CPU = [
    pytest.param(n, marks=pytest.mark.parity if n == "torch" else ())
    for n, p in PEERS.items()
    if n != "jaxrnn_scan" and "cpu" in p.devices
]


@pytest.mark.slow("it compiles the layers of every library")
@pytest.mark.peers
@pytest.mark.parametrize("name", ON_CPU)
def test_every_installed_peer_agrees_with_float64_in_values_and_all_gradients(name):
    if not PEERS[name].installed:
        pytest.skip(f"{PEERS[name].module} is not installed: pip install 'jaxrnn[bench,parity]'")
    first, *others = PEERS[name].cells
    # dynamic_unroll knows no lengths
    hard = "3x4x2x3-bidirectional" + "-ragged" * (name != "haiku")
    for cell, text in ((first, hard), *((cell, PLAIN) for cell in others)):
        assert error(name, cell, text) < 1e-5, cell


@pytest.mark.slow("it compiles the layers of every library")
@pytest.mark.parametrize(
    "name", ["jaxrnn", "hand_scan", pytest.param("torch", marks=pytest.mark.parity)]
)
def test_layers_follow_one_another(name):
    if not PEERS[name].installed:
        pytest.skip("torch is not installed: pip install 'jaxrnn[parity]'")
    assert error(name, "rnn", "3x4x2x3-2layers-bidirectional-ragged") < 1e-5


SPLIT = [
    pytest.param(
        n,
        marks=()
        if n in ("jaxrnn", "keras")
        else pytest.mark.slow("the other libraries: the bench is no part of the package"),
    )
    for n, p in PEERS.items()
    if p.splits
]


@pytest.mark.peers
@pytest.mark.parametrize("name", SPLIT)
def test_a_batch_split_over_two_devices_gives_the_same_values_and_gradients(name):
    if not PEERS[name].installed:
        pytest.skip(f"{PEERS[name].module} is not installed: pip install 'jaxrnn[bench]'")
    assert error(name, "lstm", "4x4x2x3" + "-ragged" * (name != "haiku"), devices=2) < 1e-5


def test_only_large_batches_on_a_cpu_are_split_and_sqrt_is_for_long_sequences():
    names, halved = ["jaxrnn", "jaxrnn_sqrt", "hand_scan", "torch"], ["jaxrnn", "hand_scan"]

    def chosen(text, device="cpu"):
        listed = measure.choices(
            Job("gru", shapes.parse(text)), names, ("float32",), device, halved
        )
        return {(choice.peer, choice.devices) for choice in listed}

    alone = {("jaxrnn", 1), ("hand_scan", 1), ("torch", 1)}
    assert chosen("8x64x2x3") == chosen("17x64x2x3") == chosen("16x64x2x3", "gpu") == alone
    assert chosen("16x64x2x3") == alone | {("jaxrnn", 2), ("hand_scan", 2)}
    assert chosen("1x512x2x3") == alone | {("jaxrnn_sqrt", 1)}


@pytest.mark.slow("it compiles the layers of every library")
def test_the_flat_weights_of_cudnn_are_those_of_jax_experimental_rnn(monkeypatch):
    from jax.experimental import rnn

    def on_the_cpu(x, h_0, c_0, weights, lengths, I, H, layers, dropout, bidirectional):
        parts = rnn.unpack_lstm_weights(weights, I, H, layers, bidirectional)
        return rnn.lstm_ref(x, h_0, c_0, *parts, lengths, I, H, layers, dropout, bidirectional)

    monkeypatch.setattr(rnn, "lstm", on_the_cpu)
    monkeypatch.setattr(importlib.import_module("jaxrnn.hardware.cudnn"), "gpu", lambda: True)
    for name, text in (
        ("cudnn", "2x3x2x3-2layers-bidirectional"),
        ("jaxrnn_cudnn", "2x3x2x3-2layers-bidirectional-ragged"),
    ):
        assert error(name, "lstm", text) < 1e-5


@pytest.mark.slow("it compiles the layers of every library")
def test_bfloat16_is_computed_in_bfloat16_and_close():
    for name in ("jaxrnn", "flax_nnx"):
        assert (
            1e-4 < error(name, "rnn", PLAIN, "bfloat16") < candidate.tolerance("bfloat16", "cpu", 3)
        ), name


@pytest.mark.parametrize("part", ["ys", "state", "weights", "xs"])
def test_an_error_in_any_answer_counts_but_not_in_the_padding(part):
    given = problem.draw(Job("lstm", shapes.parse("3x4x2x3-2layers-ragged")), seed=0)
    wanted = problem.reference(given)
    answers = jax.tree.map(np.copy, wanted)
    padded = np.arange(given.job.shape.T)[:, None] >= given.lengths
    answers.outputs.ys[padded] = np.nan
    assert problem.error(given, answers, wanted) == 0
    arrays = {
        "ys": answers.outputs.ys,
        "state": answers.state[1],
        "weights": answers.weights[-1].b,
        "xs": answers.xs,
    }
    arrays[part][(0,) * arrays[part].ndim] += 0.5
    assert problem.error(given, answers, wanted) > 0.1


def test_a_wrong_peer_is_listed_with_its_error_and_not_timed(monkeypatch):
    def swapped(job):
        program = PEERS["hand_scan"].load()(job)
        return program._replace(
            layout=lambda weights: program.layout(tuple(w._replace(b=w.b[::-1]) for w in weights))
        )

    monkeypatch.setitem(PEERS, "planted", Peer("jax", ""))
    monkeypatch.setattr(
        Peer, "load", lambda self, load=Peer.load: load(self) if self.make else swapped
    )
    wanted = [Choice("jaxrnn", "float32"), Choice("planted", "float32")]
    prepared = measure.prepare(Job("lstm", shapes.parse(PLAIN)), wanted, "cpu", 0)
    assert [made.choice.peer for made in prepared.candidates] == ["jaxrnn"]
    (wrong,) = prepared.problems
    assert wrong["status"] == "wrong" and wrong["peer"] == "planted"
    assert float(re.search(r"by (\S+)$", wrong["message"])[1]) > 1e-2


def test_what_a_peer_raises_is_listed_and_the_others_are_measured(monkeypatch):
    monkeypatch.setitem(PEERS, "broken", Peer("jax", "ours:nowhere"))
    wanted = [Choice(name, "float32") for name in ("jaxrnn", "broken", "haiku")]
    prepared = measure.prepare(Job("gru", shapes.parse(PLAIN)), wanted, "cpu", 0)
    assert [made.choice.peer for made in prepared.candidates] == ["jaxrnn"]
    found = {p["peer"]: (p["status"], p["message"]) for p in prepared.problems}
    assert found["haiku"] == ("cannot", "has no gru of this form")
    assert found["broken"][0] == "failed" and "no attribute 'nowhere'" in found["broken"][1]


def test_the_ratio_is_the_median_within_rounds_and_its_interval_covers_it():
    rng = np.random.default_rng(0)
    load = rng.uniform(1, 10, 200)  # what slows a whole round down does not enter a ratio
    found = stats.ratio(3 * load * rng.normal(1, 0.05, 200), 2 * load)
    assert found.low <= found.median <= found.high and found.high - found.low < 0.05
    assert found.median == pytest.approx(1.5, rel=0.02)
    assert stats.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == stats.Ratio(3.0, 2.0, 4.0)


def test_the_geometric_mean_of_inverse_ratios_is_one():
    assert stats.geometric_mean([4.0, 0.25, 8.0, 0.125]) == pytest.approx(1)


def looked_at(*choices):
    """What `measure.rounds` takes, and the list of what was called."""
    calls = []
    made = [
        candidate.Candidate(c, {BOTH: functools.partial(calls.append, k)}, len, {}, None)
        for k, c in enumerate(choices)
    ]
    return measure.First(made, [1] * len(made), [c.every for c in choices], 0.0), calls


def test_rounds_run_each_candidate_untimed_and_then_timed_in_orders_of_their_own():
    first, calls = looked_at(
        *(Choice(name, "float32") for name in ("jaxrnn", "keras", "haiku", "torch"))
    )
    times = measure.rounds(first, BOTH, count=5, seed=0)
    assert times.shape == (5, 4) and np.all(times > 0)
    timed = np.array(calls).reshape(-1, 4, 2)  # [rounds, candidates, untimed and timed]
    assert np.all(timed[..., 0] == timed[..., 1])
    assert (
        np.all(np.sort(timed[..., 0]) == np.arange(4))
        and len({tuple(order) for order in timed[..., 0]}) > 1
    )


def test_what_is_aside_runs_in_every_third_round_and_is_compared_within_those():
    first, _ = looked_at(
        Choice("jaxrnn", "float32", 2),
        Choice("keras", "float32", 2),
        Choice("jaxrnn_scan", "float32"),
    )
    times = measure.rounds(first, BOTH, count=7, seed=0)
    assert np.all(np.isfinite(times[:, 0]))
    assert (
        np.flatnonzero(np.isfinite(times[:, 1])).tolist()
        == np.flatnonzero(np.isfinite(times[:, 2])).tolist()
        == [0, 3, 6]
    )
    theirs, ours = np.array([2.0, np.nan, np.nan, 8.0]), np.array([1.0, 0.1, 0.1, 2.0])
    assert rows.compared("", theirs, ours)["ratio"] == 3


def test_flops_are_those_of_the_matrix_products():
    B, T, I, H = 2, 3, 5, 7
    job = Job("lstm", shapes.Shape(B, T, I, H))
    assert shapes.flops(job, backward=True) == 24 * B * T * H * (I + H)
    assert shapes.flops(job, backward=False) == 8 * B * T * H * (I + H)
    assert shapes.flops(Job("gru", job.shape), True) == 18 * B * T * H * (I + H)
    both = Job("lstm", shapes.Shape(B, T, I, H, layers=2, bidirectional=True))
    assert shapes.flops(both, False) == 2 * 8 * B * T * H * (I + H) + 2 * 8 * B * T * H * (
        2 * H + H
    )


def test_a_shape_is_read_as_it_is_written():
    for shape in (*shapes.CPU, *shapes.GPU):
        assert shapes.parse(str(shape)) == shape
    with pytest.raises(UsageError, match="a shape is BxTxIxH"):
        shapes.parse("3x4x5")


def test_the_matrix_is_that_of_the_issue():
    plain = {tuple(shape[:4]) for shape in shapes.CPU if shape == Shape(*shape[:4])}
    small = {
        (1, 100, 32, 32),
        (1, 1024, 64, 64),
        (16, 128, 64, 128),
        (8, 1024, 32, 32),
        (8, 2048, 64, 64),
    }
    assert plain == small | {(32, 512, 128, 128), (64, 128, 256, 256), (32, 128, 512, 512)}
    others = {str(shape) for shape in shapes.CPU if shape != Shape(*shape[:4])}
    assert others == {
        "32x128x128x256-2layers",
        "32x128x128x256-bidirectional",
        "32x128x128x256-ragged",
    }


def test_every_job_gets_the_rounds_that_the_time_left_affords_all_that_follow():
    first, second = schedule.Size(cost=2, programs=10), schedule.Size(cost=1, programs=40)
    done = schedule.Done().after(first, schedule.Took(compiling=20, checking=6, a_round=4))
    preparing, of_the_second = 4 * 20 + 6 / 2, 4 / 2
    assert (
        schedule.count(done, 4, [second], left=150, most=30)
        == int((150 - preparing) / (4 + of_the_second))
        == 11
    )
    assert schedule.count(done, 4, [], left=1e6, most=30) == 30
    assert schedule.count(done, 4, [second], left=0, most=30) == schedule.LEAST_ROUNDS
    assert schedule.count(done, 0.125, [second], left=0, most=30) == 16
    assert schedule.count(done, 0, [], left=0, most=30) == schedule.LEAST_ROUNDS
    assert schedule.order([Job("rnn", shape) for shape in shapes.CPU], "cpu")[0].shape == Shape(
        32, 128, 512, 512
    )


@pytest.mark.slow("it compiles the layers of every library")
def test_a_tiny_run_writes_results_table_and_figures_and_lists_what_is_missing(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(PEERS, "absent", Peer("no_such_library", ""))
    # the suite has one already
    monkeypatch.setattr(run, "use_device", lambda device, cpu_devices: None)
    monkeypatch.setattr(measure, "matmul_rate", lambda device, variant: 1e9)
    path = tmp_path / "run"
    options = (
        "--peers jaxrnn,hand_scan,absent --split hand_scan --cells gru --shapes "
        "16x3x2x3 --rounds 3 --memory false"
    )
    assert cli.main([*f"bench {options}".split(), "--out", str(path)]) == 0
    printed = capsys.readouterr().out
    assert (
        "missing: absent (no_such_library is not installed)." in printed
        and "left out: resident memory" in printed
    )
    assert {p.name for p in path.iterdir()} == {
        "config.yaml",
        "env.json",
        "bench.json",
        "bench.png",
        "bench-split.png",
        ".lock",
    }
    results = json.loads((path / "bench.json").read_text())
    assert results["status"] == "done" and results["missing"] == {"absent": "no_such_library"}
    found = {(row["mode"], row["peer"], row["devices"]): row for row in results["rows"]}
    assert len(found) == len(results["rows"]) == 8
    (ours, halved), (theirs, split) = (
        [found[BOTH, peer, n] for n in (1, 2)] for peer in ("jaxrnn", "hand_scan")
    )
    assert (
        ours["ratio"] == halved["split_ratio"] == 1
        and theirs["interval"][0] <= theirs["ratio"] <= theirs["interval"][1]
    )
    assert ours["of_limit"] == pytest.approx(
        18 * 16 * 3 * 3 * 5 / 1e9 / (ours["ms"] / 1e3), rel=0.01
    )
    assert ours["temp_bytes"] > 0 and ours["compile_seconds"] > 0 and theirs["error"] < 1e-5
    assert (theirs["rounds"], halved["rounds"], split["rounds"]) == (
        3,
        3,
        1,
    ) and "every third round only: hand_scan x2." in printed
    assert re.search(rf"^16x3x2x3 +gru .* 3 +{theirs['ratio']:.2f}$", printed, re.MULTILINE)
    assert re.search(
        rf"^16x3x2x3 +gru .* {ours['split_ratio']:.2f} +{split['split_ratio']:.2f}$",
        printed,
        re.MULTILINE,
    )
    drawn = figure.ratio_figure([ours, theirs], ["hand_scan"], "ratio", "").axes[1].containers[0]
    assert drawn.get_label() == "hand_scan" and drawn.lines[0].get_xdata().tolist() == [
        theirs["ratio"]
    ]


def test_jobs_for_which_no_time_is_left_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "matmul_rate", lambda device, variant: 1e9)
    (tmp_path / "env.json").write_text('{"device": "cpu", "cpus": 2, "jax": "0"}')
    options = dict(peers=("hand_scan",), shapes=("2x3x2x3",), minutes=1e-9, rounds=1, memory=False)
    results = run.run(BenchConfig(cells=("rnn", "gru"), **options), tmp_path, print)
    assert sorted(results["left_out"]) == ["gru 2x3x2x3", "rnn 2x3x2x3"] and results["rows"] == []
    assert "left out, no time was left: gru 2x3x2x3." in report.report(results)


def test_the_tolerance_of_float32_grows_with_the_root_of_the_steps_and_stays_below_tf32():
    assert (
        candidate.tolerance("float32", "cpu", 4)
        == candidate.tolerance("strict", "gpu", 100)
        == pytest.approx(1e-5)
    )
    assert (
        candidate.tolerance("strict", "gpu", 400) == pytest.approx(2e-5)
        and candidate.tolerance("strict", "gpu", 4096) < 1e-4
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--peers pytorch", "unknown peer 'pytorch'; did you mean 'torch'?"),
        ("--split torch", "unknown peer 'torch'"),
        ("--cells lstmm", "unknown cell of the benchmark 'lstmm'; did you mean 'lstm'?"),
        ("--device tpu", "unknown device 'tpu'"),
        ("--rounds 0", "rounds and minutes must be positive"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_measured(option, message, capsys):
    assert cli.main(["bench", *option.split()]) == 2
    assert message in capsys.readouterr().err


def test_jaxrnn_is_always_measured_since_all_ratios_are_to_it():
    assert BenchConfig(peers=("torch",)).names == ["jaxrnn", "torch"]
    assert (
        BenchConfig(split=("keras",)).halved == ["jaxrnn", "keras"]
        and BenchConfig(split=()).halved == []
    )
