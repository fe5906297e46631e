"""A copy of the database, and what was found in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordinator.domain.audit import Head
from coordinator.domain.shown import Shown

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Backup(Shown):
    """A copy and what was found in it; ``faults`` are those that the audit log shows."""

    path: Path
    size_bytes: int
    head: Head
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        return {
            "backup": str(self.path),
            "size_bytes": self.size_bytes,
            "audit_head": str(self.head),
            "ok": self.ok,
            "faults": list(self.faults),
        }
