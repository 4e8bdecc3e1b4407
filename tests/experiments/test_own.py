"""Cells, tasks and loggers of one's own: the page does what it says, and what is missing is
said.
"""

import contextlib
import csv
import dataclasses
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from places import DOCS

import jaxrnn
from experiments import cli, own, own_checks
from experiments.bench.every_cell import kinds
from experiments.bench.shapes import parse
from experiments.cells import CELLS
from experiments.config import Config, RunError, UsageError
from experiments.tasks import TASKS, Batch, Levels, Task
from experiments.tasks.scores import CrossEntropy, Sets, SquaredError
from experiments.training import progress, train
from experiments.training.folder import IMPORTED, read_json, read_metrics

pytestmark = pytest.mark.usefixtures("standard_promotion", "own_names")
PAGE = (DOCS / "your_own_experiments.md").read_text()


def block(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)[0]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A folder with the files of the page, where the commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_file.py").write_text(block("python"))
    (tmp_path / "my_run.yaml").write_text(block("yaml"))
    return tmp_path


def words(start):
    (line,) = [line for line in block("bash").splitlines() if start in line]
    return line.removeprefix("python -m experiments ").split()


@pytest.mark.slow("it trains nine networks")
def test_the_commands_of_the_page_do_what_it_says(page, capsys):
    for start in ("list", "run my_run", "sweep", "report"):
        assert cli.main(words(start)) == 0, start
    out = capsys.readouterr().out
    assert "whether most of lag bits are ones" in out
    assert re.search(r"fading +66 +2/2", out)
    lines = (page / "runs" / "votes.csv").read_text().splitlines()
    rows = list(csv.DictReader(lines))
    assert len(rows) == 3 * 3 * 2  # runs, cells, seeds
    assert {row["cell"] for row in rows} == {"fading", "gru", "lstm_dropout"}
    summary = read_json(page / "runs" / "votes" / "summary.json")
    (fading,) = [row for row in summary["results"] if row["cell"] == "fading"]
    mine = [r for r in rows if r["folder"] == "runs/votes" and r["cell"] == "fading"]
    assert [float(row["final_loss"]) for row in mine] == fading["final_loss"]
    assert [int(row["steps_to_solve"]) for row in mine] == fading["steps_to_solve"]
    assert "fading" in (page / "runs" / "votes.html").read_text()


def test_a_file_of_ones_own_is_known_to_every_command(page, capsys):
    assert cli.main(["--import", "my_file.py", "run", "my_run.yaml", "--help"]) == 0
    assert "who counts votes" in capsys.readouterr().out
    assert cli.main(words("list")) == 0
    assert "majority" in capsys.readouterr().out
    # the bench takes one cell of each class
    assert "fading" in kinds(parse("2x20x4x8"))
    # a second time it is not run again
    assert cli.main(words("list")) == 0
    small = "--cells fading --steps 50 --seeds 1 --out votes --import=my_file.py"
    assert cli.main(["run", "my_run.yaml", *small.split()]) == 0
    assert (page / "votes" / "summary.json").exists()


def test_a_run_that_goes_on_with_another_text_says_so(page, capsys, own_names):
    run = "run my_run.yaml --import my_file.py --cells fading --steps 50 --seeds 1 --out votes"
    assert cli.main(run.split()) == 0
    assert cli.main([*run.split(), "--resume"]) == 0
    assert "warning" not in capsys.readouterr().err
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
    for known in (CELLS, TASKS):
        for name in ("fading", "leaky_slow", "majority"):
            known.pop(name, None)
    (page / "my_file.py").write_text(block("python") + "\n# another\n")
    assert cli.main([*run.split(), "--resume"]) == 0
    assert "goes on with another my_file.py than it began with" in capsys.readouterr().err


