"""Tell how deep a text is nested, before a parser that recurses reads it."""

from __future__ import annotations

import re
from typing import Final

# Whole strings, so that brackets in them do not count, or one bracket.
_PIECES: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def nesting(text: str) -> int:
    """Return the most brackets and braces of JSON or TOML that are open at once."""
    depth = most = 0
    for found in _PIECES.finditer(text):
        piece = found[0]
        if piece in "[{":
            depth += 1
            most = max(most, depth)
        elif piece in "]}":
            depth -= 1
    return most
