"""Compiled programs are forgotten before a process has no room for more."""

import jax
import jax.numpy as jnp
import pytest

from experiments.training import programs


@pytest.fixture
def limit(tmp_path, monkeypatch):
    file = tmp_path / "max_map_count"
    monkeypatch.setattr(programs, "LIMIT", file)
    return file


def test_programs_are_forgotten_where_they_fill_half_of_the_room_and_not_before(limit):
    maps = tuple(programs.MAPS.read_text().splitlines())
    double = jax.jit(lambda x: jnp.sin(2 * x))
    assert double(3.0) == double(3.0) and double._cache_size() == 1
    limit.write_text(f"{4 * len(maps)}\n")
    assert not programs.make_room() and double._cache_size() == 1
    limit.write_text("400\n")
    assert programs.make_room() and double._cache_size() == 0
    assert double(3.0) == jnp.sin(6.0)


def test_where_no_such_limit_is_known_nothing_is_forgotten(limit):
    assert not programs.make_room(0.0)
