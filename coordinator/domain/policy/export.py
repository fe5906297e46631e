"""A policy as text: TOML that reads back as the same policy, and what a screen may show of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from coordinator.domain.policy.policy import Policy

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def to_toml(policy: Policy) -> str:
    """The policy as a file; ``parse_policy`` of it gives an equal policy.

    Of the URLs of [alerts] it has what may be shown: nothing else is stored.
    """
    return document_to_toml(policy.document())


def document_to_toml(document: Mapping[str, Any]) -> str:
    """A policy's document as TOML; tables that say nothing are left out."""
    return "\n".join(_table((), document)).strip() + "\n"


def comment(text: str) -> str:
    """The text as a line of TOML comment, whatever is in it."""
    return f"# {''.join(c if c.isprintable() else ' ' for c in text)}".rstrip() + "\n"


def _table(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    plain = {k: v for k, v in table.items() if not isinstance(v, dict) and not _of_tables(v)}
    inner = {k: v for k, v in table.items() if k not in plain and not _says_nothing(path, k, v)}
    if path and (plain or not inner):
        yield ""
        yield f"[{_dotted(path)}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        if isinstance(value, dict):
            yield from _table((*path, key), value)
            continue
        for item in value:
            yield ""
            yield f"[[{_dotted((*path, key))}]]"
            yield from (f"{_key(k)} = {_value(v)}" for k, v in item.items())


def _of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _says_nothing(path: tuple[str, ...], key: str, value: object) -> bool:
    """An empty table that is the same as none: a named one, such as a category, is not."""
    parts_of_the_file = not path
    of_a_spender = len(path) == 2 and path[0] in ("agents", "roles", "tasks")
    of_a_pool = len(path) == 2 and path[0] == "pools"
    named = {"categories"} if of_a_spender else {"minimums"} if of_a_pool else set()
    return value == {} and (parts_of_the_file or key in named)


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    assert isinstance(value, str), f"a policy has no {type(value).__name__}"
    return _text(value)


def _text(text: str) -> str:
    # JSON's text is TOML's basic string, but for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
