"""Windows of time over which limits count, and where each begins and ends."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple
from zoneinfo import ZoneInfo

_ROLLING: Final = re.compile(r"rolling_([1-9][0-9]{0,2})h", re.ASCII)
ROLLING_HOURS_MAX: Final = 744
_BUCKETS: Final = 24


class Window(str):
    """Over what time a limit counts, by the name that policy, SQL and answers use.

    ``per_purchase`` has no counter; ``hourly``, ``daily``, ``weekly`` (from Monday) and
    ``monthly`` follow the policy's zone; ``total`` never ends; ``rolling_24h`` and the like (1 to
    744 hours) count in buckets of a 24th of their length. ValueError for any other name.
    """

    __slots__ = ()

    PER_PURCHASE: ClassVar[Window]
    HOURLY: ClassVar[Window]
    DAILY: ClassVar[Window]
    WEEKLY: ClassVar[Window]
    MONTHLY: ClassVar[Window]
    TOTAL: ClassVar[Window]

    def __new__(cls, name: str) -> Window:
        known = _WINDOWS.get(name)
        if known is not None:
            return known
        match = _ROLLING.fullmatch(name)
        if match is None or int(match[1]) > ROLLING_HOURS_MAX:
            raise ValueError(f"{name!r} is not a window")
        made = _WINDOWS.setdefault(name, str.__new__(cls, name))
        _HOURS[made] = int(match[1])
        return made

    @property
    def value(self) -> str:
        """The name as plain text."""
        return str(self)

    @property
    def rolling_hours(self) -> int | None:
        """The hours that a rolling window reaches back; None for every other."""
        return _HOURS.get(self)

    @property
    def bucket_seconds(self) -> int:
        """The length of a rolling window's bucket; a window counts every bucket it touches."""
        assert self.rolling_hours is not None
        return self.rolling_hours * 3600 // _BUCKETS

    @property
    def words(self) -> str:
        """The window in a sentence: "10 USDC a day"."""
        if (hours := self.rolling_hours) is not None:
            return f"in any {hours} hours"
        return _WORDS[self]


_WORDS: Final = {
    "per_purchase": "a purchase",
    "hourly": "an hour",
    "daily": "a day",
    "weekly": "a week",
    "monthly": "a month",
    "total": "in total",
}
_HOURS: Final[dict[str, int]] = {}
ROLLING: Final = _HOURS.keys()
"""The rolling windows that were ever named."""
_WINDOWS: Final[dict[str, Window]] = {name: str.__new__(Window, name) for name in _WORDS}
for _name, _window in _WINDOWS.items():
    setattr(Window, _name.upper(), _window)


class Frame(NamedTuple):
    """A window around an instant, in unix seconds.

    [start, end) is the window, or a rolling window's bucket, that holds the instant. What counts
    in it lies in counters that start at ``counts_from`` or later, and none of it counts any more
    at ``resets_at``. ``end`` and ``resets_at`` of ``total`` are None.
    """

    start: int
    end: int | None
    counts_from: int
    resets_at: int | None


class Calendar:
    """The calendar of windows in one time zone. Instants are unix seconds, UTC."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._last: dict[Window, Frame] = {}

    def frame(self, window: Window, at: int) -> Frame:
        """Return the window around ``at``.

        A day runs from the first instant of the local date to that of the next, so it lasts 23 or
        25 hours when clocks change; weeks and months are made of such days. An hour is one of the
        local clock. A rolling window counts every bucket that it touches, the oldest one whole,
        and gives one back after the other until ``resets_at``.
        """
        last = self._last.get(window)
        if last is not None and (last.end is None or last.start <= at < last.end):
            return last
        start, end = self._bounds(window, at)
        hours = window.rolling_hours
        back = hours * 3600 if hours is not None else 0
        found = Frame(start, end, start - back, None if end is None else end + back)
        self._last[window] = found
        return found

    def bounds(self, window: Window, at: int) -> tuple[int, int | None]:
        """[start, end) of the window, or of a rolling window's bucket, that contains ``at``."""
        return self.frame(window, at)[:2]

    def counts_from(self, window: Window, at: int) -> int:
        """Return the start of the oldest counter that counts at ``at``."""
        return self.frame(window, at).counts_from

    def resets_at(self, window: Window, at: int) -> int | None:
        """Return the time when nothing that counts at ``at`` counts any more; None for never."""
        return self.frame(window, at).resets_at

    def _bounds(self, window: Window, at: int) -> tuple[int, int | None]:
        if window.rolling_hours is not None:
            bucket = window.bucket_seconds
            start = at // bucket * bucket
            return start, start + bucket
        if window is Window.HOURLY:
            return self._hour(at)
        if window in (Window.DAILY, Window.WEEKLY, Window.MONTHLY):
            first, following = _dates(window, _date_at(at, self.zone))
            return _first_instant(first, self.zone), _first_instant(following, self.zone)
        return 0, None

    def _hour(self, at: int) -> tuple[int, int]:
        """Return the local hour under one UTC offset: a clock change starts and ends one."""
        offset = self._offset(at)
        start = at - (at + offset) % 3600
        return self._edge(at, start - 1, offset) + 1, self._edge(at, start + 3600, offset)

    def _edge(self, inside: int, outside: int, offset: int) -> int:
        """``outside``, or the instant nearer to ``inside`` that is the first to lose the offset."""
        step = 1 if outside > inside else -1
        if self._offset(outside - step) == offset:
            return outside
        while abs(outside - inside) > 1:
            middle = (inside + outside) // 2
            if self._offset(middle) == offset:
                inside = middle
            else:
                outside = middle
        return outside

    def _offset(self, at: int) -> int:
        offset = datetime.fromtimestamp(at, self.zone).utcoffset()
        assert offset is not None
        return int(offset.total_seconds())


@lru_cache(maxsize=64)
def calendar_of(zone: ZoneInfo) -> Calendar:
    """Return the zone's calendar, always the same one: it caches the current windows."""
    return Calendar(zone)


def _date_at(at: int, zone: ZoneInfo) -> date:
    local = datetime.fromtimestamp(at, zone).date()
    if at >= _first_instant(local + timedelta(days=1), zone):
        # The clock went back over midnight: the next date has begun and shows the last again.
        local += timedelta(days=1)
    return local


def _dates(window: Window, day: date) -> tuple[date, date]:
    """Return the first date of the window that holds ``day``, and the first after it."""
    if window is Window.WEEKLY:
        first = day - timedelta(days=day.weekday())
        return first, first + timedelta(days=7)
    if window is Window.MONTHLY:
        first = day.replace(day=1)
        return first, (first + timedelta(days=32)).replace(day=1)
    return day, day + timedelta(days=1)


def _first_instant(day: date, zone: ZoneInfo) -> int:
    # fold=0 takes the earlier of two midnights; a midnight that a clock change skips resolves,
    # through its UTC offset before the change, to the instant at which the date begins.
    return int(datetime.combine(day, time.min, zone).timestamp())
