"""Training, and what a run writes."""

import dataclasses
import errno
import json
import math

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

import jaxrnn
from experiments import cli
from experiments.config import Config
from experiments.report import figures, prose
from experiments.tasks import evaluation_batch, held_out_batch
from experiments.training import folder, run, train
from experiments.training.history import merit
from experiments.training.run import Hooks

TINY = Config(
    lag=10,
    cells=("gru",),
    hidden_size=8,
    batch_size=16,
    steps=100,
    seeds=2,
    learning_rates=(1e-2,),
    widen_rates=0,
)


def losses(config, name="gru", active=True):
    """[chunks, rows]"""
    job, rows = train.make_job(config, name), train.rows(config)
    state, found = train.start(job, rows), []
    for step in range(0, config.steps, 50):
        state, now, *_ = train.advance(
            job, state, rows, np.broadcast_to(active, len(rows.rates)), step
        )
        found.append(now)
    return np.stack(found)


def ran(config, path, show=lambda *_: None, **hooks):
    """The summary of a run in the folder `path`."""
    config = dataclasses.replace(config, out=str(path))
    with folder.opened("adding", config) as path:
        return run.run(config, path, Hooks(show, **hooks))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder and summary of a small run that solves its task."""
    config = Config(
        lag=10,
        cells=("rnn_small", "gru"),
        hidden_size=16,
        learning_rates=(1e-2,),
        steps=600,
        seeds=2,
    )
    path = tmp_path_factory.mktemp("runs") / "run"
    return path, ran(config, path)


def test_the_same_configuration_gives_the_same_numbers_and_another_seed_others():
    first, second = losses(TINY), losses(TINY)
    assert np.array_equal(first, second)
    assert first.shape == (2, 2) and first[0, 0] != first[0, 1]


@pytest.mark.slow("it trains three runs")
def test_a_seed_gives_the_same_numbers_alone_and_beside_others():
    alone = losses(dataclasses.replace(TINY, seed=1, seeds=1))
    # vmapped products round differently
    np.testing.assert_allclose(losses(TINY)[:, 1:], alone, rtol=1e-4)


@pytest.mark.slow("it trains in a process of its own with two devices")
def test_a_batch_split_over_devices_gives_the_same_numbers_but_for_rounding():
    # temporal_order: with a mask
    config = dataclasses.replace(TINY, task="temporal_order", batch_size=32)
    job, rows = train.make_job(config, "gru").compiled(), train.rows(config)
    state = train.start(job, rows)
    assert job.devices == 2
    each = [dataclasses.replace(job, devices=n) for n in (1, 2)]
    held_out = held_out_batch(job.task)
    one, two = (
        train._updates(job, state, rows, np.full(2, True), np.int32(0), held_out) for job in each
    )
    for a, b in zip(two[1:3], one[1:3], strict=True):  # losses, and norms of gradients
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(one[0].params), jax.tree.leaves(two[0].params), strict=True):
        # 50 updates of Adam, which divides by small numbers
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert len(jax.tree.leaves(two[0])[0].sharding.device_set) == 2


def test_a_batch_is_split_over_devices_that_divide_it_into_shares_worth_a_device():
    assert [train.devices(size) for size in (64, 32, 33, 30, 1)] == [2, 2, 1, 1, 1]


def test_every_update_sees_new_data_and_the_last_chunk_goes_on_from_the_first():
    job, rows = (
        train.make_job(TINY, "gru"),
        train.rows(TINY)._replace(rates=np.zeros(2, np.float32)),
    )
    state = train.start(job, rows)
    still = [train.advance(job, state, rows, np.full(2, True), first).losses for first in (0, 50)]
    assert np.all(still[0] != still[1])  # nothing is learned at rate 0: only the data differ


def test_learning_rates_in_one_program_give_the_numbers_that_each_gives_alone():
    both = losses(dataclasses.replace(TINY, learning_rates=(1e-2, 1e-3)))
    assert both.shape == (2, 4) and both[1, 0] != both[1, 2]
    for k, rate in enumerate((1e-2, 1e-3)):
        alone = losses(dataclasses.replace(TINY, learning_rates=(rate,)))
        # vmapped products round differently
        np.testing.assert_allclose(both[:, 2 * k : 2 * k + 2], alone, rtol=1e-4)


def test_by_a_cosine_the_learning_rate_falls_to_zero_over_the_steps(standard_promotion):
    config = dataclasses.replace(TINY, schedule="cosine")
    falling, steady = (train.make_job(one, "gru") for one in (config, TINY))
    first = jnp.float32(0.02)
    rates = [float(train.rate(falling, first, jnp.int32(step))) for step in (0, 25, 50, 100)]
    np.testing.assert_allclose(rates, [0.02, 0.02 * (2 + 2**0.5) / 4, 0.01, 0], atol=1e-9)
    assert train.rate(steady, first, jnp.int32(70)) is first
    assert 0.05 < moved(falling) / moved(steady) < 0.4  # the mean of these rates is 0.18


def moved(job):
    """How far the parameters go from update 50 to 100."""
    rows = train.rows(TINY)
    state = train.start(job, rows)
    before = train.advance(job, state, rows, np.full(2, True), 0).state
    after = train.advance(job, before, rows, np.full(2, True), 50).state
    leaves = jax.tree.leaves(jax.tree.map(np.subtract, after.params, before.params))
    return np.sqrt(sum(np.sum(leaf**2) for leaf in leaves))


@pytest.mark.parametrize("batch_size", [16, 32])  # on one device, and split over two
def test_what_is_not_active_stays_as_it_is(batch_size):
    config = dataclasses.replace(TINY, batch_size=batch_size)
    job, rows = train.make_job(config, "gru"), train.rows(config)
    state = train.start(job, rows)
    after, now, *_ = train.advance(job, state, rows, np.array([True, False]), 0)
    same = jax.tree.map(lambda a, b: (a[0] == b[0]).all() and (a[1] == b[1]).all(), state, after)
    assert not any(jax.tree.leaves(same))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a[1] == b[1]).all(), state, after)))
    assert np.isfinite(now[0]) and np.isnan(now[1])


def test_the_best_parameters_are_those_with_the_lowest_loss_held_out():
    config = dataclasses.replace(TINY, learning_rates=(1.0,), steps=200)  # jumps up and down
    job, rows = train.make_job(config, "gru"), train.rows(config)
    state = train.start(job, rows)
    seen = []
    for step in range(0, 200, 50):
        progress = train.advance(job, state, rows, np.full(2, True), step)
        state = progress.state
        seen.append((progress.held_out[0], state.params))
    for seed in range(2):
        now, params = min(seen, key=lambda pair: pair[0][seed])
        np.testing.assert_allclose(state.best_loss[seed], now[seed], rtol=1e-6)
        for a, b in zip(jax.tree.leaves(state.best), jax.tree.leaves(params), strict=True):
            assert np.array_equal(a[seed], b[seed])


def test_a_gru_learns_a_short_lag_and_the_evaluation_agrees(finished):
    _, summary = finished
    rnn, gru = summary["results"]
    assert gru["cell"] == "gru" and gru["finished"] and None not in gru["steps_to_solve"]
    # three checks in a row, of which the first is that from which on it holds
    assert gru["updates"] == [step + 100 for step in gru["steps_to_solve"]]
    assert gru["steps"] == max(gru["updates"]) <= 600
    assert max(gru["final_loss"]) < 0.02 < summary["baseline"] / 5
    # 0.197: the deviation of the constant's squared error
    assert abs(summary["evaluation_baseline"] - 1 / 6) < 4 * 0.197 / 32
    assert gru["parameters"] == 3 * 16 * (2 + 16 + 1) + 16 + 16 + 1
    assert rnn["parameters"] == 16 * (2 + 16 + 1) + 16 + 1


def test_a_run_folder_holds_everything_and_each_line_of_metrics_is_flat(finished):
    path, summary = finished
    names = {
        "config.yaml",
        "env.json",
        "metrics.jsonl",
        "checkpoints",
        "learning.png",
        "summary.json",
        ".lock",
    }
    assert {file.name for file in path.iterdir()} == names
    assert json.loads((path / "summary.json").read_text()) == summary
    assert summary["status"] == "done" and summary["env"] == json.loads(
        (path / "env.json").read_text()
    )
    rows = folder.read_metrics(path)
    assert len(rows) == sum(sum(row["updates"]) // 50 for row in summary["results"])
    assert next(iter(rows[0])) == "step" and all(
        not isinstance(v, dict | list) for row in rows for v in row.values()
    )


def test_the_figure_is_drawn_from_the_folder_alone(finished):
    path, summary = finished
    figure = figures.learning_figure(path)
    (ax,) = figure.axes
    curves = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(curves) == ["rnn_small", "gru"] and ax.get_yscale() == "log"
    rows = [row for row in folder.read_metrics(path) if row["cell"] == "gru" and row["step"] == 50]
    first = np.median([row["loss"] for row in rows]) * 6
    np.testing.assert_allclose(curves["gru"].get_ydata()[0], first)
    assert len(curves["gru"].get_xdata()) == summary["results"][1]["steps"] // 50
    levels = sorted(
        line.get_ydata()[0]
        for line in ax.lines
        if line.get_linestyle() == "--" and len(line.get_xdata()) == 2
    )
    np.testing.assert_allclose(levels, [0.06, 0.5, 1])
    image = matplotlib.image.imread(path / "learning.png")
    assert image.shape[0] > 400 and image.std() > 0.05


def test_the_report_has_a_row_per_cell_and_says_not_solved_and_never_cannot(finished):
    _, summary = finished
    summary = json.loads(json.dumps(summary))
    summary["results"][0]["steps_to_solve"] = [None, 400]
    text = prose.report(summary)
    row = next(line for line in text.splitlines() if line.startswith("rnn_small  "))
    assert row.split()[:3] == ["rnn_small", "321", "1/2"] and "learning rate 0.01\n" in text
    steps = summary["results"][0]["steps"]
    assert f"not in {steps:,} updates at this learning rate and initialisation." in text
    assert "cannot" not in text


def test_the_report_says_each_thing_once(finished):
    _, summary = finished
    summary = json.loads(json.dumps(summary))
    for row in summary["results"]:
        row["steps_to_solve"] = [None, None]
    text = prose.report(summary)
    for words in ("ot solved", "0.01\n", "baseline", "0.1667", "2 seeds", "rate 0.01"):
        assert text.count(words) == (2 if words == "baseline" else 1), words  # and in the head
    assert "median" not in text and "ahead" not in text  # of nothing


def test_a_report_of_several_learning_rates_has_them_in_a_column(finished):
    _, summary = finished
    first, *others = json.loads(json.dumps(summary["results"]))
    text = prose.report(summary | {"results": [first | {"learning_rate": 0.5}, first, *others]})
    rows = [line.split()[:2] for line in text.splitlines() if line.startswith("rnn_small  ")]
    assert rows == [["rnn_small", "0.5"], ["rnn_small", "0.01"]]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_update_and_checkpoint(tmp_path):
    config = dataclasses.replace(
        TINY, cells=("gru", "rnn_orth"), learning_rates=(1e-3, 1e30), steps=500
    )
    summary = ran(config, tmp_path / "run")
    assert summary["status"] == "failed" and summary["results"] == []
    assert summary["failure"].startswith(
        "the loss of gru with seed 0 at learning rate 1e+30 became NaN or infinite at update 2; "
    )
    assert summary["failure"].endswith(
        f"the last good checkpoint is {tmp_path / 'run' / 'checkpoints' / 'gru' / '0'}"
    )
    assert (tmp_path / "run" / "checkpoints" / "gru" / "0").is_dir()


def test_parameters_that_are_not_finite_are_lost_before_the_next_loss_shows_it():
    job, rows = (
        train.make_job(TINY, "gru"),
        train.rows(TINY)._replace(rates=np.array([1e-3, np.inf], np.float32)),
    )
    state = train.start(job, rows)
    state, losses, lost, *_ = train.advance(job, state, rows, np.full(2, True), 0)
    assert lost[0] == 0 and 0 < lost[1] <= 50 and np.isfinite(losses[0]) and np.isnan(losses[1])
    poisoned = state._replace(
        params=state.params._replace(b_y=np.full_like(state.params.b_y, np.nan))
    )
    assert train.advance(job, poisoned, rows, np.full(2, True), 50).lost.tolist() == [51, 51]


def test_where_it_may_go_on_a_seed_whose_loss_is_not_finite_is_lost_and_this_is_said_plainly(
    tmp_path,
):
    config = dataclasses.replace(TINY, learning_rates=(1e30,), steps=500, not_finite="go_on")
    summary = ran(config, tmp_path / "run")
    (row,) = summary["results"]
    assert (
        row["steps"] == 50 and row["not_finite_at"] == [2, 2] and row["final_loss"] == [None, None]
    )
    assert "the loss of 2 of 2 seeds was NaN or infinite after 2 updates" in prose.report(summary)
    assert folder.read_metrics(tmp_path / "run")[0]["loss"] is None


def test_a_learning_rate_that_has_solved_the_task_waits_for_the_others_and_stays_as_it_was(
    tmp_path,
):
    config = dataclasses.replace(TINY, learning_rates=(2e-2, 1e-9), steps=600)
    both = ran(config, tmp_path / "both")
    fast, slow = both["results"]
    assert (
        both["status"] == "done"
        and None not in fast["steps_to_solve"]
        and fast["steps"] < slow["steps"] == 600
    )
    one = dataclasses.replace(config, learning_rates=(2e-2,))
    (alone,) = ran(one, tmp_path / "alone")["results"]
    assert alone["steps"] == fast["steps"]
    # vmapped products round differently
    np.testing.assert_allclose(alone["final_loss"], fast["final_loss"], rtol=1e-3)
    assert fast["not_finite_at"] == slow["not_finite_at"] == [None, None]


def test_patience_ends_a_cell_that_gets_no_better(tmp_path):
    config = dataclasses.replace(TINY, learning_rates=(1e-30,), steps=5000, patience=150)
    (row,) = ran(config, tmp_path / "run")["results"]
    # nothing changes, so that the first check is the lowest
    assert row["updates"] == [200, 200] and row["steps"] == 200 and row["finished"]


def test_ctrl_c_leaves_a_readable_summary(tmp_path):
    def interrupt(label, step, steps, text, done):
        if step == 100:
            raise KeyboardInterrupt

    summary = ran(dataclasses.replace(TINY, steps=500), tmp_path / "run", interrupt)
    assert (
        summary["status"] == "interrupted"
        and json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    )
    assert summary["results"][0]["steps"] == 100 and not summary["results"][0]["finished"]
    assert len(folder.read_metrics(tmp_path / "run")) == 4
    assert "Interrupted" in prose.report(summary)


def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "metrics.jsonl"))

    monkeypatch.setattr(folder, "append", full)
    arguments = (
        "run adding --cells gru --steps 50 --lag 10 --hidden_size 8 --batch_size 16 --seeds 2 --out"
    )
    assert cli.main([*arguments.split(), str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/metrics.jsonl: No space left on device\n"


def test_a_file_in_the_way_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["run", "adding", "--out", str(tmp_path / "file" / "run")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/file/run: Not a directory\n"


def test_a_named_folder_that_holds_a_run_is_refused_and_nothing_in_it_changes(finished, capsys):
    path, _ = finished
    before = (path / "metrics.jsonl").read_bytes()
    assert cli.main(["run", "adding", "--out", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {path} already holds a run; name another folder, or go on with it by --resume.\n"
    )
    assert (path / "metrics.jsonl").read_bytes() == before


def test_runs_without_a_name_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        with folder.opened("adding", TINY) as path:
            names.append(str(path))
    assert names == ["runs/adding", "runs/adding-2", "runs/adding-3"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    folder.write(tmp_path / "a.json", "old")

    def fail(path):
        path.write_text("half")
        raise OSError

    with pytest.raises(OSError):
        folder.write(tmp_path / "a.json", fail)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.json", "old")]


def test_the_median_counts_a_missing_loss_as_the_largest():
    assert prose.median([None, 1.0, 2.0]) == 2.0
    assert prose.median([None, None, 2.0]) is None
    assert folder.finite(math.nan) is None and folder.finite(0.1234567) == 0.123457


def test_what_is_compiled_does_not_depend_on_the_initialisation():
    jobs = [
        train.make_job(Config(lag=50), name)
        for name in ("rnn_orth", "rnn_glorot", "rnn_small", "irnn")
    ]
    assert jobs[0].compiled() == jobs[1].compiled() == jobs[2].compiled() != jobs[3].compiled()
    pairs = ("lstm", "lstm_fb0", "lstm_chrono"), ("gru", "gru_chrono")
    for names in pairs:
        assert len({train.make_job(Config(lag=50), name).compiled() for name in names}) == 1
    orth, small = (train.start(job, train.rows(TINY)).params.cell.w_h for job in (jobs[0], jobs[2]))
    assert float(jnp.std(orth)) > 1.5 * float(jnp.std(small))


@dataclasses.dataclass(frozen=True)
class BiasInStep(jaxrnn.RNNCell):
    """A cell whose options are named as those of initialisation, and act in `step`."""

    gate_bias: float = 0.0
    scale_init: float = dataclasses.field(kw_only=True)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        carry, _ = super().step(params, carry, u, dot)
        h = jax.nn.sigmoid(self.gate_bias * self.scale_init + carry.h)
        return carry._replace(h=h), h


def test_an_option_that_acts_in_the_step_is_kept_whatever_its_name():
    def first(cell):
        job = train.make_job(TINY, "gru")
        job = dataclasses.replace(job, model=dataclasses.replace(job.model, cell=cell))
        rows = train.rows(TINY)
        return train.advance(job, train.start(job, rows), rows, np.full(2, True), 0).losses

    zero, four, twice = (
        first(BiasInStep(8, gate_bias=bias, scale_init=scale))
        for bias, scale in ((0.0, 1.0), (4.0, 1.0), (4.0, 2.0))
    )
    assert not np.allclose(zero, four) and not np.allclose(four, twice)


def test_a_budget_of_steps_trains_every_seed_for_as_long(tmp_path):
    config = dataclasses.replace(TINY, learning_rates=(2e-2,), steps=600, until="steps")
    (row,) = ran(config, tmp_path / "run")["results"]
    assert row["updates"] == [600, 600] and max(row["steps_to_solve"]) < 500


def test_how_long_a_seed_trains_does_not_depend_on_the_others(tmp_path):
    config = dataclasses.replace(TINY, learning_rates=(1e-2,), steps=800, seeds=3)
    (row,) = ran(config, tmp_path / "all")["results"]
    assert len(set(row["updates"])) > 1
    for seed in range(3):
        alone = dataclasses.replace(config, seed=seed, seeds=1)
        (one,) = ran(alone, tmp_path / str(seed))["results"]
        assert one["updates"] == row["updates"][seed : seed + 1]


def test_metrics_hold_the_checks_and_the_norm_of_the_gradient_before_clipping(tmp_path):
    config = dataclasses.replace(TINY, clip=1e-6, steps=50)
    summary = ran(config, tmp_path / "run")
    row, _ = folder.read_metrics(tmp_path / "run")
    assert row["gradient_norm"] > 1e-3  # it was clipped to a millionth
    assert row["held_out_loss"] == summary["results"][0]["best_loss"][0]
    assert 0 <= row["held_out_metric"] <= 1
    assert summary["env"]["jaxrnn"]


def test_the_best_learning_rate_at_an_edge_of_the_grid_widens_it(tmp_path):
    config = dataclasses.replace(
        TINY, learning_rates=(1e-4, 1e-3), steps=500, seeds=1, widen_rates=2
    )
    summary = ran(config, tmp_path / "run")
    rates = [row["learning_rate"] for row in summary["results"]]
    assert rates == [1e-4, 1e-3, 1e-2, 1e-1][: len(rates)] and len(rates) > 2
    words = prose.report(summary)
    best = min(summary["results"], key=merit)["learning_rate"]
    assert ("the largest that was tried" in words) == (best == rates[-1])


def test_learning_rates_are_chosen_on_other_seeds_than_those_reported(tmp_path):
    config = dataclasses.replace(
        TINY, learning_rates=(1e-5, 1e-2), steps=300, seeds=2, select_seeds=1
    )
    summary = ran(config, tmp_path / "run")
    (row,) = summary["results"]
    assert row["learning_rate"] == 1e-2 and len(row["steps_to_solve"]) == 2
    assert [other["learning_rate"] for other in summary["selection"]] == [1e-5, 1e-2]
    lines = folder.read_metrics(tmp_path / "run")
    assert {line["seed"] for line in lines if line.get("selection")} == {2}
    assert {line["seed"] for line in lines if not line.get("selection")} == {0, 1}
    alone = dataclasses.replace(config, learning_rates=(1e-2,), select_seeds=0)
    (plain,) = ran(alone, tmp_path / "alone")["results"]
    assert plain["steps_to_solve"] == row["steps_to_solve"]
    # a run that is done goes on to the same end
    figure = figures.learning_figure(tmp_path / "run")
    assert "each at its best learning rate" in figure.axes[0].get_title()


def test_a_rate_beyond_the_grid_that_diverges_ends_nothing(tmp_path):
    config = dataclasses.replace(
        TINY, learning_rates=(1e-26, 2e-2), steps=600, seeds=1, widen_rates=1
    )
    summary = ran(config, tmp_path / "run")
    assert summary["status"] == "done"
    *_, wider = summary["results"]
    assert wider["learning_rate"] > 1e20 and wider["not_finite_at"] != [None]


@pytest.mark.parametrize("task", ["adding", "flip_flop_language", "dyck"])
def test_an_evaluation_in_parts_is_that_of_the_whole(task, monkeypatch):
    job = train.make_job(Config(task=task, cells=("gru",), hidden_size=4), "gru")
    keys = jax.random.split(jax.random.key(0), 2)
    params = jax.vmap(lambda key: job.model.init(key, job.task.input_size))(keys)
    batch = evaluation_batch(job.task)
    evaluate = train._evaluate.__wrapped__
    whole = evaluate(job, params, batch)
    monkeypatch.setattr(train, "AT_ONCE", 300 * batch.inputs.shape[0])  # four parts of 256
    for a, b in zip(evaluate(job, params, batch), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
