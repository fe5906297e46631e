"""What the documentation says is what the program does."""

from __future__ import annotations

from pathlib import Path

import coordinator
from coordinator.domain.policy.tables import Role
from coordinator.domain.ports import KillPoint
from coordinator.domain.purchase.lifecycle import MOVES
from coordinator.domain.reasons import ReasonCode

_ROOT = Path(coordinator.__file__).resolve().parents[1]
# Told in sentences rather than by code, or part of an exception's text.
_NOT_IN_README = {
    ReasonCode.INVALID_AMOUNT,
    ReasonCode.INVALID_PROVIDER,
    ReasonCode.INVALID_PURPOSE,
    ReasonCode.CANCELLED,
    ReasonCode.CHAIN_UNAVAILABLE,
    ReasonCode.OUTCOME_UNKNOWN,
    ReasonCode.APPROVAL_EXPIRED,
    ReasonCode.APPROVAL_NOT_FOUND,
}


def test_the_documented_moves_are_the_table_of_moves() -> None:
    rows = ["| from | to |", "|---|---|"]
    for status, moves in MOVES.items():
        rows.append(f"| {status} | {', '.join(sorted(moves)) or 'nothing: final'} |")
    assert "\n".join(rows) + "\n" in (_ROOT / "docs" / "purchase.md").read_text()


def test_readme_names_every_reason_that_a_purchase_can_have() -> None:
    readme = (_ROOT / "README.md").read_text()
    missing = [c.value for c in ReasonCode if c not in _NOT_IN_README and f"`{c}`" not in readme]
    assert missing == []


def test_readme_names_every_limit_of_the_policy() -> None:
    readme = (_ROOT / "README.md").read_text()
    keys = [key for key in Role.model_fields if key.endswith(("_limit", "_threshold"))]
    assert [key for key in keys if f"`{key}`" not in readme] == []


def test_kill_points_are_where_the_documentation_says() -> None:
    assert "coordinator/domain/ports.py" in (_ROOT / "docs" / "operations.md").read_text()
    assert KillPoint.__module__ == "coordinator.domain.ports"
