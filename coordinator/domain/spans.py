"""Check spans of time that people give, such as "24h"."""

from __future__ import annotations

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.policy.values import duration


def seconds_of(name: str, value: str | int, *, most: int, least: int = 1) -> int:
    """Return seconds from a text such as "15m", or from seconds; both bounds are inclusive."""
    try:
        seconds = value if isinstance(value, int) else duration(value)
    except ValueError as fault:
        raise InvalidRequest(f"{name}: {fault}") from None
    if not least <= seconds <= most:
        from_ = "1 second" if least == 1 else f"{least} seconds"
        raise InvalidRequest(f"{name} must be from {from_} to {most // 86400} days")
    return seconds
