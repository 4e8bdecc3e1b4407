"""`bench --every_cell`: each kind of cell once, both methods of running it, in both modes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from experiments import arguments, cli
from experiments.bench import every_cell
from experiments.bench.config import BenchConfig
from experiments.bench.every_cell import BOTH, FORWARD, ITSELF
from experiments.bench.shapes import parse
from experiments.bench.strangers import BlockGRUCell, in_blocks, strangers
from experiments.cells import CELLS
from jaxrnn.testing import check_cell


def test_every_kind_of_cell_is_measured_once():
    kinds = every_cell.kinds(parse("2x8x4x8"))

    def kind(cell):
        return type(cell), type(getattr(cell, "cell", None))

    every = {kind(named.make(8, 8)) for named in CELLS.values()}
    assert {kind(cell) for cell in kinds.values()} == every and len(kinds) == len(every) == 47
    assert {"mh_rnn", "mh_lstm", "mh_gru"} <= set(kinds)
    assert not set(kinds) & set(strangers(8))


@pytest.mark.slow("the bench is no part of the package")
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", strangers(8))
def test_the_cells_of_strangers_keep_the_contract(name):
    check_cell(strangers(8)[name])


@pytest.mark.usefixtures("quick_compilation")
def test_a_block_of_the_gru_sees_its_own_block_of_the_state_alone():
    rng = np.random.default_rng(0)
    h = rng.normal(size=(2, 6)).astype(np.float32)
    w = rng.normal(size=(3, 2, 3, 2)).astype(np.float32)
    whole = np.zeros((6, 3, 6), np.float32)
    for block in range(3):
        units = slice(2 * block, 2 * block + 2)
        whole[units, :, units] = w[block]
    np.testing.assert_allclose(in_blocks(h, w), np.tensordot(h, whole, 1), atol=1e-5)


@pytest.mark.usefixtures("quick_compilation")
def test_the_block_gru_is_that_of_numpy():
    cell = BlockGRUCell(4, blocks=1)
    params = cell.init(jax.random.key(0), 3)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    before = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    carry = cell.init_carry(params, jnp.asarray(x))._replace(h=jnp.asarray(before))
    a = np.tensordot(x, params.w_x, 1) + np.tensordot(before, params.w_h[0], 1)
    a = a - a.mean((1, 2), keepdims=True)
    r, n, z = np.moveaxis(a / np.sqrt((a**2).mean((1, 2), keepdims=True) + 1e-3), 1, 0)
    update = 1 / (1 + np.exp(1 - z))
    h = update * np.tanh(n / (1 + np.exp(-r))) + (1 - update) * before
    np.testing.assert_allclose(cell(params, carry, jnp.asarray(x))[1], h, atol=1e-5)


def test_the_memory_that_is_attended_to_never_changes():
    cell = strangers(4)["attending"]
    params = cell.init(jax.random.key(0), 3)
    carry, _ = jaxrnn.unroll(cell, params, jnp.ones((5, 2, 3)))
    np.testing.assert_array_equal(carry.memory, np.broadcast_to(params.memory, (2, 16, 32)))


@pytest.mark.slow("the bench is no part of the package")
def test_the_command_writes_a_row_for_each_cell_and_says_how_much_faster(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(every_cell, "CELLS", {name: CELLS[name] for name in ("gru", "conv_gru")})
    one = {"strange_low_rank": strangers(8)["strange_low_rank"]}
    monkeypatch.setattr(every_cell, "strangers", lambda hidden_size: one)
    monkeypatch.setattr("experiments.bench.run.use_device", lambda *_: None)
    path = tmp_path / "cells"
    assert (
        cli.main(f"bench --every_cell true --shapes 2x8x4x8 --rounds 3 --out {path}".split()) == 0
    )
    rows = json.loads((path / "cells.json").read_text())["rows"]
    assert [row["cell"] for row in rows] == ["gru", "conv_gru", "strange_low_rank"]
    for timed in (row[mode] for row in rows for mode in (BOTH, FORWARD)):
        assert timed["ms"] > 0 and timed["scan_ms"] > 0
        if timed["ratio"]:
            median, low, high = timed["ratio"]
            assert 0 < low <= median <= high
        else:
            assert timed["note"] == ITSELF
    assert rows[0][BOTH]["ratio"]
    assert "the geometric mean of 3 rows" in capsys.readouterr().out


def test_the_ratio_is_the_time_of_the_scan_over_ours(monkeypatch):
    config = arguments.parse(BenchConfig, ["--rounds", "5"])
    rng = np.random.default_rng(config.seed)  # draws the order in which the two run
    seconds = iter([(1.0, 3.0)[k] for _ in range(5) for k in rng.permutation(2)])
    monkeypatch.setattr(every_cell, "MODES", (BOTH,))
    monkeypatch.setattr(every_cell.measure, "first_time", lambda run: 1.0)
    monkeypatch.setattr(every_cell.measure, "sample", lambda run, calls: next(seconds))
    row = every_cell.race(CELLS["gru"].make(4, 8), parse("2x8x4x4"), config)
    assert row == {BOTH: {"ms": 1000.0, "scan_ms": 3000.0, "ratio": [3.0, 3.0, 3.0]}}


def test_a_short_call_is_timed_several_times_over(monkeypatch):
    config = arguments.parse(BenchConfig, ["--rounds", "5"])
    seen = set()
    monkeypatch.setattr(every_cell, "MODES", (BOTH,))
    monkeypatch.setattr(every_cell.measure, "first_time", lambda run: 0.5e-3)
    monkeypatch.setattr(every_cell.measure, "sample", lambda run, calls: seen.add(calls) or 1.0)
    every_cell.race(CELLS["gru"].make(4, 8), parse("2x8x4x4"), config)
    assert seen == {4}


@pytest.mark.slow("the bench is no part of the package")
def test_what_runs_as_the_scan_itself_is_timed_alone(monkeypatch):
    seconds = iter([1.0, 2.0, 4.0, 5.0, 6.0, 7.0])
    monkeypatch.setattr(every_cell.measure, "first_time", lambda run: 1.0)
    monkeypatch.setattr(every_cell.measure, "sample", lambda run, calls: next(seconds))
    monkeypatch.setattr(every_cell, "METHODS", ("scan", "scan"))
    config = arguments.parse(BenchConfig, ["--rounds", "3"])
    row = every_cell.race(CELLS["gru"].make(4, 8), parse("2x8x4x4"), config)
    same = {"ratio": None, "note": ITSELF}
    assert row == {
        BOTH: {"ms": 2000.0, "scan_ms": 2000.0, **same},
        FORWARD: {"ms": 6000.0, "scan_ms": 6000.0, **same},
    }


def measured(cell, *ratios):
    """A row, None standing for the scan itself."""
    timed = [
        {"ms": 1.0, "scan_ms": 2.0 if ratio else 1.0, "ratio": ratio}
        | ({} if ratio else {"note": ITSELF})
        for ratio in ratios
    ]
    return {"cell": cell, "shape": "1x2x3x4", **dict(zip((BOTH, FORWARD), timed, strict=True))}


ROWS = [
    measured("faster", [4.0, 3.9, 4.1], [1.1, 1.0, 1.2]),
    measured("unclear", [0.8, 0.7, 1.01], None),
    measured("slow", [0.5, 0.4, 0.6], None),
    measured("slower", [1.0, 0.9, 1.1], [0.25, 0.2, 0.3]),
    measured("barely", [0.98, 0.97, 0.99], None),
]


def test_the_table_begins_with_what_is_slower_than_the_scan():
    lines = every_cell.report({"rows": ROWS}).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("---")) + 1
    names = [line.split()[0] for line in lines[start : start + len(ROWS)]]
    assert names == ["slower", "slow", "barely", "faster", "unclear"]
    assert lines[start + 1].split()[2:] == ["1", "2", "0.50", "(0.40-0.60)", "1", "1", "="]
    assert any(line.startswith("The first 3 of 5 rows are slower") for line in lines)


def test_a_row_that_is_the_scan_itself_says_so():
    told = every_cell.told(ROWS[2])
    assert told.endswith("forward+backward 0.50 (0.40-0.60), forward the scan itself")


def test_the_scan_itself_counts_as_one_in_the_mean_and_not_as_below():
    both, forward = every_cell.report({"rows": ROWS}).splitlines()[-2:]
    assert both == (
        "forward+backward: scan / default 1.09, the geometric mean of 5 rows, 0 of them the scan "
        "itself (1); 1 below 0.97 by the upper end of their interval"
    )
    # (1.1 * 0.25) ** (1 / 5)
    assert forward.startswith("forward: scan / default 0.77, the geometric mean of 5 rows, 3 of")
    assert "; 1 below 0.97" in forward
