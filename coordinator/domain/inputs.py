"""Check the values that agents and people give; each fault is one sentence."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from typing import Final

from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.usdc import ZERO, Usdc

IDENTIFIER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}", re.ASCII)


TEXT_LENGTH_MAX: Final = 200
PURPOSE_LENGTH_MAX: Final = 2000


# The kernel's own maximum; sums of holds stay far inside SQL's 64 bits.
_LARGEST: Final = Usdc("1000000000")


_UNSEEN: Final = ("Cc", "Cs", "Zl", "Zp")


_TURNING: Final = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


_BLANK_BRAILLE: Final = "\u2800"


def identifier(name: str, value: object) -> str:
    """Return a name of letters, digits and ``._:@-``, at most 64 long."""
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        raise InvalidRequest(
            f"{name} must be 1 to 64 letters, digits or ._:@- and start with a letter or digit"
        )
    return value


def free_text(name: str, value: object, length_max: int, *, code: str = "invalid_request") -> str:
    """Text for people: something to see, at most ``length_max`` characters.

    No control characters, no line separators, and nothing that turns the direction of what an
    approver reads.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text", code=code)
    if len(value) > length_max:
        raise InvalidRequest(
            f"{name} has {len(value)} characters; at most {length_max} are allowed", code=code
        )
    if value.isascii() and value.isprintable() and not value.isspace() and value:
        return value
    if not any(unicodedata.category(c)[0] not in "ZC" and c != _BLANK_BRAILLE for c in value):
        raise InvalidRequest(f"{name} must not be empty", code=code)
    if any(unicodedata.category(c) in _UNSEEN or c in _TURNING for c in value):
        raise InvalidRequest(f"{name} must not hold control characters", code=code)
    return value


def positive_amount(amount: object) -> Usdc:
    """Return an amount above zero from a decimal string or ``Usdc``; InvalidRequest otherwise."""
    try:
        parsed = Usdc(amount)  # type: ignore[arg-type]
    except ValueError as fault:
        raise InvalidRequest(str(fault), code="invalid_amount") from None
    if parsed > _LARGEST:
        raise InvalidRequest(
            f"{parsed} USDC is above the largest purchase, {_LARGEST}", code="invalid_amount"
        )
    if parsed <= ZERO:
        raise InvalidRequest("the amount must be above zero", code="invalid_amount")
    return parsed


def id_text(name: str, value: object) -> str:
    """Return an id as it was given; InvalidRequest when it is not text that an id could be."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text, not {type(value).__name__}")
    if not value.isprintable():
        raise InvalidRequest(f"{name} must be printable text")
    return value


def idempotency_key(value: object) -> str:
    """Return a key of at most 200 characters, kept as given."""
    return free_text("idempotency key", value, TEXT_LENGTH_MAX)


def key_digest(agent: str, key: str) -> str:
    """Return 32 hex digits that stand for an agent's key: an id that has them is bound to it.

    128 bits, so that no two keys meet; ids that are drawn are shorter.
    """
    return sha256(canonical_json([agent, key])).hexdigest()[:32]
