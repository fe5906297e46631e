"""Check what callers give, and write it as the bodies of requests."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from coordinator_client.errors import InvalidRequest, UnknownId
from coordinator_client.usdc import any_amount, positive_amount

UNTIL: Final = ("funded", "delivered", "final")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_CODES: Final = {"provider": "invalid_provider", "purpose": "invalid_purpose"}


def purchase_body(
    *,
    provider: object,
    amount: object,
    purpose: object,
    **more: object,
) -> dict[str, Any]:
    """Return the body of a purchase; InvalidRequest for what no service could take."""
    return {
        "provider": text("provider", provider),
        "amount": str(positive_amount(amount)),
        "purpose": text("purpose", purpose),
        **_given(more),
    }


def cost_body(amount: object, *, x402: object = False, **more: object) -> dict[str, Any]:
    """Return the body of a cost."""
    if not isinstance(x402, bool):
        raise InvalidRequest("x402 must be True or False")
    body = {"amount": str(positive_amount(amount)), **_given(more)}
    return {**body, "x402": True} if x402 else body


def increase_body(
    amount: object, *, reason: object, window: object, lasts: object, **more: object
) -> dict[str, Any]:
    """Return the body of a request to raise a limit."""
    return {
        "amount": str(positive_amount(amount)),
        "reason": text("reason", reason),
        "window": text("window", window),
        "lasts": span("lasts", lasts),
        **_given(more),
    }


def x402_body(answer: object, *, url: object, **more: object) -> dict[str, Any]:
    """Return the body of a request to pay an x402 server."""
    if not isinstance(answer, Mapping):
        raise InvalidRequest("answer must be a server's whole answer 402, as parsed JSON")
    return {"answer": dict(answer), "url": text("url", url), **_given(more)}


def actual_body(actual: object) -> dict[str, Any]:
    """Return the body that posts a held cost; zero is a void."""
    return {} if actual is None else {"amount": str(any_amount(actual))}


def run_limits(limits: object) -> dict[str, Any]:
    """Return limits by their keys in the policy file, their amounts as text."""
    if not isinstance(limits, Mapping):
        raise InvalidRequest("limits must be a table")
    return {
        text("key of limits", key): run_limits(value)
        if isinstance(value, Mapping)
        else str(positive_amount(value))
        for key, value in limits.items()
    }


def text(name: str, value: object) -> str:
    """Return a text that is not empty."""
    told, code = name.replace("_", " "), _CODES.get(name, "invalid_request")
    if not isinstance(value, str):
        given = "" if isinstance(value, (int, float)) else f", not {type(value).__name__}"
        raise InvalidRequest(f"{told} must be text{given}", code=code)
    if not value or value.isspace():
        raise InvalidRequest(f"{told} must not be empty", code=code)
    return value


def idempotency_key(value: object) -> str:
    """Return a key that fits in a header; InvalidRequest otherwise."""
    key = text("idempotency_key", value)
    if len(key) > 200:
        raise InvalidRequest(f"idempotency key has {len(key)} characters; at most 200 are allowed")
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise InvalidRequest("idempotency key must be printable ASCII, without spaces around it")
    return key


def span(name: str, value: object) -> str:
    """Return a span of time as text, from one such as "15m" or from seconds."""
    if type(value) is int:
        if value < 1:
            raise InvalidRequest(f"{name} must be at least 1 second")
        return f"{value}s"
    return text(name, value)


def seconds(name: str, value: object) -> float:
    """Return a number of seconds; InvalidRequest unless it is one."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value):  # type: ignore[arg-type]
        raise InvalidRequest(f"{name.replace('_', ' ')} must be a number")
    return max(0.0, float(value))  # type: ignore[arg-type]


def until(value: object) -> str:
    """Return the goal of a wait."""
    if value not in UNTIL:
        raise InvalidRequest(f"until must be one of {', '.join(UNTIL)}")
    return str(value)


def path_id(value: object, what: str) -> str:
    """Return an id as a part of a path; UnknownId for what no id can be."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} id must be text, not {type(value).__name__}")
    if not _ID.fullmatch(value):
        raise UnknownId(f"there is no {what} of this id")
    return value


def unix_second(at: datetime | int | None) -> int | None:
    """Return the unix second; InvalidRequest for a time without its zone."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise InvalidRequest("a time needs its zone: datetime(…, tzinfo=UTC)")
        return int(at.timestamp())
    if at is not None and type(at) is not int:
        raise InvalidRequest("a time is a datetime with its zone, or a unix second")
    return at


def statuses(status: str | Iterable[str] | None) -> list[str]:
    """Return the statuses to ask for; none for all."""
    if status is None:
        return []
    try:
        return [str(status)] if isinstance(status, str) else [text("status", s) for s in status]
    except TypeError:
        raise InvalidRequest("status must be text or several texts") from None


def query(**named: str | None) -> tuple[tuple[str, str], ...]:
    """Return the parameters that were given."""
    return tuple((name, text(name, value)) for name, value in named.items() if value is not None)


def flag(**named: object) -> tuple[tuple[str, str], ...]:
    """Return the parameters that are True; a service that does not know them is not asked."""
    for name, value in named.items():
        if not isinstance(value, bool):
            raise InvalidRequest(f"{name.replace('_', ' ')} must be True or False")
    return tuple((name, "true") for name, value in named.items() if value)


def _given(more: Mapping[str, object]) -> dict[str, str]:
    return {name: text(name, value) for name, value in more.items() if value is not None}