def test_of_a_file_that_fails_nothing_stays_and_names_that_look_alike_are_two_files(page, capsys):
    text = block("python")
    (page / "my_file.py").write_text(text + "\n1 / 0\n")
    assert cli.main(words("list")) == cli.USAGE
    assert "ZeroDivisionError" in capsys.readouterr().err
    (page / "my_file.py").write_text(text)
    assert cli.main(words("list")) == 0
    for name in ("a-b", "a_b"):
        made = (
            f"from experiments.own import register_cell\nregister_cell('{name[0]}{len(name)}', int)"
        )
        (page / f"{name}.py").write_text(made.replace("a3", "first" if "-" in name else "second"))
    assert cli.main(["list", "cells", "int", "--import", "a-b.py", "--import=a_b.py"]) == 0
    out = capsys.readouterr().out
    assert "first" in out and "second" in out


def test_a_logger_that_fails_does_not_end_the_run(tmp_path, capsys):
    heard = []

    @contextlib.contextmanager
    def logger(folder, config):
        def record(rows):
            heard.append(rows)
            raise ConnectionError("no network")

        yield record

    own.register_logger(logger)
    small = "run adding --lag 10 --cells gru --steps 100 --seeds 1 --hidden_size 4 --out"
    assert cli.main([*small.split(), str(tmp_path / "run")]) == 0
    said = "logger logger failed and gets no more: ConnectionError: no network"
    assert said in capsys.readouterr().err
    assert len(heard) == 1


@contextlib.contextmanager
def never_begun(folder, config):
    raise ConnectionError("no network")
    yield


@contextlib.contextmanager
def ends_badly(folder, config):
    yield lambda rows: None
    raise OSError("upload")


@contextlib.contextmanager
def gives_nothing(folder, config):
    yield


def no_manager(folder, config):
    return lambda rows: None


def too_few(folder):
    return folder


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (never_begun, "ConnectionError: no network"),
        (ends_badly, "OSError: upload"),
        (gives_nothing, "TypeError: what it gives must be a function of rows, got NoneType"),
        (no_manager, "TypeError: "),
        (too_few, "TypeError: too_few() takes 1 positional argument but 2 were given"),
    ],
)
def test_a_logger_may_fail_at_any_time(begin, message, tmp_path, capsys):
    heard = []

    @contextlib.contextmanager
    def other(folder, config):
        yield heard.extend
        heard.append("end")

    own.register_logger(begin)
    own.register_logger(other)
    small = "run adding --lag 10 --cells gru --steps 100 --seeds 1 --hidden_size 4 --out"
    assert cli.main([*small.split(), str(tmp_path / "run")]) == 0
    err = capsys.readouterr().err
    assert f"warning: logger {begin.__name__} failed and gets no more: {message}" in err
    assert len(heard) > 1 and heard[-1] == "end"


def test_a_run_that_fails_is_told_to_its_loggers_and_stays_what_it_is(capsys):
    told = []

    @contextlib.contextmanager
    def logger():
        try:
            yield told.append
        except KeyError as error:
            told.append(error)
            raise

    failure = KeyError("of the run")
    with pytest.raises(KeyError) as raised, progress.apart("mine", logger):
        raise failure
    assert raised.value is failure and told == [failure]


def test_what_is_no_logger_is_refused():
    with pytest.raises(TypeError, match="a logger must be a function, got str"):
        own.register_logger("wandb")


def test_without_the_file_the_message_names_the_option(page, capsys):
    assert cli.main(["run", "my_run.yaml"]) == cli.USAGE
    assert "unknown task 'majority'" in (err := capsys.readouterr().err)
    assert "--import FILE" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 +", "SyntaxError"),
        ("x = 1\nnothing", "my_file.py, line 2: NameError: name 'nothing' is not defined"),
        (
            "from experiments.own import register_cell\nregister_cell('lstm', print)",
            "line 2: ValueError: there is a cell 'lstm' already.",
        ),
        (
            "from experiments.own import register_cell\nregister_cell('My cell', print)",
            "a cell's name must be of a-z, 0-9 and _, got 'My cell'.",
        ),
        (
            "from experiments.own import register_cell\nregister_cell('mine', 3)",
            "TypeError: cell 'mine': make must be a function, got int.",
        ),
        (
            "from experiments.own import register_cell\nimport jaxrnn\n"
            "register_cell('mine', jaxrnn.GRUCell(4))",
            "make is a cell of one size; give its class",
        ),
        (
            "from experiments.own import register_task\nregister_task('mine', int)",
            "TypeError: task 'mine' must be a subclass of experiments.tasks.Task.",
        ),
        (
            "from experiments.own import register_task\nfrom experiments.tasks import Task\n"
            "register_task('mine', Task)",
            "task 'mine' needs a description, one line, as a class variable.",
        ),
    ],
)
def test_a_file_that_does_not_run_is_named_with_the_line(text, message, page, capsys):
    (page / "my_file.py").write_text(text)
    assert cli.main(words("list")) == cli.USAGE
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("error: my_file.py")
    assert not [name for name in sys.modules if name.startswith("own_")]


