"""Days are those of the policy's zone, and a limit allows equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator.domain.limits.limits import (
    CounterKey,
    Limit,
    LimitState,
    Scope,
    ScopeKind,
    Usage,
    check_limits,
    places,
)
from coordinator.domain.limits.rules import Rules, Terms
from coordinator.domain.policy.policy import Policy
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window, calendar_of

ORGANISATION = Scope(ScopeKind.ORGANISATION)
AGENT = Scope(ScopeKind.AGENT, "research-agent")
CATEGORY = Scope(ScopeKind.CATEGORY, "api")
UTC_CALENDAR = calendar_of(ZoneInfo("UTC"))
CALENDAR_WINDOWS = (
    Window.PER_PURCHASE,
    Window.HOURLY,
    Window.DAILY,
    Window.WEEKLY,
    Window.MONTHLY,
    Window.TOTAL,
)
ROLLING_WINDOWS = (Window("rolling_1h"), Window("rolling_24h"), Window("rolling_744h"))
EVERY_WINDOW = (*CALENDAR_WINDOWS, *ROLLING_WINDOWS)
COUNTED_WINDOWS = EVERY_WINDOW[1:]
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Asuncion",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
]
FIRST, LAST = 1_262_304_000, 2_145_916_800


def at(text: str) -> int:
    """The unix second of a UTC time such as 2026-03-29T01:00."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def usdc(units: int) -> Usdc:
    return Usdc.from_base_units(units)


def bounds(window: Window, instant: int, zone: ZoneInfo) -> tuple[int, int | None]:
    return calendar_of(zone).bounds(window, instant)


def counter(scope: Scope, window: Window) -> CounterKey:
    """The counter of a purchase at the instant 0."""
    return CounterKey(scope, window, UTC_CALENDAR.counts_from(window, 0))


