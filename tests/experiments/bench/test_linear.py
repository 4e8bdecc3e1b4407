"""`bench --linear`: the scan against loops, and each linear cell by each method."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close

import jaxrnn
from experiments import cli
from experiments.bench import linear
from experiments.bench.shapes import parse


def test_the_loops_beside_the_scan_give_its_states():
    rng = np.random.default_rng(0)
    a, b, start = rng.uniform(size=(9, 2, 3)), rng.normal(size=(9, 2, 3)), rng.normal(size=(2, 3))
    a, b, start = (jnp.asarray(x, jnp.float32) for x in (a, b, start))
    want = linear.ours(a, b, start)
    for other in (linear.loop, linear.associative):
        np.testing.assert_allclose(other(a, b, start), want, rtol=1e-5, atol=1e-6)


@pytest.mark.peers
def test_memax_gives_the_numbers_and_gradients_of_the_lru(standard_promotion):
    pytest.importorskip("memax", reason="pip install memax")
    from experiments.bench.peers import memax

    cell = jaxrnn.cells.LRUCell(4)
    params = cell.init(jax.random.key(0), 4)
    params = params._replace(w_d=jnp.diag(jnp.arange(1.0, 5)))
    xs = jax.random.normal(jax.random.key(1), (9, 3, 4))

    def slopes(run):
        return jax.jit(jax.value_and_grad(lambda p, xs: jnp.sum(jnp.sin(run(p, xs)[1])), (0, 1)))(
            params, xs
        )

    (theirs, (p, x)), (ours, (q, z)) = (
        slopes(run) for run in (memax.lru, lambda p, xs: jaxrnn.unroll(cell, p, xs))
    )
    q = q._replace(w_d=jnp.diag(jnp.diag(q.w_d)))  # memax has no more of it
    assert_close((theirs, p, x), (ours, q, z), 1e-5)


def test_its_cells_are_those_that_the_affine_method_runs():
    names = set(linear.linear(parse("2x8x4x4")))
    assert names == {"mingru", "minlstm", "hgrn", "rglru", "lru", "s5", "qrnn", "sru_linear"}


@pytest.mark.slow("the bench is no part of the package")
def test_the_command_writes_a_row_for_each_way(tmp_path, capsys, monkeypatch):
    one = {"mingru": linear.linear(parse("2x8x4x4"))["mingru"]}
    monkeypatch.setattr(linear, "linear", lambda shape: one)
    monkeypatch.setattr(linear, "BY_NEWTON", ("paragru",))
    monkeypatch.setattr("experiments.bench.run.use_device", lambda *_: None)
    path = tmp_path / "linear"
    command = f"bench --linear true --shapes 2x8x4x4 --rounds 3 --out {path}"
    assert cli.main(command.split()) == 0
    rows = json.loads((path / "linear.json").read_text())["rows"]
    assert [(row["recurrence"], row["by"]) for row in rows] == [
        ("affine scan", "affine_scan"),
        ("affine scan", "lax.scan"),
        ("affine scan", "lax.associative_scan"),
        *(("mingru", by) for by in ("default", "affine", "fused", "scan")),
        *(("paragru", by) for by in ("default", "newton", "fused", "scan")),
    ]
    assert all(row[mode]["ms"] > 0 for row in rows for mode in linear.MODES)
    assert all(row["temporary"] > 0 and row["compile_ms"] > 0 for row in rows[:3])
    assert all(row["forward"]["ratio"][0] == 1 for row in (rows[0], rows[3]))
    text = capsys.readouterr().out
    assert text.count("2x8x4x4") >= 10 and "temporary MB" in text
