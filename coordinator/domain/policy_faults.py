"""Faults of a policy document: where, and one sentence."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from pydantic_core import ErrorDetails

Fault = tuple[tuple[str, ...], str]
"""A key path and one sentence."""

# What later versions of the policy file may say: refused by name rather than ignored.
_LATER: Final = frozenset(
    {
        "tasks",
        "sessions",
        "x402",
        "service_levels",
        "increases",
        "reviews",
        "priority",
        "rebalance",
        "minimums",
        "tiers",
        "hourly_limit",
        "weekly_limit",
        "monthly_limit",
        "rolling_24h_limit",
        "auto_approve_daily_limit",
        "thresholds",
        "notify",
    }
)
# Supported for some tables, planned for others.
_LATER_PATHS: Final = frozenset(
    {
        ("agents", "categories"),
        ("providers", "per_purchase_limit"),
        ("providers", "daily_limit"),
        ("providers", "total_limit"),
        ("categories", "per_purchase_limit"),
        ("categories", "daily_limit"),
        ("organisation", "per_purchase_limit"),
        ("pools", "per_purchase_limit"),
        ("pools", "daily_limit"),
        ("pools", "total_limit"),
    }
)


def without(document: dict[str, Any], paths: list[tuple[str, ...]]) -> dict[str, Any]:
    """The document less what stands at ``paths``."""
    pruned = deepcopy(document)
    for path in paths:
        table: Any = pruned
        for key in path[:-1]:
            if not isinstance(table.get(key), dict):
                # A fault inside a list takes the whole list.
                table.pop(key, None)
                break
            table = table[key]
        else:
            table.pop(path[-1], None)
    return pruned


def fault_of(details: ErrorDetails) -> tuple[tuple[str, ...], str]:
    """Where in the file and what, of one of pydantic's errors."""
    path = tuple(str(part) for part in details["loc"] if part != "[key]")
    if path[:2] == ("categories", "named"):
        path = ("categories", *path[2:])
    kind = details["type"]
    if kind == "extra_forbidden":
        later = path[-1] in _LATER or path[0] in _LATER or (path[0], path[-1]) in _LATER_PATHS
        return path, "is not supported yet" if later else "is not a key of the policy"
    if kind == "missing":
        return path, "is missing"
    message = details["msg"].removeprefix("Value error, ")
    return path, message[0].lower() + message[1:]
