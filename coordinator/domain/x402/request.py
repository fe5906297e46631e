"""A request of an agent to have one HTTP request paid for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.inputs import PURPOSE_LENGTH_MAX
from coordinator.domain.x402.offer import Offer, take_offer
from coordinator.domain.x402.urls import host_of, shown_url


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """The offer that is taken of a server's answer, for ``url`` at ``host``; nothing is secret."""

    agent: str
    host: str
    url: str
    purpose: str
    offer: Offer


def payment_request(
    answer: Mapping[str, Any],
    *,
    url: object,
    purpose: str | None,
    agent: str,
    chain_id: int,
    usdc: str,
) -> PaymentRequest:
    """Check the answer and the URL; InvalidRequest says what is wrong, or why nothing can be paid.

    Without a ``purpose`` it is the URL, without what may be secret in it.
    """
    host = host_of(url) if isinstance(url, str) else None
    if host is None or not isinstance(url, str):
        raise InvalidRequest("url must be an http or https URL of at most 2000 ASCII characters")
    shown = shown_url(url)
    offer = take_offer(answer, chain_id=chain_id, usdc=usdc)
    what = purpose or f"request to {shown}"[:PURPOSE_LENGTH_MAX]
    return PaymentRequest(agent, host, shown, what, offer)
