"""docs/reliability.md names tests that exist, for the database that they run on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.domain.ports import KillPoint
from tests.simulation.faults import NAMES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
FOLDERS = ("integration", "chaos")


def faults() -> list[list[str]]:
    table = TEXT.partition("## Faults and the tests")[2].partition("## The simulation")[0]
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def file_of(name: str) -> Path:
    for folder in FOLDERS:
        path = ROOT / "tests" / folder / name
        if path.exists():
            return path
    raise AssertionError(f"there is no {name}")


def marks_of(path: Path, test: str) -> set[str]:
    """The databases that the test's module and its own decorators name."""
    source = path.read_text()
    decorators = source.partition(f"def {test}(")[0].rpartition("\n\n\n")[2]
    of_module = re.findall(r"^pytestmark = (.*)$", source, re.M)
    found = re.findall(r"\bon_\w+", "\n".join(of_module))
    return {m.lower() for m in (*found, *re.findall(r"^@(on_\w+)$", decorators, re.M | re.I))}


def runs_on_postgresql(path: Path, test: str) -> bool:
    return bool(marks_of(path, test) & {"on_both", "on_either", "on_postgresql"})


def runs_on_sqlite(path: Path, test: str) -> bool:
    return "on_postgresql" not in marks_of(path, test)


def test_every_fault_has_a_row_with_five_cells_that_say_something() -> None:
    rows = faults()
    assert {int(row[0].partition(".")[0]) for row in rows} == set(range(1, 25))
    for row in rows:
        assert len(row) == 5 and all(row), row
        for cell in row[1:4]:
            assert cell != "–" and not cell.endswith(":"), row


@pytest.mark.parametrize("row", faults(), ids=lambda row: row[0][:40])
def test_the_tests_that_a_row_names_exist_and_run_on_its_database(row: list[str]) -> None:
    _, sqlite, postgresql, _, _ = row
    assert NAMED.search(sqlite) or sqlite.startswith("–: ")
    named = NAMED.findall(postgresql)
    if postgresql == "the same" or postgresql.startswith("the same, and "):
        assert NAMED.search(sqlite), row
        named += NAMED.findall(sqlite)
    else:
        assert named or postgresql.startswith("–: ")
    for name, test in {*NAMED.findall(sqlite), *named}:
        assert f"def {test}(" in file_of(name).read_text(), test
    for name, test in NAMED.findall(sqlite):
        assert runs_on_sqlite(file_of(name), test), f"{test} runs on PostgreSQL alone"
    for name, test in named:
        assert runs_on_postgresql(file_of(name), test), f"{test} runs on SQLite alone"


def test_every_kill_point_and_every_simulated_fault_is_named() -> None:
    missing = [point.value for point in KillPoint if f"`{point.value}`" not in TEXT]
    assert missing == []
    assert [name for name in NAMES if f"`{name}`" not in TEXT] == []
