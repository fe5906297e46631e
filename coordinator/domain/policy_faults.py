"""Faults of a policy document: where, and one sentence."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any, Final

from pydantic_core import ErrorDetails

Fault = tuple[tuple[str, ...], str]
"""A key path and one sentence."""

# Of these tables the model has the ones under their own names as ``named``.
_NAMED: Final = ("categories", "tasks", "sessions")
_ROLLING: Final = re.compile(r"rolling_[0-9]+h")


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
            said = table.pop(path[-1], None)
            if path == ("approvals", "approvers") and (once := _each_once(said)):
                table[path[-1]] = once
    return pruned


def _each_once(said: Any) -> list[str] | None:
    """The names of a list that are well-formed but twice; None when something else is wrong."""
    if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
        return None
    once = list(dict.fromkeys(said))
    return once if len(once) < len(said) else None


def fault_of(details: ErrorDetails) -> tuple[tuple[str, ...], str]:
    """Where in the file and what, of one of pydantic's errors."""
    path = tuple(str(part) for part in details["loc"] if part != "[key]")
    if path[1:2] == ("named",) and path[0] in _NAMED:
        path = (path[0], *path[2:])
    if path[-2:-1] == ("rolling",) and _ROLLING.fullmatch(path[-1]):
        path = (*path[:-2], f"{path[-1]}_limit")
    kind = details["type"]
    if kind == "extra_forbidden" or (path[-1] == "rolling" and kind == "dict_type"):
        return path, "is not a key of the policy"
    if kind == "missing":
        return path, "is missing"
    message = details["msg"].removeprefix("Value error, ")
    return path, message[0].lower() + message[1:]