@pytest.mark.parametrize("path", ["nowhere.py", ""])
def test_a_file_that_is_not_there_is_refused(path, capsys):
    assert cli.main(["list", "--import", path]) == cli.USAGE
    assert "--import needs a file of Python" in capsys.readouterr().err


class Votes(Task):
    description = "whether most bits are ones"
    score = CrossEntropy(2)
    levels = Levels(float(np.log(2)), 0.1)

    def sample(self, key, batch_size):
        votes = jax.random.rademacher(key, (self.lag, batch_size, 1), float)
        return Batch(votes, (votes.sum(axis=(0, 2)) > 0).astype(int))


def task(**changes):
    """A task that has something else than `Votes`."""
    own.register_task("votes", type("Mine", (Votes,), {"__dataclass_fields__": LAG, **changes}))
    return Config(task="votes", lag=21, cells=("gru",))


LAG = {"lag": Config.__dataclass_fields__["lag"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": Task.score}, "needs the property score"),
        ({"levels": Task.levels}, "needs the property levels"),
        ({"sample": Task.sample}, "needs sample(key, batch_size)"),
        ({"sample": lambda self, key, n: jnp.ones((n, 3))}, "must give a Batch"),
        (
            {"sample": lambda self, key, n: Batch(jnp.ones((n, self.lag, 1)), jnp.ones(n, int))},
            "must give a Batch whose inputs are [T, 4, features]",
        ),
        (
            {"sample": lambda self, key, n: Batch(jnp.ones((self.lag, n, 1)), jnp.ones(1, int))},
            "targets are (1,), expected (4,)",
        ),
        (
            {"sample": lambda self, key, n: Batch(jnp.ones((self.lag, n, 1), int), jnp.ones(n))},
            "inputs are int32, expected floats; what is one of several goes in one-hot",
        ),
        (
            {"sample": lambda self, key, n: Batch(jnp.ones((self.lag, n, 1)), jnp.ones(n))},
            "targets are float32, expected integers",
        ),
        (
            {"score": SquaredError(1)},
            "targets are [4], expected [4, 1] by SquaredError of 1 outputs",
        ),
        ({"score": Sets(3)}, "targets are [4], expected [4, 3] by Sets of 3 outputs"),
        (
            {"sample": lambda self, key, n: Batch(jnp.ones((self.lag, n, 1)), jnp.full(n, 7))},
            "classes from 0 to output_size - 1",
        ),
        ({"sample": lambda self, key, n: jnp.ones(3).typo}, "test_own.py, line "),
        ({"score": lambda self: CrossEntropy(2)}, "score must be a property"),
        ({"levels": lambda self: Levels(1.0, 0.1)}, "levels must be a property"),
        ({"constant": property(lambda self: typo)}, "constant failed: test_own.py, line "),  # noqa: F821
        ({"constant": jnp.zeros(3)}, "constant is [3], expected [..., 2]"),
        ({"constant": jnp.array([5.0, 0.0])}, "its `constant` scores 2.5"),
        ({"constant": jnp.zeros((21, 2))}, "the loss of `constant`, [outputs], or [T, 1, outputs]"),
        ({"levels": Levels(0.5, 0.1)}, "levels.baseline says 0.5"),
    ],
)
def test_what_a_task_lacks_is_said_before_it_is_trained(changes, message):
    with pytest.raises(RunError, match=re.escape(message)):
        own_checks.check(task(**changes))


def test_a_whole_task_and_a_whole_cell_are_taken():
    config = task()
    own.register_cell("late", lambda hidden_size, lag: jaxrnn.GRUCell(hidden_size + lag), "told")
    own_checks.check(Config(task="votes", lag=21, cells=("late",), hidden_size=8))
    assert CELLS["late"].make(8, 21) == jaxrnn.GRUCell(29) and config.task in TASKS


