"""What a configuration makes of a task and a cell: options, sizes, layers,
outputs at every step, and tests at other lags.
"""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from experiments import cli
from experiments.config import Config, UsageError
from experiments.tasks import TASKS
from experiments.training import train
from experiments.training.folder import opened, read_json
from experiments.training.model import Model, units
from experiments.training.run import Hooks, run

COPYING = Config(
    task="copying",
    lag=10,
    task_options={"items": 2, "symbols": 3},
    cells=("gru",),
    hidden_size=8,
    batch_size=32,
)


def made(config, name="gru"):
    """The job of a cell, and parameters."""
    job = train.make_job(config, name)
    return job, job.model.init(jax.random.key(0), job.task.input_size)


def drawn(job):
    """How many parameters are drawn."""
    init = functools.partial(job.model.init, input_size=job.task.input_size)
    return count(jax.eval_shape(init, jax.random.key(0)))


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--task_options.itms 3", "unknown option of task 'copying' 'itms'; did you mean 'items'?"),
        ("--task_options.items 0", "items must be from 1 to 1000, got 0"),
        ("--task_options.items x", "task_options.items must be of type int, got 'x'"),
        ("--task_options.items 2.5", "task_options.items must be of type int, got 2.5"),
        (
            '--task latch --task_options {"noisy":"abc"}',
            "task_options.noisy must be of type bool, got 'abc'",
        ),
        (
            "--task digits --task_options {} --lag 8 --test_lags 64",
            "test_lags: the lag of task 'digits' decides",
        ),
        ("--task parity --task_options {} --lag 2 --cells gru_chrono", "max_lag"),
        ("--cells mh_gru --hidden_size 6", "must be a multiple of heads=4"),
        ("--test_lags 0", "lag must be at least 2 for this task, got 0"),
        ("--layers 0", "layers must be at least 1, got 0"),
        ("--parameters -1", "parameters must be at least 0, got -1"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_what_is_wrong(words, message, capsys):
    assert cli.main(["run", "fast_copying", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_options_of_a_task_reach_it():
    assert COPYING.make_task() == TASKS["copying"](10, items=2, symbols=3)
    with pytest.raises(UsageError, match="lag must be at least 10"):
        Config(task="temporal_order", lag=9)


@pytest.mark.parametrize("name", ["rnn_orth", "lstm", "gru", "mh_gru"])
@pytest.mark.parametrize("wanted", [300, 4500, 20_000])
def test_a_number_of_parameters_gives_the_hidden_size_that_comes_nearest(name, wanted):
    job = train.make_job(Config(parameters=wanted), name)
    size = job.model.cell.hidden_size
    step = 4 if name == "mh_gru" else 1  # as many heads
    gaps = {
        n: abs(drawn(train.make_job(Config(hidden_size=n), name)) - wanted)
        for n in (size - step, size, size + step)
        if n
    }
    assert drawn(job) - wanted in (gaps[size], -gaps[size])
    assert gaps[size] == min(gaps.values())


def test_fewer_parameters_than_one_unit_has_give_one_unit():
    assert units(lambda size: Model(jaxrnn.LSTMCell(size), 1), 2, 1) == 1


def test_more_parameters_than_the_largest_model_has_are_refused():
    message = "parameters=10,000,000,000 is more than hidden size 4,096, the largest, has"
    with pytest.raises(UsageError, match=message):
        units(lambda size: Model(jaxrnn.LSTMCell(size), 1), 2, 10**10)


def test_layers_are_a_stack_of_which_the_last_is_read_out():
    config = Config(cells=("gru",), layers=2, hidden_size=8)
    job, params = made(config)
    batch = job.task.sample(jax.random.key(1), 4)
    carry, _ = jaxrnn.unroll(jaxrnn.Stack((jaxrnn.GRUCell(8),) * 2), params.cell, batch.inputs)
    np.testing.assert_array_equal(job.model(params, batch), carry[1].h @ params.w_y + params.b_y)
    assert job.compiled().model.cell == jaxrnn.Stack((jaxrnn.GRUCell(8),) * 2)


def test_outputs_at_every_step_are_readouts_of_every_state():
    job, params = made(COPYING)
    batch = job.task.sample(jax.random.key(1), 4)
    outputs, carry = job.model(params, batch), None
    for t in range(batch.inputs.shape[0]):
        carry, _ = jaxrnn.unroll(job.model.cell, params.cell, batch.inputs[t : t + 1], carry)
        np.testing.assert_allclose(outputs[t], job.model.readout(params, carry), atol=1e-5)


def test_the_mean_over_a_batch_is_that_of_its_halves_though_lengths_differ():
    job, params = made(dataclasses.replace(COPYING, task="embedded_reber", task_options={}, lag=20))
    whole = job.task.sample(jax.random.key(1), 8)
    halves = [
        jax.tree.map(operator.itemgetter((slice(None), part)), whole)
        for part in (slice(4), slice(4, 8))
    ]
    losses = [
        float(job.task.score.loss(job.model(params, batch), batch)) for batch in (whole, *halves)
    ]
    np.testing.assert_allclose(losses[0], np.mean(losses[1:]), rtol=1e-5)


def test_what_was_trained_is_evaluated_at_other_lags_too(tmp_path):
    config = Config(
        task="parity",
        lag=6,
        test_lags=(12,),
        cells=("gru",),
        hidden_size=8,
        batch_size=16,
        steps=50,
        seeds=2,
    )
    config = dataclasses.replace(config, out=str(tmp_path / "run"))
    with opened("parity", config) as path:
        run(config, path, Hooks(lambda *_: None))
    (row,) = read_json(tmp_path / "run" / "summary.json")["results"]
    job, state = train.make_job(config, "gru"), None
    state = train.advance(
        job, train.start(job, train.rows(config)), train.rows(config), np.full(2, True), 0
    ).state
    batch = TASKS["parity"](12, shortest=7).evaluation()
    one = [
        job.model(jax.tree.map(lambda a, s=s: jnp.asarray(a[s]), state.params), batch)
        for s in range(2)
    ]
    np.testing.assert_allclose(
        row["tests"]["12"]["loss"], [job.task.score.loss(o, batch) for o in one], rtol=1e-4
    )
    np.testing.assert_allclose(
        row["tests"]["12"]["metric"], [job.task.score.metric(o, batch) for o in one], atol=2e-3
    )


def test_a_whole_number_will_do_for_an_option_that_is_a_real_one():
    assert Config(task="flip_flop", task_options={"pulse": 1}).make_task().pulse == 1.0
    assert type(Config(task="flip_flop", task_options={"pulse": 1}).make_task().pulse) is float
