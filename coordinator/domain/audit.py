"""Rows of the audit log, and its head."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Head:
    """The head of the audit log: its number of rows, and the hash of the last one."""

    count: int
    hash: str

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Parse ``COUNT:HASH``; ValueError with one sentence otherwise."""
        count, _, digest = text.partition(":")
        if not (count.isascii() and count.isdecimal()) or len(digest) != 64:
            raise ValueError("an audit head is COUNT:HASH, as `coordinator audit head` prints it")
        return cls(int(count), digest.lower())


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the log; ``text`` is the body as it was hashed.

    ``host`` is the id of the key that signed the hash.
    """

    seq: int
    at: int
    event: str
    subject: str
    text: str
    hash: str
    host: str
    signature: str

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found
