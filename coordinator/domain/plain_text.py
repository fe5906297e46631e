"""Make text from outside safe to print: nothing in it controls a terminal or hides."""

from __future__ import annotations

import codecs
import unicodedata
from typing import Final

# Control, format, surrogate, private and unassigned characters, and separators of lines.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, *, lines: bool = False) -> str:
    """Escape invisible characters, such as escape codes; line feeds too unless ``lines``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if lines and c == "\n" else _shown(c) for c in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def decode_file(data: bytes) -> str:
    """Return the text of a file that people wrote, with ``\n`` between its lines.

    UTF-8, with or without the mark that Windows editors put before it, and UTF-16 with its mark.
    ValueError with one sentence that says what to do for anything else.
    """
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = data.decode("utf-16")
        else:
            text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text: save it as UTF-8") from None
    if "\0" in text:
        raise ValueError("holds null bytes, as UTF-16 without a mark does: save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")
