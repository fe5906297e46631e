"""Text from outside, made safe to print: nothing in it acts on a terminal or hides."""

from __future__ import annotations

import unicodedata
from typing import Final

# Control, format, surrogate, private and unassigned characters, and separators of lines.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, *, lines: bool = False) -> str:
    """Write out what can't be seen, such as escape codes; line feeds too unless ``lines``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if lines and c == "\n" else _shown(c) for c in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
