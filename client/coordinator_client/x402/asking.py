"""Ask the treasury for a payment until it is signed or refused, with threads or coroutines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from coordinator_client.x402.calls import Call
from coordinator_client.x402.errors import (
    PaymentDenied,
    PaymentFailed,
    PaymentUnknown,
    PaymentWaiting,
)

_POLL_SECONDS: Final = 0.5


class Authorised(Protocol):
    """The treasury's answer: the purchase, and the payment unless there is no signature."""

    @property
    def purchase(self) -> Any: ...

    @property
    def payment(self) -> Mapping[str, Any] | None: ...


class Treasury(Protocol):
    """An agent that asks in the calling thread."""

    def authorise_x402(
        self,
        answer: Mapping[str, Any],
        *,
        url: str,
        idempotency_key: str,
        purpose: str | None = None,
        category: str | None = None,
        task: str | None = None,
        session: str | None = None,
    ) -> Authorised: ...


class AsyncTreasury(Protocol):
    """An agent that asks in the running event loop."""

    async def authorise_x402(
        self,
        answer: Mapping[str, Any],
        *,
        url: str,
        idempotency_key: str,
        purpose: str | None = None,
        category: str | None = None,
        task: str | None = None,
        session: str | None = None,
    ) -> Authorised: ...


@dataclass(frozen=True)
class Ask:
    """Step: ask the treasury; the result is what it says."""

    answer: Mapping[str, Any]
    terms: Mapping[str, str]


@dataclass(frozen=True)
class Pause:
    """Step: let so much time pass."""

    seconds: float


Flow = Generator[Ask | Pause, Any, Authorised]


def payment(call: Call, answer: Mapping[str, Any], url: str, *, seconds: float) -> Flow:
    """Ask until there is a payment, for ``seconds``; its call has what was said.

    PaymentDenied, PaymentWaiting and PaymentFailed: nothing is signed. PaymentUnknown when the
    signature did not come in time.
    """
    ends_at = time.monotonic() + seconds
    terms = {**call.about, "url": url, "idempotency_key": call.key}
    while True:
        said: Authorised = yield Ask(answer, terms)
        call.authorised = said
        if said.payment is not None:
            return said
        _refuse(call, said.purchase)
        if time.monotonic() >= ends_at:
            raise PaymentUnknown(
                f"the treasury holds the amount and has not signed yet; ask again with the"
                f" idempotency key {call.key!r}",
                idempotency_key=call.key,
                purchase_id=said.purchase.id,
            )
        yield Pause(_POLL_SECONDS)


def _refuse(call: Call, purchase: Any) -> None:
    if purchase.denied:
        code = "denied" if purchase.reason is None else str(purchase.reason.code)
        said = "; ".join(map(str, purchase.reasons)) or "the treasury refused the payment"
        raise PaymentDenied(said, code=code, purchase=purchase)
    if purchase.needs_approval:
        raise PaymentWaiting(
            f"purchase {purchase.id} needs a person's approval; ask again with the idempotency"
            f" key {call.key!r} once it is approved",
            idempotency_key=call.key,
            purchase=purchase,
        )
    if purchase.final:
        why = purchase.reason or f"it is {purchase.status}"
        raise PaymentFailed(f"the payment of this key ended: {why}", purchase=purchase)


def ask(treasury: Treasury, flow: Flow) -> Authorised:
    """Carry out the steps in the calling thread."""
    reply = None
    while True:
        try:
            step = flow.send(reply)
        except StopIteration as done:
            found: Authorised = done.value
            return found
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            reply = None
        else:
            reply = treasury.authorise_x402(step.answer, **step.terms)


async def ask_async(treasury: AsyncTreasury, flow: Flow) -> Authorised:
    """Carry out the steps in the running event loop."""
    reply = None
    while True:
        try:
            step = flow.send(reply)
        except StopIteration as done:
            found: Authorised = done.value
            return found
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            reply = None
        else:
            reply = await treasury.authorise_x402(
                step.answer,
                **step.terms,
            )
