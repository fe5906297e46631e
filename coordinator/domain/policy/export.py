"""Write a policy as TOML that reads back as the same policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit

from coordinator.domain.policy.policy import Policy


def to_toml(policy: Policy) -> str:
    """Return the policy as a file; ``parse_policy`` of it gives an equal policy.

    Of the URLs of [alerts] it has what may be shown: nothing else is stored.
    """
    return document_to_toml(policy.document())


def document_to_toml(document: Mapping[str, Any]) -> str:
    """Return a policy's document as TOML; tables that say nothing are left out."""
    return tomlkit.dumps(_without_empty((), document)).strip() + "\n"


def comment(text: str) -> str:
    """Return the text as a line of TOML comment, whatever is in it."""
    return f"# {''.join(c if c.isprintable() else ' ' for c in text)}".rstrip() + "\n"


def _without_empty(path: tuple[str, ...], table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_empty((*path, key), value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value != {} or _is_named(path, key)
    }


def _is_named(path: tuple[str, ...], key: str) -> bool:
    """Return whether an empty table matters: it declares a category, an agent, ..."""
    of_a_spender = len(path) == 2 and path[0] in ("agents", "roles", "tasks")
    of_a_pool = len(path) == 2 and path[0] == "pools"
    parts = {"categories"} if of_a_spender else {"minimums"} if of_a_pool else set()
    return bool(path) and key not in parts
