"""Faults of a policy document: each a place and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final

from pydantic_core import ErrorDetails

from coordinator.domain.policy.model import PolicyModel

Fault = tuple[tuple[str, ...], str]
"""A key path and one sentence."""

_SENTENCES: Final = {
    "extra_forbidden": "is not a key of the policy",
    "missing": "is missing",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "string_type": "must be text in quotes",
    "list_type": "must be a list: [ … ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "string_pattern_mismatch": (
        "a name has 1 to 64 letters, digits or ._:@- and starts with a letter or digit"
    ),
}
# Of these tables the model has the ones under their own names as ``named``.
_NAMED: Final = ("categories", "tasks", "sessions")


# Words that begin a sentence of which the key is the subject.
_VERBS: Final = frozenset({"are", "asks", "has", "is", "looks", "must", "names", "needs"})


def fault_text(path: Sequence[str], said: str) -> str:
    """Return the key and the sentence as one: "agents.ada has no per_purchase_limit"."""
    joint = " " if said.partition(" ")[0] in _VERBS else ": "
    return f"{'.'.join(path)}{joint}{said}"


def without(document: dict[str, Any], paths: list[tuple[str, ...]]) -> dict[str, Any]:
    """Return the document without the values at ``paths``."""
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
    """Return a list's well-formed but repeated names; None if something else is wrong."""
    if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
        return None
    once = list(dict.fromkeys(said))
    return once if len(once) < len(said) else None


def besides(faults: list[Fault], found: list[Fault], policy: PolicyModel) -> list[Fault]:
    """Drop contradictions from ``found`` that another fault may have caused.

    ``policy`` is what was left of the document without what is at fault.
    """
    spoiled = {path[:2] for path, _ in faults}
    spoiled |= {
        ("agents", name)
        for name, agent in policy.agents.items()
        if ("roles", agent.role) in spoiled
    }
    if ("approvals", "approvers") in spoiled and not policy.approvals.approvers:
        spoiled |= {("approvals", "required"), ("approvals", "tiers")}
    named = {f" {path[1]!r}" for path in spoiled if len(path) > 1}
    return [
        (path, text)
        for path, text in found
        if path[:2] not in spoiled and not any(text.endswith(name) for name in named)
    ]


def fault_of(details: ErrorDetails) -> Fault:
    """Convert one of pydantic's errors to its place in the file and a sentence."""
    path = tuple(str(part) for part in details["loc"] if part != "[key]")
    if path[1:2] == ("named",) and path[0] in _NAMED:
        path = (path[0], *path[2:])
    kind, bounds = details["type"], details.get("ctx", {})
    if path[-2:-1] == ("rolling",) and kind != "extra_forbidden":
        path = (*path[:-2], f"{path[-1]}_limit")
    if path[-1] == "rolling" and kind == "dict_type":
        return path, _SENTENCES["extra_forbidden"]
    if kind == "missing" and path[-1].endswith("_limit"):
        return path, 'is missing: give an amount, or "unlimited"'
    if kind in _SENTENCES:
        return path, _SENTENCES[kind]
    if kind in ("greater_than_equal", "less_than_equal"):
        least = bounds.get("ge")
        return (
            path,
            f"must be at most {bounds['le']}" if least is None else f"must be {least} or more",
        )
    if kind == "literal_error":
        return path, f"must be {bounds['expected']}"
    message = details["msg"].removeprefix("Value error, ")
    return path, message[0].lower() + message[1:]