class Places(Votes):
    """Which of the steps has the largest number: as many classes as steps."""

    __dataclass_fields__ = LAG
    score = property(lambda self: CrossEntropy(self.lag))
    levels = property(lambda self: Levels(float(np.log(self.lag)), 0.1))

    def sample(self, key, batch_size):
        xs = jax.random.normal(key, (self.lag, batch_size, 1))
        return Batch(xs, jnp.argmax(xs[..., 0], axis=0))

    def at_lag(self, lag):
        return type(self)(lag)


def test_a_task_whose_sizes_follow_from_the_lag_is_not_tested_at_others():
    own.register_task("places", dataclasses.dataclass(frozen=True)(type("P", (Places,), {})))
    own_checks.check(Config(task="places", lag=8, cells=("gru",)))
    with pytest.raises(RunError, match=r"\(1, 8\) at lag 8 and of \(1, 12\) at lag 12"):
        own_checks.check(Config(task="places", lag=8, cells=("gru",), test_lags=(12,)))


def test_files_that_lie_beside_the_file_and_of_one_name_are_each_taken(page, capsys):
    for name in ("a", "b"):
        (page / name).mkdir()
        (page / name / f"beside_{name}.py").write_text(f"NAME = 'own_{name}'")
        (page / name / "own.py").write_text(
            f"from beside_{name} import NAME\nfrom experiments.own import register_cell\n"
            "import jaxrnn\nregister_cell(NAME, jaxrnn.GRUCell)"
        )
    imports = "--import a/own.py --import b/own.py"
    small = f"run adding --lag 10 --cells own_a,own_b --steps 50 --seeds 1 {imports} --out both"
    assert cli.main(small.split()) == 0
    env = read_json(page / "both" / "env.json")
    assert set(env["imported"]) == {"own.py", "b/own.py"}


def test_a_run_that_goes_on_without_its_file_says_so(page, capsys):
    run = "run adding --lag 10 --cells gru --steps 50 --seeds 1 --out votes".split()
    assert cli.main([*run, "--import", "my_file.py"]) == 0
    IMPORTED.clear()
    assert cli.main([*run, "--resume"]) == 0
    assert "goes on without my_file.py, which it began with" in capsys.readouterr().err


def test_an_unknown_key_of_a_file_is_answered_with_that_file(page, capsys):
    assert cli.main("run my_run.yaml --import my_file.py --low 0.5".split()) == cli.USAGE
    assert "experiments run my_run.yaml --help` shows all" in capsys.readouterr().err


@pytest.mark.slow("it trains and writes four files")
def test_a_cell_of_ones_own_is_shipped_every_way(page, capsys):
    small = "run my_run.yaml --import my_file.py --cells fading --steps 50 --seeds 1 --out votes"
    assert cli.main(small.split()) == 0
    for to in ("safetensors", "stablehlo", "c"):
        assert cli.main(["export", "votes", "--import", "my_file.py", "--to", to]) == 0, to
    assert "classes=" in (page / "votes" / "export" / "fading" / "README.md").read_text()


def broken(hidden_size):
    raise KeyError("typo")


def test_a_maker_that_fails_is_named():
    own.register_cell("mine", broken)
    with pytest.raises(UsageError, match=r"cell 'mine': make\(32\) failed: KeyError: 'typo'"):
        Config(cells=("mine",))


def test_a_task_that_is_no_dataclass_is_told_what_it_lacks():
    plain = type("Plain", (Votes,), {})
    with pytest.raises(ValueError, match=r"must be made by @dataclasses.dataclass\(frozen=True\)"):
        own.register_task("votes", plain)


class Nothing(jaxrnn.GRUCell):
    def step(self, params, carry, u, dot=jaxrnn.dot):
        return carry, None


class Wrong(jaxrnn.GRUCell):
    def step(self, params, carry, u, dot=jaxrnn.dot):
        return carry, u + jnp.ones(7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Nothing, "y must be one array [*batch, H]"),
        (Wrong, "cell 'mine' does not run: test_own.py, line "),
    ],
)
def test_what_a_cell_lacks_is_said_before_it_is_trained(make, message):
    own.register_cell("mine", make)
    with pytest.raises(RunError, match=re.escape(message)):
        own_checks.check(Config(cells=("mine",), lag=10))


