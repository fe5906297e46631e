"""Parameters and parts of bodies that several routes have."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Header, Query

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.statements.signed import GivenSignature
from coordinator.server.models import Signed

#: The last day that calendars here know, 9999-12-30.
TIME_MAX: Final = 253_402_128_000
#: Ids of purchases, approvals, costs …
ID: Final = r"^[a-z]{3}_[0-9a-f]{1,40}$"
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        # In a header other letters mean different things to different programs.
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        description="Your own key: the same one again never spends twice.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=500, description="Items of a page.")]
Since = Annotated[int | None, Query(ge=0, le=TIME_MAX, description="Unix second, inclusive.")]
Until = Annotated[int | None, Query(ge=0, le=TIME_MAX, description="Unix second, exclusive.")]
Label = Annotated[str, Query(min_length=1, max_length=200)]
OptionalLabel = Annotated[str | None, Query(min_length=1, max_length=200)]


def given(body: Signed | None) -> GivenSignature | None:
    """Return the signature in a body; InvalidRequest for parts of one without it."""
    if body is None or (body.signature, body.credential, body.statement) == (None, None, None):
        return None
    if body.signature is None:
        raise InvalidRequest("the signature is missing")
    return GivenSignature(
        signature=body.signature, credential=body.credential, statement=body.statement
    )
