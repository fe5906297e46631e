"""Bodies of requests and answers about payments for HTTP requests, as OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from coordinator.server.models import Purchase, Terms, Text


class AuthorisationTerms(Terms):
    """The server's answer 402 whole, as JSON, and the URL that was asked for."""

    answer: dict[str, Any]
    url: Annotated[str, Field(min_length=1, max_length=2000, examples=["https://example.com/data"])]
    purpose: Text | None = None


class PaymentAnswer(BaseModel):
    """The purchase, and the payment as its server takes it once it is signed."""

    purchase: Purchase
    payment: dict[str, Any] | None
