"""Reading ahead changes neither what comes nor its order, and never runs on by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from coordinator.books.ahead import ahead


class Numbers:
    """Numbers from 0, and which thread made how many."""

    def __init__(self, count: int, *, fault_at: int | None = None) -> None:
        self.made: list[str] = []
        self._count = count
        self._fault_at = fault_at

    def __iter__(self) -> Iterator[int]:
        for number in range(self._count):
            if number == self._fault_at:
                raise ValueError(f"no {number}")
            self.made.append(threading.current_thread().name)
            yield number


@pytest.mark.parametrize("count", [0, 1, 5])
def test_all_items_come_in_their_order_from_one_thread(count: int) -> None:
    numbers = Numbers(count)
    assert list(ahead(iter(numbers))) == list(range(count))
    assert len(set(numbers.made)) == min(count, 1)
    assert threading.current_thread().name not in numbers.made


def test_the_next_item_is_made_while_one_is_worked_on() -> None:
    made_next = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        made_next.set()
        yield 1

    coming = ahead(items())
    assert next(coming) == 0
    assert made_next.wait(30)
    assert list(coming) == [1]


def test_a_fault_comes_up_in_its_place() -> None:
    seen = []
    with pytest.raises(ValueError, match="no 2"):
        for number in ahead(iter(Numbers(5, fault_at=2))):
            seen.append(number)
    assert seen == [0, 1]


def test_whoever_stops_leaves_no_thread_and_one_item_at_most() -> None:
    numbers = Numbers(100)
    coming = ahead(iter(numbers))
    assert next(coming) == 0
    coming.close()  # type: ignore[attr-defined]
    assert len(numbers.made) <= 2
    assert not [t for t in threading.enumerate() if t.name.startswith("coordinator-ahead")]
