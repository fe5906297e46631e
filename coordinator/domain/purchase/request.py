"""A request of an agent to buy, checked before anything is decided."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from coordinator.domain.address import checksummed, looks_like_address
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.inputs import (
    IDENTIFIER,
    PURPOSE_LENGTH_MAX,
    TEXT_LENGTH_MAX,
    free_text,
    identifier,
    positive_amount,
)
from coordinator.domain.usdc import Usdc


@dataclass(frozen=True, slots=True)
class Request:
    """One well-formed request of an agent; ``provider`` is an address or a policy's name.

    ``host`` is where an HTTP request is paid for by x402; None for an escrow.
    """

    agent: str
    provider: str
    amount: Usdc
    purpose: str
    service: str | None = None
    category: str | None = None
    task: str | None = None
    session: str | None = None
    host: str | None = None

    @property
    def is_x402(self) -> bool:
        return self.host is not None

    @classmethod
    def of(
        cls,
        *,
        agent: object,
        provider: object,
        amount: object,
        purpose: object,
        service: object = None,
        category: object = None,
        task: object = None,
        session: object = None,
        host: str | None = None,
        treasury_address: str | None = None,
    ) -> Request:
        """Check the request and return it; ``InvalidRequest`` says what is malformed."""
        return cls(
            agent=identifier("agent", agent),
            provider=_provider(provider, treasury_address),
            amount=positive_amount(amount),
            purpose=free_text("purpose", purpose, PURPOSE_LENGTH_MAX, code="invalid_purpose"),
            service=None if service is None else free_text("service", service, TEXT_LENGTH_MAX),
            category=None if category is None else identifier("category", category),
            task=None if task is None else free_text("task", task, TEXT_LENGTH_MAX),
            session=None if session is None else free_text("session", session, TEXT_LENGTH_MAX),
            host=host,
        )

    def terms_hash(self, provider_address: str) -> str:
        """Return the hash that binds an idempotency key: all terms but the purpose, as asked."""
        terms = [
            provider_address.lower(),
            self.amount.base_units,
            self.service,
            self.category,
            self.task,
            self.session,
        ]
        if self.host is not None:
            terms.append(self.host)
        return sha256(canonical_json(terms)).hexdigest()


def _provider(value: object, treasury_address: str | None) -> str:
    if isinstance(value, str) and looks_like_address(value):
        try:
            address = checksummed(value)
        except ValueError as fault:
            raise InvalidRequest(str(fault), code="invalid_provider") from None
        if treasury_address and address.lower() == treasury_address.lower():
            raise InvalidRequest("the treasury can't pay itself", code="invalid_provider")
        return address
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        raise InvalidRequest(
            "the provider must be an address or a name of the policy", code="invalid_provider"
        )
    return value
