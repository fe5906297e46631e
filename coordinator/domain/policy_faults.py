"""Faults of a policy document: where, and one sentence."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydantic_core import ErrorDetails

Fault = tuple[tuple[str, ...], str]
"""A key path and one sentence."""


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
    if path[1:2] == ("named",):
        path = (path[0], *path[2:])
    kind = details["type"]
    if kind == "extra_forbidden":
        return path, "is not a key of the policy"
    if kind == "missing":
        return path, "is missing"
    message = details["msg"].removeprefix("Value error, ")
    return path, message[0].lower() + message[1:]
