"""The memory that the benchmark reports beside its times."""

import functools

import pytest

from experiments.bench import memory
from experiments.bench.peers import PEERS, Choice, Peer
from experiments.bench.shapes import Job, Shape


@pytest.mark.slow("the bench is no part of the package")
def test_the_memory_of_long_sequences_is_that_of_the_compiled_gradients():
    job = Job("gru", Shape(2, 4096, 8, 8))
    whole, sqrt = (
        {row["loss"]: row["temp_bytes"] for row in memory.long_rows(job, n)}
        for n in ("hand_scan", "jaxrnn_sqrt")
    )
    ys = 4 * 2 * 4096 * 8
    assert whole["ys.sum()"] > 3 * ys and sqrt["ys.sum()"] < whole["ys.sum()"] / 2
    assert sqrt["(ys ** 2).sum()"] > ys  # which the gradient of the loss needs


@pytest.mark.slow("it starts a process for each row")
def test_resident_memory_is_that_of_a_process_of_its_own_and_one_that_dies_is_listed(monkeypatch):
    job, results = Job("rnn", Shape(8, 512, 32, 64)), {"resident_rows": [], "problems": []}
    # here, but not in the process
    monkeypatch.setitem(PEERS, "nobody", Peer("jax", "ours:nowhere"))
    for name in ("hand_scan", "nobody"):
        rows = functools.partial(memory.resident_rows, job, name, 0)
        memory.attempt(rows, job, Choice(name, "float32"), results, "resident_rows")
    (row,) = results["resident_rows"]
    results_alone = 4 * 8 * 512 * (64 + 32)  # ys and the gradient of xs
    assert row["peer"] == "hand_scan" and results_alone < row["resident_bytes"] < 50 * results_alone
    (dead,) = results["problems"]
    assert (
        dead["peer"] == "nobody"
        and dead["status"] == "failed"
        and "ended with 1: KeyError: 'nobody'" in dead["message"]
    )