def local_date(instant: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(instant, UTC).astimezone(zone).date()


def naive_day(instant: int, zone: ZoneInfo) -> tuple[int, int]:
    """The day around ``instant`` by looking at every minute; offsets are whole minutes."""
    minute = instant - instant % 60
    today = local_date(instant, zone)
    around = [minute + 60 * step for step in range(-26 * 60, 26 * 60 + 1)]
    of_today = [m for m in around if local_date(m, zone) == today]
    later = [m for m in around if local_date(m, zone) > today]
    return of_today[0], later[0]


@cache
def clock_changes(name: str) -> tuple[int, ...]:
    """The first hours after which the zone's offset differs."""
    zone = ZoneInfo(name)
    hours = range(FIRST, LAST, 6 * 3600)
    offsets = [datetime.fromtimestamp(hour, zone).utcoffset() for hour in hours]
    pairs = zip(hours, offsets, offsets[1:], strict=False)
    return tuple(hour for hour, before, after in pairs if before != after)


@st.composite
def instants(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and an instant, half of them within a day and a half of a clock change."""
    name = draw(st.sampled_from(ZONES))
    changes = clock_changes(name)
    if changes and draw(st.booleans()):
        near = draw(st.sampled_from(changes))
        return name, near + draw(st.integers(-36 * 3600, 36 * 3600))
    return name, draw(st.integers(FIRST, LAST))


@given(instants())
@example(("Europe/Berlin", at("2026-03-29T00:59")))
@example(("Europe/Berlin", at("2026-10-25T00:30")))
@example(("America/Sao_Paulo", at("2018-11-04T03:00")))
@example(("America/Sao_Paulo", at("2018-11-04T02:59")))
@example(("America/Havana", at("2026-11-01T04:30")))
@example(("Pacific/Apia", at("2011-12-30T09:59")))
@example(("Pacific/Apia", at("2011-12-30T10:00")))
def test_a_day_is_what_looking_at_every_minute_of_the_calendar_finds(
    where: tuple[str, int],
) -> None:
    name, instant = where
    zone = ZoneInfo(name)
    assert bounds(Window.DAILY, instant, zone) == naive_day(instant, zone)


@given(instants())
def test_days_follow_each_other_without_gap_or_overlap(where: tuple[str, int]) -> None:
    name, instant = where
    zone = ZoneInfo(name)
    start, end = bounds(Window.DAILY, instant, zone)
    assert end is not None
    assert start <= instant < end
    assert bounds(Window.DAILY, start, zone) == (start, end)
    assert bounds(Window.DAILY, end - 1, zone) == (start, end)
    assert bounds(Window.DAILY, end, zone)[0] == end
    assert bounds(Window.DAILY, start - 1, zone)[1] == start


@pytest.mark.parametrize(
    ("zone", "instant", "start", "hours"),
    [
        ("UTC", "2026-05-01T12:00", "2026-05-01T00:00", 24),
        ("Europe/Berlin", "2026-05-01T12:00", "2026-04-30T22:00", 24),
        ("Europe/Berlin", "2026-03-29T12:00", "2026-03-28T23:00", 23),
        ("Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22:00", 25),
        ("America/New_York", "2026-03-08T12:00", "2026-03-08T05:00", 23),
        ("America/Havana", "2026-11-01T12:00", "2026-11-01T04:00", 25),
        ("Australia/Lord_Howe", "2026-04-05T02:00", "2026-04-04T13:00", 24.5),
        ("Asia/Kathmandu", "2026-05-01T18:15", "2026-05-01T18:15", 24),
    ],
)
def test_a_day_lasts_as_long_as_its_clocks_say(
    zone: str, instant: str, start: str, hours: float
) -> None:
    begin = at(start)
    found = bounds(Window.DAILY, at(instant), ZoneInfo(zone))
    assert found == (begin, begin + int(hours * 3600))


def test_a_day_whose_midnight_is_skipped_begins_with_its_first_instant() -> None:
    zone = ZoneInfo("America/Sao_Paulo")
    found = bounds(Window.DAILY, at("2018-11-04T12:00"), zone)
    assert found == (at("2018-11-04T03:00"), at("2018-11-05T02:00"))


def test_a_date_that_a_zone_skips_takes_no_time() -> None:
    zone = ZoneInfo("Pacific/Apia")
    skipped = at("2011-12-30T10:00")
    assert bounds(Window.DAILY, skipped - 1, zone) == (skipped - 86400, skipped)
    assert bounds(Window.DAILY, skipped, zone) == (skipped, skipped + 86400)


def test_a_date_that_begins_twice_begins_the_first_time() -> None:
    # Clocks went from 00:01 on the 7th back to 23:01 on the 6th.
    zone = ZoneInfo("America/St_Johns")
    first_midnight = at("2010-11-07T02:30")
    for instant in (first_midnight, first_midnight + 120, first_midnight + 7200):
        start, end = bounds(Window.DAILY, instant, zone)
        assert end is not None
        assert (start, start <= instant < end) == (first_midnight, True)


@given(instants())
def test_a_total_window_starts_at_zero_and_never_ends(where: tuple[str, int]) -> None:
    name, instant = where
    assert bounds(Window.TOTAL, instant, ZoneInfo(name)) == (0, None)


def test_an_amount_counts_once_in_the_present_window_of_every_scope() -> None:
    noon = at("2026-05-01T12:00")
    windows = [
        (scope, window)
        for scope in (AGENT, ORGANISATION, CATEGORY)
        for window in (Window.DAILY, Window.TOTAL)
    ]
    charged = places((), windows, noon, UTC_CALENDAR).charged
    assert set(charged) == {
        CounterKey(scope, window, start)
        for scope in (ORGANISATION, AGENT, CATEGORY)
        for window, start in ((Window.DAILY, at("2026-05-01T00:00")), (Window.TOTAL, 0))
    }
    assert len(charged) == len(set(charged))


def test_a_scope_counts_hours_and_total_unlimited_and_other_windows_where_they_are_limited() -> (
    None
):
    policy = Policy.from_dict(
        {
            "organisation": {"total_limit": "unlimited", "daily_limit": "5"},
            "agents": {
                "a": {"per_purchase_limit": "1", "rolling_24h_limit": "1", "total_limit": "9"}
            },
        }
    )
    agent = Scope(ScopeKind.AGENT, "a")
    assert set(Rules(policy).touched(Terms("a"), 0).windows) == {
        (ORGANISATION, Window.HOURLY),
        (ORGANISATION, Window.DAILY),
        (ORGANISATION, Window.TOTAL),
        (agent, Window.HOURLY),
        (agent, Window("rolling_24h")),
        (agent, Window.TOTAL),
    }


# --- checking ---


def check(
    limit: Limit, amount: str, usage: Mapping[CounterKey, Usage], instant: int = 0
) -> tuple[bool, Usdc]:
    (state,) = check_limits([limit], lambda _: usage, Usdc(amount), instant, UTC_CALENDAR)
    return state.broken, state.remaining


units = st.integers(min_value=0, max_value=10**15)


@given(st.sampled_from(COUNTED_WINDOWS), units, units, units, st.integers(1, 10**15))
def test_a_limit_allows_equal_and_refuses_one_base_unit_more(
    window: Window, limit: int, held: int, spent: int, amount: int
) -> None:
    key = counter(AGENT, window)
    (state,) = check_limits(
        [Limit(AGENT, window, usdc(limit))],
        lambda _: {key: Usage.of(usdc(held), usdc(spent))},
        usdc(amount),
        0,
        UTC_CALENDAR,
    )
    assert state.broken == (held + spent + amount > limit)
    assert state.remaining == usdc(limit - held - spent)
    if amount == limit - held - spent:
        assert not state.broken


@given(st.sampled_from(EVERY_WINDOW), units, units)
def test_exactly_what_remains_is_allowed_and_no_more(window: Window, held: int, left: int) -> None:
    used = held if window is not Window.PER_PURCHASE else 0
    limit = Limit(AGENT, window, usdc(used + left))
    usage = {counter(AGENT, window): Usage.of(held=usdc(held))}
    exact, above = (
        check_limits([limit], lambda _: usage, amount, 0, UTC_CALENDAR)[0]
        for amount in (usdc(left), usdc(left + 1))
    )
    assert (exact.broken, above.broken) == (False, True)


def test_open_holds_count_against_the_daily_limit() -> None:
    limit = Limit(AGENT, Window.DAILY, Usdc("100"))
    key = CounterKey(AGENT, Window.DAILY, 0)
    assert check(limit, "40", {key: Usage.of(held=Usdc("60"))}) == (False, Usdc("40"))
    assert check(limit, "40.000001", {key: Usage.of(held=Usdc("60"))}) == (True, Usdc("40"))


def test_holds_and_spending_count_together() -> None:
    limit = Limit(ORGANISATION, Window.TOTAL, Usdc("100"))
    usage = {CounterKey(ORGANISATION, Window.TOTAL, 0): Usage.of(Usdc("30"), Usdc("30"))}
    assert check(limit, "40", usage) == (False, Usdc("40"))
    assert check(limit, "41", usage) == (True, Usdc("40"))


def test_the_purchase_limit_looks_at_one_purchase_alone() -> None:
    limit = Limit(AGENT, Window.PER_PURCHASE, Usdc("50"))
    usage = {
        CounterKey(AGENT, window, 0): Usage.of(Usdc("1000"), Usdc("1000"))
        for window in (Window.PER_PURCHASE, *COUNTED_WINDOWS)
    }
    assert check(limit, "50", usage) == (False, Usdc("50"))
    assert check(limit, "50.000001", usage) == (True, Usdc("50"))


def test_other_scopes_windows_and_days_do_not_count() -> None:
    noon = at("2026-05-02T12:00")
    limit = Limit(AGENT, Window.DAILY, Usdc("100"))
    other = Usage.of(Usdc("1000"))
    usage = {
        CounterKey(AGENT, Window.DAILY, at("2026-05-01T00:00")): other,
        CounterKey(AGENT, Window.DAILY, at("2026-05-03T00:00")): other,
        CounterKey(AGENT, Window.TOTAL, 0): other,
        CounterKey(ORGANISATION, Window.DAILY, at("2026-05-02T00:00")): other,
        CounterKey(Scope(ScopeKind.AGENT, "other"), Window.DAILY, at("2026-05-02T00:00")): other,
    }
    assert check(limit, "100", usage, noon) == (False, Usdc("100"))


def test_a_lowered_limit_has_a_negative_rest_and_admits_nothing() -> None:
    limit = Limit(AGENT, Window.TOTAL, Usdc("100"))
    usage = {CounterKey(AGENT, Window.TOTAL, 0): Usage.of(spent=Usdc("150"))}
    assert check(limit, "0.000001", usage) == (True, ZERO - Usdc("50"))


def test_every_limit_is_told_with_the_moment_at_which_it_resets() -> None:
    noon = at("2026-05-02T12:00")
    limits = [Limit(AGENT, window, Usdc("1")) for window in EVERY_WINDOW]
    states = check_limits(limits, lambda _: {}, Usdc("1"), noon, UTC_CALENDAR)
    assert [state.limit for state in states] == limits
    assert {state.limit.window: state.resets_at for state in states} == {
        Window.PER_PURCHASE: None,
        Window.HOURLY: at("2026-05-02T13:00"),
        Window.DAILY: at("2026-05-03T00:00"),
        Window.WEEKLY: at("2026-05-04T00:00"),
        Window.MONTHLY: at("2026-06-01T00:00"),
        Window.TOTAL: None,
        # One bucket after the instant's own, a whole length later.
        Window("rolling_1h"): at("2026-05-02T13:02") + 30,
        Window("rolling_24h"): at("2026-05-03T13:00"),
        Window("rolling_744h"): at("2026-05-02T12:00") // 111600 * 111600 + 111600 + 744 * 3600,
    }


@pytest.mark.parametrize(
    ("scope", "window", "code", "sentence"),
    [
        (
            AGENT,
            Window.PER_PURCHASE,
            ReasonCode.PER_PURCHASE_LIMIT,
            "{agent} may spend 70.00 USDC a purchase",
        ),
        (AGENT, Window.DAILY, ReasonCode.DAILY_LIMIT, "{agent} may spend 70.00 USDC a day"),
        (AGENT, Window.HOURLY, ReasonCode.HOURLY_LIMIT, "{agent} may spend 70.00 USDC an hour"),
        (AGENT, Window.WEEKLY, ReasonCode.WEEKLY_LIMIT, "{agent} may spend 70.00 USDC a week"),
        (AGENT, Window.MONTHLY, ReasonCode.MONTHLY_LIMIT, "{agent} may spend 70.00 USDC a month"),
        (
            AGENT,
            Window("rolling_24h"),
            ReasonCode.ROLLING_LIMIT,
            "{agent} may spend 70.00 USDC in any 24 hours",
        ),
        (AGENT, Window.TOTAL, ReasonCode.TOTAL_LIMIT, "{agent} may spend 70.00 USDC in total"),
        (
            ORGANISATION,
            Window.DAILY,
            ReasonCode.ORGANISATION_LIMIT,
            "the organisation may spend 70.00 USDC a day",
        ),
        (
            ORGANISATION,
            Window.TOTAL,
            ReasonCode.ORGANISATION_LIMIT,
            "the organisation may spend 70.00 USDC in total",
        ),
        (
            CATEGORY,
            Window.TOTAL,
            ReasonCode.CATEGORY_LIMIT,
            "category {category} may spend 70.00 USDC in total",
        ),
        (
            Scope(ScopeKind.POOL, "p"),
            Window.DAILY,
            ReasonCode.POOL_LIMIT,
            "pool p may spend 70.00 USDC a day",
        ),
        (
            Scope(ScopeKind.TASK, "t"),
            Window.TOTAL,
            ReasonCode.TASK_LIMIT,
            "task t may spend 70.00 USDC in total",
        ),
        (
            Scope(ScopeKind.SESSION, "s"),
            Window.TOTAL,
            ReasonCode.SESSION_LIMIT,
            "session s may spend 70.00 USDC in total",
        ),
        (
            Scope(ScopeKind.PROVIDER, "p"),
            Window.WEEKLY,
            ReasonCode.PROVIDER_LIMIT,
            "p may be paid 70.00 USDC a week",
        ),
        (
            Scope(ScopeKind.X402),
            Window.PER_PURCHASE,
            ReasonCode.PER_PURCHASE_LIMIT,
            "one HTTP request may cost 70.00 USDC",
        ),
        (
            Scope.pair(ScopeKind.POOL_AGENT, "p", "a"),
            Window.TOTAL,
            ReasonCode.POOL_LIMIT,
            "a may spend 70.00 USDC in total of pool p",
        ),
        (
            Scope.pair(ScopeKind.AGENT_CATEGORY, "a", "c"),
            Window.TOTAL,
            ReasonCode.CATEGORY_LIMIT,
            "a may spend 70.00 USDC in total in category c",
        ),
        (
            Scope.pair(ScopeKind.TASK_CATEGORY, "t", "c"),
            Window.TOTAL,
            ReasonCode.TASK_LIMIT,
            "task t may spend 70.00 USDC in total in category c",
        ),
    ],
)
def test_an_agents_own_limit_is_named_by_its_window_and_others_by_their_scope(
    scope: Scope, window: Window, code: ReasonCode, sentence: str
) -> None:
    reason = broken(scope, window, held="30").reason(Usdc("71.5"))
    left = "" if window is Window.PER_PURCHASE else "40.00 remains and "
    assert reason.code is code
    told = sentence.format(agent=AGENT.id, category=CATEGORY.id)
    assert reason.message == f"{told}; {left}71.50 was requested"


def test_a_limit_below_what_is_used_is_told_as_exceeded() -> None:
    state = broken(Scope(ScopeKind.PROVIDER, "paper-api"), Window.MONTHLY, held="75")
    told = "paper-api may be paid 70.00 USDC a month; that is already exceeded by 5.00"
    assert state.reason(Usdc("1")).message == told


def broken(scope: Scope, window: Window, *, held: str) -> LimitState:
    """A limit of 70 USDC with ``held``, as a request for 71.50 meets it."""
    usage = {counter(scope, window): Usage.of(held=Usdc(held))}
    limits = [Limit(scope, window, Usdc("70"))]
    (state,) = check_limits(limits, lambda _: usage, Usdc("71.5"), 0, UTC_CALENDAR)
    return state


@given(
    st.sampled_from(ZONES),
    st.lists(st.tuples(st.integers(0, 4 * 86400), st.integers(1, 60)), min_size=1, max_size=30),
)
def test_no_local_date_ever_sums_to_more_than_the_daily_limit(
    name: str, asked: list[tuple[int, int]]
) -> None:
    zone, limit = ZoneInfo(name), 100
    counters: dict[CounterKey, Usage] = defaultdict(Usage)
    by_date: dict[date, int] = defaultdict(int)
    begin = (*clock_changes(name), at("2026-05-01T00:00"))[0] - 2 * 86400
    for offset, amount in sorted(asked):
        instant = begin + offset
        today = local_date(instant, zone)
        (state,) = check_limits(
            [Limit(AGENT, Window.DAILY, usdc(limit))],
            lambda _: counters,
            usdc(amount),
            instant,
            calendar_of(zone),
        )
        assert state.broken == (by_date[today] + amount > limit)
        if state.broken:
            continue
        by_date[today] += amount
        windows = [(AGENT, Window.DAILY), (AGENT, Window.TOTAL)]
        for key in places((), windows, instant, calendar_of(zone)).charged:
            counters[key] = Usage.of(held=counters[key].held + usdc(amount))
    total = CounterKey(AGENT, Window.TOTAL, 0)
    assert counters[total].held == usdc(sum(by_date.values()))
    assert all(amount <= limit for amount in by_date.values())


def test_the_naive_days_of_a_zone_differ_in_length() -> None:
    lengths = set()
    for change in clock_changes("Europe/Berlin")[:4]:
        start, end = naive_day(change, ZoneInfo("Europe/Berlin"))
        lengths.add(timedelta(seconds=end - start))
    assert lengths == {timedelta(hours=23), timedelta(hours=25)}
