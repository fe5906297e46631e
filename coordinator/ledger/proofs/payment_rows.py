"""Compare the rows of payments for HTTP requests with the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from coordinator.domain.purchase.lifecycle import FINAL, Status
from coordinator.ledger.proofs.audit_fold import LoggedPurchase

_TOLD: Final = ("wallet", "host", "url")


def payment_differences(kept: Any, past: LoggedPurchase) -> Iterator[str]:
    """Name every column of a purchase's authorisation that is not what the log tells.

    ``kept`` is its row, None where there is none. The log has neither offer nor signature.
    """
    if past.x402 is None or past.status is Status.DENIED:
        if kept is not None:
            yield "it has an authorisation, and the audit log tells of no payment"
        return
    if kept is None:
        if past.status not in FINAL:
            yield "its authorisation is gone"
        return
    told = {name: past.x402[name] for name in _TOLD}
    told["valid_before"] = past.authorised_until or None
    for column, value in told.items():
        found = getattr(kept, column)
        if found != value:
            yield f"its {column} is {found!r}; the audit log says {value!r}"
    if kept.signature is not None and not past.authorised:
        yield "it has a signature, and the audit log does not tell that it was signed"
    # One that was put back from a log has no signature, and no time of it.
    if kept.signature is None and kept.signed_at is not None:
        yield "its signature is gone"
