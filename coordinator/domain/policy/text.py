"""The policy file's text to a policy, with the line of every fault."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.nesting import nesting
from coordinator.domain.policy.faults import fault_text
from coordinator.domain.policy.policy import Policy

_PART = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_DOTTED = rf"({_PART}(?:\s*\.\s*{_PART})*)"
_HEADER = re.compile(rf"\s*(\[\[?)\s*{_DOTTED}\s*\]\]?")
_DOTS_MAX = 20
_DEPTH_MAX = 50
_KEY = re.compile(rf"\s*{_DOTTED}\s*=")


def parse_policy(text: str, *, name: str = "policy.toml") -> Policy:
    """Return the policy; ConfigurationError lists every fault as ``name:line: sentence``."""
    try:
        if any(line.partition("=")[0].count(".") > _DOTS_MAX for line in text.splitlines()):
            raise ConfigurationError(f"{name}: a key has more than {_DOTS_MAX} parts")
        if nesting(text) > _DEPTH_MAX:
            raise ConfigurationError(f"{name}: it is nested deeper than {_DEPTH_MAX}")
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as fault:
        raise ConfigurationError(f"{name}: {fault}") from None
    policy, faults = Policy.examine(document)
    if policy is not None:
        return policy
    lines = _lines(text)
    raise ConfigurationError(
        *(f"{name}:{_line_of(lines, path)}: {fault_text(path, said)}" for path, said in faults)
    )


def _lines(text: str) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    items: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _split(header[2])
            if header[1] == "[[":
                items[table] = items.get(table, -1) + 1
                table = (*table, str(items[table]))
            for depth in range(1, len(table) + 1):
                found.setdefault(table[:depth], number)
        elif key := _KEY.match(line):
            found.setdefault(table + _split(key[1]), number)
    return found


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _line_of(lines: dict[tuple[str, ...], int], path: Sequence[str]) -> int:
    for depth in range(len(path), 0, -1):
        if (number := lines.get(tuple(path[:depth]))) is not None:
            return number
    return 1
