"""docs/limits.md names a test for every feature, and each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "limits.md").read_text().partition("## Beside other systems")[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if line.startswith("| ") and not line.startswith("| feature")
]
SYSTEMS = [row[0] for row in ROWS if row[0].startswith("**")]
FEATURES = [row for row in ROWS if not row[0].startswith("**")]


def test_five_systems_are_compared() -> None:
    assert len(SYSTEMS) == 5
    assert len(FEATURES) > 30


@pytest.mark.parametrize("row", FEATURES, ids=lambda row: row[0][:50])
def test_a_feature_has_its_call_and_a_test_that_exists_or_a_reason(row: list[str]) -> None:
    _, here, test = row
    if here.startswith("left out on purpose:"):
        assert test == "–"
        return
    found = re.fullmatch(r"`([\w/]+\.py)::(test_\w+)`", test)
    assert found, test
    source = (ROOT / "tests" / found[1]).read_text()
    assert f"def {found[2]}(" in source, test
