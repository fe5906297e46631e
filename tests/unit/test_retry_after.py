"""Retry-After is read as seconds or a date, and never trusted beyond five minutes."""

from __future__ import annotations

from email.utils import formatdate
from time import time

import pytest

from coordinator.chain.rpc.client import retry_seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0), ("7", 7), ("1.5", 1.5), ("-3", 0), ("86400", 300), (formatdate(0), 0)],
)
def test_seconds_and_dates_are_read(header: str, seconds: float) -> None:
    assert retry_seconds(header) == seconds


def test_a_date_ahead_is_the_time_until_then() -> None:
    assert 50 < (retry_seconds(formatdate(time() + 60)) or 0) <= 60


@pytest.mark.parametrize("header", [None, "", "soon", "nan", "inf", "1, 2"])
def test_what_can_not_be_read_is_no_time(header: str | None) -> None:
    assert retry_seconds(header) is None
