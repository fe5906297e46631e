"""Cycles are looked for less often while much is read, and as before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from coordinator.garbage import seldom_collected

OWN = (700, 10, 10)


@pytest.fixture(autouse=True)
def own_threshold() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*OWN)
    yield
    gc.set_threshold(*before)


def test_it_is_seldom_until_the_last_of_those_who_asked_is_done() -> None:
    first, second = seldom_collected(), seldom_collected()
    first.__enter__()
    second.__enter__()
    assert gc.get_threshold() == (100_000, 10, 10)
    first.__exit__(None, None, None)
    assert gc.get_threshold() == (100_000, 10, 10)
    second.__exit__(None, None, None)
    assert gc.get_threshold() == OWN


def test_a_fault_ends_it_too() -> None:
    with pytest.raises(ValueError, match="a test"), seldom_collected():
        raise ValueError("a test")
    assert gc.get_threshold() == OWN


@pytest.mark.parametrize("own", [(0, 10, 10), (200_000, 10, 10)])
def test_what_is_rarer_already_stays(own: tuple[int, int, int]) -> None:
    gc.set_threshold(*own)
    with seldom_collected():
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own


def test_what_somebody_sets_meanwhile_stays() -> None:
    with seldom_collected():
        gc.set_threshold(5_000, 20, 20)
        with seldom_collected():
            assert gc.get_threshold() == (5_000, 20, 20)
    assert gc.get_threshold() == (5_000, 20, 20)
