"""Compare two policies key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.domain.policy.policy import Policy

Change = tuple[str, str | None, str | None]
"""A dotted key, its value before, and its value after; None where there is none."""


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Every value under its dotted key."""
    found: dict[str, str] = {}
    for key, value in document.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            found |= flat(value, f"{path}.")
        else:
            found[path] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def changed(old: Policy | None, new: Policy) -> list[Change]:
    """List the keys whose values differ, with both values."""
    before = flat(old.document()) if old else {}
    after = flat(new.document())
    keys = sorted({*before, *after})
    return [
        (key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)
    ]


def changes_as_dicts(changes: list[Change]) -> list[dict[str, str | None]]:
    """Return changes as JSON."""
    return [{"key": key, "before": old, "after": new} for key, old, new in changes]
