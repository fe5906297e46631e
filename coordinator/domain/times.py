"""Instants as text: unix seconds inside, RFC 3339 in UTC at the edges."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(at: int | None) -> str | None:
    """Return the unix second as text such as ``2026-05-01T12:00:00Z``."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
