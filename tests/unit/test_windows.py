"""Windows part time: each instant is in exactly one, and the next begins where one ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.windows import Calendar, Window

CALENDAR = (Window.HOURLY, Window.DAILY, Window.WEEKLY, Window.MONTHLY)
# (zone, an instant at which its clocks change or a date is left out)
CHANGES = {
    "spring": ("Europe/Berlin", "2026-03-29T01:00"),
    "autumn": ("Europe/Berlin", "2026-10-25T01:00"),
    "half an hour forward": ("Australia/Lord_Howe", "2026-10-03T15:30"),
    "half an hour back": ("Australia/Lord_Howe", "2026-04-04T15:00"),
    "two hours": ("Antarctica/Troll", "2026-03-29T01:00"),
    "two hours back": ("Antarctica/Troll", "2026-10-25T01:00"),
    "no 30 December": ("Pacific/Apia", "2011-12-30T10:00"),
    "forward at midnight": ("America/Sao_Paulo", "2018-11-04T03:00"),
    "back at midnight": ("America/Sao_Paulo", "2018-02-18T02:00"),
    "back to the day before": ("America/St_Johns", "2010-11-07T02:31"),
    "midnight twice": ("America/Havana", "2026-11-01T05:00"),
    "a day twice": ("Pacific/Kwajalein", "1969-09-30T13:00"),
    "a quarter of an hour": ("Asia/Kathmandu", "1985-12-31T18:30"),
}
ZONES = sorted({zone for zone, _ in CHANGES.values()} | {"UTC", "Asia/Kolkata", "Asia/Tehran"})
INSTANTS = st.integers(min_value=0, max_value=2_000_000_000)


def unix(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def near_changes() -> st.SearchStrategy[tuple[str, int]]:
    """A zone with an instant, as often as not within two days of a change of its clocks."""
    changes = st.sampled_from(sorted(CHANGES.values()))
    close = st.tuples(changes, st.integers(-172_800, 172_800)).map(
        lambda drawn: (drawn[0][0], unix(drawn[0][1]) + drawn[1])
    )
    return close | st.tuples(st.sampled_from(ZONES), INSTANTS)


@pytest.mark.parametrize("window", CALENDAR)
@given(near_changes())
def test_each_instant_is_in_one_window_and_the_next_begins_where_it_ends(
    window: Window, drawn: tuple[str, int]
) -> None:
    zone, at = drawn

    def bounds(instant: int) -> tuple[int, int]:
        start, end = Calendar(ZoneInfo(zone)).bounds(window, instant)
        assert end is not None
        return start, end

    start, end = bounds(at)
    assert start <= at < end
    assert {bounds(start), bounds(end - 1), bounds((start + end) // 2)} == {(start, end)}
    assert bounds(end)[0] == end
    assert bounds(start - 1)[1] == start


@given(near_changes(), st.integers(1, 744))
def test_buckets_of_a_rolling_window_part_time_and_are_a_24th_of_it(
    drawn: tuple[str, int], hours: int
) -> None:
    zone, at = drawn
    calendar, window = Calendar(ZoneInfo(zone)), Window(f"rolling_{hours}h")
    start, end = calendar.bounds(window, at)
    assert end is not None
    assert start <= at < end
    assert end - start == hours * 3600 // 24
    assert calendar.bounds(window, end)[0] == end
    assert calendar.bounds(window, start - 1)[1] == start
    oldest = calendar.counts_from(window, at)
    assert oldest <= at - hours * 3600 < oldest + window.bucket_seconds
    assert calendar.bounds(window, oldest)[0] == oldest


@given(near_changes(), st.lists(st.integers(-90_000, 90_000), max_size=5))
def test_what_a_calendar_remembers_does_not_change_its_answers(
    drawn: tuple[str, int], moves: list[int]
) -> None:
    zone, at = drawn
    lived = Calendar(ZoneInfo(zone))
    for move in [0, *moves]:
        for window in CALENDAR:
            expected = Calendar(ZoneInfo(zone)).bounds(window, at + move)
            assert lived.bounds(window, at + move) == expected


@given(near_changes())
def test_days_are_parts_of_weeks_and_of_months(drawn: tuple[str, int]) -> None:
    zone, at = drawn
    calendar = Calendar(ZoneInfo(zone))
    start, end = calendar.bounds(Window.DAILY, at)
    for longer in (Window.WEEKLY, Window.MONTHLY):
        first, following = calendar.bounds(longer, at)
        assert end is not None
        assert following is not None
        assert first <= start
        assert end <= following


@pytest.mark.parametrize(
    ("zone", "at", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T12:00", 23),
        ("Europe/Berlin", "2026-10-25T12:00", 25),
        ("Australia/Lord_Howe", "2026-10-04T00:00", 23.5),
        ("Australia/Lord_Howe", "2026-04-05T00:00", 24.5),
        ("Antarctica/Troll", "2026-03-29T12:00", 22),
        ("Antarctica/Troll", "2026-10-25T12:00", 26),
        ("Asia/Kathmandu", "2026-10-25T12:00", 24),
    ],
)
def test_a_day_is_as_long_as_its_clocks_make_it(zone: str, at: str, hours: float) -> None:
    start, end = Calendar(ZoneInfo(zone)).bounds(Window.DAILY, unix(at))
    assert end is not None
    assert timedelta(seconds=end - start) == timedelta(hours=hours)


def test_the_date_that_apia_left_out_is_no_window() -> None:
    calendar = Calendar(ZoneInfo("Pacific/Apia"))
    skipped = unix("2011-12-30T10:00")
    before, after = (
        calendar.bounds(Window.DAILY, skipped - 1),
        calendar.bounds(Window.DAILY, skipped),
    )
    assert (before[1], after[0]) == (skipped, skipped)
    assert after[1] == skipped + 86_400
    assert before[0] == skipped - 86_400


def test_the_clock_that_goes_back_half_an_hour_begins_an_hour_there() -> None:
    calendar = Calendar(ZoneInfo("Australia/Lord_Howe"))
    back = unix("2026-04-04T15:00")
    assert calendar.bounds(Window.HOURLY, back - 1) == (back - 3600, back)
    assert calendar.bounds(Window.HOURLY, back) == (back, back + 1800)
    assert calendar.bounds(Window.HOURLY, back + 1800) == (back + 1800, back + 5400)
