"""The outcomes of a payment that are no answer of the server to hand on."""

from __future__ import annotations

from typing import Any

from coordinator_client.errors import CoordinatorError, Denied, OutcomeUnknown


class PaymentDenied(Denied):
    """The treasury refused the payment; nothing was signed. ``purchase`` has every reason."""

    def __init__(self, message: str, *, code: str, purchase: Any) -> None:
        super().__init__(message, code=code)
        self.purchase = purchase


class PaymentWaiting(CoordinatorError):
    """A person must approve the payment first; nothing is signed.

    Ask again with ``idempotency_key`` once ``purchase`` is approved.
    """

    code = "awaiting_approval"

    def __init__(self, message: str, *, idempotency_key: str, purchase: Any) -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key
        self.purchase = purchase


class PaymentFailed(CoordinatorError):
    """The payment of this key ended, and its authorisation will never be used; nothing was paid.

    Another payment needs another key.
    """

    code = "payment_failed"

    def __init__(self, message: str, *, purchase: Any) -> None:
        super().__init__(message)
        self.purchase = purchase


class PaymentUnknown(OutcomeUnknown):
    """A payment was signed, and no answer tells whether the server took it.

    It can be settled until ``valid_before``, a unix second (None where no signature was seen).
    Ask again with ``idempotency_key``: the same payment is sent again, and never another.
    ``response`` is what the server answered, if it did.
    """

    def __init__(
        self,
        message: str,
        *,
        idempotency_key: str,
        purchase_id: str | None = None,
        valid_before: int | None = None,
        response: Any = None,
    ) -> None:
        super().__init__(message, idempotency_key=idempotency_key)
        self.purchase_id = purchase_id
        self.valid_before = valid_before
        self.response = response


class PaymentNotTaken(PaymentUnknown):
    """The server asked for payment again after it was given one, which it may still settle."""

    code = "payment_not_taken"


class SettlementPending(PaymentUnknown):
    """The server says that the payment is on its way to the chain: this is not its end."""

    code = "settlement_pending"