def test_what_is_no_cell_is_refused():
    own.register_cell("mine", lambda hidden_size: 3)
    with pytest.raises(UsageError, match="make gave int, which is no jaxrnn"):
        Config(cells=("mine",))


def test_every_logger_gets_the_rows_of_each_run_in_its_folder(tmp_path):
    heard = []

    @contextlib.contextmanager
    def logger(folder, config):
        heard.append((folder, config["task"]))
        yield heard.extend
        heard.append("end")

    own.register_logger(logger)
    out = tmp_path / "run"
    small = f"run adding --lag 10 --cells gru --steps 100 --seeds 2 --hidden_size 4 --out {out}"
    assert cli.main(small.split()) == 0
    assert heard[0] == (out, "adding") and heard[-1] == "end"
    assert heard[1:-1] == read_metrics(out)
    # of a run that is done nothing is heard again
    heard.clear()
    assert cli.main([*small.split(), "--resume"]) == 0 and heard == []


def test_the_loggers_of_the_page_hand_on_every_loss(monkeypatch, tmp_path):
    """To modules that stand for W&B and MLflow, of which only what the page calls is there."""
    heard = {"wandb": [], "mlflow": []}

    @contextlib.contextmanager
    def begun(**options):
        heard["wandb"].append(options["name"])
        yield types.SimpleNamespace(log=heard["wandb"].append)

    @contextlib.contextmanager
    def started(run_name):
        heard["mlflow"].append(run_name)
        yield

    mlflow = types.SimpleNamespace(
        start_run=started,
        log_params=heard["mlflow"].append,
        log_metric=lambda name, value, step: heard["mlflow"].append((name, value, step)),
    )
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=begun))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    namespace = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[1], namespace)
    rows = [
        {"cell": "gru", "learning_rate": 0.01, "seed": 3, "loss": loss, "step": 50}
        for loss in (0.5, None)
    ]
    for name in ("to_wandb", "to_mlflow"):
        with namespace[name](tmp_path / "run", {"lag": 3}) as record:
            record(rows)
    assert heard["wandb"] == [
        "run",
        {"gru/0.01/3": 0.5, "update": 50},
        {"gru/0.01/3": None, "update": 50},
    ]
    assert heard["mlflow"][:3] == ["run", {"lag": 3}, ("gru/0.01/3", 0.5, 50)]
    assert np.isnan(heard["mlflow"][3][1])


def loss_of(cell):
    """The losses of 50 updates."""
    config = Config(lag=10, cells=(cell,), hidden_size=8, batch_size=32, seeds=1)
    job = train.make_job(config, cell)
    rows = train.rows(config)
    return train.advance(job, train.start(job, rows), rows, np.array([True]), 0)


def test_noise_is_drawn_apart_from_parameters_and_data():
    """No key of it is one that the parameters, the readout or the batches are drawn from."""
    seed = jax.random.key(0)
    start, data = jax.random.split(seed)
    others = [seed, start, data, *jax.random.split(start)]
    noise = jax.random.key_data(jax.random.fold_in(seed, train.NOISE))
    assert all((jax.random.key_data(key) != noise).any() for key in others)


def test_the_noise_of_a_cell_is_drawn_in_training_and_not_where_it_is_judged():
    job = train.make_job(Config(lag=10, cells=("lstm_dropout",), hidden_size=8), "lstm_dropout")
    params = job.model.init(jax.random.key(0), job.task.input_size)
    batch = job.task.sample(jax.random.key(1), 16)
    calm = job.model(params, batch)
    np.testing.assert_array_equal(calm, job.model(params, batch))
    first, again, other = (job.model(params, batch, jax.random.key(k)) for k in (2, 2, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, calm) and not np.allclose(first, other)
    # the same draws whenever a run is gone on with, and others in other updates
    assert loss_of("lstm_dropout").losses == loss_of("lstm_dropout").losses
    assert loss_of("lstm_dropout").losses != loss_of("lstm").losses
