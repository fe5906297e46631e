"""Ranges of blocks fit the endpoint that is asked and the memory that their events take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from coordinator.books import ranges
from coordinator.books.ranges import Span
from coordinator.domain.chain.events import Block, ChainEvent, EventBatch, EventKind
from coordinator.domain.errors import ChainUnavailable

EVENT = ChainEvent(
    kind=EventKind.TRANSFER, block_number=1, block_hash="", log_index=0, tx_hash="", at=0
)


def chain(per_block: int, *, most: int = 10**6) -> Callable[[int, int], EventBatch]:
    """Blocks with so many events each, of which an endpoint tells ``most`` at once."""

    def read(after: int, until: int) -> EventBatch:
        if until - after > most:
            raise ChainUnavailable("the range is too long")
        events = (EVENT,) * (per_block * (until - after))
        return EventBatch(after, "", Block(until, "", 0), events)

    return read


def read_all(read: Callable[[int, int], EventBatch], blocks: int) -> list[EventBatch]:
    span, batches, at = Span(), [], 0
    while at < blocks:
        batches.append(span.read(partial(read, at), after=at, to=blocks))
        at = batches[-1].to.number
    return batches


def test_a_quiet_past_is_read_in_ranges_that_double() -> None:
    batches = read_all(chain(0), 20_000)
    lengths = [batch.to.number - batch.after for batch in batches]
    assert lengths == [64, 128, 256, 512, 1024, 2048, 4096, 5000, 5000, 1872]


@pytest.mark.parametrize("per_block", [50, 400, 20_000])
def test_a_busy_past_is_held_a_part_at_a_time(per_block: int) -> None:
    first, *rest = read_all(chain(per_block), 300)
    assert len(first.events) == 64 * per_block
    most = max(per_block, ranges._EVENTS_AT_ONCE)
    assert 0 < max(len(batch.events) for batch in rest) <= most


def test_a_range_grows_again_once_the_blocks_are_quiet() -> None:
    span = Span()
    span.read(partial(chain(10_000), 0), after=0, to=10**6)
    assert span.blocks == 1
    span.read(partial(chain(0), 0), after=0, to=10**6)
    assert span.blocks == 2


def test_a_range_that_is_refused_is_halved() -> None:
    lengths = [batch.to.number - batch.after for batch in read_all(chain(0, most=10), 40)]
    assert max(lengths) <= 10
    assert sum(lengths) == 40
    with pytest.raises(ChainUnavailable):
        read_all(chain(0, most=0), 1)
