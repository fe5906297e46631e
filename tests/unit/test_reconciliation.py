"""A comparison of all of history holds a bounded part of what it finds, and counts the rest."""

from __future__ import annotations

import tracemalloc

from coordinator.domain.chain.journal import Entry, EntryKind
from coordinator.domain.chain.reconciliation import (
    FOUND_MAX,
    Discrepancy,
    Rescan,
    differing_entries,
)
from coordinator.domain.usdc import Usdc


def found_in(part: int, count: int) -> list[Discrepancy]:
    return [Discrepancy("entry_missing", f"{part}/{n} " + "x" * 100, "look") for n in range(count)]


def test_memory_does_not_grow_with_what_a_comparison_finds() -> None:
    rescan, peaks = Rescan(1, 0), []
    tracemalloc.start()
    try:
        for part in range(20):
            tracemalloc.reset_peak()
            rescan = rescan.with_part(part + 1, 10, found_in(part, FOUND_MAX))
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[-1] < 1.1 * peaks[1]
    assert len(rescan.found) == FOUND_MAX
    assert (rescan.reached, rescan.events, rescan.more) == (20, 200, 19 * FOUND_MAX)


def test_what_was_not_kept_is_told_with_its_count() -> None:
    few = Rescan(7, 6).with_part(9, 1, found_in(0, 2))
    assert [d.kind for d in few.differences()] == ["entry_missing"] * 2
    *kept, rest = few.with_part(12, 1, found_in(1, FOUND_MAX)).differences()
    assert len(kept) == FOUND_MAX
    assert rest.detail == "2 more entries from block 7 on differ"


def test_only_the_opening_entry_needs_no_event() -> None:
    opening, deposit = (
        Entry(7, "0x07", index, "0x77", 1_800_000_000, kind, "own:0xa1", "opening", Usdc("5"))
        for index, kind in ((-1, EntryKind.OPENING), (0, EntryKind.DEPOSIT))
    )
    assert list(differing_entries([], [opening])) == []
    assert [d.kind for d in differing_entries([], [opening, deposit])] == ["entry_unknown"]
