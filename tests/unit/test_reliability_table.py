"""docs/reliability.md names tests that are there and run on the database of their column."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import coordinator
from coordinator.domain.ports import KillPoint

_ROOT = Path(coordinator.__file__).resolve().parents[1]
_TESTS = _ROOT / "tests"
_DOCUMENT = (_ROOT / "docs" / "reliability.md").read_text()
_SAME = "*same*"
_STRUCK = re.compile(r"""(?:struck|armed)\["([\w:]+)"\]|strikes\("(\w+)"\)""")
_LINES = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in _DOCUMENT.splitlines()
    if re.match(r"\| \d+[a-z]? \|", line)
]


@cache
def _functions(file: str) -> dict[str, str]:
    """Each test function of the file, with the source of its decorators."""
    tree = ast.parse((_TESTS / file).read_text())
    return {
        node.name: " ".join(map(ast.unparse, node.decorator_list))
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def _databases(file: str, function: str) -> set[str]:
    """Where a test runs, by its module's mark, its own, or its parameters."""
    source = (_TESTS / file).read_text()
    marks = re.findall(r"^pytestmark = (\w+)", source, re.M)
    decorators = _functions(file)[function]
    if "on_both" in (*marks, *decorators.split()) or "ON_BOTH" in decorators:
        return {"sqlite", "postgresql"}
    return {"postgresql"} if "on_postgresql" in marks else {"sqlite"}


def _named(cell: str) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py)::(test_\w+)`", cell)


@pytest.mark.parametrize("line", _LINES, ids=lambda line: line[0].strip("| "))
def test_every_cell_names_a_test_that_runs_there_or_says_why(line: list[str]) -> None:
    assert len(line) == 6
    number, fault, sqlite, postgresql, simulation, kept = line
    assert all((number, fault, simulation, kept))
    for database, cell in (("sqlite", sqlite), ("postgresql", postgresql)):
        tests = _named(sqlite if cell.startswith(_SAME) else cell)
        reason = re.sub(r"`[^`]*`|<br>", "", cell).strip()
        assert tests or reason.endswith("."), f"{database}: neither a test nor a reason"
        for file, function in tests:
            assert function in _functions(file), function
            assert database in _databases(file, function), function


def test_every_fault_has_a_line() -> None:
    numbers = {int(re.findall(r"\d+", line[0])[0]) for line in _LINES}
    assert numbers == set(range(1, 21))


def test_what_is_kept_is_an_invariant_of_the_document() -> None:
    invariants = set(re.findall(r"^- \*\*(\w+)\*\*", _DOCUMENT, re.M))
    kept = {name for line in _LINES for name in line[5].strip("| ").split(", ")}
    assert kept <= invariants


def test_every_rule_lives_in_files_that_are_there() -> None:
    rules = _DOCUMENT.partition("## Rules")[2].partition("##")[0]
    named = re.findall(r"`([\w/]+\.py)`", rules)
    homes = (_ROOT, _ROOT / "coordinator")
    assert named
    assert [f for f in named if not any((home / f).exists() for home in homes)] == []


def test_every_kill_point_is_named() -> None:
    assert [p.value for p in KillPoint if f"`{p.value}`" not in _DOCUMENT] == []


def test_the_simulations_column_is_the_kinds_of_faults_that_it_has() -> None:
    source = "".join(
        (_TESTS / "simulation" / f"{name}.py").read_text()
        for name in ("faults", "parts", "simulation")
    )
    armed = re.search(r"^_ARMED = \((.*?)^\)", source, re.S | re.M)
    assert armed is not None
    kinds = set(re.findall(r'"(\w+)"', armed[1])) | {"reorg", "reorg_below_final"}
    kinds |= {name for found in _STRUCK.findall(source) for name in found if name}
    kinds |= {f"kill:{point}" for point in KillPoint}
    named = {name for line in _LINES for name in re.findall(r"`([\w:]+)`", line[4])}
    assert named == kinds
