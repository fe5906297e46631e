"""Sums in SQL that never overflow 64 bits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, literal_column


def exact_sum(amount: ColumnElement[Any]) -> ColumnElement[Any]:
    """Sum integers of 64 bits without end, as text for ``read_sum``; null without any.

    SQLite's own sum fails beyond 64 bits, and on a test network anybody may mint and send that
    much: both halves are summed apart.
    """
    high = func.sum(amount.op(">>")(literal_column("32")))
    low = func.sum(amount.op("&")(literal_column("4294967295")))
    return cast(high, String) + ":" + cast(low, String)


def read_sum(text: str | None) -> int:
    """Return what ``exact_sum`` gave."""
    if text is None:
        return 0
    high, _, low = text.partition(":")
    return (int(high) << 32) + int(low)
