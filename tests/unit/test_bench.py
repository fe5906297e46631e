"""What the benchmark makes of what it measured; measuring itself takes a disk and minutes."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace

import pytest

from tests.benchmarks.__main__ import parse
from tests.benchmarks.decisions import HISTORIES, QUICK_SECONDS, plan_of, summary_of
from tests.benchmarks.figures import TARGETS, Case, Round, Sample, judged, medians, ratios
from tests.benchmarks.past_counters import past_counters


def _round(syncs: float, insert_ms: float, *, empty: Sample, full: Sample, crowd: Sample) -> Round:
    return Round(
        [syncs],
        {"sqlite": [insert_ms]},
        {
            Case("sqlite", 0, 1): empty,
            Case("sqlite", 0, 32): crowd,
            Case("sqlite", 900, 1): full,
            Case("sqlite", 900, 32): crowd,
        },
    )


ROUNDS = [
    _round(100, 2, empty=Sample(9, 4), full=Sample(9, 5), crowd=Sample(150, 20)),
    # The machine was busy: everything took longer, and the ratios are what they were.
    _round(10, 20, empty=Sample(1, 40), full=Sample(1, 50), crowd=Sample(15, 200)),
    _round(100, 2, empty=Sample(9, 4), full=Sample(9, 12), crowd=Sample(300, 10)),
]


def test_a_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    assert ratios(ROUNDS, "sqlite") == {
        "decisions_per_fdatasync": 1.5,
        "one_caller_per_bare_insert": 2.5,
        "p50_full_over_empty": 1.25,
        "p50_full_over_empty_at_most_callers": 1.0,
    }


def test_medians_stand_by_database_history_and_callers() -> None:
    assert medians(ROUNDS, "per_second") == {
        "sqlite": {"0": {"1": 9, "32": 150}, "900": {"1": 9, "32": 150}}
    }


@pytest.mark.parametrize(
    ("name", "value", "met"),
    [
        ("decisions_per_fdatasync", 1.0, False),
        ("decisions_per_fdatasync", 1.001, True),
        ("one_caller_per_bare_insert", 3.0, True),
        ("one_caller_per_bare_insert", 3.001, False),
        ("p50_full_over_empty", 1.2, True),
        ("p50_full_over_empty", 1.201, False),
        ("memory_mb", 50, True),
        ("memory_mb", 50.1, False),
    ],
)
def test_a_target_is_met_on_its_own_side_of_the_bound(name: str, value: float, met: bool) -> None:
    assert judged({name: value})[name]["met"] is met


def test_the_target_tells_what_would_be_better_still() -> None:
    assert str(TARGETS["decisions_per_fdatasync"]) == "> 1 (aim 2)"


def test_the_summary_has_the_ratios_of_the_first_database_and_what_they_are_of() -> None:
    measured = SimpleNamespace(
        rounds=ROUNDS, histories=[0, 900], limits_touched=11, memory_mb={"sqlite": 3.5}
    )
    summary = summary_of(measured, None)
    assert summary["ratios"]["decisions_per_fdatasync"] == 1.5
    assert summary["ratios"]["memory_mb"] == 3.5
    assert summary["history"] == 900
    assert summary["fdatasync_per_second"] == 100
    assert summary["machine"]["cores"] >= 1
    assert summary["targets"]["sqlite"].keys() == summary["ratios"].keys()


def test_a_quick_plan_is_of_sqlite_and_keeps_its_time() -> None:
    plan = plan_of(parse(["decisions", "--quick", "--json"]))
    assert list(plan.databases) == ["sqlite"]
    assert plan.seconds_in_all is not None and plan.seconds_in_all <= QUICK_SECONDS < 50


def test_a_full_plan_is_of_both_databases_up_to_a_million_purchases() -> None:
    plan = plan_of(parse(["decisions"]))
    assert list(plan.databases) == ["sqlite", "postgresql"]
    assert tuple(plan.histories) == HISTORIES == (0, 100_000, 1_000_000)
    assert tuple(plan.callers) == (1, 8, 32)
    assert plan.seconds_in_all is None


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["decide"],
        ["start", "--quick"],
        ["decisions", "--histories", "1000"],
        ["decisions", "--histories", "0"],
        ["decisions", "--histories", "0,many"],
        ["decisions", "--databases", "sqlite,mysql"],
        ["decisions", "--rounds", "0"],
        ["decisions", "--seconds", "nan"],
    ],
)
def test_arguments_that_make_no_sense_end_with_2(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(given)
    assert ended.value.code == 2
    assert "usage: scripts/bench" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 7, 119, 121, 5003])
def test_a_past_has_each_counter_that_its_purchases_charge_with_their_sum(count: int) -> None:
    charged = [("organisation", "", "total"), ("agent", "a0", "hourly"), ("task", "task", "total")]
    made = past_counters(charged, 6000, 30)
    with sqlite3.connect(":memory:") as connection:
        connection.execute(
            'CREATE TABLE counters (id INTEGER PRIMARY KEY, scope_kind, scope_id, "window", start,'
            " held, spent, UNIQUE (scope_kind, scope_id, window, start))"
        )
        expected: dict[int, int] = {}
        for counter in made:
            connection.execute(counter.insert(count, 0, 10))
            for n in range(count):
                (id_,) = connection.execute(f"SELECT {counter.id_of(str(n))}").fetchone()
                expected[id_] = expected.get(id_, 0) + 10
        assert dict(connection.execute("SELECT id, spent FROM counters")) == expected
    connection.close()
