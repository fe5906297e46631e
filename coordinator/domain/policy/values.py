"""The kinds of values that a policy file has: amounts, times, addresses, names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
)

from coordinator.domain.address import checksummed
from coordinator.domain.policy.notify_urls import notify_url, shown
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.x402.urls import host_of

UNLIMITED: Final = "unlimited"
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)", re.ASCII)
_DAY: Final = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SECONDS_MAX: Final = 3650 * 86400
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}$"


def _amount(value: object) -> Usdc:
    if not isinstance(value, (str, Usdc)):
        raise ValueError('write the amount as text, such as "25.00"')
    amount = Usdc(value)
    if amount < ZERO:
        raise ValueError("an amount must not be negative")
    return amount


def _amount_or_unlimited(value: object) -> Usdc | str:
    return UNLIMITED if value == UNLIMITED else _amount(value)


def duration(value: object) -> int:
    """Return the seconds of a text such as "30m", "24h" or "7d"; ValueError otherwise."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write the time as text, such as "30m", "24h" or "7d"')
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > _SECONDS_MAX:
        raise ValueError("is more than ten years")
    return seconds


def _duration_text(seconds: int) -> str:
    return f"{seconds}s"


def _day(value: object) -> int:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError('write the day as text, such as "2027-06-30"')
    try:
        return int(datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise ValueError(f"{value} is no day of the calendar") from None


def _day_text(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d}"


def _eth(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,18})?", value):
        raise ValueError('write ETH as text, such as "0.0005"')
    whole, _, part = value.partition(".")
    return int(whole) * 10**18 + int(part.ljust(18, "0"))


def _eth_text(wei: int) -> str:
    return f"{wei // 10**18}.{wei % 10**18:018d}"


def _address(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("write the address as text")
    return checksummed(value)


def _host(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("write the host as text")
    host = host_of(f"https://{value}")
    if host is None or host != value.lower():
        raise ValueError(f"{value!r} is not a host such as api.example.com or localhost:4021")
    return host


def _zone(value: object) -> str:
    try:
        if value in ("localtime", "posixrules"):
            raise ValueError("means another zone on another machine")
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is not a time zone such as Europe/Berlin") from None
    return str(value)


Amount = Annotated[Usdc, PlainValidator(_amount), PlainSerializer(str)]
AmountOrUnlimited = Annotated[
    Usdc | str, PlainValidator(_amount_or_unlimited), PlainSerializer(str)
]
Seconds = Annotated[int, BeforeValidator(duration), PlainSerializer(_duration_text)]
# The unix second with which the day begins in UTC.
Day = Annotated[int, PlainValidator(_day), PlainSerializer(_day_text)]
Wei = Annotated[int, BeforeValidator(_eth), PlainSerializer(_eth_text)]
Address = Annotated[str, PlainValidator(_address)]
Zone = Annotated[str, PlainValidator(_zone)]
NotifyUrl = Annotated[str, PlainValidator(notify_url), PlainSerializer(shown)]
Host = Annotated[str, PlainValidator(_host)]
Name = Annotated[str, Field(pattern=_NAME)]
Percent = Annotated[int, Field(ge=0, le=100)]
Priority = Annotated[int, Field(ge=1, le=10)]


class Table(BaseModel):
    """A table of the policy file: unknown keys and loose types are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True
    )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values; what was computed from the old ones is left out."""
        made = super().model_copy(update=update, deep=deep)
        for name in made.__dict__.keys() - type(self).model_fields:
            del made.__dict__[name]
        return made
