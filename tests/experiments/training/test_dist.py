"""Two processes as one run, over the loopback device:
the same bits as one process with two devices.
"""

import json
import signal
import socket

import jax
import pytest
from commands import command, finish, numbers, wait_for

from experiments.config import Config
from experiments.training import checkpoint, train

CONFIG = Config(
    lag=10, cells=("gru",), hidden_size=4, batch_size=32, steps=300, seeds=1, learning_rates=(1e-3,)
)
RUN = (
    "run adding --lag 10 --cells gru --hidden_size 4 --batch_size 32 --steps 300 --seeds 1 "
    "--learning_rates 1e-3"
)


def alone(folder, path, run=RUN):
    """One process with two devices."""
    return command(f"{run} --out {path} --resume", folder, env={"JAX_NUM_CPU_DEVICES": "2"})


def pair(folder, path, run=RUN):
    """Two processes with one device each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launch = (
        f"{run} --out {path} --resume --dist explicit --coordinator localhost:{port} "
        "--num_processes 2 --process_id"
    )
    return [command(f"{launch} {k}", folder, env={"JAX_NUM_CPU_DEVICES": "1"}) for k in range(2)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of one process, never cut."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(alone(folder, "run"))[0] == 0
    return folder / "run"


def assert_same(path, whole):
    """Every number and every bit of the last checkpoint."""
    assert numbers(path) == numbers(whole)
    like = train.like(train.make_job(CONFIG, "gru"), train.rows(CONFIG))
    states = []
    for run in (path, whole):
        with checkpoint.checkpoints(run / "checkpoints" / "gru") as manager:
            saved, _ = checkpoint.restore(manager, like)
        states.append([leaf.tobytes() for leaf in jax.tree.leaves(saved.state)])
    assert states[0] == states[1]


@pytest.mark.slow("it starts two processes that train together")
def test_two_processes_compute_the_bits_of_one_with_two_devices(tmp_path, whole):
    (code_0, out_0, _), (code_1, out_1, _) = map(finish, pair(tmp_path, "run"))
    assert (code_0, code_1) == (0, 0)
    assert "300/300" in out_0 and "written: run" in out_0 and "writing" not in out_1
    env = json.loads((tmp_path / "run" / "env.json").read_text())
    assert (env["processes"], env["devices"]) == (2, 2)
    assert_same(tmp_path / "run", whole)


@pytest.mark.slow("it starts two processes that train together")
def test_what_one_process_is_told_both_do_and_save_the_same_step(tmp_path):
    processes = pair(tmp_path, "run", RUN.replace("--steps 300", "--steps 100000"))
    wait_for(processes[0], "250/")
    processes[1].send_signal(signal.SIGTERM)
    assert [finish(process)[0] for process in processes] == [75, 75]
    step = json.loads((tmp_path / "run" / "summary.json").read_text())["results"][0]["steps"]
    assert (tmp_path / "run" / "checkpoints" / "gru" / str(step)).is_dir()


@pytest.mark.slow("it starts two processes that train together")
def test_a_run_of_two_processes_goes_on_in_one_and_the_other_way_round(tmp_path, whole):
    for first, second in ((pair, alone), (alone, pair)):
        path = tmp_path / first.__name__
        for start in (first, second):
            processes = start(tmp_path, path)
            processes = processes if isinstance(processes, list) else [processes]
            if start is first:
                wait_for(processes[0], "compiling")
                processes[-1].send_signal(signal.SIGTERM)
            codes = [finish(process)[0] for process in processes]
            assert codes == ([75] if start is first else [0]) * len(processes)
        assert_same(path, whole)


@pytest.mark.slow("it starts two processes that train together")
def test_a_sweep_of_two_processes_gives_the_numbers_of_one_with_two_devices(tmp_path):
    words = RUN.replace("run adding --lag 10", "sweep adding --grid.lag 10,12").replace(
        "--steps 300", "--steps 100"
    )
    assert finish(alone(tmp_path, "one", words))[0] == 0
    (code_0, out_0, err_0), (code_1, _, err_1) = map(finish, pair(tmp_path, "two", words))
    assert (code_0, code_1) == (0, 0), (err_0, err_1)
    assert "2 runs: 2 done; written: two" in out_0
    for lag in (10, 12):
        (one,), (two,) = (list((tmp_path / sweep).glob(f"lag={lag}-*")) for sweep in ("one", "two"))
        assert one.name == two.name and numbers(one) == numbers(two)
        assert json.loads((two / "env.json").read_text())["processes"] == 2


@pytest.mark.slow("it starts two processes that train together")
def test_what_is_wrong_ends_both_processes_and_is_said_once(tmp_path):
    wrong = pair(tmp_path, "run", RUN.replace("--batch_size 32", "--batch_size 33"))
    results = [finish(process) for process in wrong]
    assert [code for code, _, _ in results] == [2, 2]
    assert all(
        "batch_size must be a multiple of the 2 devices of all processes, got 33" in err
        for _, _, err in results
    )
    other = pair(tmp_path, "run", RUN)  # the folder holds the run with 33
    (code_0, _, err_0), (code_1, _, err_1) = map(finish, other)
    assert (code_0, code_1) == (2, 1)
    assert (
        "holds another run: batch_size is 33 there and 32 here" in err_0
        and "process 0 could not begin" in err_1
    )


def test_processes_that_do_not_come_together_are_one_line(tmp_path):
    launch = "--dist explicit --coordinator localhost:1 --num_processes 2 --process_id 5"
    code, _, err = finish(command(f"{RUN} --out run {launch}", tmp_path))
    assert code == 1 and "the processes did not come together" in err and "Traceback" not in err
