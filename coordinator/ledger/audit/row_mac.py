"""Authentication of single rows: only who has the key can have written them."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Any

from coordinator.domain.canonical import canonical_json


@dataclass(frozen=True, slots=True)
class RowMac:
    """Makes and checks ``KEY_ID:HMAC-SHA256`` over a row's table and values.

    The key id is stored beside the code, so that rows of other keys can be told apart.
    """

    key: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """Eight hex digits that name the key and tell nothing of it."""
        return hmac.digest(self.key, b"coordinator row key id", "sha256").hex()[:8]

    def make(self, table: str, values: list[Any]) -> str:
        """Return the code to store beside the row."""
        digest = hmac.digest(self.key, canonical_json(["row", table, values]), "sha256")
        return f"{self.key_id}:{digest.hex()}"

    def proves(self, code: object, table: str, values: list[Any]) -> bool:
        """Whether ``code``, as it stands in the database, was made for exactly these values."""
        if not isinstance(code, str):
            return False
        try:
            made = self.make(table, values)
        except (TypeError, ValueError):
            # SQLite keeps any type in any column: what can't be encoded was not written here.
            return False
        return hmac.compare_digest(made.encode(), code.encode())
