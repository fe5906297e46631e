"""Read what a server asks for, write the payment into a request, and judge what it answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from coordinator_client.errors import InvalidRequest
from coordinator_client.x402.calls import Call
from coordinator_client.x402.errors import PaymentNotTaken, PaymentUnknown, SettlementPending

#: Requests with one of these were paid by somebody else.
PAYMENT_HEADERS: Final = ("PAYMENT-SIGNATURE", "X-PAYMENT")
#: Where a response of httpx, and of requests, keeps what was paid for it.
PAID: Final = "coordinator_x402"
_REQUIRED: Final = "PAYMENT-REQUIRED"
_RESPONSES: Final = ("PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE")
_PENDING: Final = "settlement_pending"
# Says nothing of what became of the payment, like every 5xx.
_UNTOLD: Final = frozenset({408, 425, 429})

Header = Callable[[str], str | None]


@dataclass(frozen=True)
class Paid:
    """The payment that was signed for one response.

    ``settlement`` is what the server says of it; the treasury believes the chain alone.
    """

    idempotency_key: str
    purchase_id: str
    valid_before: int
    settlement: Mapping[str, Any] | None


def paid(response: Any) -> Paid | None:
    """Return what was paid for a response of these clients; None where nothing was signed."""
    kept = getattr(response, "extensions", None)
    found = kept.get(PAID) if isinstance(kept, dict) else getattr(response, PAID, None)
    return found if isinstance(found, Paid) else None


def read_answer(header: Header, body: bytes) -> Mapping[str, Any] | None:
    """Return a 402 answer as it came, of version 2 or 1; None for what is no x402 answer."""
    coded = header(_REQUIRED)
    answer = _json(body) if not coded else _decoded(coded)
    return answer if isinstance(answer, dict) and answer.get("accepts") else None


def understood(sdk: Any, header: Header, answer: Mapping[str, Any] | None) -> Any:
    """Return the answer as the SDK's value; InvalidRequest where it is malformed."""
    try:
        return sdk.get_payment_required_response(header, answer)
    except ValueError as fault:
        told = f"the server's answer 402 can't be read: {type(fault).__name__}"
        raise InvalidRequest(told, code="x402_not_payable") from fault


def write_payment(call: Call, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the SDK with the offer word for word, names it does not know too."""
    ((name, coded),) = headers.items()
    payment = _decoded(coded)
    signed = call.authorised.payment
    assert isinstance(payment, dict)
    if "accepted" in payment:
        payment["accepted"] = signed["accepted"]
        if signed.get("resource") is not None:
            payment["resource"] = signed["resource"]
    return {name: base64.b64encode(json.dumps(payment).encode()).decode()}


def judge(call: Call, status: int, header: Header, response: Any) -> Paid:
    """Return what was paid for an answer to be handed on; PaymentUnknown for every other."""
    settlement = _settlement(header)
    if status == 402 or status >= 500 or status in _UNTOLD:
        pending = settlement is not None and settlement.get("errorReason") == _PENDING
        kind = PaymentUnknown
        if pending:
            kind = SettlementPending
        elif status == 402:
            kind = PaymentNotTaken
        raise unknown(call, _said(status, settlement), kind=kind, response=response)
    signed = call.authorised
    valid_before = int(signed.payment["payload"]["authorization"]["validBefore"])
    return Paid(call.key, signed.purchase.id, valid_before, settlement)


def unknown(
    call: Call, why: str, *, kind: type[PaymentUnknown] = PaymentUnknown, response: Any = None
) -> PaymentUnknown:
    """Return the error of a payment that was sent and may be settled."""
    signed = call.authorised
    valid_before = int(signed.payment["payload"]["authorization"]["validBefore"])
    return kind(
        f"{why}; the payment was signed, and may be settled until unix second {valid_before}."
        f" Ask again with the idempotency key {call.key!r}, which sends the same payment",
        idempotency_key=call.key,
        purchase_id=signed.purchase.id,
        valid_before=valid_before,
        response=response,
    )


def _said(status: int, settlement: Mapping[str, Any] | None) -> str:
    why = "" if settlement is None else settlement.get("errorReason") or ""
    told = f" ({why})" if isinstance(why, str) and why.isprintable() and why else ""
    asks = "asked for payment again after it was given one" if status == 402 else "answered"
    return f"the server {asks} with {status}{told}"


def _settlement(header: Header) -> Mapping[str, Any] | None:
    for name in _RESPONSES:
        coded = header(name)
        if coded:
            found = _decoded(coded)
            return found if isinstance(found, dict) else None
    return None


def _decoded(coded: str) -> Any:
    try:
        return json.loads(base64.b64decode(coded))
    except ValueError:
        return None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
